/** Kubernetes objects as they travel on the wire, and how their REST addresses are formed. */
import type * as core from 'kubernetes-types/core/v1.js';
import type { ObjectMeta } from 'kubernetes-types/meta/v1.js';

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata?: ObjectMeta;
}

export type Pod = core.Pod;
export type Node = core.Node;
export type Namespace = core.Namespace;
export type Event = core.Event;
export type ConfigMap = core.ConfigMap;

/** A further network that pods can ask for by name. Source: the Network Plumbing Working Group's de-facto standard. */
export interface NetworkAttachmentDefinition extends KubeObject {
  readonly spec?: {
    /** A CNI configuration or configuration list, as JSON text. */
    readonly config?: string;
  };
}

/**
 * What must be known of a kind to form its REST address:
 * `/api/v1/...` for the core group (`group: ''`), `/apis/GROUP/VERSION/...` for the others.
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris
 */
export interface ObjectKind<T extends KubeObject> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** Never present: carries the object's type. */
  readonly object?: T;
}

export const Pods: ObjectKind<Pod> = {
  group: '', version: 'v1', kind: 'Pod', plural: 'pods', singular: 'pod', shortNames: ['po'], namespaced: true,
};
export const Nodes: ObjectKind<Node> = {
  group: '', version: 'v1', kind: 'Node', plural: 'nodes', singular: 'node', shortNames: ['no'], namespaced: false,
};
export const Namespaces: ObjectKind<Namespace> = {
  group: '', version: 'v1', kind: 'Namespace', plural: 'namespaces', singular: 'namespace', shortNames: ['ns'], namespaced: false,
};
export const Events: ObjectKind<Event> = {
  group: '', version: 'v1', kind: 'Event', plural: 'events', singular: 'event', shortNames: ['ev'], namespaced: true,
};
export const ConfigMaps: ObjectKind<ConfigMap> = {
  group: '', version: 'v1', kind: 'ConfigMap', plural: 'configmaps', singular: 'configmap', shortNames: ['cm'], namespaced: true,
};
export const NetworkAttachmentDefinitions: ObjectKind<NetworkAttachmentDefinition> = {
  group: 'k8s.cni.cncf.io', version: 'v1', kind: 'NetworkAttachmentDefinition', plural: 'network-attachment-definitions', singular: 'network-attachment-definition',
  shortNames: ['net-attach-def'], namespaced: true,
};
