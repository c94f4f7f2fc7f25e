/**
 * NetnsState: the network state of one network namespace as plain data.
 *
 * Everything turns on this type: the agent computes it as desired state, `observe` reads it from
 * the kernel, the tracer walks a packet through it, a bundle is a file of them. It is JSON from
 * end to end (no bigint, no Map), devices are referred to by name, and every object has a natural
 * key (see `keys.ts`).
 *
 * The same types serve observed and desired state. Where a field is optional, a desired object
 * leaves out what it does not care about, and `diff` then does not compare it. Addresses, prefixes
 * and MACs are written as the kernel lists them: canonical text, no host bits behind a prefix.
 */
import type { Family, NeighState, NftObject, OperState, PortState, RoutePref, RouteType, Scope } from '@podway/kernel';

export type { Family, NeighState, NftObject, OperState, PortState, RoutePref, RouteType, Scope };

/** Every object of a desired state may say, in words, what it is for. */
export interface Explained {
  /** `so that pods of node m2 are reached`. Ends up in logs, dry runs and findings. */
  readonly why?: string;
}

export interface VxlanState {
  readonly vni: number;
  readonly port: number;
  readonly local?: string;
  /** The lower device, by name. */
  readonly dev?: string;
  readonly learning: boolean;
  /** Outer UDP checksum is filled in (IPv4). */
  readonly udpCsum?: boolean;
  readonly ttl?: number;
  /** Outer DF: 0 unset, 1 set, 2 inherit. */
  readonly df?: number;
}

/** IPIP and its like: a tunnel that carries IP in IP. */
export interface TunnelState {
  readonly local?: string;
  /** Undefined: any, as the route's gateway says. */
  readonly remote?: string;
  readonly ttl?: number;
}

/** A WireGuard device, of the kernel (kind `wireguard`) or of a program (kind `tun`). Its private key is in no state. */
export interface WireguardLink {
  readonly publicKey?: string;
  /** UDP port it listens on. */
  readonly port: number;
}

/** One peer of a WireGuard device. */
export interface WireguardPeer extends Explained {
  readonly dev: string;
  readonly publicKey: string;
  /** `172.18.0.3:51820`, `[fd00:18::3]:51820`. */
  readonly endpoint?: string;
  /** Which destinations go to it, and which sources are taken from it; sorted. */
  readonly allowedIps: readonly string[];
  /** Seconds; 0 is off. */
  readonly keepalive: number;
  /** Digest of the key that both share, never the key itself. Empty: none. */
  readonly presharedKey?: string;
  /** Only observed: milliseconds since 1970; absent when there was none yet. */
  readonly lastHandshake?: number;
  readonly rxBytes?: number;
  readonly txBytes?: number;
}

export interface BridgeState {
  readonly stp?: boolean;
  readonly vlanFiltering?: boolean;
  /** Seconds. */
  readonly ageingTime?: number;
  readonly nfCallIptables?: boolean;
  readonly nfCallIp6tables?: boolean;
  readonly mcastSnooping?: boolean;
}

export interface PortSettings {
  readonly state?: PortState;
  readonly hairpin?: boolean;
  readonly isolated?: boolean;
  readonly learning?: boolean;
  readonly flood?: boolean;
  readonly proxyArp?: boolean;
  readonly neighSuppress?: boolean;
}

export interface LinkCounters {
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxErrors: number;
  readonly txErrors: number;
  readonly rxDropped: number;
  readonly txDropped: number;
}

export interface Link extends Explained {
  readonly name: string;
  /** Only observed. */
  readonly index?: number;
  /** `veth`, `bridge`, `vxlan` …; `loopback`; `device` for hardware and what has no kind. */
  readonly kind: string;
  readonly address?: string;
  readonly mtu?: number;
  readonly up: boolean;
  readonly lowerUp?: boolean;
  readonly operstate?: OperState;
  readonly noArp?: boolean;
  /** The bridge it is a port of, by name. */
  readonly master?: string;
  /** Peer or lower device: its index, and the id of the namespace it is in, where that is known. */
  readonly peer?: { readonly index: number; readonly netnsid?: number };
  readonly alias?: string;
  readonly vxlan?: VxlanState;
  readonly tunnel?: TunnelState;
  readonly wireguard?: WireguardLink;
  readonly bridge?: BridgeState;
  readonly port?: PortSettings;
  readonly counters?: LinkCounters;
  /** Only observed: what else `ip link` shows of it. */
  readonly shown?: LinkShown;
}

export interface LinkShown {
  /** In the order of `ip link`, without RUNNING. */
  readonly flags: readonly string[];
  readonly running: boolean;
  readonly broadcast?: string;
  readonly qdisc?: string;
  readonly txqlen?: number;
  readonly group: number;
  readonly mode: number;
  readonly altNames?: readonly string[];
}

export interface Address extends Explained {
  readonly dev: string;
  readonly family: Family;
  readonly address: string;
  readonly prefix: number;
  readonly broadcast?: string;
  readonly scope?: Scope;
  readonly dadFailed?: boolean;
  /** The other end, on point-to-point links. */
  readonly peer?: string;
  /** Only observed. */
  readonly label?: string;
  /** Only observed: `nodad`, `noprefixroute`, `dynamic` …, in the order of `ip addr`. */
  readonly flags?: readonly string[];
}

