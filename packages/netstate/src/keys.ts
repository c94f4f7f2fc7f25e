/** The natural key of every object: what makes two of them the same object, as the kernel sees it. */
import type { Address, FdbEntry, Link, Neighbour, NftRuleset, Qdisc, Route, Rule, WireguardPeer } from './types.js';

export interface ObjectByKind {
  link: Link;
  address: Address;
  route: Route;
  rule: Rule;
  neighbour: Neighbour;
  fdb: FdbEntry;
  peer: WireguardPeer;
  qdisc: Qdisc;
  sysctl: { readonly key: string; readonly value: string };
  nft: NftTable;
}
export type Kind = keyof ObjectByKind;

/** One nftables table with all that is in it. */
export interface NftTable {
  readonly family: string;
  readonly name: string;
  readonly objects: NftRuleset;
}

export const BROADCAST_FDB = '00:00:00:00:00:00';

/** The all-zeros entry and group addresses: the kernel takes several destinations for these, and for no others. */
export const floods = (lladdr: string): boolean => lladdr === BROADCAST_FDB || '13579bdfBDF'.includes(lladdr.charAt(1));

export const keyOf: { readonly [K in Kind]: (o: ObjectByKind[K]) => string } = {
  link: (o) => o.name,
  address: (o) => `${o.address}/${o.prefix} dev ${o.dev}`,
  // The kernel tells routes apart by table, prefix, TOS and metric; IPv6 also by next hop, where several may stand side by side.
  route: (o) => `${o.dst} table ${o.table} metric ${metricOf(o)}${o.tos ? ` tos ${o.tos}` : ''}`,
  rule: (o) => `${o.family} ${o.priority} ${o.src ?? 'all'} ${o.dst ?? 'all'} ${o.iif ?? '-'} ${o.oif ?? '-'} ${o.fwmark ?? '-'} ${o.table}`,
  neighbour: (o) => `${o.proxy ? 'proxy ' : ''}${o.dst} dev ${o.dev}`,
  // A MAC has one VTEP behind it, except where frames are flooded, which go to each of the destinations.
  fdb: (o) => `${o.lladdr} dev ${o.dev}${o.vlan ? ` vlan ${o.vlan}` : ''}${o.dst !== undefined && floods(o.lladdr) ? ` dst ${o.dst}` : ''}${o.self ? '' : ' master'}`,
  peer: (o) => `${o.publicKey} dev ${o.dev}`,
  // A device has one at each place.
  qdisc: (o) => `${o.parent} dev ${o.dev}`,
  sysctl: (o) => o.key,
  nft: (o) => `${o.family} ${o.name}`,
};

type Listed = 'address' | 'route' | 'rule' | 'neighbour' | 'fdb' | 'peer';

/** The metric the kernel will list: an IPv6 route without one gets IP6_RT_PRIO_USER. */
export const metricOf = (r: Route): number => (r.metric === 0 && r.family === 'inet6' ? 1024 : r.metric);

/**
 * The same keys in two halves, for comparing thousands of objects: a string the object already has, and whether the rest
 * agrees. Building and hashing the full text for each would take most of the time.
 */
export const KEY_PARTS: {
  readonly [K in Listed]: { readonly head: (o: ObjectByKind[K]) => string; readonly same: (a: ObjectByKind[K], b: ObjectByKind[K]) => boolean };
} = {
  address: { head: (o) => o.address, same: (a, b) => a.prefix === b.prefix && a.dev === b.dev },
  route: { head: (o) => o.dst, same: (a, b) => a.table === b.table && metricOf(a) === metricOf(b) && (a.tos ?? 0) === (b.tos ?? 0) },
  rule: { head: (o) => keyOf.rule(o), same: () => true },
  neighbour: { head: (o) => o.dst, same: (a, b) => a.dev === b.dev && (a.proxy ?? false) === (b.proxy ?? false) },
  peer: { head: (o) => o.publicKey, same: (a, b) => a.dev === b.dev },
  fdb: {
    head: (o) => o.lladdr,
    same: (a, b) => a.dev === b.dev && a.self === b.self && (a.vlan ?? 0) === (b.vlan ?? 0) && (a.dst === b.dst || !floods(a.lladdr)),
  },
};

/** Groups the flat list that nftables gives into tables, in order of appearance. */
export function nftTables(ruleset: NftRuleset): NftTable[] {
  const tables = new Map<string, { family: string; name: string; objects: NftRuleset[number][] }>();
  for (const object of ruleset) {
    const [kind, body] = Object.entries(object)[0] ?? [];
    if (!kind || !body) continue;
    const family = String(body['family']);
    const name = String(kind === 'table' ? body['name'] : body['table']);
    let table = tables.get(`${family} ${name}`);
    if (!table) tables.set(`${family} ${name}`, (table = { family, name, objects: [] }));
    table.objects.push(object);
  }
  return [...tables.values()];
}
