/**
 * The state of a namespace as the familiar tools print it, object by object, each with the way back from it:
 * veth → the pod at its other end, route → device and next hop, neighbour and FDB entry → the node behind. Pure.
 */
import { isIPv4 } from 'node:net';
import { formatAddress, formatFdb, formatLink, formatNeighbour, formatRoute, formatRule, type Link, type NetnsState } from '@podway/netstate';
import { ownersOf, WorldIndex, type World } from '@podway/trace';
import type { NamespaceView, Reference, Relation, ShownObject } from './types.js';

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
    const peer = this.index.peer(this.netns, l.name);
    return [
      ...(peer ? [this.to('other-end', peer.netns, peer.dev)] : []),
      ...(l.master === undefined ? [] : [this.to('port-of', this.netns, l.master)]),
      ...(l.vxlan?.dev === undefined ? [] : [this.to('lower', this.netns, l.vxlan.dev)]),
      ...this.index.ports(this.netns, l.name).map((p) => this.to('port', this.netns, p.name)),
    ];
  }

  route(r: Route): Reference[] {
    const [address = '', length] = r.dst.split('/');
    const range = this.index.world.nodes.find((n) => n.podCIDRs.includes(r.dst));
    return unique([
      ...devicesOf(r).map((dev) => this.to('leaves-by', this.netns, dev)),
      ...[r.gateway, ...(r.nexthops ?? []).map((h) => h.gateway)].flatMap((g) => (g === undefined ? [] : this.owner('next-hop', g))),
      ...(range ? [this.to('pods-of', range.netns)] : []),
      ...(length === (isIPv4(address) ? '32' : '128') ? this.owner('leads-to', address) : []),
    ]);
  }

  neighbour(n: NetnsState['neighbours'][number]): Reference[] {
    return unique([...this.owner('is', n.dst), ...(n.lladdr === undefined ? [] : this.holder(n.lladdr))]);
  }

  fdb(f: NetnsState['fdb'][number]): Reference[] {
    return unique([
      ...(f.dst === undefined ? [] : this.owner('vtep', f.dst)), ...this.holder(f.lladdr), ...(f.master === undefined ? [] : [this.to('entry-of', this.netns, f.master)]),
    ]);
  }

  private to(relation: Relation, netns: string, dev?: string): Reference {
    const index = dev === undefined ? undefined : this.index.link(netns, dev)?.index;
    return { relation, netns, ...(dev === undefined ? {} : { dev }), ...(index === undefined ? {} : { index }) };
  }

  /** Where an address is. */
  private owner(relation: Relation, address: string): Reference[] {
    return ownersOf(this.index.world, address).slice(0, 1).map((n) => this.to(relation, n.key, n.state.addresses.find((a) => a.address === address)?.dev));
  }

  /** Whose MAC this is. Of several (a bridge takes that of a port) the one with an address. */
  private holder(mac: string): Reference[] {
    const found = this.index.world.namespaces.flatMap((n) => n.state.links.filter((l) => l.address === mac && l.kind !== 'loopback').map((l) => ({ n, l })));
    const best = found.find(({ n, l }) => n.state.addresses.some((a) => a.dev === l.name && a.scope !== 'link')) ?? found[0];
    return best ? [this.to('mac-of', best.n.key, best.l.name)] : [];
  }
}

/** One reference for each place. */
const unique = (refs: readonly Reference[]): Reference[] => [...new Map(refs.map((r) => [`${r.netns} ${r.dev ?? ''}`, r])).values()];
