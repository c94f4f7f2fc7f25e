/**
 * What the page and its server say to each other. Plain JSON; pure types.
 *
 * A topology is four lists of objects with ids, so that a change of it is a list of objects put and ids gone
 * (delta.ts), and the page asks for anything deeper (routes, neighbours, FDB) when somebody looks at it.
 */
import type { Report, Role } from '@podway/trace';

export type DeviceRole = 'uplink' | 'bridge' | 'veth' | 'vtep' | 'tunnel' | 'pod' | 'underlay' | 'loopback' | 'other';

export interface TopoNamespace {
  /** Key of the world: `m1`, `default/web-a`, `underlay`. */
  readonly id: string;
  readonly role: Role;
  /** The node it is, or is on. */
  readonly node?: string;
  /** `net:[4026532281]` */
  readonly inode: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
  /** IPv4 forwarding is on. */
  readonly forwards: boolean;
}

export interface TopoProcess {
  readonly name: string;
  /** As the machine counts; absent when it is not known. */
  readonly pid?: number;
  readonly image?: string;
  /** `net` → `4026532281`: what tells whether two processes share a namespace. */
  readonly namespaces: Readonly<Record<string, string>>;
}

export interface TopoPod {
  /** `default/web-a` */
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** Key of its namespace; that of the node with hostNetwork. */
  readonly netns: string;
  readonly ips: readonly string[];
  /** The process that holds its namespaces. */
  readonly pause?: TopoProcess;
  readonly containers: readonly TopoProcess[];
}

export interface TopoDevice {
  /** `m1 eth0` */
  readonly id: string;
  readonly netns: string;
  readonly name: string;
  readonly index?: number;
  readonly kind: string;
  readonly role: DeviceRole;
  /** What it is for, in words. */
  readonly purpose: string;
  readonly owner?: string;
  readonly state: 'up' | 'down' | 'no carrier';
  readonly mtu?: number;
  readonly mac?: string;
  /** With prefix length; link-local IPv6 left out. */
  readonly addresses: readonly string[];
  /** The bridge it is a port of. */
  readonly master?: string;
  /** ifindex of its other end, as its own namespace says: the number behind `@if`. */
  readonly peerIndex?: number;
  /** A veth whose other end is nowhere that is known. */
  readonly orphan?: true;
  /** Why it looks unused. */
  readonly unused?: string;
}

export interface TopoLink {
  readonly id: string;
  /** Ids of devices. */
  readonly a: string;
  readonly b: string;
}

export interface Topology {
  readonly source: { readonly kind: 'lab'; readonly name: string };
  /** ISO 8601. */
  readonly taken: string;
  readonly namespaces: readonly TopoNamespace[];
  readonly pods: readonly TopoPod[];
  readonly devices: readonly TopoDevice[];
  readonly links: readonly TopoLink[];
  readonly unread: readonly string[];
  /** Probes may be sent from the page. */
  readonly mayTrace: boolean;
}

export const LISTS = ['namespaces', 'pods', 'devices', 'links'] as const;
export type ListName = (typeof LISTS)[number];

/** From one topology to the next. */
export interface TopologyDelta {
  readonly taken: string;
  readonly put: { readonly [K in ListName]?: Topology[K] };
  readonly gone: { readonly [K in ListName]?: readonly string[] };
  readonly unread?: readonly string[];
}

/** rxPackets, txPackets, rxBytes, txBytes, rxDropped, txDropped (errors included in the last two). */
export type Counts = readonly [number, number, number, number, number, number];

/** `full`: totals since the devices came up. Otherwise what was added, for those devices only where something was; `gone` ones are left out. */
export interface CounterUpdate {
  readonly full: boolean;
  /** Milliseconds since the update before. */
  readonly ms: number;
  readonly counts: Readonly<Record<string, Counts>>;
}

export const RELATIONS = ['other-end', 'port-of', 'port', 'lower', 'leaves-by', 'next-hop', 'pods-of', 'leads-to', 'is', 'vtep', 'mac-of', 'entry-of'] as const;
export type Relation = (typeof RELATIONS)[number];

/** Where something that a line names is to be found: the way back from it. The page says the relation in its language. */
export interface Reference {
  readonly relation: Relation;
  readonly netns: string;
  readonly dev?: string;
  readonly index?: number;
}

export type ObjectKind = 'link' | 'address' | 'route' | 'rule' | 'neighbour' | 'fdb';

export interface ShownObject {
  readonly kind: ObjectKind;
  /** As `ip` or `bridge` prints it; may be several lines. */
  readonly text: string;
  /** Devices it belongs to; empty: to the whole namespace. */
  readonly devices: readonly string[];
  readonly refs: readonly Reference[];
}

export interface NamespaceView {
  readonly netns: string;
  readonly taken: string;
  readonly sections: readonly { readonly command: string; readonly kind: ObjectKind; readonly objects: readonly ShownObject[] }[];
  readonly unread: readonly string[];
}

/** What is asked of a path. */
export interface PathQuestion {
  readonly from: string;
  readonly to: string;
  readonly proto: 'icmp' | 'tcp' | 'udp';
  readonly port?: number;
  /** IP length; the packet then goes with DF. */
  readonly size?: number;
}

export interface PathAnswer {
  /** Of what was observed: under it the report and the packets can be fetched again while the server runs. */
  readonly id?: string;
  readonly question: PathQuestion;
  /** The very report of `podway trace -o json`. */
  readonly report: Report;
  readonly packets: number;
}

export interface ApiError {
  readonly error: { readonly code: string; readonly message: string; readonly hint?: string };
}
