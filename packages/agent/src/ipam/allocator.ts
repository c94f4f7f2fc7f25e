/**
 * Which address is next. Pure: the caller says what is taken and what time it is.
 *
 * Round robin: the first free one after the last given, over the ranges of the set in order,
 * around the end. An address released less than the reuse delay ago is passed over as long as
 * another is free, then the one released longest ago is taken: peers may still have it in
 * their neighbour and conntrack tables.
 *
 * Cost: one map look-up per address passed over; nothing to build.
 */
import { CniError, type Ip, formatIp } from '@podway/cni';
import { type Range, type RangeSet, capacity, rangeName, rangeOfAddress } from './ranges.js';

/** 30 s: longer than conntrack keeps a closed TCP connection's last states unreplied, and a neighbour entry stale. */
export const REUSE_DELAY_MS = 30_000;

export interface AllocationState {
  /** Who has the address, in words; undefined when free. */
  holder(ip: Ip): string | undefined;
  /** When it was released, in the clock of `now`; undefined when long ago or never. */
  releasedAt(ip: Ip): number | undefined;
  readonly lastGiven: Ip | undefined;
  readonly now: number;
  readonly reuseDelayMs: number;
}

export interface Allocation {
  readonly ip: Ip;
  readonly range: Range;
}

/** Every address of the set that can be given, from the one after `lastGiven` around to it. */
function* roundRobin(set: RangeSet, lastGiven: Ip | undefined): Generator<Allocation> {
  const { ranges } = set;
  const within = (r: Range): boolean => lastGiven !== undefined && lastGiven.family === r.subnet.family && lastGiven.value >= r.first && lastGiven.value <= r.last;
  const at = ranges.findIndex(within);
  const from = at >= 0 && lastGiven ? lastGiven.value + 1n : undefined;
  const stretch = function* (range: Range, first: bigint, last: bigint): Generator<Allocation> {
    for (let value = first; value <= last; value++) {
      if (value !== range.gateway.value) yield { ip: { family: range.subnet.family, value }, range };
    }
  };
  for (let i = 0; i < ranges.length; i++) {
    const range = ranges[(Math.max(at, 0) + i) % ranges.length];
    if (range) yield* stretch(range, i === 0 && from !== undefined ? from : range.first, range.last);
  }
  const start = ranges[at];
  if (start && from !== undefined) yield* stretch(start, start.first, from - 1n);
}

/** The next address of the set. @throws CniError 101 naming the ranges, how many are in use and by whom */
export function allocate(set: RangeSet, state: AllocationState): Allocation {
  let oldest: { allocation: Allocation; at: number } | undefined;
  for (const allocation of roundRobin(set, state.lastGiven)) {
    if (state.holder(allocation.ip) !== undefined) continue;
    const at = state.releasedAt(allocation.ip);
    if (at === undefined || state.now - at >= state.reuseDelayMs) return allocation;
    if (!oldest || at < oldest.at) oldest = { allocation, at };
  }
  if (oldest) return oldest.allocation;
  throw exhausted(set, state);
}

function exhausted(set: RangeSet, state: AllocationState): CniError {
  const holders: string[] = [];
  for (const { ip } of roundRobin(set, undefined)) {
    if (holders.length === 4) break;
    holders.push(`${formatIp(ip)} ${state.holder(ip) ?? 'free'}`);
  }
  const total = set.ranges.reduce((n, r) => n + capacity(r), 0n);
  const more = total > BigInt(holders.length) ? `, and ${total - BigInt(holders.length)} more` : '';
  const names = set.ranges.map(rangeName).join(', ');
  return new CniError('RANGE_EXHAUSTED', `range exhausted: no free address in ${names}`, {
    object: names,
    details: `all ${total} addresses are in use: ${holders.join('; ')}${more}`,
    hint: 'Delete pods from this node, or give it a larger pod CIDR.',
  });
}

/** A certain address of the set, reuse delay or not. @throws CniError 102: in no range, or taken, and by whom */
export function allocateFixed(set: RangeSet, ip: Ip, state: Pick<AllocationState, 'holder'>): Allocation {
  const text = formatIp(ip);
  const names = set.ranges.map(rangeName).join(', ');
  const range = rangeOfAddress(set, ip);
  if (!range) {
    const why = set.ranges.some((r) => r.gateway.value === ip.value) ? 'it is the gateway' : `it is not one that ${names} can give`;
    throw new CniError('ADDRESS_TAKEN', `requested address ${text} cannot be given`, { object: text, details: why });
  }
  const holder = state.holder(ip);
  if (holder !== undefined) throw new CniError('ADDRESS_TAKEN', `requested address ${text} is in use`, { object: text, details: `by ${holder}` });
  return { ip, range };
}
