/**
 * The seam between nodes: how a packet for another node's pods gets there. A backend is one small
 * file with one pure function, `desired`; no backend touches the kernel or the API.
 */
import type { NetnsState } from '@podway/netstate';
import type { NetworkConfig } from '../config.js';

export interface Uplink {
  readonly dev: string;
  readonly address: string;
  readonly prefix: number;
  readonly mtu: number;
}

/** This node, as far as its network needs it. */
export interface LocalNode {
  readonly name: string;
  readonly podCidrs: readonly string[];
  readonly uplink: Uplink;
}

/** What a node tells the others about its end, in its Node object's annotation, as JSON. */
export interface BackendData {
  readonly type: string;
  readonly publicIP: string;
  /** Of the VTEP (vxlan). */
  readonly vtepMAC?: string;
  readonly vni?: number;
  readonly port?: number;
}

/** Another node that can be reached. */
export interface Peer {
  readonly name: string;
  readonly podCidrs: readonly string[];
  readonly data: BackendData;
}

export interface Backend {
  readonly type: string;
  /** Bytes that it adds to a packet, by the family of the underlay. */
  overhead(config: NetworkConfig, underlay: 'inet' | 'inet6'): number;
  publish(config: NetworkConfig, local: LocalNode): BackendData;
  /** Everything this backend wants in the node's namespace. Pure. */
  desired(config: NetworkConfig, local: LocalNode, peers: readonly Peer[]): Partial<NetnsState>;
  /** Why this peer cannot be served, in words; undefined when it can. */
  refuses(config: NetworkConfig, peer: Peer): string | undefined;
}
