/**
 * The families of a lab: IPv4, IPv6 or both. The first one is the lab's own (`underlay.subnet`, `network.clusterCIDR`,
 * `address` of a node); the second, where there is one, stands beside it as `second`: absent, that family is off. Pure.
 */
import { cidrContains, cidrNth, cidrOverlaps, formatCidr, formatIp, parseCidr, parseIp } from '@podway/cni';

export const IP_FAMILIES = ['ipv4', 'ipv6', 'dual'] as const;
export type IpFamily = (typeof IP_FAMILIES)[number];

/** What kind uses for its nodes, and kubeadm's documentation for pods. */
const DEFAULTS = {
  ipv4: { subnet: '172.18.0.0/16', clusterCIDR: '10.244.0.0/16', nodeMask: 24 },
  ipv6: { subnet: 'fc00:f853:ccd:e793::/64', clusterCIDR: 'fd00:10:244::/56', nodeMask: 64 },
} as const;

/** Of Services: kubeadm's and kind's. */
const SERVICES = { ipv4: '10.96.0.0/12', ipv6: 'fd00:10:96::/112' } as const;

interface Ranges {
  readonly subnet: string;
  readonly clusterCIDR: string;
  /** Bits of a node's own range. */
  readonly nodeMask: number;
}

export interface SecondFamily extends Ranges {
  readonly prefix: number;
  readonly gateway: string;
}

/** A node in the second family. */
export interface SecondOfNode {
  readonly address: string;
  readonly podCIDR?: string;
}

/** What a file says: one value, or one a family, in any order. */
export type OneOrTwo = string | readonly string[] | undefined;
type Report = (path: readonly PropertyKey[], message: string) => void;

const listOf = (v: OneOrTwo): readonly string[] => (v === undefined ? [] : typeof v === 'string' ? [v] : v);
const isV6 = (text: string): boolean => text.includes(':');
const kindOf = (text: string): 'ipv4' | 'ipv6' => (isV6(text) ? 'ipv6' : 'ipv4');

export interface FamilyWishes {
  readonly ipFamily: IpFamily | undefined;
  readonly subnet: OneOrTwo;
  readonly clusterCIDR: OneOrTwo;
  readonly nodeMask: number | undefined;
  readonly nodeMask6: number | undefined;
}

/**
 * One set of ranges a family, the first first: as asked, else the defaults. `ipFamily` says which there are; without it the
 * ranges that are given do, and without any it is IPv4.
 */
export function familyRanges(w: FamilyWishes, report: Report): [first: Ranges, second?: Ranges] {
  const [subnets, clusters] = [listOf(w.subnet), listOf(w.clusterCIDR)];
  for (const [path, list] of [[['underlay', 'subnet'], subnets], [['network', 'clusterCIDR'], clusters]] as const) {
    if (list.length === 2 && isV6(list[0]!) === isV6(list[1]!)) report(path, `${list.join(' and ')} are of one family: give one range of IPv4 and one of IPv6`);
  }
  const given = [...new Set([...clusters, ...subnets].map(kindOf))];
  const kinds: readonly ('ipv4' | 'ipv6')[] = w.ipFamily === 'dual' ? ['ipv4', 'ipv6'] : w.ipFamily ? [w.ipFamily] : given.length ? given : ['ipv4'];
  // The order of the cluster's ranges decides which family is a pod's first.
  const ordered = clusters.length === 2 ? [...kinds].sort((a, b) => clusters.findIndex((c) => kindOf(c) === a) - clusters.findIndex((c) => kindOf(c) === b)) : kinds;
  for (const [path, list] of [[['underlay', 'subnet'], subnets], [['network', 'clusterCIDR'], clusters]] as const) {
    for (const range of list) if (!kinds.includes(kindOf(range))) report(path, `${range} is of a family that network.ipFamily ${w.ipFamily ?? ''} leaves out`);
  }
  const [first, second] = ordered.map((kind): Ranges => ({
    subnet: subnets.find((s) => kindOf(s) === kind) ?? DEFAULTS[kind].subnet,
    clusterCIDR: clusters.find((c) => kindOf(c) === kind) ?? DEFAULTS[kind].clusterCIDR,
    nodeMask: (kind === 'ipv6' ? w.nodeMask6 : w.nodeMask) ?? DEFAULTS[kind].nodeMask,
  }));
  return second ? [first!, second] : [first!];
}

