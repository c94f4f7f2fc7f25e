/**
 * What IPv6 does otherwise than IPv4: header sizes, the hop limit of own packets, the choice of a source address, who answers
 * a neighbour solicitation. Source: RFC 8200, RFC 6724, RFC 4861; net/ipv6/{addrconf,ndisc,ip6_output}.c.
 */
import type { Address, NetnsState } from '@podway/netstate';
import { addressValue, inPrefix } from './ip.js';
import { IPV4_HEADER, IPV6_HEADER, type Packet } from './types.js';

export const isV6 = (address: string): boolean => address.includes(':');
export const headerOf = (p: Packet): number => (isV6(p.dst) ? IPV6_HEADER : IPV4_HEADER);
/** Protocol numbers as each family has them: its ICMP is another. */
export const protocolOf = (p: Packet): number => ({ icmp: isV6(p.dst) ? 58 : 1, tcp: 6, udp: 17 })[p.l4.proto];

const DEFAULT_HOP_LIMIT = 64;
const FRAGMENT_HEADER = 8;

/** Of a packet that a process of this namespace sends by this device. */
export const hopLimit = (state: NetnsState, dev: string): number =>
  Number(state.sysctls[`net.ipv6.conf.${dev.replaceAll('.', '/')}.hop_limit`] ?? DEFAULT_HOP_LIMIT);

/** The sender's pieces, each with a fragment header. Routers do not fragment. */
export function fragments6(length: number, mtu: number): { count: number; length: number } {
  const around = IPV6_HEADER + FRAGMENT_HEADER;
  const room = Math.floor((mtu - around) / 8) * 8;
  return { count: Math.ceil((length - IPV6_HEADER) / room), length: around + room };
}

const isLinkLocal = (address: string): boolean => inPrefix(address, 'fe80::/10');
const isUsable = (a: Address): boolean => a.family === 'inet6' && !a.dadFailed && !a.flags?.includes('tentative') && a.dev !== 'lo';

/** RFC 6724, section 2.1: the default policy table. */
const LABELS = [['::1/128', 0], ['::ffff:0:0/96', 4], ['2002::/16', 2], ['2001::/32', 5], ['fc00::/7', 13], ['fec0::/10', 11], ['3ffe::/16', 12], ['::/96', 3]] as const;
const labelOf = (address: string): number => LABELS.find(([prefix]) => inPrefix(address, prefix))?.[1] ?? 1;

/** Leading bits in common, at most as many as the source's prefix has. */
function commonBits(source: Address, dst: string): number {
  let n = 0;
  for (let x = addressValue(source.address) ^ addressValue(dst); n < source.prefix && ((x >> BigInt(127 - n)) & 1n) === 0n; n++);
  return n;
}

/** Each rule: a higher figure wins; words for the one that decides. RFC 6724, section 5, in the order of ipv6_get_saddr_eval(). */
const RULES: readonly (readonly [words: string, score: (a: Address, q: { dst: string; dev: string }) => number])[] = [
  ['is the destination itself', (a, q) => Number(a.address === q.dst)],
  ['is not deprecated', (a) => Number(!a.flags?.includes('deprecated'))],
  ['is on the device it leaves by', (a, q) => Number(a.dev === q.dev)],
  ['is of the same kind as the destination (RFC 6724 label)', (a, q) => Number(labelOf(a.address) === labelOf(q.dst))],
  ['is a temporary one', (a) => Number(a.flags?.includes('temporary') ?? false)],
  ['has the longest prefix in common', (a, q) => commonBits(a, q.dst)],
];

/** The source address for a destination, and which rule decided. */
export function selectSource6(state: NetnsState, q: { dst: string; dev: string }): { address: string; why: string } | undefined {
  const near = isLinkLocal(q.dst);
  let left = state.addresses.filter((a) => isUsable(a) && isLinkLocal(a.address) === near && (!near || a.dev === q.dev));
  let decided = left.length === 1 ? 'the only address there is' : `first address of ${left[0]?.dev ?? q.dev}`;
  for (const [words, score] of RULES) {
    if (left.length < 2) break;
    const best = Math.max(...left.map((a) => score(a, q)));
    const kept = left.filter((a) => score(a, q) === best);
    if (kept.length < left.length) decided = words;
    left = kept;
  }
  const [first] = left;
  return first && { address: first.address, why: `${first.address} of ${first.dev}: ${decided}` };
}

/** Whether this device answers a solicitation: for its own addresses only, not for those of other devices as ARP does. */
export function answersFor(state: NetnsState, dev: string, target: string): 'own' | 'proxy' | undefined {
  if (state.addresses.some((a) => a.dev === dev && a.address === target && isUsable(a))) return 'own';
  // The subnet-router anycast address of a router (RFC 4291, 2.6.1).
  if (state.routes.some((r) => r.type === 'anycast' && r.dev === dev && inPrefix(target, r.dst))) return 'own';
  const proxies = state.sysctls['net.ipv6.conf.all.forwarding'] === '1' && state.neighbours.some((n) => n.proxy && n.dst === target && n.dev === dev);
  return proxies ? 'proxy' : undefined;
}