export interface RouteHop {
  readonly gateway?: string;
  readonly dev: string;
  readonly weight: number;
  readonly onlink?: boolean;
  readonly dead?: boolean;
  readonly linkdown?: boolean;
}

export interface Route extends Explained {
  readonly family: Family;
  /** CIDR, `0.0.0.0/0` for the default. */
  readonly dst: string;
  readonly type: RouteType;
  readonly table: number;
  readonly protocol: number;
  readonly scope?: Scope;
  readonly tos?: number;
  readonly gateway?: string;
  readonly dev?: string;
  readonly prefsrc?: string;
  readonly metric: number;
  readonly onlink?: boolean;
  readonly linkdown?: boolean;
  readonly dead?: boolean;
  readonly mtu?: number;
  /** IPv6 router preference, only observed. */
  readonly pref?: RoutePref;
  readonly nexthops?: readonly RouteHop[];
}

export interface Rule extends Explained {
  readonly family: Family;
  readonly priority: number;
  readonly action: string;
  readonly table: number;
  readonly src?: string;
  readonly dst?: string;
  readonly iif?: string;
  readonly oif?: string;
  readonly fwmark?: number;
  readonly fwmask?: number;
  readonly ipProto?: number;
  readonly suppressPrefixLength?: number;
  readonly goto?: number;
  readonly invert?: boolean;
  readonly protocol?: number;
}

export interface Neighbour extends Explained {
  readonly dev: string;
  readonly family: Family;
  readonly dst: string;
  readonly lladdr?: string;
  readonly state: NeighState;
  readonly proxy?: boolean;
  /** Only observed: it is a router (IPv6); it was learnt by another program. */
  readonly router?: boolean;
  readonly extLearned?: boolean;
}

export interface FdbEntry extends Explained {
  /** The bridge port, or the VXLAN device itself. */
  readonly dev: string;
  readonly lladdr: string;
  /** The VTEP behind it. */
  readonly dst?: string;
  readonly vlan?: number;
  readonly master?: string;
  readonly state: NeighState;
  readonly self: boolean;
  readonly port?: number;
  readonly vni?: number;
  /** The device by which the outer packet must leave, where the entry says so. */
  readonly via?: string;
  /** Only observed: it was learnt by another program. */
  readonly extLearned?: boolean;
}

export interface Qdisc extends Explained {
  readonly dev: string;
  readonly kind: string;
  readonly handle: string;
  readonly parent: string;
  /** A token bucket: bytes per second, bytes that may pass at once, bytes that may wait. */
  readonly tbf?: { readonly rate: number; readonly burst: number; readonly limit: number };
  /** Of an ingress qdisc: the device whose way out all packets are sent, by a filter of its own. */
  readonly redirect?: string;
}

/** Objects of libnftables-json(5), in the order the kernel lists them, handles included when observed. */
export type NftRuleset = readonly NftObject[];

export interface NetnsState {
  readonly schema: 1;
  /** What it is the state of: namespace inode, and a name for people. Empty id in desired states. */
  readonly netns: { readonly id: string; readonly name: string };
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  readonly routes: readonly Route[];
  readonly rules: readonly Rule[];
  readonly neighbours: readonly Neighbour[];
  readonly fdb: readonly FdbEntry[];
  readonly qdiscs: readonly Qdisc[];
  /** Absent: there are none. */
  readonly wireguardPeers?: readonly WireguardPeer[];
  /** Dotted key → value, `net.ipv4.ip_forward` → `1`. */
  readonly sysctls: Readonly<Record<string, string>>;
  readonly nft: NftRuleset;
  /** What could not be read, in words: reasoning on it must say `unknown`, not guess. */
  readonly unread: readonly string[];
}

/** A state with nothing in it. */
export function emptyState(name = ''): NetnsState {
  return {
    schema: 1, netns: { id: '', name }, links: [], addresses: [], routes: [], rules: [], neighbours: [], fdb: [], qdiscs: [],
    sysctls: {}, nft: [], unread: [],
  };
}

/** Several partial states as one, in order. */
export function mergeStates(name: string, ...states: readonly Partial<NetnsState>[]): NetnsState {
  const peers = states.flatMap((s) => s.wireguardPeers ?? []);
  const all = <K extends 'links' | 'addresses' | 'routes' | 'rules' | 'neighbours' | 'fdb' | 'qdiscs' | 'nft' | 'unread'>(k: K) =>
    states.flatMap((s) => (s[k] ?? []) as NetnsState[K][number][]);
  return {
    ...emptyState(name),
    links: all('links') as Link[], addresses: all('addresses') as Address[], routes: all('routes') as Route[],
    ...(peers.length ? { wireguardPeers: peers } : {}),
    rules: all('rules') as Rule[], neighbours: all('neighbours') as Neighbour[], fdb: all('fdb') as FdbEntry[],
    qdiscs: all('qdiscs') as Qdisc[], nft: all('nft') as NftObject[], unread: all('unread') as string[],
    sysctls: Object.assign({}, ...states.map((s) => s.sysctls ?? {})) as Record<string, string>,
  };
}
