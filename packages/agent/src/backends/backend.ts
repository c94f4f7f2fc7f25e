/**
 * The seam between nodes: how a packet for another node's pods gets there. A backend is one small
 * file with one pure function, `desired`; no backend touches the kernel or the API.
 */
import type { NetnsState } from '@podway/netstate';
import type { BackendConfig, NetworkConfig } from '../config.js';
import type { DaemonPlace, DaemonSpec } from '../daemons/spec.js';

export type Family = 'inet' | 'inet6';

export interface UplinkAddress {
  readonly address: string;
  readonly prefix: number;
}

/** The node's cable. Its address is the node's first InternalIP; that of the other family, where the node has one, is the second. */
export interface Uplink extends UplinkAddress {
  readonly dev: string;
  readonly mtu: number;
  readonly second?: UplinkAddress;
  /** Its sysctl accept_ra is not off: IPv6 routes of the node may come from router advertisements. */
  readonly believesRouters?: boolean;
}

/** This node, as far as its network needs it. */
export interface LocalNode {
  readonly name: string;
  /** At most one of each family. A family without one is off. */
  readonly podCidrs: readonly string[];
  readonly uplink: Uplink;
  /** Of the Node object: for what selects nodes by label. */
  readonly labels?: Readonly<Record<string, string>>;
  /** With WireGuard in use: by what, and its public keys by generation. */
  readonly wireguard?: { readonly implementation: 'kernel' | 'userspace'; readonly publicKeys: Readonly<Record<number, string>> };
}

/** What a backend of a node tells the others about its end. Only what is public. */
export interface BackendEnd {
  /** Of the VTEP (vxlan). */
  readonly vtepMAC?: string;
  /** Of the VTEP on the IPv6 underlay (vxlan). */
  readonly vtepMAC6?: string;
  readonly vni?: number;
  readonly port?: number;
  /** Of the node (wireguard); the private one never leaves it. */
  readonly publicKey?: string;
  readonly implementation?: 'kernel' | 'userspace';
}

/** A node's annotation: where it is, which backend it sends by, and all it takes packets from. */
export interface NodeEnds {
  readonly publicIP: string;
  /** The node's address of the other family. */
  readonly secondIP?: string;
  /** A way: the backend's type, or what the backend calls it. */
  readonly uses: string;
  /** By way. More than one while the cluster changes from one to another. */
  readonly accepts: Readonly<Record<string, BackendEnd | undefined>>;
  /** Digest of the cluster's configuration that this node has taken over, or refused. */
  readonly judged?: string;
  /** Why it refused it. */
  readonly problem?: string;
}

/** Another node that can be reached. */
export interface Peer {
  readonly name: string;
  readonly podCidrs: readonly string[];
  readonly ends: NodeEnds;
  readonly labels?: Readonly<Record<string, string>>;
}

export interface Backend<B extends BackendConfig = BackendConfig> {
  readonly type: B['type'];
  /** Bytes that it adds to a packet, by the family of the underlay. */
  overhead(config: NetworkConfig<B>, underlay: Family): number;
  /** The families that its packets have on the underlay; that of the uplink's first address when left out. */
  underlays?(config: NetworkConfig<B>, local: LocalNode): readonly Family[];
  publish(config: NetworkConfig<B>, local: LocalNode): BackendEnd;
  /** Why this peer cannot be served, in words; undefined when it can. */
  refuses(config: NetworkConfig<B>, local: LocalNode, peer: Peer): string | undefined;
  /** Of a peer that is served: the family that is not, and why, in words. */
  lacks?(config: NetworkConfig<B>, local: LocalNode, peer: Peer): string | undefined;
  /**
   * Everything this backend wants in the node's namespace. Pure.
   * @param mtu of pods and tunnels
   * @param unready names of peers that are not sent to by this way, or not yet: no routes, but all it takes to receive
   */
  desired(config: NetworkConfig<B>, local: LocalNode, peers: readonly Peer[], mtu: number, unready?: ReadonlySet<string>): Partial<NetnsState>;
  /** Programs that must run beside the agent. Pure. */
  daemons?(config: NetworkConfig<B>, local: LocalNode, peers: readonly Peer[], place?: DaemonPlace): DaemonSpec[];
  /** During a change: can packets go to this peer by this way already? At once when left out. */
  reached?(config: NetworkConfig<B>, local: LocalNode, peer: Peer, observed: Partial<NetnsState>): boolean;
  /** It takes packets only from peers that it was given: they stay its peers (`unready`) for as long as they may send by it. */
  readonly keyed?: true;
  /** What nodes call this way among themselves; the type when left out. Two ways can stand side by side, one cannot be changed without a gap. */
  way?(config: NetworkConfig<B>): string;
}
