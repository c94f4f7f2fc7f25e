/**
 * A packet at one hop as stacked headers with their sizes, and what this hop changed of it. Pure.
 *
 * Where the packet was captured, sizes and fields are those of the capture; otherwise those of the prediction, in which an
 * outer UDP source port (a hash) and the IP id are not known and left out.
 */
import type { Report, Row } from '@podway/trace';

export const FIELDS = ['source', 'destination', 'source port', 'destination port', 'TTL', 'DF', 'id', 'length', 'checksum', 'VNI', 'flags'] as const;
export type FieldName = (typeof FIELDS)[number];

export interface Field {
  readonly name: FieldName;
  readonly value: string;
  /** Its value at the hop before, when this hop changed it. */
  readonly before?: string;
}

export type HeaderKind = 'ethernet' | 'ip' | 'transport' | 'tunnel' | 'payload' | 'other';

export interface Header {
  /** `outer ethernet`: the same header at another hop has the same key. */
  readonly key: string;
  readonly kind: HeaderKind;
  readonly outer: boolean;
  readonly label: string;
  readonly bytes: number;
  readonly state: 'same' | 'changed' | 'added';
  readonly fields: readonly Field[];
}

/** A field of a header that has another value now, or a whole header that came or went. */
export type Change =
  | { readonly kind: 'changed'; readonly header: string; readonly field: FieldName; readonly before: string; readonly after: string }
  | { readonly kind: 'added' | 'removed'; readonly header: string };

/** `IPv4: TTL 64 → 63`, `VXLAN vni 1 added` */
export const changeText = (c: Change): string => (c.kind === 'changed' ? `${c.header}: ${c.field} ${c.before} → ${c.after}` : `${c.header} ${c.kind}`);

export interface PacketStack {
  readonly headers: readonly Header[];
  readonly bytes: number;
  /** Labels of headers that the hop before had and this one has not. */
  readonly removed: readonly string[];
  readonly changes: readonly Change[];
  readonly source: 'captured' | 'predicted';
}

const KINDS: Readonly<Record<string, HeaderKind>> = {
  ethernet: 'ethernet', ipv4: 'ip', ipv6: 'ip', icmp: 'transport', icmpv6: 'transport', tcp: 'transport', udp: 'transport', sctp: 'transport',
  vxlan: 'tunnel', gre: 'tunnel', payload: 'payload',
};
const TCP_SYN_HEADER = 40;

interface Size {
  readonly name: string;
  readonly label: string;
  readonly bytes: number;
}

const ipHeader = (address: string): Size => (address.includes(':') ? { name: 'ipv6', label: 'IPv6', bytes: 40 } : { name: 'ipv4', label: 'IPv4', bytes: 20 });

function sizesOf(row: Row, proto: Report['flow']['proto']): readonly Size[] {
  if (row.observed) return row.observed.headers;
  const p = row.predicted;
  if (!p) return [];
  const outer = p.outer ? 'outer ' : '';
  const inner = p.outer ? 'inner ' : '';
  const ip = ipHeader(p.src);
  const transport = proto === 'tcp' ? Math.min(TCP_SYN_HEADER, p.ipLength - ip.bytes) : 8;
  return [
    ...(p.outer ? [{ name: 'ethernet', label: 'Ethernet', bytes: 14 }, ipHeader(p.outer.src), { name: 'udp', label: 'UDP', bytes: 8 }] : []).map((h) => ({ ...h, label: outer + h.label })),
    ...(p.outer ? [{ name: 'vxlan', label: `VXLAN vni ${p.outer.vni}`, bytes: 8 }] : []),
    { name: 'ethernet', label: `${inner}Ethernet`, bytes: 14 }, { ...ip, label: inner + ip.label },
    { name: proto, label: inner + (proto === 'icmp' && ip.name === 'ipv6' ? 'ICMPv6' : proto.toUpperCase()), bytes: transport },
    ...(p.ipLength - ip.bytes - transport > 0 ? [{ name: 'payload', label: 'payload', bytes: p.ipLength - ip.bytes - transport }] : []),
  ];
}

type Pairs = readonly (readonly [FieldName, string | number | boolean | undefined])[];

/** Fields of each header by its key, as far as a row knows them. */
function fieldsOf(row: Row): Record<string, Pairs> {
  const o = row.observed;
  const p = o ?? row.predicted;
  if (!p) return {};
  const { outer } = p;
  const observedOuter = o?.outer;
  const mac = (e: { src: string; dst: string } | undefined): Pairs => (e ? [['source', e.src], ['destination', e.dst]] : []);
  const ports: Pairs = [['source port', o?.srcPort], ['destination port', o?.dstPort], ['checksum', o?.checksum.transport]];
  return {
    'outer ethernet': mac(outer?.ethernet),
    'outer ip': outer ? [['source', outer.src], ['destination', outer.dst], ['TTL', outer.ttl], ['DF', outer.dontFragment], ['id', observedOuter?.id], ['length', outer.ipLength]] : [],
    'outer transport': outer ? [['source port', observedOuter?.srcPort], ['destination port', outer.dstPort], ['checksum', observedOuter?.udpChecksum]] : [],
    tunnel: outer ? [['VNI', outer.vni], ['flags', observedOuter && `0x${observedOuter.vxlanFlags.toString(16).padStart(2, '0')}`]] : [],
    ethernet: mac(p.ethernet),
    ip: [['source', p.src], ['destination', p.dst], ['TTL', p.ttl], ['DF', o?.dontFragment], ['id', o?.ipId], ['length', p.ipLength], ['checksum', o?.checksum.ip]],
    transport: ports,
  };
}

/** What a device's offloading makes of a checksum is not a change of the packet. */
const UNSTEADY = new Set(['checksum']);

export function stackOf(row: Row, before: PacketStack | undefined, proto: Report['flow']['proto']): PacketStack {
  const known = fieldsOf(row);
  const old = new Map(before?.headers.map((h) => [h.key, h]));
  const changes: Change[] = [];
  const headers = sizesOf(row, proto).map((s): Header => {
    const outer = s.label.startsWith('outer ');
    const kind = KINDS[s.name] ?? 'other';
    const key = kind === 'tunnel' ? 'tunnel' : `${outer ? 'outer ' : ''}${kind === 'other' ? s.name : kind}`;
    const was = old.get(key);
    old.delete(key);
    const fields = (known[key] ?? []).flatMap(([name, value]): Field[] => {
      if (value === undefined) return [];
      const text = typeof value === 'boolean' ? (value ? 'set' : 'not set') : String(value);
      const previous = was?.fields.find((f) => f.name === name)?.value;
      if (previous === undefined || previous === text || UNSTEADY.has(name)) return [{ name, value: text }];
      changes.push({ kind: 'changed', header: s.label, field: name, before: previous, after: text });
      return [{ name, value: text, before: previous }];
    });
    if (before && !was) changes.push({ kind: 'added', header: s.label });
    return { key, kind, outer, label: s.label, bytes: s.bytes, fields, state: before && !was ? 'added' : fields.some((f) => f.before !== undefined) ? 'changed' : 'same' };
  });
  const removed = [...old.values()].map((h) => h.label);
  return {
    headers, removed, changes: [...changes, ...removed.map((header): Change => ({ kind: 'removed', header }))],
    bytes: row.observed?.frameLength ?? row.predicted?.frameLength ?? 0, source: row.observed ? 'captured' : 'predicted',
  };
}
