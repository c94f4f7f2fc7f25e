/** What route-only ways have in common: a route to a peer's pods through the peer itself. Pure. */
import { cidrContains, cidrFirst, formatIp, parseCidr, parseIp } from '@podway/cni';
import { PROTOCOL, TABLE_MAIN } from '@podway/kernel';
import type { Route } from '@podway/netstate';
import type { LocalNode, Peer } from './backend.js';

export const familyOf = (address: string): 'inet' | 'inet6' => (address.includes(':') ? 'inet6' : 'inet');

/** The kernel's own default metric for IPv6 routes; IPv4 has none. */
export const metricOf = (family: 'inet' | 'inet6'): number => (family === 'inet6' ? 1024 : 0);

/** The first address of a node's pod range: its tunnel's own, and the gateway others route to. */
export const tunnelAddress = (podCidr: string): string => formatIp(cidrFirst(parseCidr(podCidr)));

/** Is the peer a neighbour on the uplink's own subnet? */
export function onSameSubnet(local: LocalNode, peer: Peer): boolean {
  const { address, prefix } = local.uplink;
  if (familyOf(address) !== familyOf(peer.ends.publicIP)) return false;
  return cidrContains(parseCidr(`${address}/${prefix}`), parseIp(peer.ends.publicIP));
}

/** `10.244.1.0/24 via 172.18.0.3 dev eth0`: bare packets, no tunnel. */
export const directRoutes = (local: LocalNode, peer: Peer): Route[] =>
  peer.podCidrs.map((dst) => ({
    family: familyOf(dst), dst, gateway: peer.ends.publicIP, dev: local.uplink.dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.podway,
    metric: metricOf(familyOf(dst)), why: `pods of node ${peer.name} are behind ${peer.ends.publicIP}, on the same subnet`,
  }));
