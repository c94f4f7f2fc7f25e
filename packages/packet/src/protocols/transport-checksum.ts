/**
 * The checksum of TCP, UDP, ICMPv6 (with a pseudo-header of addresses, length and protocol) and ICMP (without), judged on a
 * captured packet. The pseudo-header's address sum comes from the IP layer through the context.
 */
import type { Context, Problem } from '../context.js';
import { checksum, expectedChecksum, fold, sum, type ChecksumState } from '../checksum.js';
import { hexNumber, parseIpv4, parseIpv6, put16 } from '../bytes.js';
import type { Ipv4Spec } from './ipv4.js';
import type { Ipv6Spec } from './ipv6.js';

/** What a checksum covers: the bytes `[start, end)`, with a pseudo-header of `protocol` (0: without one). `field` is the checksum as found. */
export interface Covered {
  readonly start: number;
  readonly end: number;
  readonly protocol: number;
  readonly field: number;
}

/** State of a checksum. A `bad` one is for the caller to report, with `badChecksum`. */
export function transportChecksum(c: Context, covered: Covered): ChecksumState {
  const { start, end, protocol, field } = covered;
  if (!c.settings.verifyChecksums || c.isFragment || !c.captured(end) || (protocol !== 0 && c.ipVersion === 0)) return 'unverifiable';
  const pseudo = pseudoTotal(c, covered);
  const region = sum(c.bytes, start, end);
  if (fold(pseudo + region) === 0xffff) return 'ok';
  if (protocol === 0 || field !== fold(pseudo)) return 'bad';
  c.innerOffloaded(region, pseudo);
  return 'offloaded';
}

/** Unfolded sum of the pseudo-header. */
export function pseudoTotal(c: Context, { start, end, protocol }: Covered): number {
  return protocol === 0 ? 0 : c.pseudoSum + protocol + (end - start);
}

/** The layer's problems with a bad checksum added, saying what it should be. */
export function badChecksum(c: Context, problems: readonly Problem[], name: string, covered: Covered): readonly Problem[] {
  const { start, end, field } = covered;
  const expected = expectedChecksum(pseudoTotal(c, covered) + sum(c.bytes, start, end), field);
  return c.report(problems, 'bad-checksum', name, `checksum is ${hexNumber(field)}, should be ${hexNumber(expected)}`, start);
}

/** How a checksum is to be written when encoding: right (if left out), as offload leaves it, or a given number. */
export type ChecksumSpec = 'offloaded' | number;

export type IpSpec = Ipv4Spec | Ipv6Spec;

/** Unfolded pseudo-header sum for encoding; 0 without an IP layer around. */
function pseudoSum(ip: IpSpec | undefined, protocol: number, length: number): number {
  if (ip === undefined || protocol === 0) return 0;
  const parse = ip.type === 'ipv4' ? parseIpv4 : parseIpv6;
  return sum(parse(ip.src), 0, ip.type === 'ipv4' ? 4 : 16) + sum(parse(ip.dst), 0, ip.type === 'ipv4' ? 4 : 16) + protocol + length;
}

/** Writes the checksum of `segment` at `at`, where the field must be zero. `zeroMeansNone` (UDP): a sum of 0 is sent as 0xffff. */
export function putChecksum(segment: Uint8Array, at: number, ip: IpSpec | undefined, how: { protocol: number; spec: ChecksumSpec | undefined; zeroMeansNone?: boolean }): void {
  if (typeof how.spec === 'number') return put16(segment, at, how.spec);
  const pseudo = pseudoSum(ip, how.protocol, segment.length);
  if (how.spec === 'offloaded') return put16(segment, at, fold(pseudo));
  const value = checksum(segment, 0, segment.length, pseudo);
  put16(segment, at, value === 0 && how.zeroMeansNone === true ? 0xffff : value);
}
