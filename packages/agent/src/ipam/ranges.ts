/**
 * Ranges: from subnets to the addresses that may be given. Pure.
 *
 * A *set* is a pool for one address of a pod (one per family in a dual-stack cluster); it has
 * one or more ranges, used in order. Never given: the subnet's first address (network, or
 * subnet-router anycast), its last in IPv4 (broadcast), and the gateway.
 */
import { type Cidr, CniError, type Ip, cidrContains, cidrLast, cidrNth, cidrOverlaps, formatCidr, formatIp, parseIp, tryParseIp, tryParseIpCidr } from '@podway/cni';

export interface RangeSpec {
  readonly subnet: string;
  /** Second address of the subnet (.1) unless given. */
  readonly gateway?: string;
  readonly rangeStart?: string;
  readonly rangeEnd?: string;
}

export interface Range {
  readonly subnet: Cidr;
  readonly gateway: Ip;
  /** First and last address to give, both inclusive; the gateway may lie between. */
  readonly first: bigint;
  readonly last: bigint;
}

export interface RangeSet {
  /** Names the set in the store: its subnets. */
  readonly id: string;
  readonly ranges: readonly Range[];
}

const invalid = (details: string): CniError => new CniError('INVALID_CONFIG', 'invalid address range', { details });

function rangeOf(spec: RangeSpec): Range {
  const subnet = tryParseIpCidr(spec.subnet)?.cidr;
  if (!subnet) throw invalid(`subnet ${JSON.stringify(spec.subnet)} is not in CIDR notation`);
  const text = formatCidr(subnet);
  const v4 = subnet.family === 4;
  if (subnet.prefix > (v4 ? 30 : 126)) throw invalid(`subnet ${text} is too small to allocate from`);
  const inside = (name: string, value: string | undefined, fallback: Ip): Ip => {
    if (value === undefined) return fallback;
    const ip = tryParseIp(value);
    if (!ip || !cidrContains(subnet, ip)) throw invalid(`${name} ${JSON.stringify(value)} is not an address of ${text}`);
    return ip;
  };
  const lowest = cidrNth(subnet, 1);
  const highest = v4 ? cidrNth(subnet, -2) : cidrLast(subnet);
  const gateway = inside('gateway', spec.gateway, lowest);
  const start = inside('rangeStart', spec.rangeStart, lowest).value;
  const end = inside('rangeEnd', spec.rangeEnd, highest).value;
  const first = start < lowest.value ? lowest.value : start;
  const last = end > highest.value ? highest.value : end;
  if (first > last) throw invalid(`range ${spec.rangeStart ?? ''}-${spec.rangeEnd ?? ''} of ${text} is empty`);
  return { subnet, gateway, first, last };
}

/** @throws CniError 7 naming the subnet and what is wrong; ranges of one node may not overlap */
export function rangeSets(specs: readonly (readonly RangeSpec[])[]): RangeSet[] {
  const sets = specs.map((set) => {
    const ranges = set.map(rangeOf);
    if (ranges.length === 0) throw invalid('a set of ranges is empty');
    if (new Set(ranges.map((r) => r.subnet.family)).size > 1) throw invalid(`a set mixes IPv4 and IPv6: ${set.map((s) => s.subnet).join(', ')}`);
    return { id: ranges.map(rangeName).join(','), ranges };
  });
  const all = sets.flatMap((s) => s.ranges);
  for (const [i, a] of all.entries()) {
    for (const b of all.slice(i + 1)) {
      const disjoint = a.first > b.last || b.first > a.last;
      if (a.subnet.family === b.subnet.family && cidrOverlaps(a.subnet, b.subnet) && !disjoint) throw invalid(`ranges ${rangeName(a)} and ${rangeName(b)} overlap`);
    }
  }
  return sets;
}

/** One set per family, in the order of first appearance: what a node's podCIDRs or blocks mean. */
export function setsOfPodCidrs(podCidrs: readonly string[]): RangeSet[] {
  const families = [...new Set(podCidrs.map((c) => c.includes(':')))];
  return rangeSets(families.map((v6) => podCidrs.filter((c) => c.includes(':') === v6).map((subnet) => ({ subnet }))));
}

/** `10.244.1.0/24`, or with its bounds when they are narrower than the subnet. */
export function rangeName(r: Range): string {
  const whole = r.first === r.subnet.base + 1n && r.last === cidrLast(r.subnet).value - (r.subnet.family === 4 ? 1n : 0n);
  const at = (value: bigint): string => formatIp({ family: r.subnet.family, value });
  return whole ? formatCidr(r.subnet) : `${formatCidr(r.subnet)} (${at(r.first)}-${at(r.last)})`;
}

/** Addresses of the range that can be given. */
export function capacity(r: Range): bigint {
  const n = r.last - r.first + 1n;
  return r.gateway.value >= r.first && r.gateway.value <= r.last ? n - 1n : n;
}

/** The range that may give this address, if one may. */
export const rangeOfAddress = (set: RangeSet, ip: Ip): Range | undefined =>
  set.ranges.find((r) => r.subnet.family === ip.family && ip.value >= r.first && ip.value <= r.last && ip.value !== r.gateway.value);

const FIXED_KEYS = ['podway.io/ip-addrs', 'cni.projectcalico.org/ipAddrs'] as const;

/**
 * The addresses a pod asks for by annotation: a JSON list of addresses (`["10.244.1.100"]`), or the
 * same separated by commas. Podway's own key wins over Calico's.
 * @throws CniError 7 naming the annotation
 */
export function requestedByAnnotation(annotations: Readonly<Record<string, string>>): Ip[] {
  const key = FIXED_KEYS.find((k) => annotations[k] !== undefined);
  if (!key) return [];
  const text = annotations[key] ?? '';
  const bad = (why: string): CniError => new CniError('INVALID_CONFIG', `annotation ${key} is not a list of addresses`, { details: `${why}: ${text}`, hint: `Write it as '["10.244.1.100"]'.` });
  let list: unknown = text.split(',').map((s) => s.trim());
  if (text.trim().startsWith('[')) {
    try {
      list = JSON.parse(text);
    } catch (e) {
      throw bad((e as Error).message);
    }
  }
  if (!Array.isArray(list)) throw bad('no list');
  return list.map((item) => {
    const ip = typeof item === 'string' ? tryParseIp(item) : undefined;
    if (!ip) throw bad(`${JSON.stringify(item)} is not an address`);
    return ip;
  });
}

/** Addresses of `ips` of the capabilities or `IP` of CNI_ARGS; a prefix length is allowed and not used. @throws CniError 7 */
export const requestedByText = (texts: readonly string[]): Ip[] =>
  texts.map((t) => {
    try {
      return parseIp(t.split('/')[0] ?? '');
    } catch (e) {
      throw new CniError('INVALID_CONFIG', 'a requested address is none', { details: JSON.stringify(t), cause: e });
    }
  });
