/**
 * The connections a namespace tracks. Equivalent: `conntrack -L`, `-C`, `-D`.
 *
 * Why entries are deleted: NAT is decided with a flow's first packet. When an endpoint goes away,
 * UDP flows to it would be sent there as long as they last; only removing the entry makes the next
 * packet choose anew. Deleting is by entry (tuple, zone and id), never by the kernel's own "flush",
 * which would take everything: entries are listed, matched here, and deleted in one batch.
 * Source: linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h.
 */
import type { Netns } from '../netns.js';
import { AF_INET, AF_INET6, AF_UNSPEC, addressBytes, familyNumber, familyOf, type Family } from './address.js';
import { readAttributes, writeAttributes, type Attributes, type Writer } from './codec.js';
import { CT, CT_FILTER, CT_SCTP_STATE, CT_STATS, CT_STATUS, CT_TCP_STATE, type TUPLE, type ConntrackStatus } from './conntrack-tables.js';
import { NetlinkSocket, type Answer, type Request } from './socket.js';

export const NETLINK_NETFILTER = 12;
const SUBSYS_CTNETLINK = 1 << 8;
const CT_NEW = SUBSYS_CTNETLINK | 0;
const CT_GET = SUBSYS_CTNETLINK | 1;
const CT_DELETE = SUBSYS_CTNETLINK | 2;
const CT_GET_STATS = SUBSYS_CTNETLINK | 5;
const NFGEN_HEADER = 4;
const ICMP = 1;
const TCP = 6;
const ICMP6 = 58;
const SCTP = 132;

export interface ConntrackTuple {
  readonly src: string;
  readonly dst: string;
  /** TCP, UDP, SCTP. */
  readonly sport: number | undefined;
  readonly dport: number | undefined;
  /** ICMP and ICMPv6. */
  readonly icmp: { readonly id: number; readonly type: number; readonly code: number } | undefined;
  /** Zone of this direction alone. */
  readonly zone: number | undefined;
}

export interface ConntrackEntry {
  readonly id: number | undefined;
  readonly family: Family;
  /** IP protocol number. */
  readonly protocol: number;
  readonly orig: ConntrackTuple;
  readonly reply: ConntrackTuple;
  readonly status: readonly ConntrackStatus[];
  /** TCP and SCTP: `ESTABLISHED` … */
  readonly state: string | undefined;
  /** Seconds left. */
  readonly timeout: number;
  readonly mark: number;
  readonly zone: number;
  readonly helper: string | undefined;
  /** Undefined unless net.netfilter.nf_conntrack_acct is on. */
  readonly counters: { readonly origPackets: bigint; readonly origBytes: bigint; readonly replyPackets: bigint; readonly replyBytes: bigint } | undefined;
}

/** All given fields must match. Addresses are single ones or CIDRs. */
export interface ConntrackFilter {
  readonly family?: Family;
  readonly protocol?: number;
  readonly src?: string;
  readonly dst?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly replySrc?: string;
  readonly replyDst?: string;
  readonly replySport?: number;
  readonly replyDport?: number;
  readonly zone?: number;
  readonly mark?: number;
  /** Default all ones. */
  readonly markMask?: number;
  readonly status?: ConntrackStatus;
}

/** struct nfgenmsg: family, version 0, resource id. */
const header = (w: Writer, family: number): void => {
  const at = w.reserve(NFGEN_HEADER);
  w.buffer.writeUInt8(family, at);
};

function decodeTuple(v: Attributes<typeof TUPLE> | undefined): { readonly tuple: ConntrackTuple; readonly protocol: number } | undefined {
  const src = v?.ip?.src4 ?? v?.ip?.src6;
  const dst = v?.ip?.dst4 ?? v?.ip?.dst6;
  const p = v?.proto;
  if (src === undefined || dst === undefined || p?.number === undefined) return undefined;
  const id = p.icmpId ?? p.icmp6Id;
  const icmp = id === undefined ? undefined : { id, type: p.icmpType ?? p.icmp6Type ?? 0, code: p.icmpCode ?? p.icmp6Code ?? 0 };
  return { tuple: { src, dst, sport: p.sport, dport: p.dport, icmp, zone: v?.zone }, protocol: p.number };
}

