/** What route-only ways have in common: a route to a peer's pods through the peer itself. Pure. */
import { cidrContains, cidrFirst, formatIp, parseCidr, parseIp } from '@podway/cni';
import { PROTOCOL, TABLE_MAIN } from '@podway/kernel';
import type { Route } from '@podway/netstate';
import type { Family, LocalNode, Peer, UplinkAddress } from './backend.js';

export const familyOf = (address: string): Family => (address.includes(':') ? 'inet6' : 'inet');

/** The kernel's own default metric for IPv6 routes; IPv4 has none. */
export const metricOf = (family: Family): number => (family === 'inet6' ? 1024 : 0);

/** The first address of a node's pod range: its tunnel's own, and the gateway others route to. */
export const tunnelAddress = (podCidr: string): string => formatIp(cidrFirst(parseCidr(podCidr)));

/** The uplink's address of a family. */
export const uplinkIn = ({ uplink }: LocalNode, family: Family): UplinkAddress | undefined =>
  [uplink, uplink.second].find((a) => a !== undefined && familyOf(a.address) === family);

/** A peer's address of a family. */
export const publicIpIn = ({ ends }: Peer, family: Family): string | undefined =>
  [ends.publicIP, ends.secondIP].find((a) => a !== undefined && familyOf(a) === family);

/** The families of a node's pods. */
export const familiesOf = (podCidrs: readonly string[]): Family[] => [...new Set(podCidrs.map(familyOf))];

/** The families that pods of both nodes have. */
export const sharedFamilies = (local: LocalNode, peer: Peer): Family[] => {
  const theirs = familiesOf(peer.podCidrs);
  return familiesOf(local.podCidrs).filter((f) => theirs.includes(f));
};

export const FAMILY_NAME = { inet: 'IPv4', inet6: 'IPv6' } as const;

export interface Judged {
  /** Nothing of the peer can be served. */
  readonly refusal?: string;
  /** One family can be served, the other cannot. */
  readonly lacking?: string;
}

/** Judges a peer family by family. @param reason why pods of a family cannot be reached, undefined when they can */
export function judge(local: LocalNode, peer: Peer, reason: (family: Family) => string | undefined): Judged {
  const shared = sharedFamilies(local, peer);
  if (shared.length === 0) {
    const words = (cidrs: readonly string[]): string => familiesOf(cidrs).map((f) => FAMILY_NAME[f]).join(' and ');
    return { refusal: `its pods have ${words(peer.podCidrs)} addresses, and those of this node ${words(local.podCidrs)}` };
  }
  const reasons = shared.flatMap((family) => {
    const why = reason(family);
    return why === undefined ? [] : [{ family, why }];
  });
  if (reasons.length === 0) return {};
  if (reasons.length === shared.length) return { refusal: [...new Set(reasons.map((r) => r.why))].join('; ') };
  return { lacking: reasons.map((r) => `no ${FAMILY_NAME[r.family]}: ${r.why}`).join('; ') };
}

/** Is the peer a neighbour on the uplink's own subnet? @param family of the pods; that of the uplink's first address when left out */
export function onSameSubnet(local: LocalNode, peer: Peer, family: Family = familyOf(local.uplink.address)): boolean {
  const [own, theirs] = [uplinkIn(local, family), publicIpIn(peer, family)];
  return own !== undefined && theirs !== undefined && cidrContains(parseCidr(`${own.address}/${own.prefix}`), parseIp(theirs));
}

/** `10.244.1.0/24 via 172.18.0.3 dev eth0`: bare packets, no tunnel. A range whose family the peer itself has no address of gets none. */
export const directRoutes = (local: LocalNode, peer: Peer): Route[] =>
  peer.podCidrs.flatMap((dst) => directRoute(local, peer, dst) ?? []);

export function directRoute(local: LocalNode, peer: Peer, dst: string): Route | undefined {
  const family = familyOf(dst);
  const gateway = publicIpIn(peer, family);
  if (gateway === undefined || uplinkIn(local, family) === undefined) return undefined;
  return {
    family, dst, gateway, dev: local.uplink.dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.podway,
    metric: metricOf(family), why: `pods of node ${peer.name} are behind ${gateway}, on the same subnet`,
  };
}

/**
 * What an IPv6 device of ours is spared: asking whether somebody else has its addresses (they are given out once, and the
 * second it takes would be the pod's) and believing whoever calls himself a router. Its addresses stay when it goes down.
 */
export const quietIpv6 = (device: string): [key: string, value: string][] =>
  [['accept_dad', '0'], ['accept_ra', '0'], ['keep_addr_on_down', '1']].map(([key, value]) => [`net.ipv6.conf.${device}.${key}`, value!]);
