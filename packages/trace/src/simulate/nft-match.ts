/**
 * Does an nftables expression match a packet? Three answers: yes, no, and "cannot be told", with the expression that is not modelled.
 * Input is what libnftables-json(5) describes.
 */
import { isIP } from 'node:net';
import type { NetnsState, NftObject } from '@podway/netstate';
import { inPrefix, addressValue } from './ip.js';
import { isV6, protocolOf } from './ipv6.js';
import { lookupRoute } from './route.js';
import { IPV6_HEADER, type Packet } from './types.js';

export interface MatchContext {
  readonly state: NetnsState;
  readonly packet: Packet;
  readonly iif?: string;
  readonly oif?: string;
  readonly ctState: 'new' | 'established';
  /** What connection tracking knows of the packet's connection: its first packet before any translation here, and what was translated. */
  readonly connection?: { readonly original: Packet; readonly translated: readonly ('snat' | 'dnat')[] };
  /** Index that `numgen` and `jhash` put into skb->priority. */
  readonly priority?: number;
  readonly family: string;
  readonly table: string;
}

/** A value of a packet: text (addresses, names), a number, or a tuple; undefined fields cannot be told. */
export type Value = string | number | readonly (Value | Untold)[];
export interface Untold {
  readonly untold: string;
}
export const isUntold = (v: unknown): v is Untold => typeof v === 'object' && v !== null && 'untold' in v;
const untold = (e: unknown): Untold => ({ untold: typeof e === 'string' ? e : JSON.stringify(e) });

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

const NAMES: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 };
const ICMP: Readonly<Record<string, number>> = { 'echo-reply': 0, 'echo-request': 8 };
const ICMPV6: Readonly<Record<string, number>> = { 'echo-request': 128, 'echo-reply': 129 };

/** The value of the left side of a match for this packet. */
export function evaluate(e: unknown, c: MatchContext): Value | Untold | 'absent' {
  if (!isObject(e)) return untold(e);
  const { packet: p } = c;
  if (isObject(e['payload'])) return payload(e['payload'], c) ?? untold(e);
  if (isObject(e['meta'])) return meta(String(e['meta']['key']), c) ?? untold(e);
  if (isObject(e['ct']) && e['ct']['dir'] === 'original') return original(String(e['ct']['key']), c) ?? untold(e);
  if (isObject(e['ct'])) return e['ct']['key'] === 'state' ? c.ctState : e['ct']['key'] === 'direction' ? (c.ctState === 'new' ? 'original' : 'reply') : untold(e);
  if (isObject(e['fib'])) {
    const { result, flags } = e['fib'];
    const flag = Array.isArray(flags) ? flags : [flags];
    if (result !== 'type' || flag.length !== 1) return untold(e);
    if (flag[0] !== 'daddr' && flag[0] !== 'saddr') return untold(e);
    const d = lookupRoute(c.state, { dst: flag[0] === 'daddr' ? p.dst : p.src, mark: 0 });
    return d.error && !d.route ? 'unreachable' : d.type;
  }
  if (Array.isArray(e['concat'])) {
    const parts = e['concat'].map((x) => evaluate(x, c));
    // A header that is not there ends the rule, whatever else it asks.
    if (parts.includes('absent')) return 'absent';
    // What cannot be told matters only where the other parts fit: `th dport` of an echo, in a map of TCP ports.
    return parts as (Value | Untold)[];
  }
  if (Array.isArray(e['&'])) {
    const [left, right] = e['&'] as readonly unknown[];
    const v = evaluate(left, c);
    if (isUntold(v) || v === 'absent') return v;
    const mask = maskOf(right);
    if (typeof v === 'number' && typeof mask === 'number') return (v & mask) >>> 0;
    // An address of which nothing is kept: how "any address" is looked up.
    if (typeof v === 'string' && isIP(v) && (right === '0.0.0.0' || right === '::')) return right;
    return untold(e);
  }
  return untold(e);
}

/** `ct original ip daddr`: of the connection's first packet as it came. */
function original(key: string, c: MatchContext): Value | 'absent' | undefined {
  const p = c.connection?.original;
  if (!p) return undefined;
  const six = isV6(p.dst);
  switch (key) {
    case 'ip saddr': return six ? 'absent' : p.src;
    case 'ip daddr': return six ? 'absent' : p.dst;
    case 'ip6 saddr': return six ? p.src : 'absent';
    case 'ip6 daddr': return six ? p.dst : 'absent';
    case 'protocol': return protocolOf(p);
    case 'proto-dst': return p.l4.proto === 'icmp' ? 'absent' : p.l4.dstPort;
    case 'proto-src': return p.l4.proto === 'icmp' ? 'absent' : p.l4.srcPort;
    default: return undefined;
  }
}