function encodeTuple(t: ConntrackTuple, protocol: number): Attributes<typeof TUPLE> {
  const four = familyOf(t.src) === 'inet';
  const { icmp } = t;
  return {
    ip: four ? { src4: t.src, dst4: t.dst } : { src6: t.src, dst6: t.dst },
    proto: {
      number: protocol, sport: t.sport, dport: t.dport,
      ...(icmp && protocol === ICMP ? { icmpId: icmp.id, icmpType: icmp.type, icmpCode: icmp.code } : {}),
      ...(icmp && protocol === ICMP6 ? { icmp6Id: icmp.id, icmp6Type: icmp.type, icmp6Code: icmp.code } : {}),
    },
    zone: t.zone,
  };
}

export function decodeConntrack(a: Answer): ConntrackEntry | undefined {
  if (a.type !== CT_NEW || a.end - a.start < NFGEN_HEADER) return undefined;
  const family = a.buffer[a.start];
  const v = readAttributes(CT, a.buffer, a.start + NFGEN_HEADER, a.end);
  const orig = decodeTuple(v.orig);
  const reply = decodeTuple(v.reply);
  if (!orig || !reply || (family !== AF_INET && family !== AF_INET6)) return undefined;
  const bits = v.status ?? 0;
  const { protocol } = orig;
  const state = protocol === TCP ? CT_TCP_STATE[v.protoinfo?.tcp?.state ?? -1] : protocol === SCTP ? CT_SCTP_STATE[v.protoinfo?.sctp?.state ?? -1] : undefined;
  const [o, r] = [v.countersOrig, v.countersReply];
  return {
    id: v.id, family: family === AF_INET ? 'inet' : 'inet6', protocol, orig: orig.tuple, reply: reply.tuple,
    status: CT_STATUS.filter((_, i) => bits & (1 << i)), state, timeout: v.timeout ?? 0, mark: v.mark ?? 0, zone: v.zone ?? 0, helper: v.help?.name,
    counters: o && { origPackets: o.packets ?? 0n, origBytes: o.bytes ?? 0n, replyPackets: r?.packets ?? 0n, replyBytes: r?.bytes ?? 0n },
  };
}

function inNetwork(network: string): (address: string) => boolean {
  const [base = '', prefix] = network.split('/');
  const want = addressBytes(base);
  const bits = prefix === undefined ? want.length * 8 : Number(prefix);
  return (address) => {
    const b = addressBytes(address);
    if (b.length !== want.length) return false;
    const whole = bits >> 3;
    if (!b.subarray(0, whole).equals(want.subarray(0, whole))) return false;
    const rest = bits & 7;
    return rest === 0 || (b[whole]! ^ want[whole]!) >> (8 - rest) === 0;
  };
}

/** The filter as a function. An empty filter matches everything. @throws BAD_ADDRESS */
export function conntrackMatcher(f: ConntrackFilter): (e: ConntrackEntry) => boolean {
  const tests: ((e: ConntrackEntry) => boolean)[] = [];
  const equal = <T>(want: T | undefined, get: (e: ConntrackEntry) => T | undefined): void => void (want === undefined || tests.push((e) => get(e) === want));
  const within = (network: string | undefined, get: (e: ConntrackEntry) => string): void => {
    if (network === undefined) return;
    const inside = inNetwork(network);
    tests.push((e) => inside(get(e)));
  };
  equal(f.family, (e) => e.family);
  equal(f.protocol, (e) => e.protocol);
  equal(f.zone, (e) => e.zone);
  equal(f.sport, (e) => e.orig.sport);
  equal(f.dport, (e) => e.orig.dport);
  equal(f.replySport, (e) => e.reply.sport);
  equal(f.replyDport, (e) => e.reply.dport);
  within(f.src, (e) => e.orig.src);
  within(f.dst, (e) => e.orig.dst);
  within(f.replySrc, (e) => e.reply.src);
  within(f.replyDst, (e) => e.reply.dst);
  if (f.mark !== undefined) {
    const mask = f.markMask ?? 0xffffffff;
    tests.push((e) => ((e.mark ^ f.mark!) & mask) === 0);
  }
  if (f.status !== undefined) tests.push((e) => e.status.includes(f.status!));
  return (e) => tests.every((t) => t(e));
}

const wholeAddress = (a: string | undefined): string | undefined => (a === undefined || a.includes('/') ? undefined : a);

/**
 * What the kernel itself can leave out of a dump: a protocol with single addresses and ports. Only
 * to save time (of 20,000 entries, one found in 20 ms instead of 160): `conntrackMatcher` has the last word on every entry that comes.
 */
