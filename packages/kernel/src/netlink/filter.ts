/**
 * Filters of traffic control and their actions. Equivalent: `tc filter`.
 *
 * Two kinds are made here, both matching every packet: `u32` with one key whose mask is zero (in
 * every kernel) and `matchall`. Their action sends the packet to another device (mirred redirect),
 * which is how what enters a device gets shaped: ingress qdisc → filter → ifb → tbf. Filters of
 * all kinds are listed, with their actions; what a kind has besides is kept as bytes.
 *
 * Source: linux/pkt_cls.h, linux/tc_act/tc_mirred.h, tc-u32(8), tc-mirred(8).
 */
import { writeAttribute, writeAttributes, type Attributes, type AttributeTable, Writer } from './codec.js';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Answer, type NetlinkSocket, type Request } from './socket.js';
import { inline } from './struct.js';
import { handleNumber, handleText, optionsOf, parentText, readTc, statsOf, tcHeader, type TcStats } from './tc.js';
import { type ACT, BPF, GACT, MATCHALL, MIRRED, POLICE, TC_U32_TERMINAL, TCA, U32_FILTER, type U32Selector } from './tc-tables.js';

const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;
const ETH_P_ALL = 0x0003;

/** TC_ACT_*. */
const VERDICT: Readonly<Record<number, string>> = { [-1]: 'unspec', 0: 'ok', 1: 'reclassify', 2: 'shot', 3: 'pipe', 4: 'stolen', 5: 'queued', 6: 'repeat', 7: 'redirect', 8: 'trap' };
const TC_ACT_STOLEN = 4;
/** TCA_EGRESS_REDIR and so on. */
const MIRRED_WHAT = { 1: 'egress redirect', 2: 'egress mirror', 3: 'ingress redirect', 4: 'ingress mirror' } as const;
const TCA_EGRESS_REDIR = 1;

export interface FilterAction {
  /** `mirred`, `gact`, `police` … */
  readonly kind: string;
  /** What becomes of the packet: `stolen`, `pipe`, `shot`. */
  readonly verdict: string | undefined;
  readonly mirred: { readonly what: (typeof MIRRED_WHAT)[keyof typeof MIRRED_WHAT] | undefined; readonly to: number } | undefined;
  /** Bytes per second; burst in ticks of 64 ns as the kernel keeps it. */
  readonly police: { readonly rate: number; readonly burstTicks: number; readonly mtu: number } | undefined;
  readonly stats: TcStats | undefined;
}

export interface FilterInfo {
  readonly index: number;
  readonly kind: string;
  readonly parent: string;
  readonly priority: number;
  /** EtherType in hexadecimal as in `0x800`, or `all`. */
  readonly protocol: string;
  readonly chain: number;
  /** u32: `800:`, a hash table, or `800::800`, an entry of it; others `0x1`. Undefined for the head that stands before a kind's filters. */
  readonly handle: string | undefined;
  /** u32 only. */
  readonly selector: U32Selector | undefined;
  /** BPF only. */
  readonly bpf: { readonly name: string | undefined; readonly id: number | undefined; readonly directAction: boolean } | undefined;
  /** Where it puts the packet (classful qdiscs): `1:10`. */
  readonly classid: string | undefined;
  readonly actions: readonly FilterAction[];
  readonly options: Uint8Array | undefined;
}

export interface RedirectSpec {
  readonly index: number;
  /** `ffff:` (ingress), `clsact/ingress`, `clsact/egress`, or the handle of a classful qdisc. Default `ffff:`. */
  readonly parent?: string;
  /** Default 1. */
  readonly priority?: number;
  /** Index of the device whose egress gets the packet. */
  readonly to: number;
  /** Default `u32`, which every kernel has that has any. */
  readonly kind?: 'u32' | 'matchall';
}

const swap16 = (n: number): number => ((n & 0xff) << 8) | ((n >>> 8) & 0xff);

/** tcm_info: priority in the upper half, EtherType in network order in the lower. */
const info = (priority: number, protocol: number): number => ((priority << 16) | swap16(protocol)) >>> 0;

function bytesOf<T extends AttributeTable>(table: T, values: Attributes<T>): Uint8Array {
  const w = new Writer(64);
  writeAttributes(w, table, values);
  return Buffer.from(w.bytes());
}

function redirectAction(to: number): Attributes<typeof ACT> {
  const parms = { index: 0, capab: 0, action: TC_ACT_STOLEN, refcnt: 0, bindcnt: 0, eaction: TCA_EGRESS_REDIR, ifindex: to };
  return { kind: 'mirred', options: bytesOf(MIRRED, { parms }) };
}

/**
 * Sends every packet to another device. Equivalent:
 * `tc filter add dev DEV parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev TO`.
 */
