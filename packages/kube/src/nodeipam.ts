/**
 * Which part of the cluster's address range belongs to which node: pure arithmetic on CIDRs.
 *
 * The default is the one of kube-controller-manager: a /24 per node out of a /16 (256 nodes),
 * a /64 per node out of an IPv6 range. Next free in order, so that the first node has the first
 * block. Dual stack is two ranges, one block of each per node, in the order of the ranges.
 * Cost: one set look-up per block tried.
 */
import { PodwayError } from '@podway/errors';
import type { Node } from './objects.js';

export interface Cidr {
  readonly family: 4 | 6;
  readonly base: bigint;
  readonly prefix: number;
}

export interface ClusterRange {
  readonly cidr: string;
  /** Bits of a node's block; 24 for IPv4 and 64 for IPv6 when left out. */
  readonly nodePrefix?: number;
}

const bad = (text: string, why: string): PodwayError => new PodwayError('KUBE_CIDR', 'invalid CIDR', { object: text, said: why });

function parse4(text: string, whole: string): bigint {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) < 256)) throw bad(whole, 'not an IPv4 address');
  return parts.reduce((sum, p) => (sum << 8n) | BigInt(p), 0n);
}

function parse6(text: string, whole: string): bigint {
  const halves = text.split('::');
  const groups = (s: string | undefined): string[] => (s === undefined || s === '' ? [] : s.split(':'));
  const head = groups(halves[0]);
  const tail = groups(halves[1]);
  const missing = 8 - head.length - tail.length;
  if (halves.length > 2 || (halves.length === 1 ? missing !== 0 : missing < 1)) throw bad(whole, 'not an IPv6 address');
  const all = [...head, ...Array.from({ length: halves.length === 2 ? missing : 0 }, () => '0'), ...tail];
  if (!all.every((g) => /^[0-9a-fA-F]{1,4}$/.test(g))) throw bad(whole, 'not an IPv6 address');
  return all.reduce((sum, g) => (sum << 16n) | BigInt(`0x${g}`), 0n);
}

/** Throws KUBE_CIDR; host bits must be zero. */
export function parseCidr(text: string): Cidr {
  const m = /^([^/]+)\/(\d{1,3})$/.exec(text);
  if (m === null) throw bad(text, 'must be ADDRESS/BITS');
  const address = m[1] ?? '';
  const family = address.includes(':') ? 6 : 4;
  const bits = family === 4 ? 32 : 128;
  const prefix = Number(m[2]);
  if (prefix > bits) throw bad(text, `at most /${String(bits)}`);
  const base = family === 4 ? parse4(address, text) : parse6(address, text);
  if ((base & ((1n << BigInt(bits - prefix)) - 1n)) !== 0n) throw bad(text, 'has host bits set');
  return { family, base, prefix };
}

/** RFC 5952 form for IPv6. */
export function formatCidr(cidr: Cidr): string {
  if (cidr.family === 4) {
    return `${[24n, 16n, 8n, 0n].map((s) => String((cidr.base >> s) & 255n)).join('.')}/${String(cidr.prefix)}`;
  }
  const groups = Array.from({ length: 8 }, (_, i) => ((cidr.base >> BigInt(112 - 16 * i)) & 0xffffn).toString(16));
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (groups[at + length] === '0') length++;
    if (length > best.length) best = { at, length };
  }
  const text =
    best.at < 0
      ? groups.join(':')
      : `${groups.slice(0, best.at).join(':')}::${groups.slice(best.at + best.length).join(':')}`;
  return `${text}/${String(cidr.prefix)}`;
}

const overlaps = (a: Cidr, b: Cidr): boolean => {
  if (a.family !== b.family) return false;
  const shift = BigInt((a.family === 4 ? 32 : 128) - Math.min(a.prefix, b.prefix));
  return a.base >> shift === b.base >> shift;
};

/**
 * One block for a new node out of each range, not overlapping anything in `taken`.
 * Throws KUBE_CIDR_EXHAUSTED naming the range that is full.
 */
export function allocatePodCidrs(ranges: readonly ClusterRange[], taken: Iterable<string>): string[] {
  const used = [...taken].map(parseCidr);
  const exact = new Set(used.map((c) => `${String(c.family)}/${c.base.toString(16)}/${String(c.prefix)}`));
  return ranges.map((range) => {
    const cluster = parseCidr(range.cidr);
    const bits = cluster.family === 4 ? 32 : 128;
    const prefix = range.nodePrefix ?? (cluster.family === 4 ? 24 : 64);
    if (prefix < cluster.prefix || prefix > bits) throw bad(range.cidr, `a node's /${String(prefix)} does not fit`);
    const odd = used.filter((c) => c.family === cluster.family && c.prefix !== prefix);
    const blocks = 1n << BigInt(prefix - cluster.prefix);
    for (let i = 0n; i < blocks; i++) {
      const candidate: Cidr = { family: cluster.family, base: cluster.base + (i << BigInt(bits - prefix)), prefix };
      if (exact.has(`${String(cluster.family)}/${candidate.base.toString(16)}/${String(prefix)}`)) continue;
      if (odd.some((c) => overlaps(c, candidate))) continue;
      return formatCidr(candidate);
    }
    throw new PodwayError('KUBE_CIDR_EXHAUSTED', 'no free pod CIDR is left for a node', {
      object: `cluster range ${range.cidr}`,
      said: `all ${String(blocks)} blocks of /${String(prefix)} are taken`,
      hint: 'Remove nodes that are gone, or give the cluster a larger range.',
    });
  });
}

/** A node's blocks, IPv4 and IPv6 in the order of the object; empty as long as it has none. */
export function podCidrsOf(node: Node): string[] {
  const list = node.spec?.podCIDRs ?? [];
  if (list.length > 0) return [...list];
  return node.spec?.podCIDR === undefined || node.spec.podCIDR === '' ? [] : [node.spec.podCIDR];
}

export function podCidrOf(node: Node, family: 4 | 6 = 4): string | undefined {
  return podCidrsOf(node).find((c) => parseCidr(c).family === family);
}

/** The address by which other nodes reach this one. */
export function nodeAddressOf(node: Node, family: 4 | 6 = 4): string | undefined {
  return node.status?.addresses?.find((a) => a.type === 'InternalIP' && a.address.includes(':') === (family === 6))?.address;
}
