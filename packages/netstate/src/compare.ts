/**
 * Do two objects with the same key differ, and in what? In words, field by field. Pure.
 *
 * A field the desired object leaves out is not compared. A flag that is `false` and a flag that is
 * left out are the same: the kernel does not report what is not set.
 */
import { PROTOCOL } from '@podway/kernel';
import type { Kind, ObjectByKind } from './keys.js';
import type { BridgeState, Link, PortSettings, Qdisc, Route, RouteHop, VxlanState, WireguardLink, WireguardPeer } from './types.js';

export type Fields<T> = readonly (keyof T & string)[];
/** Kinds that are compared as lists of objects with keys. */
export type Listed = Exclude<Kind, 'link' | 'sysctl' | 'nft' | 'qdisc'>;

const FIELDS: { readonly [K in Listed]: Fields<ObjectByKind[K]> } = {
  address: ['broadcast', 'scope', 'peer'],
  route: ['type', 'gateway', 'dev', 'prefsrc', 'onlink', 'mtu', 'scope', 'protocol'],
  rule: ['action', 'table', 'fwmask', 'ipProto', 'suppressPrefixLength', 'goto', 'invert'],
  neighbour: ['lladdr', 'state'],
  fdb: ['dst', 'state'],
  peer: ['endpoint', 'keepalive', 'presharedKey'],
};
/** IPv6 knows no route scopes: every route reads as `global`. */
const ROUTE6: Fields<Route> = FIELDS.route.filter((f) => f !== 'scope');
/** A proxy entry has no state of its own. */
const PROXY_NEIGHBOUR = ['lladdr'] as const;

const LINK_FIELDS: Fields<Link> = ['mtu', 'address', 'up', 'master', 'alias'];
const PORT_FIELDS: Fields<PortSettings> = ['hairpin', 'isolated', 'learning', 'flood', 'proxyArp', 'neighSuppress'];
const BRIDGE_FIELDS: Fields<BridgeState> = ['stp', 'vlanFiltering', 'ageingTime', 'nfCallIptables', 'nfCallIp6tables', 'mcastSnooping'];
const WIREGUARD_FIELDS: Fields<WireguardLink> = ['publicKey', 'port'];
const VXLAN_FIELDS: Fields<VxlanState> = ['vni', 'port', 'local', 'dev', 'learning', 'udpCsum', 'ttl', 'df'];

const NONE: readonly string[] = [];

/** `mtu 1500 instead of 1450`, for each field that differs. */
function differences<T extends object>(desired: T, observed: T, fields: Fields<T>): readonly string[] {
  let words: string[] | undefined;
  for (const f of fields) {
    const want = desired[f];
    const have = observed[f];
    if (want === have || want === undefined || (want === false && have === undefined)) continue;
    (words ??= []).push(`${f} ${have === undefined ? 'none' : String(have)} instead of ${String(want)}`);
  }
  return words ?? NONE;
}

/** In what an object differs from what is wanted; empty when in nothing. */
export function objectDifferences<K extends Listed>(kind: K, desired: ObjectByKind[K], observed: ObjectByKind[K]): readonly string[] {
  if (kind === 'route') return routeDifferences(desired as Route, observed as Route);
  if (kind === 'peer') return peerDifferences(desired as WireguardPeer, observed as WireguardPeer);
  const fields = kind === 'neighbour' && (desired as ObjectByKind['neighbour']).proxy ? (PROXY_NEIGHBOUR as unknown as Fields<ObjectByKind[K]>) : FIELDS[kind];
  return differences(desired, observed, fields);
}

function peerDifferences(desired: WireguardPeer, observed: WireguardPeer): readonly string[] {
  const words = differences(desired, observed, FIELDS.peer);
  const [want, have] = [desired, observed].map((p) => [...p.allowedIps].sort().join(', ') || 'none');
  return want === have ? words : [...words, `allowed IPs ${have} instead of ${want}`];
}

