/** Kubernetes objects as they travel on the wire, and how their REST addresses are formed. */
import type * as core from 'kubernetes-types/core/v1.js';
import type * as discovery from 'kubernetes-types/discovery/v1.js';
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
export type Service = core.Service;
export type Endpoints = core.Endpoints;
export type EndpointSlice = discovery.EndpointSlice;

/** A further network that pods can ask for by name. Source: the Network Plumbing Working Group's de-facto standard. */
export interface NetworkAttachmentDefinition extends KubeObject {
  readonly spec?: {
    /** A CNI configuration or configuration list, as JSON text. */
    readonly config?: string;
  };
}

/** A range from which nodes claim blocks. */
export interface IPPool extends KubeObject {
  readonly spec?: {
    readonly cidr?: string;
    /** Prefix length of a block; 26, or 122 for IPv6. */
    readonly blockSize?: number;
    /** Label selector: the nodes that may claim. All when absent. */
    readonly nodeSelector?: string;
    /** No block is claimed any more; those that are stay. */
    readonly disabled?: boolean;
  };
}

/** A part of a pool that a node holds. */
export interface IPBlock extends KubeObject {
  readonly spec?: { readonly cidr?: string; readonly node?: string; readonly pool?: string; /** When, to the millisecond: a node's first block carries its own addresses. */ readonly claimed?: string };
  readonly status?: { readonly used?: number; readonly free?: number };
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
export const Services: ObjectKind<Service> = {
  group: '', version: 'v1', kind: 'Service', plural: 'services', singular: 'service', shortNames: ['svc'], namespaced: true,
};
export const EndpointSlices: ObjectKind<EndpointSlice> = {
  group: 'discovery.k8s.io', version: 'v1', kind: 'EndpointSlice', plural: 'endpointslices', singular: 'endpointslice', shortNames: [], namespaced: true,
};
/** The older form, which kubectl's `describe service` and older tools read. */
export const EndpointsKind: ObjectKind<Endpoints> = {
  group: '', version: 'v1', kind: 'Endpoints', plural: 'endpoints', singular: 'endpoints', shortNames: ['ep'], namespaced: true,
};
export const NetworkAttachmentDefinitions: ObjectKind<NetworkAttachmentDefinition> = {
  group: 'k8s.cni.cncf.io', version: 'v1', kind: 'NetworkAttachmentDefinition', plural: 'network-attachment-definitions', singular: 'network-attachment-definition',
  shortNames: ['net-attach-def'], namespaced: true,
};
export const IPPools: ObjectKind<IPPool> = {
  group: 'podway.io', version: 'v1alpha1', kind: 'IPPool', plural: 'ippools', singular: 'ippool', shortNames: [], namespaced: false,
};
export const IPBlocks: ObjectKind<IPBlock> = {
  group: 'podway.io', version: 'v1alpha1', kind: 'IPBlock', plural: 'ipblocks', singular: 'ipblock', shortNames: [], namespaced: false,
};
