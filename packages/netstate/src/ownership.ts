/**
 * What is ours. Everything Podway makes is marked, and only what is marked is changed or removed.
 *
 * - links: their alias begins with `podway:` (`ip link` shows it)
 * - routes and rules: protocol 112; on a VTEP of ours also the exact form Flannel uses, `N/24 via
 *   N dev VTEP onlink`, and on a veth of ours the route to one pod, `ADDRESS dev VETH`, which keeps
 *   `ip route` as the tutorials print it (a protocol would show)
 * - neighbours and FDB entries: permanent, on a link of ours, for a MAC with our VTEP prefix
 *   (neither can carry a mark of its own; the prefix is locally administered, so no hardware has it)
 * - WireGuard peers: on a link of ours; nobody else has a say in who may send into the cluster
 * - addresses: on a link of ours, within the ranges the caller manages
 * - qdiscs: the handle 7077:, and the ingress qdisc that sends to a link of ours
 * - nftables: the tables whose name is ours
 * - sysctls: named one by one in the desired state; their former value stands in the change
 */
import { PROTOCOL } from '@podway/kernel';
import type { Address, FdbEntry, Link, NetnsState, Neighbour, Qdisc, Route, Rule, WireguardPeer } from './types.js';
import type { Kind, NftTable, ObjectByKind } from './keys.js';

export const ALIAS_PREFIX = 'podway:';
/** `pw` in ASCII behind a locally administered, unicast first byte. */
export const VTEP_MAC_PREFIX = '0e:70:77:';
/** `pw` in ASCII: the mark of a qdisc, which can carry no other. */
export const SHAPER_HANDLE = '7077:';
export const NFT_TABLE = 'podway';

export interface Ownership {
  /** Links whose alias begins with this are ours. A narrower prefix serves two owners side by side. */
  readonly aliasPrefix: string;
  readonly nftTables: readonly string[];
  /** Addresses on links of ours that we manage; others were added by somebody else. */
  readonly managesAddress: (a: Address) => boolean;
}

export const podwayOwnership = (managesAddress: (a: Address) => boolean = () => false): Ownership => ({
  aliasPrefix: ALIAS_PREFIX, nftTables: [NFT_TABLE], managesAddress,
});

/** `10.244.2.0/24 via 10.244.2.0 onlink`, made without a protocol. */
const hasVtepForm = (r: Route): boolean =>
  r.protocol === PROTOCOL.boot && r.onlink === true && r.gateway !== undefined && r.dst.startsWith(`${r.gateway}/`);

/** `10.244.2.2 dev vethX`, made without a protocol. */
const hasPodForm = (r: Route): boolean => r.protocol === PROTOCOL.boot && r.gateway === undefined && /(\.\d+\/32|:[0-9a-f]*\/128)$/.test(r.dst);

export type Owns = { readonly [K in Kind]: (o: ObjectByKind[K]) => boolean };

/** Predicates for the objects of one observed state. */
export function ownsIn(observed: NetnsState, ownership: Ownership): Owns {
  const ours = new Set(observed.links.filter((l) => l.alias?.startsWith(ownership.aliasPrefix)).map((l) => l.name));
  const vteps = new Set(observed.links.filter((l) => ours.has(l.name) && l.kind === 'vxlan').map((l) => l.name));
  const pods = new Set(observed.links.filter((l) => ours.has(l.name) && l.kind === 'veth').map((l) => l.name));
  return {
    link: (l: Link) => ours.has(l.name),
    // The kernel gives every device an IPv6 link-local address by itself.
    address: (a: Address) => ours.has(a.dev) && !(a.family === 'inet6' && a.scope === 'link') && ownership.managesAddress(a),
    route: (r: Route) => r.protocol === PROTOCOL.podway || (r.dev !== undefined && ((vteps.has(r.dev) && hasVtepForm(r)) || (pods.has(r.dev) && hasPodForm(r)))),
    rule: (r: Rule) => r.protocol === PROTOCOL.podway,
    neighbour: (n: Neighbour) => ours.has(n.dev) && n.state === 'permanent' && (n.lladdr?.startsWith(VTEP_MAC_PREFIX) ?? false),
    fdb: (f: FdbEntry) => vteps.has(f.dev) && f.state === 'permanent' && f.lladdr.startsWith(VTEP_MAC_PREFIX),
    peer: (p: WireguardPeer) => ours.has(p.dev),
    qdisc: (q: Qdisc) => q.handle === SHAPER_HANDLE || (q.redirect !== undefined && ours.has(q.redirect)),
    sysctl: () => true,
    nft: (t: NftTable) => ownership.nftTables.includes(t.name),
  };
}