/** Ranges of Services, `10.96.0.0/12,fd00:10:96::/112`: as asked, else one of each family; that of the lab's first family first. */
export function serviceRange(asked: string | undefined, clusterCidrs: readonly string[], report: Report): string {
  const kinds = clusterCidrs.map(kindOf);
  if (asked === undefined) return kinds.map((k) => SERVICES[k]).join();
  const path = ['network', 'serviceCIDR'];
  const list = asked.split(',').map((r) => r.trim());
  const given = list.map(kindOf);
  if (new Set(given).size < list.length) report(path, `${list.join(' and ')} are of one family: give one range, or one of IPv4 and one of IPv6`);
  for (const range of list) if (!kinds.includes(kindOf(range))) report(path, `${range} is of a family that this lab has not (network.ipFamily)`);
  if (!given.includes(kinds[0]!)) report(path, `must have a range of ${kinds[0] === 'ipv4' ? 'IPv4' : 'IPv6'}, the lab's first family: the API's own Service is there`);
  return [...list].sort((a, b) => kinds.indexOf(kindOf(a)) - kinds.indexOf(kindOf(b))).join();
}

/** The second family with its router, checked against itself. */
export function secondFamily(r: Ranges, report: Report): SecondFamily {
  const [subnet, cluster] = [parseCidr(r.subnet), parseCidr(r.clusterCIDR)];
  if (cidrOverlaps(cluster, subnet)) report(['network', 'clusterCIDR'], `${formatCidr(cluster)} overlaps with the underlay's subnet ${formatCidr(subnet)}`);
  const longest = cluster.family === 4 ? 30 : 126;
  if (r.nodeMask < cluster.prefix || r.nodeMask > longest) {
    report(['network', cluster.family === 4 ? 'nodeMask' : 'nodeMask6'], `must be from the cluster's /${cluster.prefix} to /${longest}`);
  }
  return { subnet: formatCidr(subnet), prefix: subnet.prefix, gateway: formatIp(cidrNth(subnet, 1)), clusterCIDR: formatCidr(cluster), nodeMask: r.nodeMask };
}

/** The value of the lab's first family, and that of its second, of what a node or pod of the file has. */
export function byFamily(v: OneOrTwo, first: string): { first: string | undefined; second: string | undefined } {
  const list = listOf(v);
  return { first: list.find((x) => isV6(x) === isV6(first)), second: list.find((x) => isV6(x) !== isV6(first)) };
}

export interface NodeWish {
  readonly name: string;
  readonly address: string | undefined;
  readonly podCIDR: string | undefined;
}

/** Addresses of the second family: as asked, or the next free one. */
export function secondAddresses(family: SecondFamily, nodes: readonly NodeWish[], report: Report): SecondOfNode[] {
  const [subnet, cluster] = [parseCidr(family.subnet), parseCidr(family.clusterCIDR)];
  const taken = new Map<string, string>([[family.gateway, "the underlay's router"]]);
  for (const [i, n] of nodes.entries()) {
    if (n.podCIDR !== undefined) {
      const own = parseCidr(n.podCIDR);
      if (own.prefix < cluster.prefix || !cidrOverlaps(cluster, own)) report(['nodes', i, 'podCIDR'], `${n.podCIDR} is not within the cluster's range ${family.clusterCIDR}`);
    }
    if (n.address === undefined) continue;
    const holder = taken.get(n.address);
    if (holder) report(['nodes', i, 'address'], `${n.address} is already that of ${holder}`);
    if (!cidrContains(subnet, parseIp(n.address))) report(['nodes', i, 'address'], `${n.address} is not in the underlay's subnet ${family.subnet}`);
    taken.set(n.address, `node ${n.name}`);
  }
  let next = 2;
  return nodes.map((n): SecondOfNode => {
    let address = n.address;
    while (address === undefined) {
      const candidate = formatIp(cidrNth(subnet, next++));
      if (!taken.has(candidate)) address = candidate;
    }
    return { address, ...(n.podCIDR === undefined ? {} : { podCIDR: n.podCIDR }) };
  });
}
