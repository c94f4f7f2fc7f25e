/**
 * A world: everything a trace needs to know, as plain JSON. The state of every namespace, who they
 * are (node, pod, switch, router, outside), and which device leads to which. Handles to the living
 * namespaces are kept apart (live.ts), so a file of a world can be traced on another machine.
 */
import type { Link, NetnsState } from '@podway/netstate';

export type Role = 'node' | 'pod' | 'switch' | 'router' | 'outside';

/** A listening or bound socket. */
export interface SocketInfo {
  readonly proto: 'tcp' | 'udp';
  /** `0.0.0.0` and `::` are all addresses. */
  readonly address: string;
  readonly port: number;
}

export interface WorldNamespace {
  /** How everything else in the world refers to it: `m1`, `default/web-a`, `underlay`. */
  readonly key: string;
  readonly role: Role;
  /** The node it belongs to: itself, or the one a pod runs on. */
  readonly node?: string;
  readonly state: NetnsState;
  /** Sockets that receive; undefined when they were not read. */
  readonly sockets?: readonly SocketInfo[];
  /** Tables of the old iptables that are in use here: rules there are not in `state.nft`. */
  readonly legacyTables: readonly string[];
  /** The same of ip6tables. */
  readonly legacyTables6?: readonly string[];
}

export interface WorldNode {
  readonly name: string;
  readonly netns: string;
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
}

export interface WorldPod {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly ips: readonly string[];
  /** Key of its namespace; for a pod with hostNetwork that of the node. */
  readonly netns: string;
  readonly containers: readonly { readonly name: string; readonly pid?: number }[];
}

export interface LinkEnd {
  readonly netns: string;
  readonly dev: string;
}

/**
 * A veth pair. `how`: `nsid` when the kernel's namespace id confirmed that the other end is in that namespace;
 * `same-namespace` when both ends are in one.
 */
export interface WorldLink {
  readonly a: LinkEnd;
  readonly b: LinkEnd;
  readonly how: 'nsid' | 'same-namespace';
}

export interface World {
  readonly schema: 1;
  /** ISO 8601. */
  readonly taken: string;
  readonly namespaces: readonly WorldNamespace[];
  readonly nodes: readonly WorldNode[];
  readonly pods: readonly WorldPod[];
  readonly links: readonly WorldLink[];
  /** What could not be read, in words. */
  readonly unread: readonly string[];
}

/** Look-ups in a world, made once per simulation. */
export class WorldIndex {
  private readonly byKey: Map<string, WorldNamespace>;
  private readonly peers = new Map<string, LinkEnd>();
  private readonly linkMaps = new Map<string, Map<string, Link>>();

  constructor(readonly world: World) {
    this.byKey = new Map(world.namespaces.map((n) => [n.key, n]));
    for (const l of world.links) {
      this.peers.set(`${l.a.netns} ${l.a.dev}`, l.b);
      this.peers.set(`${l.b.netns} ${l.b.dev}`, l.a);
    }
    for (const n of world.namespaces) this.linkMaps.set(n.key, new Map(n.state.links.map((l) => [l.name, l])));
  }

  namespace(key: string): WorldNamespace | undefined {
    return this.byKey.get(key);
  }

  link(netns: string, dev: string): Link | undefined {
    return this.linkMaps.get(netns)?.get(dev);
  }

  peer(netns: string, dev: string): LinkEnd | undefined {
    return this.peers.get(`${netns} ${dev}`);
  }

  /** Ports of a bridge, by index. */
  ports(netns: string, bridge: string): Link[] {
    return this.namespace(netns)?.state.links.filter((l) => l.master === bridge) ?? [];
  }

  /** `eth0@if7 ↔ vethab12`: a device with the index of its peer, and the peer's name where it is known. */
  describe(netns: string, dev: string): string {
    const link = this.link(netns, dev);
    const peer = this.peer(netns, dev);
    const shown = link?.kind === 'veth' && link.peer ? `${dev}@if${link.peer.index}` : dev;
    return peer ? `${shown} ↔ ${peer.dev}` : shown;
  }
}

/** Who has this address: the namespaces with it on a device, pods first. */
export function ownersOf(world: World, address: string): WorldNamespace[] {
  return world.namespaces
    .filter((n) => n.state.addresses.some((a) => a.address === address && a.dev !== 'lo'))
    .sort((a, b) => Number(b.role === 'pod') - Number(a.role === 'pod'));
}

/** A pod by `name` or `namespace/name`. Undefined when there is none or the name is not unique. */
export function findPod(world: World, name: string): WorldPod | undefined {
  const found = world.pods.filter((p) => p.name === name || `${p.namespace}/${p.name}` === name);
  return found.length === 1 ? found[0] : (found.find((p) => p.namespace === 'default') ?? undefined);
}
