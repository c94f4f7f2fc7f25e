/**
 * Queueing disciplines and their classes. Equivalent: `tc -s qdisc`, `tc -s class`.
 *
 * A rate is shaped where packets leave a device, by tbf. What enters a device is shaped by sending
 * it through an ifb device first (see filter.ts), whose tbf then works as on any other.
 * Source: linux/pkt_sched.h, tc-tbf(8), net/sched/sch_tbf.c.
 */
import { PodwayError } from '@podway/errors';
import { writeAttribute, writeAttributes, type Attributes, type Writer } from './codec.js';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Answer, type NetlinkSocket, type Request } from './socket.js';
import { inline } from './struct.js';
import { handleNumber, handleText, INGRESS_HANDLE, optionsOf, parentText, readTc, statsOf, tcHeader, type TcMessage, type TcStats } from './tc.js';
import { FQ_CODEL, HTB, LINKLAYER_ETHERNET, TBF, TCA, TICK_NS } from './tc-tables.js';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTCLASS = 40;
const RTM_GETTCLASS = 42;

export interface TbfSettings {
  /** Bytes per second. */
  readonly rate: number;
  /** Bytes that may pass at once after a pause. At least one packet (MTU and its 14 bytes of Ethernet header). */
  readonly burst: number;
  /** Bytes that may wait; what comes beyond is dropped. */
  readonly limit: number;
}

export interface TbfInfo extends TbfSettings {
  readonly peakrate: number | undefined;
  /** The longest a packet can wait, as `tc` shows it: (limit - burst) / rate. */
  readonly latencyMs: number;
}

export interface HtbInfo {
  /** Of the qdisc: minor number of the class for packets without one. */
  readonly defaultClass: number | undefined;
  readonly directPackets: number | undefined;
  /** Of a class, in bytes per second and bytes. */
  readonly rate: number | undefined;
  readonly ceil: number | undefined;
  readonly burst: number | undefined;
  readonly cburst: number | undefined;
  readonly quantum: number | undefined;
  readonly prio: number | undefined;
}

export interface QdiscInfo {
  readonly index: number;
  readonly kind: string;
  /** `8001:` */
  readonly handle: string;
  /** `root`, `ingress` (also of clsact) or `8001:1`. */
  readonly parent: string;
  /** The kind's own structure, as the kernel wrote it. */
  readonly options: Uint8Array | undefined;
  readonly tbf: TbfInfo | undefined;
  readonly htb: HtbInfo | undefined;
  readonly fqCodel: Omit<Attributes<typeof FQ_CODEL>, 'unknown'> | undefined;
  readonly stats: TcStats | undefined;
}

export type QdiscSpec = { readonly index: number; /** Default: the kernel picks one. Not for ingress and clsact. */ readonly handle?: string; /** Default `root`. */ readonly parent?: string } & (
  | { readonly kind: 'tbf'; readonly tbf: TbfSettings }
  | { readonly kind: 'ingress' | 'clsact' }
  | { readonly kind: 'htb'; readonly defaultClass?: number }
  | { readonly kind: 'pfifo' | 'bfifo'; /** Packets (pfifo) or bytes (bfifo). */ readonly limit: number }
  | { readonly kind: 'fq_codel' | 'fq' | 'noqueue' | 'pfifo_fast' }
);

/**
 * The settings of the reference bandwidth plugin: the queue takes what the rate carries in the
 * latency, and the burst on top. `limit = rate × latency + burst`.
 * @param o rate and burst in **bits** (per second), as CNI and the Kubernetes annotations give them.
 * @throws BAD_RATE when tbf could not pass a single packet
 */
