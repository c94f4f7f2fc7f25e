/** Who has which addresses, and which are nobody's: attachment records laid beside the cluster's objects. Pure. */
import { cidrContains, cidrSize, formatCidr, parseCidr, parseIpCidr, tryParseIp, type Cidr } from '@podway/cni';
import type { IPBlock, Node, Pod } from '@podway/kube';
import { podCidrsOf } from '../node/peers.js';
import { ownedBlocks } from './blocks.js';
import { holderName, type AttachmentRecord } from './record.js';

export interface RangeUse {
  readonly node: string;
  readonly cidr: string;
  /** Of a block; `-` for a range of the Node object. */
  readonly pool: string;
  readonly used: number;
  readonly free: number;
}

export interface Leak {
  readonly node: string;
  readonly address: string;
  readonly holder: string;
  /** In words. */
  readonly why: string;
  /** The attachment that a DEL frees; absent where a pod uses the address without a record. */
  readonly attachment?: { readonly containerId: string; readonly ifname: string };
}

export interface NodeRecords {
  readonly node: string;
  readonly records: readonly AttachmentRecord[];
}

/** Podway's own of a range: network, gateway and, in IPv4, broadcast. */
const OWN = { 4: 3n, 6: 2n } as const;

const bare = (address: string): string => address.split('/')[0] ?? '';

export function rangeUses(nodes: readonly Node[], blocks: readonly IPBlock[], records: readonly NodeRecords[]): RangeUse[] {
  const use = (node: string, cidr: Cidr, pool: string): RangeUse => {
    const held = (records.find((r) => r.node === node)?.records ?? []).flatMap((r) => r.ips).filter((i) => cidrContains(cidr, parseIpCidr(i.address).ip)).length;
    const free = cidrSize(cidr) - OWN[cidr.family] - BigInt(held);
    return { node, cidr: formatCidr(cidr), pool, used: held, free: Number(free > BigInt(Number.MAX_SAFE_INTEGER) ? BigInt(Number.MAX_SAFE_INTEGER) : free) };
  };
  const byName = new Intl.Collator('en', { numeric: true });
  return blocks.length
    ? ownedBlocks(blocks).map((b) => use(b.node, b.cidr, b.object.spec?.pool ?? '-')).sort((a, b) => byName.compare(a.node, b.node))
    : [...nodes].sort((a, b) => byName.compare(a.metadata?.name ?? '', b.metadata?.name ?? '')).flatMap((n) => podCidrsOf(n).map((c) => use(n.metadata?.name ?? '', parseCidr(c), '-')));
}

const ended = (p: Pod): boolean => p.status?.phase === 'Succeeded' || p.status?.phase === 'Failed';

/** Addresses that a record holds for nobody, and pods that use one which no record holds for them. */
export function leaks(pods: readonly Pod[], records: readonly NodeRecords[]): Leak[] {
  const found: Leak[] = [];
  const known = new Map(pods.map((p) => [`${p.metadata?.namespace ?? ''}/${p.metadata?.name ?? ''}`, p]));
  for (const { node, records: held } of records) {
    for (const r of held) {
      const pod = r.pod && known.get(`${r.pod.namespace}/${r.pod.name}`);
      const why =
        r.phase === 'deleting' ? 'its DEL began and did not end'
        : !r.pod ? undefined
        : !pod ? 'there is no such pod any more'
        : r.pod.uid !== undefined && pod.metadata?.uid !== undefined && r.pod.uid !== pod.metadata.uid ? 'the pod of that name is another one by now'
        : pod.spec?.nodeName !== undefined && pod.spec.nodeName !== node ? `the pod runs on node ${pod.spec.nodeName}`
        : undefined;
      if (why === undefined) continue;
      for (const i of r.ips) found.push({ node, address: bare(i.address), holder: `${holderName(r)} ${r.ifname}`, why, attachment: { containerId: r.containerId, ifname: r.ifname } });
    }
  }
  for (const p of pods) {
    if (p.spec?.hostNetwork || ended(p) || p.metadata?.deletionTimestamp !== undefined) continue;
    const node = p.spec?.nodeName ?? '';
    const held = records.find((r) => r.node === node);
    const name = `${p.metadata?.namespace ?? ''}/${p.metadata?.name ?? ''}`;
    for (const address of (p.status?.podIPs ?? []).map((i) => i.ip ?? '').filter((ip) => tryParseIp(ip))) {
      const holder = held?.records.find((r) => r.ips.some((i) => bare(i.address) === address));
      if (!held || (holder && (!holder.pod || `${holder.pod.namespace}/${holder.pod.name}` === name))) continue;
      found.push({
        node, address, holder: `pod ${name}`,
        why: holder ? `the record of it is that of ${holderName(holder)}: two use it` : 'no record says so: it could be given a second time',
      });
    }
  }
  return found;
}
