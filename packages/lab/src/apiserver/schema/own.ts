/**
 * Schemas of kinds that Kubernetes does not declare: custom resources, in the form of kubernetes-types' files.
 * In a real cluster the same stands in CustomResourceDefinitions.
 */
export const OWN_DECLARATIONS: Readonly<Record<string, string>> = {
  'k8s.cni.cncf.io/v1': `
import { ObjectMeta } from "../meta/v1";
/**
 * NetworkAttachmentDefinition is a network that pods can ask for besides their first one, by the annotation k8s.v1.cni.cncf.io/networks.
 */
export interface NetworkAttachmentDefinition {
  /** APIVersion defines the versioned schema of this representation of an object. */
  apiVersion?: string;
  /** Kind is a string value representing the REST resource this object represents. */
  kind?: string;
  /** Standard object's metadata. */
  metadata?: ObjectMeta;
  /** The network. */
  spec?: NetworkAttachmentDefinitionSpec;
}
/**
 * NetworkAttachmentDefinitionSpec says how an interface on the network is made.
 */
export interface NetworkAttachmentDefinitionSpec {
  /** A CNI configuration or configuration list, as JSON text. */
  config?: string;
}
`,
};