function kernelFilter(f: ConntrackFilter): { readonly family: number; readonly values: Attributes<typeof CT> } {
  const [src, dst, replySrc, replyDst] = [f.src, f.dst, f.replySrc, f.replyDst].map(wholeAddress);
  const known = src ?? dst ?? replySrc ?? replyDst;
  const family = f.family ?? (known === undefined ? undefined : familyOf(known));
  // Filters of tuples are for one family, and without a protocol none is looked at but addresses.
  if (family === undefined || f.protocol === undefined) return { family: family === undefined ? AF_UNSPEC : familyNumber(family), values: {} };
  // IPv6 addresses stay out of it: the kernel's comparison of them is the wrong way round (seen on 6.18).
  const four = family === 'inet';
  const unspecified = four ? '0.0.0.0' : '::';
  const side = (s: string | undefined, d: string | undefined, sport: number | undefined, dport: number | undefined) => ({
    flags: CT_FILTER.protocol | (four && s !== undefined ? CT_FILTER.src : 0) | (four && d !== undefined ? CT_FILTER.dst : 0)
      | (sport === undefined ? 0 : CT_FILTER.sport) | (dport === undefined ? 0 : CT_FILTER.dport),
    tuple: encodeTuple({ src: four && s !== undefined ? s : unspecified, dst: four && d !== undefined ? d : unspecified, sport, dport, icmp: undefined, zone: undefined }, f.protocol!),
  });
  const orig = side(src, dst, f.sport, f.dport);
  const reply = side(replySrc, replyDst, f.replySport, f.replyDport);
  return { family: familyNumber(family), values: { orig: orig.tuple, reply: reply.tuple, filter: { orig: orig.flags, reply: reply.flags } } };
}

const words = (e: ConntrackEntry): string => `protocol ${e.protocol} ${e.orig.src}:${e.orig.sport ?? ''} → ${e.orig.dst}:${e.orig.dport ?? ''}`;

/**
 * This entry: its tuple in its zone, and its id. The id is a hash of the entry's place in memory and
 * its tuple: it keeps a new flow of the same tuple from being taken, unless that got the very same place.
 */
export const deleteConntrackRequest = (e: ConntrackEntry): Request => ({
  type: CT_DELETE,
  flags: 0,
  doing: `delete conntrack entry ${words(e)}`,
  body(w) {
    header(w, familyNumber(e.family));
    writeAttributes(w, CT, { orig: encodeTuple(e.orig, e.protocol), zone: e.zone || undefined, id: e.id });
  },
});

export class Conntrack {
  private constructor(private readonly socket: NetlinkSocket) {}

  static open(ns: Netns): Conntrack {
    return new Conntrack(NetlinkSocket.open(ns, NETLINK_NETFILTER));
  }

  /** Opens, works, closes. */
  static with<T>(ns: Netns, work: (ct: Conntrack) => T): T {
    const ct = Conntrack.open(ns);
    try {
      return work(ct);
    } finally {
      ct.close();
    }
  }

  close(): void {
    this.socket.close();
  }

  /** All entries, or those that match. */
  list(filter: ConntrackFilter = {}): ConntrackEntry[] {
    const matches = conntrackMatcher(filter);
    const { family, values } = kernelFilter(filter);
    return this.socket.dump({
      type: CT_GET, flags: 0, doing: 'list conntrack entries',
      body(w) {
        header(w, family);
        writeAttributes(w, CT, values);
      },
    }, (a) => {
      const e = decodeConntrack(a);
      return e && matches(e) ? e : undefined;
    });
  }

  /** How many there are, and how many there may be (shared by all namespaces). Does not list. */
  count(): { readonly entries: number; readonly max: number | undefined } {
    const [a] = this.socket.request({ type: CT_GET_STATS, flags: 0, doing: 'count conntrack entries', body: (w) => header(w, AF_UNSPEC) });
    const v = a ? readAttributes(CT_STATS, a.buffer, a.start + NFGEN_HEADER, a.end) : {};
    return { entries: v.entries ?? 0, max: v.maxEntries };
  }

  /** True when it was there. @throws NETLINK_REFUSED for any other reason */
  delete(entry: ConntrackEntry): boolean {
    return this.deleteAll([entry]) === 1;
  }

  /** Those that match, and nothing else. Entries that end by themselves meanwhile do not count. @returns how many were removed */
  deleteMatching(filter: ConntrackFilter): number {
    return this.deleteAll(this.list(filter));
  }

  private deleteAll(entries: readonly ConntrackEntry[]): number {
    const refusals = this.socket.batch(entries.map(deleteConntrackRequest));
    const real = refusals.find((r) => r.error.errno !== 'ENOENT');
    if (real) throw real.error;
    return entries.length - refusals.length;
  }
}
