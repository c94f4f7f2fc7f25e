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
  'podway.io/v1alpha1': `
import { ObjectMeta } from "../meta/v1";
/**
 * IPPool is a range of the cluster from which nodes claim blocks of addresses for their pods.
 */
export interface IPPool {
  /** APIVersion defines the versioned schema of this representation of an object. */
  apiVersion?: string;
  /** Kind is a string value representing the REST resource this object represents. */
  kind?: string;
  /** Standard object's metadata. */
  metadata?: ObjectMeta;
  /** The range. */
  spec?: IPPoolSpec;
}
/**
 * IPPoolSpec says what the range is and who may use it.
 */
export interface IPPoolSpec {
  /** The range, within the cluster's; it cannot be changed. */
  cidr: string;
  /** Prefix length of a node's block: 26 by default, 122 for IPv6; it cannot be changed. */
  blockSize?: number;
  /** Label selector of the nodes that may claim blocks; all nodes when it is absent. */
  nodeSelector?: string;
  /** No more blocks are claimed; what is claimed stays until its last pod is gone. */
  disabled?: boolean;
}
/**
 * IPBlock is the part of a pool that one node holds. Agents make and delete them; people look at them.
 */
export interface IPBlock {
  /** APIVersion defines the versioned schema of this representation of an object. */
  apiVersion?: string;
  /** Kind is a string value representing the REST resource this object represents. */
  kind?: string;
  /** Standard object's metadata. */
  metadata?: ObjectMeta;
  /** Whose it is. */
  spec?: IPBlockSpec;
  /** How much of it is used. */
  status?: IPBlockStatus;
}
/**
 * IPBlockSpec names a block, its pool and its node.
 */
export interface IPBlockSpec {
  /** The range of the block. */
  cidr: string;
  /** The node that holds it. */
  node: string;
  /** The pool it is a part of. */
  pool?: string;
  /** When it was claimed; a node's first block carries the node's own addresses. */
  claimed?: string;
}
/**
 * IPBlockStatus counts the addresses of a block, as its node last told.
 */
export interface IPBlockStatus {
  /** Addresses that attachments have. */
  used?: number;
  /** Addresses that can still be given. */
  free?: number;
}
`,
};
