/**
 * Blocks: the parts of address pools that nodes hold. Pure.
 *
 * An IPPool is a range of the cluster; an IPBlock is a part of it (a /26) that one node has claimed by creating
 * the object. Its name follows from its range, so of two nodes that want the same one the API lets one succeed:
 * that is the whole race protection, and the object is the whole memory.
 */
import { cidrContains, cidrContainsCidr, cidrFirst, cidrOverlaps, cidrSize, formatCidr, formatIp, formatIpIn, parseCidr, tryParseIpCidr, type Cidr, type Ip } from '@podway/cni';
import { matchesLabels, parseLabelSelector, type IPBlock, type IPPool, type Node } from '@podway/kube';

export const DEFAULT_BLOCK_SIZE = { 4: 26, 6: 122 } as const;

export interface Pool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly blockSize: number;
  readonly selector: string;
  readonly disabled: boolean;
}

/** `10-244-0-64-26`, `fd00-10--40-122`: an object's name has no dots to be told from others, and no colons at all. */
export function blockName(cidr: Cidr): string {
  const name = `${formatIp(cidrFirst(cidr)).replaceAll(/[.:]/g, '-')}-${cidr.prefix}`;
  return name.replace(/^-/, '0-');
}

/** Pools that can be used, oldest first; why others cannot, in words. */
export function usablePools(pools: readonly IPPool[], clusterCidrs: readonly string[]): { pools: Pool[]; problems: { pool: string; reason: string }[] } {
  const good: Pool[] = [];
  const problems: { pool: string; reason: string }[] = [];
  const age = (p: IPPool): string => `${String(p.metadata?.creationTimestamp ?? '')} ${p.metadata?.name ?? ''}`;
  for (const p of [...pools].sort((a, b) => (age(a) < age(b) ? -1 : 1))) {
    const name = p.metadata?.name ?? '';
    const cidr = tryParseIpCidr(p.spec?.cidr ?? '')?.cidr;
    const reason =
      !cidr ? `cidr "${p.spec?.cidr ?? ''}" is not a range in CIDR notation`
      : !clusterCidrs.some((c) => cidrContainsCidr(parseCidr(c), cidr)) ? `${formatCidr(cidr)} is not within the cluster's ${clusterCidrs.join(', ')}: it would be translated like the outside`
      : good.some((o) => cidrOverlaps(o.cidr, cidr)) ? `${formatCidr(cidr)} overlaps with the older pool ${good.find((o) => cidrOverlaps(o.cidr, cidr))?.name ?? ''}`
      : undefined;
    if (!cidr || reason !== undefined) {
      problems.push({ pool: name, reason: reason ?? '' });
      continue;
    }
    const blockSize = p.spec?.blockSize ?? DEFAULT_BLOCK_SIZE[cidr.family];
    good.push({ name, cidr, blockSize: Math.max(blockSize, cidr.prefix), selector: p.spec?.nodeSelector ?? '', disabled: p.spec?.disabled ?? false });
  }
  return { pools: good, problems };
}

const selects = (selector: string, node: Node): boolean => selector === '' || selector === 'all()' || matchesLabels(parseLabelSelector(selector), node.metadata?.labels);

/** The lowest free block that this node may claim, pool after pool; with `wanted`, the very one that has this address. */
export function nextBlock(pools: readonly Pool[], taken: readonly Cidr[], node: Node, family: 4 | 6, wanted?: Ip): { pool: string; cidr: Cidr } | undefined {
  for (const pool of pools) {
    if (pool.disabled || pool.cidr.family !== family || !selects(pool.selector, node)) continue;
    if (wanted) {
      if (!cidrContains(pool.cidr, wanted)) continue;
      const cidr = parseCidr(formatIpIn(wanted, { ...pool.cidr, prefix: pool.blockSize }));
      return taken.some((t) => cidrOverlaps(t, cidr)) ? undefined : { pool: pool.name, cidr };
    }
    const within = taken.filter((t) => cidrOverlaps(t, pool.cidr)).sort((a, b) => (a.base < b.base ? -1 : 1));
    const end = pool.cidr.base + cidrSize(pool.cidr);
    let cidr: Cidr = { family, base: pool.cidr.base, prefix: pool.blockSize };
    const size = cidrSize(cidr);
    for (const t of within) {
      if (!cidrOverlaps(t, cidr)) continue;
      // Behind what is taken, at the next boundary.
      const after = t.base + cidrSize(t);
      cidr = { ...cidr, base: ((after + size - 1n) / size) * size };
    }
    if (cidr.base + size <= end) return { pool: pool.name, cidr };
  }
  return undefined;
}

export interface OwnedBlock {
  readonly node: string;
  readonly cidr: Cidr;
  readonly object: IPBlock;
}

/** Blocks that can be read, oldest first: a node's first one carries its own addresses. */
export function ownedBlocks(blocks: Iterable<IPBlock>): OwnedBlock[] {
  const age = (b: IPBlock): string => `${b.spec?.claimed ?? ''} ${b.spec?.cidr ?? ''}`;
  return [...blocks].sort((a, b) => (age(a) < age(b) ? -1 : 1)).flatMap((object): OwnedBlock[] => {
    const cidr = tryParseIpCidr(object.spec?.cidr ?? '')?.cidr;
    const node = object.spec?.node;
    return cidr && node !== undefined && node !== '' ? [{ node, cidr, object }] : [];
  });
}

/** Nodes with their blocks in place of the ranges that their objects name: for all that knows nodes by their ranges. */
export function withBlocks(nodes: readonly Node[], blocks: Iterable<IPBlock>): Node[] {
  const owned = ownedBlocks(blocks);
  return nodes.map((n) => {
    const podCIDRs = owned.filter((b) => b.node === n.metadata?.name).map((b) => formatCidr(b.cidr));
    const { podCIDR: _, podCIDRs: _s, ...spec } = n.spec ?? {};
    return { ...n, spec: podCIDRs.length ? { ...spec, podCIDR: podCIDRs[0]!, podCIDRs } : spec };
  });
}
