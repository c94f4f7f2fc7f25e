/**
 * The state of a namespace as the familiar tools print it, object by object, each with the way back from it:
 * veth → the pod at its other end, route → device and next hop, neighbour and FDB entry → the node behind. Pure.
 */
import { isIPv4 } from 'node:net';
import { formatAddress, formatFdb, formatLink, formatNeighbour, formatRoute, formatRule, type Link, type NetnsState } from '@podway/netstate';
import { ownersOf, WorldIndex, type World } from '@podway/trace';
import type { NamespaceView, Reference, ShownObject } from './types.js';

/** Undefined when the world has no such namespace. */
export function namespaceView(world: World, netns: string): NamespaceView | undefined {
  const index = new WorldIndex(world);
  const state = index.namespace(netns)?.state;
  if (!state) return undefined;
  const back = new WayBack(index, netns);
  const links = new Map(state.links.map((l) => [l.index, l]));
  const section = <T>(command: string, kind: ShownObject['kind'], list: readonly T[], show: (x: T) => Omit<ShownObject, 'kind'>) =>
    ({ command, kind, objects: list.map((x) => ({ kind, ...show(x) })) });
  return {
    netns, taken: world.taken, unread: state.unread,
    sections: [
      section('ip -d link', 'link', state.links, (l) => ({ text: formatLink(l, (i) => links.get(i)), devices: [l.name], refs: back.link(l) })),
      section('ip addr', 'address', state.addresses, (a) => ({ text: formatAddress(a), devices: [a.dev], refs: [] })),
      section('ip route show table all', 'route', state.routes, (r) => ({ text: formatRoute(r), devices: devicesOf(r), refs: back.route(r) })),
      section('ip rule', 'rule', state.rules.filter((r) => r.family === 'inet'), (r) => ({ text: formatRule(r).replace('\t', '  '), devices: [], refs: [] })),
      section('ip neigh show nud all', 'neighbour', state.neighbours, (n) => ({ text: formatNeighbour(n), devices: [n.dev], refs: back.neighbour(n) })),
      section('bridge fdb', 'fdb', state.fdb, (f) => ({ text: formatFdb(f), devices: [...new Set([f.dev, ...(f.master === undefined ? [] : [f.master])])], refs: back.fdb(f) })),
    ],
  };
}

type Route = NetnsState['routes'][number];
const devicesOf = (r: Route): string[] => [...(r.dev === undefined ? [] : [r.dev]), ...(r.nexthops ?? []).map((h) => h.dev)];

class WayBack {
  constructor(private readonly index: WorldIndex, private readonly netns: string) {}

  link(l: Link): Reference[] {
    const { netns } = this;
    const peer = this.index.peer(netns, l.name);
    const far = peer && this.index.link(peer.netns, peer.dev);
    return [
      ...(peer ? [{ text: `other end: ${peer.dev}${far?.index === undefined ? '' : ` (ifindex ${far.index})`} in ${this.named(peer.netns)}`, ...peer }] : []),
      ...(l.master === undefined ? [] : [{ text: `port of bridge ${l.master}`, netns, dev: l.master }]),
      ...(l.vxlan?.dev === undefined ? [] : [{ text: `sends the outer packet by ${l.vxlan.dev}`, netns, dev: l.vxlan.dev }]),
      ...this.index.ports(netns, l.name).map((p) => ({ text: `port ${p.name}`, netns, dev: p.name })),
    ];
  }

  route(r: Route): Reference[] {
    const [address = '', length] = r.dst.split('/');
    const cidrOf = this.index.world.nodes.find((n) => n.podCIDRs.includes(r.dst));
    return unique([
      ...devicesOf(r).map((dev) => ({ text: `leaves by ${dev}`, netns: this.netns, dev })),
      ...[r.gateway, ...(r.nexthops ?? []).map((h) => h.gateway)].flatMap((g) => (g === undefined ? [] : this.owner(g, 'next hop'))),
      ...(cidrOf ? [{ text: `pods of node ${cidrOf.name}`, netns: cidrOf.netns }] : []),
      ...(isIPv4(address) && length === '32' ? this.owner(address, 'leads to') : []),
    ]);
  }

  neighbour(n: NetnsState['neighbours'][number]): Reference[] {
    return unique([...this.owner(n.dst, 'is'), ...(n.lladdr === undefined ? [] : this.holder(n.lladdr))]);
  }

  fdb(f: NetnsState['fdb'][number]): Reference[] {
    return unique([
      ...(f.dst === undefined ? [] : this.owner(f.dst, 'VTEP behind it')),
      ...this.holder(f.lladdr),
      ...(f.master === undefined ? [] : [{ text: `entry of bridge ${f.master}`, netns: this.netns, dev: f.master }]),
    ]);
  }

  /** Where an address is, without the namespace that asks (it may have a device with the same one). */
  private owner(address: string, what: string): Reference[] {
    return ownersOf(this.index.world, address).slice(0, 1).map((n) => {
      const dev = n.state.addresses.find((a) => a.address === address)?.dev;
      return { text: `${what} ${this.named(n.key)}${dev === undefined ? '' : `, ${dev}`}`, netns: n.key, ...(dev === undefined ? {} : { dev }) };
    });
  }

  /** Whose MAC this is. Of several (a bridge takes that of a port) the one with an address. */
  private holder(mac: string): Reference[] {
    const found = this.index.world.namespaces.flatMap((n) => n.state.links.filter((l) => l.address === mac && l.kind !== 'loopback').map((l) => ({ n, l })));
    const best = found.find(({ n, l }) => n.state.addresses.some((a) => a.dev === l.name && a.scope !== 'link')) ?? found[0];
    return best ? [{ text: `MAC of ${best.l.name} of ${this.named(best.n.key)}`, netns: best.n.key, dev: best.l.name }] : [];
  }

  private named(key: string): string {
    const role = this.index.namespace(key)?.role;
    return role === 'pod' ? `pod ${key}` : role === 'node' ? `node ${key}` : key;
  }
}

/** One reference for each place. */
const unique = (refs: readonly Reference[]): Reference[] => [...new Map(refs.map((r) => [`${r.netns} ${r.dev ?? ''}`, r])).values()];