function routeDifferences(desired: Route, observed: Route): readonly string[] {
  const words = differences(desired, observed, desired.family === 'inet6' ? ROUTE6 : FIELDS.route);
  if (desired.nexthops === undefined && observed.nexthops === undefined) return words;
  const [want, have] = [hopWords(desired.nexthops), hopWords(observed.nexthops)];
  return want === have ? words : [...words, `next hops ${have} instead of ${want}`];
}

const oneHop = (h: RouteHop): string => `${h.gateway ? `via ${h.gateway} ` : ''}dev ${h.dev}${h.weight === 1 ? '' : ` weight ${h.weight}`}${h.onlink ? ' onlink' : ''}`;
const hopWords = (hops: readonly RouteHop[] | undefined): string => (hops?.length ? hops.map(oneHop).sort().join(' and ') : 'one');

/** What the kernel cannot change on an existing link: the first such difference, in words, or undefined. */
export function linkIncompatible(desired: Link, observed: Link): string | undefined {
  if (desired.kind !== observed.kind) return `kind ${observed.kind} instead of ${desired.kind}`;
  if (desired.tunnel) return differences(desired.tunnel, observed.tunnel ?? {}, ['local', 'remote', 'ttl'])[0];
  if (!desired.vxlan) return undefined;
  if (!observed.vxlan) return 'no VXLAN settings could be read';
  return differences(desired.vxlan, observed.vxlan, VXLAN_FIELDS)[0];
}

export function linkDifferences(desired: Link, observed: Link): string[] {
  return [
    ...differences(desired, observed, LINK_FIELDS),
    ...(desired.port ? differences(desired.port, observed.port ?? {}, PORT_FIELDS) : NONE),
    ...(desired.wireguard ? differences(desired.wireguard, observed.wireguard ?? ({} as WireguardLink), WIREGUARD_FIELDS) : NONE),
    ...(desired.bridge ? differences(desired.bridge, observed.bridge ?? {}, BRIDGE_FIELDS) : NONE),
  ];
}

/** The kernel keeps a burst in ticks of 64 ns: bytes come back rounded, the more so the higher the rate. */
const sameBurst = (want: number, have: number, rate: number): boolean => Math.abs(want - have) <= Math.max(16, Math.ceil(rate * 64e-9) + 1);

/** In what a qdisc differs, in words; what a desired one does not say is not compared. */
export function qdiscDifferences(desired: Qdisc, observed: Qdisc): readonly string[] {
  const words = [...differences(desired, observed, QDISC_FIELDS)];
  const [want, have] = [desired.tbf, observed.tbf];
  if (want && have) {
    if (want.rate !== have.rate) words.push(`rate ${have.rate} instead of ${want.rate} bytes/s`);
    if (!sameBurst(want.burst, have.burst, want.rate)) words.push(`burst ${have.burst} instead of ${want.burst} bytes`);
    if (want.limit !== have.limit) words.push(`limit ${have.limit} instead of ${want.limit} bytes`);
  }
  return words;
}
const QDISC_FIELDS: Fields<Qdisc> = ['kind', 'handle', 'redirect'];

/** Somebody's lasting work, as opposed to what the kernel makes by itself and would make again. */
export const isLasting: { readonly [K in Listed]: (o: ObjectByKind[K]) => boolean } = {
  address: (a) => !(a.family === 'inet6' && a.scope === 'link') && !a.flags?.includes('dynamic'),
  route: (r) => r.protocol !== PROTOCOL.kernel && r.protocol !== PROTOCOL.ra && r.protocol !== PROTOCOL.redirect,
  rule: () => true,
  neighbour: (n) => n.state === 'permanent' || n.proxy === true,
  fdb: (f) => f.state === 'permanent' && f.dst !== undefined,
  peer: () => true,
};

/** `32768\t60999` and `32768 60999` are one value. */
export const sameSysctl = (a: string, b: string): boolean => a === b || a.trim().split(/\s+/).join(' ') === b.trim().split(/\s+/).join(' ');

/** The device a sysctl belongs to: `net.ipv4.conf.flannel/1.forwarding` → `flannel.1`. */
export const deviceOfSysctl = (key: string): string | undefined => /^net\.ipv[46]\.(?:conf|neigh)\.([^.]+)\./.exec(key)?.[1]?.replaceAll('/', '.');