/** `["fin", "syn"]` is both flags. */
function maskOf(right: unknown): number | undefined {
  if (typeof right === 'number') return right;
  if (Array.isArray(right)) {
    const parts = right.map(maskOf);
    return parts.includes(undefined) ? undefined : parts.reduce<number>((all, x) => all | (x ?? 0), 0);
  }
  if (typeof right !== 'string') return undefined;
  return /^\d+$/.test(right) ? Number(right) : TCP_FLAG[right];
}

/** 'absent': the packet has no such header, so the match is false. Undefined: not modelled. */
function payload(e: Json, c: MatchContext): Value | Untold | 'absent' | undefined {
  const { packet: p } = c;
  const { l4 } = p;
  const six = isV6(p.dst);
  const field = String(e['field']);
  switch (e['protocol']) {
    case 'ip':
      return six ? 'absent' : { saddr: p.src, daddr: p.dst, protocol: protocolOf(p), ttl: p.ttl, length: p.length, version: 4 }[field];
    case 'ip6':
      return six ? { saddr: p.src, daddr: p.dst, nexthdr: protocolOf(p), hoplimit: p.ttl, length: p.length - IPV6_HEADER, version: 6 }[field] : 'absent';
    case 'icmpv6':
      if (!six || l4.proto !== 'icmp') return 'absent';
      return { type: ICMPV6[l4.type]!, code: 0 }[field];
    case 'ether': {
      const eth = p.ethernet;
      if (!eth) return 'absent';
      return { saddr: eth.src, daddr: eth.dst, type: six ? ETHER['ip6'] : ETHER['ip'] }[field];
    }
    case 'icmp':
      if (six || l4.proto !== 'icmp') return 'absent';
      return { type: ICMP[l4.type]!, code: 0 }[field];
    case 'th':
    case 'tcp':
    case 'udp': {
      if (l4.proto === 'icmp') return e['protocol'] === 'th' ? undefined : 'absent';
      if (e['protocol'] !== 'th' && e['protocol'] !== l4.proto) return 'absent';
      if (field === 'dport') return l4.dstPort;
      if (field === 'sport') return l4.srcPort ?? untold('the UDP source port that the kernel chooses for the tunnel');
      if (field === 'flags' && l4.proto === 'tcp') return l4.flags === 'syn' ? 2 : 18;
      return undefined;
    }
    case 'arp':
    case 'sctp':
    case 'dccp':
      return 'absent';
    default:
      return undefined;
  }
}

function meta(key: string, c: MatchContext): Value | 'absent' | undefined {
  const { packet: p, state } = c;
  const index = (dev: string | undefined): Value | 'absent' => (dev === undefined ? 'absent' : (state.links.find((l) => l.name === dev)?.index ?? 'absent'));
  switch (key) {
    case 'iifname':
      return c.iif ?? '';
    case 'oifname':
      return c.oif ?? '';
    case 'iif':
      return c.iif === undefined ? 'absent' : c.iif;
    case 'oif':
      return c.oif === undefined ? 'absent' : c.oif;
    case 'sdif':
      return index(undefined);
    case 'iifkind':
      return state.links.find((l) => l.name === c.iif)?.kind ?? 'absent';
    case 'oifkind':
      return state.links.find((l) => l.name === c.oif)?.kind ?? 'absent';
    case 'l4proto':
      return protocolOf(p);
    case 'nfproto':
      return isV6(p.dst) ? 'ipv6' : 'ipv4';
    case 'protocol':
      return isV6(p.dst) ? ETHER['ip6'] : ETHER['ip'];
    case 'mark':
      return p.mark;
    case 'priority':
      return c.priority;
    case 'length':
      return p.length;
    case 'pkttype':
      return c.iif === undefined ? undefined : 'host';
    default:
      return undefined;
  }
}

const TCP_FLAG: Readonly<Record<string, number>> = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16 };
const ETHER: Readonly<Record<string, number>> = { ip: 0x0800, ip6: 0x86dd, arp: 0x0806 };

/** `1:2`, a class of traffic, is the number 0x10002. */
function classid(text: string): number | undefined {
  const m = /^([0-9a-f]*):([0-9a-f]*)$/i.exec(text);
  return m && text.length > 1 ? (parseInt(m[1] || '0', 16) << 16 | parseInt(m[2] || '0', 16)) >>> 0 : undefined;
}

const isTuple = (v: Value): v is readonly (Value | Untold)[] => Array.isArray(v);

/** One packet value against one constant. */
function equal(v: Value, right: unknown): boolean | Untold {
  if (isTuple(v)) {
    const parts = isObject(right) && Array.isArray(right['concat']) ? right['concat'] : undefined;
    if (!parts || parts.length !== v.length) return untold(right);
    let doubt: Untold | undefined;
    for (let i = 0; i < v.length; i++) {
      const part = v[i]!;
      const r = isUntold(part) ? part : compare(part, parts[i]);
      if (r === false) return false;
      if (isUntold(r)) doubt = r;
    }
    return doubt ?? true;
  }
  if (typeof v === 'number') {
    if (typeof right === 'number') return v === right;
    if (typeof right === 'string') {
      // The same names are other numbers in ICMPv6, which begin at 128.
      const n = classid(right) ?? NAMES[right] ?? (v >= 128 ? ICMPV6[right] : ICMP[right]) ?? TCP_FLAG[right] ?? ETHER[right] ?? (/^(0x[0-9a-f]+|\d+)$/i.test(right) ? Number(right) : undefined);
      return n === undefined ? untold(right) : v === n;
    }
    return untold(right);
  }
  if (typeof right !== 'string') return untold(right);
  if (right.endsWith('*')) return v.startsWith(right.slice(0, -1));
  return v === right;
}