export function tbfSettings(o: { readonly rateBits: number; readonly burstBits?: number; readonly latencyMs?: number; readonly mtu?: number }): TbfSettings {
  const rate = Math.floor(o.rateBits / 8);
  const least = (o.mtu ?? 1500) + ETHERNET_HEADER;
  const burst = Math.min(MAX_BYTES, o.burstBits === undefined ? Math.max(DEFAULT_BURST_PACKETS * least, Math.ceil((rate * DEFAULT_BURST_MS) / 1000)) : Math.floor(o.burstBits / 8));
  if (rate < 1 || burst < least) {
    throw new PodwayError('BAD_RATE', `a rate of ${o.rateBits} bit/s with a burst of ${burst} bytes lets no packet of ${least} bytes pass`, {
      hint: `Give a rate of at least 8 bit/s and a burst of at least ${least * 8} bits.`,
    });
  }
  const limit = Math.min(MAX_BYTES, Math.ceil((rate * (o.latencyMs ?? DEFAULT_LATENCY_MS)) / 1000) + burst);
  return { rate, burst, limit };
}
const ETHERNET_HEADER = 14;
/** What the reference plugin uses. */
const DEFAULT_LATENCY_MS = 25;
/**
 * Without a burst: what the rate carries in 50 ms, and no less than twenty packets. Tokens beyond the
 * burst are lost, so a burst shorter than the machine's worst delay in waking the queue costs rate:
 * with 4 ms and ten packets, 10 Mbit/s became 8.4 on a machine that was late by tens of milliseconds.
 */
const DEFAULT_BURST_MS = 50;
const DEFAULT_BURST_PACKETS = 20;
const MAX_BYTES = 0xffffffff;

const ticks = (bytes: number, rate: number): number => Math.min(0xffffffff, Math.round((bytes / rate) * (1e9 / TICK_NS)));
const bytesOfTicks = (t: number, rate: number): number => Math.round((t * TICK_NS * rate) / 1e9);

function writeOptions(w: Writer, s: QdiscSpec): void {
  switch (s.kind) {
    case 'tbf': {
      const { rate, burst, limit } = s.tbf;
      const none = { cellLog: 0, linklayer: LINKLAYER_ETHERNET, overhead: 0, cellAlign: 0, mpu: 0, rate: 0 };
      // No rate table: the kernel asks for one only with an unknown link layer. The burst goes in bytes
      // (TCA_TBF_BURST), which the ticks beside it, rounded, are for older readers.
      const parms = { rate: { ...none, rate: Math.min(rate, 0xffffffff) }, peakrate: { ...none, linklayer: 0 }, limit, buffer: ticks(burst, rate), mtu: 0 };
      return writeAttributes(w, TBF, { parms, rate64: rate > 0xffffffff ? BigInt(rate) : undefined, burst });
    }
    case 'htb':
      return writeAttributes(w, HTB, { init: { version: 3, rate2quantum: 10, defcls: s.defaultClass ?? 0, debug: 0, directPackets: 0 } });
    case 'pfifo':
    case 'bfifo': {
      const at = w.reserve(4);
      w.buffer.writeUInt32LE(s.limit, at);
      return;
    }
    default:
      return;
  }
}

const words = (s: QdiscSpec): string => `qdisc ${s.kind}${s.kind === 'tbf' ? ` rate ${s.tbf.rate * 8} bit/s burst ${s.tbf.burst} limit ${s.tbf.limit}` : ''} on link #${s.index}`;
const isIngress = (s: QdiscSpec): boolean => s.kind === 'ingress' || s.kind === 'clsact';

/** Equivalent: `tc qdisc add|replace dev DEV root handle 1: tbf rate … burst … limit …`. */
export function addQdiscRequest(s: QdiscSpec, how: 'add' | 'replace' = 'add'): Request {
  return {
    type: RTM_NEWQDISC,
    flags: how === 'add' ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE | NLM_F_REPLACE,
    doing: `${how} ${words(s)}`,
    body(w) {
      tcHeader(w, isIngress(s)
        ? { index: s.index, handle: INGRESS_HANDLE, parent: handleNumber('ingress') }
        : { index: s.index, handle: s.handle === undefined ? 0 : handleNumber(s.handle), parent: handleNumber(s.parent ?? 'root') });
      writeAttributes(w, TCA, { kind: s.kind });
      if (s.kind === 'pfifo' || s.kind === 'bfifo' || s.kind === 'tbf' || s.kind === 'htb') writeAttribute(w, TCA.options.number, inline((w2) => writeOptions(w2, s)), undefined);
    },
  };
}