export function addRedirectRequest(s: RedirectSpec, how: 'add' | 'replace' = 'add'): Request {
  const kind = s.kind ?? 'u32';
  return {
    type: RTM_NEWTFILTER,
    flags: how === 'add' ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE | NLM_F_REPLACE,
    doing: `${how} ${kind} filter on link #${s.index}: redirect to link #${s.to}`,
    body(w) {
      tcHeader(w, { index: s.index, parent: handleNumber(s.parent ?? 'ffff:'), info: info(s.priority ?? 1, ETH_P_ALL) });
      writeAttributes(w, TCA, { kind });
      const actions = [redirectAction(s.to)];
      const everything = { flags: TC_U32_TERMINAL, keys: [{ mask: Buffer.alloc(4), value: Buffer.alloc(4), offset: 0, offmask: 0 }] };
      writeAttribute(w, TCA.options.number, inline((w2) =>
        kind === 'u32' ? writeAttributes(w2, U32_FILTER, { selector: everything, actions }) : writeAttributes(w2, MATCHALL, { actions })), undefined);
    },
  };
}

/** All filters of a parent, or those of one priority. Equivalent: `tc filter del dev DEV parent ffff: [prio N]`. */
export function deleteFiltersRequest(o: { readonly index: number; readonly parent?: string; readonly priority?: number }): Request {
  return {
    type: RTM_DELTFILTER,
    flags: 0,
    doing: `delete filters of link #${o.index} at ${o.parent ?? 'ffff:'}`,
    body: (w) => tcHeader(w, { index: o.index, parent: handleNumber(o.parent ?? 'ffff:'), info: o.priority === undefined ? 0 : info(o.priority, 0) }),
  };
}

function decodeAction(v: Attributes<typeof ACT>): FilterAction {
  const mirred = v.kind === 'mirred' ? optionsOf(MIRRED, v.options)?.parms : undefined;
  const police = v.kind === 'police' ? optionsOf(POLICE, v.options) : undefined;
  const gact = v.kind === 'gact' ? optionsOf(GACT, v.options)?.parms : undefined;
  const verdict = mirred?.action ?? police?.parms?.action ?? gact?.action;
  return {
    kind: v.kind ?? '?',
    verdict: verdict === undefined ? undefined : (VERDICT[verdict] ?? String(verdict)),
    mirred: mirred && { what: MIRRED_WHAT[mirred.eaction as keyof typeof MIRRED_WHAT], to: mirred.ifindex },
    police: police?.parms && { rate: Number(police.rate64 ?? BigInt(police.parms.rate.rate)), burstTicks: police.parms.burst, mtu: police.parms.mtu },
    stats: statsOf(v.stats),
  };
}

/** u32 handles: hash table (12 bits), bucket (8), entry (12). */
const u32Handle = (n: number): string => {
  const [table, bucket, entry] = [n >>> 20, (n >>> 12) & 0xff, n & 0xfff];
  return `${table.toString(16)}:${bucket ? bucket.toString(16) : ''}${entry ? `:${entry.toString(16)}` : ''}`;
};

export function decodeFilter(a: Answer): FilterInfo | undefined {
  const m = readTc(a, RTM_NEWTFILTER);
  if (!m) return undefined;
  const { kind = '?', options } = m.v;
  const u32 = kind === 'u32' ? optionsOf(U32_FILTER, options) : undefined;
  const all = kind === 'matchall' ? optionsOf(MATCHALL, options) : undefined;
  const bpf = kind === 'bpf' ? optionsOf(BPF, options) : undefined;
  const protocol = swap16(m.info & 0xffff);
  const classid = u32?.classid ?? all?.classid ?? bpf?.classid;
  return {
    index: m.index, kind, parent: parentText(m.parent), priority: m.info >>> 16,
    protocol: protocol === ETH_P_ALL ? 'all' : `0x${protocol.toString(16)}`,
    chain: m.v.chain ?? 0,
    handle: m.handle === 0 ? undefined : kind === 'u32' ? u32Handle(m.handle) : `0x${m.handle.toString(16)}`,
    selector: u32?.selector,
    bpf: bpf && { name: bpf.name, id: bpf.id, directAction: ((bpf.flags ?? 0) & 1) !== 0 },
    classid: classid ? handleText(classid) : undefined,
    actions: (u32?.actions ?? all?.actions ?? bpf?.actions ?? []).map(decodeAction),
    options,
  };
}

/** Equivalent: `tc -s filter show dev DEV parent ffff:`. A device without that parent has no filters there. */
export function listFilters(socket: NetlinkSocket, index: number, parent = 'ffff:'): FilterInfo[] {
  return socket.dump({
    type: RTM_GETTFILTER, flags: 0, doing: `list filters of link #${index} at ${parent}`,
    body: (w) => tcHeader(w, { index, parent: handleNumber(parent) }),
  }, decodeFilter);
}