/** A packet value against a constant, prefix, range or anonymous set. */
function compare(v: Value, right: unknown): boolean | Untold {
  if (isObject(right)) {
    if (isObject(right['prefix'])) {
      const { addr, len } = right['prefix'];
      return typeof v === 'string' && isIP(v) ? inPrefix(v, `${String(addr)}/${String(len)}`) : untold(right);
    }
    if (Array.isArray(right['range'])) {
      const [low, high] = right['range'] as unknown[];
      if (typeof v === 'number' && typeof low === 'number' && typeof high === 'number') return v >= low && v <= high;
      // libnftables prints a range of empty names for a set of name patterns: nothing can be told from that.
      if (typeof v === 'string' && typeof low === 'string' && typeof high === 'string' && [v, low, high].every((x) => isIP(x))) {
        const n = addressValue(v);
        return n >= addressValue(low) && n <= addressValue(high);
      }
      return untold(right);
    }
    if (Array.isArray(right['set'])) return inSet(v, right['set']);
    if (isObject(right['elem'])) return compare(v, right['elem']['val']);
  }
  return equal(v, right);
}

function inSet(v: Value, elements: readonly unknown[]): boolean | Untold {
  let doubt: Untold | undefined;
  for (const e of elements) {
    const r = compare(v, e);
    if (r === true) return true;
    if (isUntold(r)) doubt = r;
  }
  return doubt ?? false;
}

/** The set or map that `@name` means. */
function named(c: MatchContext, kind: 'set' | 'map', name: string): Json | undefined {
  const object = c.state.nft.find((o: NftObject) => o[kind]?.['name'] === name && o[kind]?.['table'] === c.table && o[kind]?.['family'] === c.family);
  return object?.[kind];
}

/** `{ "match": { op, left, right } }` */
export function matches(m: Json, c: MatchContext): boolean | Untold {
  const { op, left, right } = m;
  if (isObject(left) && isObject(left['ct']) && left['ct']['key'] === 'status') {
    const flags = [right].flat();
    if (!c.connection || !flags.every((f) => f === 'snat' || f === 'dnat')) return untold({ match: m });
    const has = flags.some((f) => c.connection!.translated.includes(f as 'snat'));
    return op === '!=' ? !has : has;
  }
  const v = evaluate(left, c);
  if (v === 'absent') return false;
  if (isUntold(v)) return v;
  let r: boolean | Untold;
  if (typeof right === 'string' && right.startsWith('@')) {
    const set = named(c, 'set', right.slice(1));
    if (!set || (Array.isArray(set['flags']) && set['flags'].some((f) => f === 'timeout' || f === 'dynamic') && set['elem'] === undefined)) return untold(right);
    r = inSet(v, Array.isArray(set['elem']) ? set['elem'] : []);
  } else if (Array.isArray(right)) r = inSet(v, right);
  else r = compare(v, right);
  if (isUntold(r)) return r;
  switch (op) {
    case '==':
    case 'in':
      // `tcp flags syn` is a bit test, and so are lists of states.
      if (op === 'in' && typeof v === 'number' && typeof right === 'string' && TCP_FLAG[right] !== undefined) return (v & TCP_FLAG[right]) !== 0;
      return r;
    case '!=':
      return !r;
    case '<':
    case '>':
    case '<=':
    case '>=':
      if (typeof v !== 'number' || typeof right !== 'number') return untold({ match: m });
      return op === '<' ? v < right : op === '>' ? v > right : op === '<=' ? v <= right : v >= right;
    default:
      return untold({ match: m });
  }
}

/** What a map or verdict map gives for the packet: the value, `undefined` when nothing fits. */
export function lookupMap(e: Json, c: MatchContext): unknown {
  const v = evaluate(e['key'], c);
  if (v === 'absent') return undefined;
  if (isUntold(v)) return v;
  const data = e['data'];
  const elements = typeof data === 'string' && data.startsWith('@') ? named(c, 'map', data.slice(1))?.['elem'] : isObject(data) ? data['set'] : undefined;
  if (typeof data === 'string' ? !named(c, 'map', data.slice(1)) : !Array.isArray(elements)) return untold(e);
  for (const pair of (elements as readonly unknown[] | undefined) ?? []) {
    if (!Array.isArray(pair)) return untold(e);
    const r = compare(v, pair[0]);
    if (isUntold(r)) return r;
    if (r) return pair[1];
  }
  return undefined;
}