/** Also changes the settings of the qdisc that is there, when it is of that kind. */
export const replaceQdiscRequest = (s: QdiscSpec): Request => addQdiscRequest(s, 'replace');

/** Equivalent: `tc qdisc del dev DEV root|ingress`. */
export function deleteQdiscRequest(o: { readonly index: number; readonly parent?: string; readonly handle?: string }): Request {
  const parent = o.parent ?? 'root';
  return {
    type: RTM_DELQDISC,
    flags: 0,
    doing: `delete qdisc ${parent} of link #${o.index}`,
    body: (w) => tcHeader(w, { index: o.index, parent: handleNumber(parent), handle: o.handle === undefined ? 0 : handleNumber(o.handle) }),
  };
}

function tbfInfo(bytes: Uint8Array | undefined): TbfInfo | undefined {
  const v = optionsOf(TBF, bytes);
  if (!v?.parms) return undefined;
  const rate = Number(v.rate64 ?? BigInt(v.parms.rate.rate));
  const peakrate = Number(v.prate64 ?? BigInt(v.parms.peakrate.rate));
  const burst = bytesOfTicks(v.parms.buffer, rate);
  const latencyMs = rate ? Math.max(0, ((v.parms.limit - burst) * 1000) / rate) : 0;
  return { rate, burst, limit: v.parms.limit, peakrate: peakrate || undefined, latencyMs };
}

function htbInfo(bytes: Uint8Array | undefined): HtbInfo | undefined {
  const v = optionsOf(HTB, bytes);
  if (!v?.parms && !v?.init) return undefined;
  const rate = v.parms && Number(v.rate64 ?? BigInt(v.parms.rate.rate));
  const ceil = v.parms && Number(v.ceil64 ?? BigInt(v.parms.ceil.rate));
  return {
    defaultClass: v.init?.defcls, directPackets: v.init?.directPackets, rate, ceil,
    burst: v.parms && bytesOfTicks(v.parms.buffer, rate ?? 0), cburst: v.parms && bytesOfTicks(v.parms.cbuffer, ceil ?? 0),
    quantum: v.parms?.quantum, prio: v.parms?.prio,
  };
}

function infoOf(m: TcMessage): QdiscInfo {
  const { kind = '?', options } = m.v;
  return {
    index: m.index, kind, handle: handleText(m.handle), parent: parentText(m.parent), options,
    tbf: kind === 'tbf' ? tbfInfo(options) : undefined,
    htb: kind === 'htb' ? htbInfo(options) : undefined,
    fqCodel: kind === 'fq_codel' ? optionsOf(FQ_CODEL, options) : undefined,
    stats: statsOf(m.v.stats2),
  };
}

export function decodeQdisc(a: Answer): QdiscInfo | undefined {
  const m = readTc(a, RTM_NEWQDISC);
  return m && infoOf(m);
}
export function decodeClass(a: Answer): QdiscInfo | undefined {
  const m = readTc(a, RTM_NEWTCLASS);
  return m && infoOf(m);
}

/** All qdiscs of the namespace, with options and statistics. */
export function listQdiscs(socket: NetlinkSocket): QdiscInfo[] {
  return socket.dump({ type: RTM_GETQDISC, flags: 0, doing: 'list qdiscs', body: (w) => tcHeader(w) }, decodeQdisc);
}

/** The classes of a device (HTB). Equivalent: `tc -s class show dev DEV`. */
export function listClasses(socket: NetlinkSocket, index: number): QdiscInfo[] {
  return socket.dump({ type: RTM_GETTCLASS, flags: 0, doing: `list classes of link #${index}`, body: (w) => tcHeader(w, { index }) }, decodeClass);
}
