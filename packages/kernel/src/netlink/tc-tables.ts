/**
 * TCA_* attributes of queueing disciplines, classes, filters and actions.
 * Source: linux/rtnetlink.h, linux/pkt_sched.h, linux/pkt_cls.h, linux/gen_stats.h, linux/tc_act/*.h (numbers are ABI).
 */
import { attr, i32, nested, raw, str, u32, u64, type Attributes, type Codec } from './codec.js';
import { bytesOf, field, I16, I32, pad, positions, struct, U16, U32, U64, U8 } from './struct.js';

/** Time in traffic control is counted in ticks of 64 ns (PSCHED_SHIFT 6), the same on every kernel since 2.6.31. */
export const TICK_NS = 64;

/** TC_LINKLAYER_ETHERNET: lengths count as they are, and the kernel asks for no rate table. */
export const LINKLAYER_ETHERNET = 1;

const RATESPEC = struct([field('cellLog', U8), field('linklayer', U8), field('overhead', U16), field('cellAlign', I16), field('mpu', U16), field('rate', U32)]);
const TWO_RATES = [field('rate', RATESPEC), field('peakrate', RATESPEC)] as const;

export const TBF_PARMS = struct([...TWO_RATES, field('limit', U32), field('buffer', U32), field('mtu', U32)]);
export const TBF = {
  parms: attr(1, 'TCA_TBF_PARMS', TBF_PARMS),
  rtab: attr(2, 'TCA_TBF_RTAB', raw),
  ptab: attr(3, 'TCA_TBF_PTAB', raw),
  rate64: attr(4, 'TCA_TBF_RATE64', u64),
  prate64: attr(5, 'TCA_TBF_PRATE64', u64),
  burst: attr(6, 'TCA_TBF_BURST', u32),
  pburst: attr(7, 'TCA_TBF_PBURST', u32),
} as const;

const HTB_OPT = struct([field('rate', RATESPEC), field('ceil', RATESPEC), field('buffer', U32), field('cbuffer', U32), field('quantum', U32), field('level', U32), field('prio', U32)]);
const HTB_GLOB = struct([field('version', U32), field('rate2quantum', U32), field('defcls', U32), field('debug', U32), field('directPackets', U32)]);
export const HTB = {
  parms: attr(1, 'TCA_HTB_PARMS', HTB_OPT),
  init: attr(2, 'TCA_HTB_INIT', HTB_GLOB),
  ctab: attr(3, 'TCA_HTB_CTAB', raw),
  rtab: attr(4, 'TCA_HTB_RTAB', raw),
  directQlen: attr(5, 'TCA_HTB_DIRECT_QLEN', u32),
  rate64: attr(6, 'TCA_HTB_RATE64', u64),
  ceil64: attr(7, 'TCA_HTB_CEIL64', u64),
} as const;

export const FQ_CODEL = {
  targetUs: attr(1, 'TCA_FQ_CODEL_TARGET', u32),
  limit: attr(2, 'TCA_FQ_CODEL_LIMIT', u32),
  intervalUs: attr(3, 'TCA_FQ_CODEL_INTERVAL', u32),
  ecn: attr(4, 'TCA_FQ_CODEL_ECN', u32),
  flows: attr(5, 'TCA_FQ_CODEL_FLOWS', u32),
  quantum: attr(6, 'TCA_FQ_CODEL_QUANTUM', u32),
  ceThresholdUs: attr(7, 'TCA_FQ_CODEL_CE_THRESHOLD', u32),
  dropBatchSize: attr(8, 'TCA_FQ_CODEL_DROP_BATCH_SIZE', u32),
  memoryLimit: attr(9, 'TCA_FQ_CODEL_MEMORY_LIMIT', u32),
} as const;

const BASIC = struct([field('bytes', U64), field('packets', U32)], 12);
const QUEUE = struct([field('qlen', U32), field('backlog', U32), field('drops', U32), field('requeues', U32), field('overlimits', U32)]);
export const STATS = {
  basic: attr(1, 'TCA_STATS_BASIC', BASIC),
  rateEst: attr(2, 'TCA_STATS_RATE_EST', raw),
  queue: attr(3, 'TCA_STATS_QUEUE', QUEUE),
  app: attr(4, 'TCA_STATS_APP', raw),
  rateEst64: attr(5, 'TCA_STATS_RATE_EST64', raw),
  basicHw: attr(7, 'TCA_STATS_BASIC_HW', BASIC),
  packets64: attr(8, 'TCA_STATS_PKT64', u64),
} as const;

export const TCA = {
  kind: attr(1, 'TCA_KIND', str),
  options: attr(2, 'TCA_OPTIONS', raw),
  xstats: attr(4, 'TCA_XSTATS', raw),
  rate: attr(5, 'TCA_RATE', raw),
  fcnt: attr(6, 'TCA_FCNT', u32),
  stats2: attr(7, 'TCA_STATS2', nested(STATS)),
  chain: attr(11, 'TCA_CHAIN', u32),
  ingressBlock: attr(13, 'TCA_INGRESS_BLOCK', u32),
  egressBlock: attr(14, 'TCA_EGRESS_BLOCK', u32),
} as const;

// tc_gen: index, capab, action, refcnt, bindcnt.
export const MIRRED_PARMS = struct([
  field('index', U32), field('capab', U32), field('action', I32), field('refcnt', I32), field('bindcnt', I32), field('eaction', I32), field('ifindex', U32),
]);
export const MIRRED = { parms: attr(2, 'TCA_MIRRED_PARMS', MIRRED_PARMS) } as const;
export const GACT = {
  parms: attr(2, 'TCA_GACT_PARMS', struct([field('index', U32), field('capab', U32), field('action', I32), field('refcnt', I32), field('bindcnt', I32)])),
} as const;
export const POLICE = {
  parms: attr(1, 'TCA_POLICE_TBF', struct([
    field('index', U32), field('action', I32), field('limit', U32), field('burst', U32), field('mtu', U32), ...TWO_RATES,
  ])),
  rate64: attr(8, 'TCA_POLICE_RATE64', u64),
} as const;

export const ACT = {
  kind: attr(1, 'TCA_ACT_KIND', str),
  options: attr(2, 'TCA_ACT_OPTIONS', raw),
  index: attr(3, 'TCA_ACT_INDEX', u32),
  stats: attr(4, 'TCA_ACT_STATS', nested(STATS)),
  cookie: attr(6, 'TCA_ACT_COOKIE', raw),
  flags: attr(7, 'TCA_ACT_FLAGS', raw),
} as const;
/** Actions of a filter, by the order they are run in; numbered from 1. */
export const ACTIONS: Codec<Attributes<typeof ACT>[]> = positions(nested(ACT), 1);

/** struct tc_u32_sel with its keys behind it. */
const SEL_HEAD = struct([
  field('flags', U8), field('offshift', U8), field('nkeys', U8), pad(1), field('offmask', U16), field('off', U16), field('offoff', I16), field('hoff', I16), field('hmask', U32),
]);
const SEL_KEY = struct([field('mask', bytesOf(4)), field('value', bytesOf(4)), field('offset', I32), field('offmask', I32)]);
export interface U32Selector {
  readonly flags: number;
  /** Four bytes each, in the packet's order; `offset` counts from the network header. */
  readonly keys: readonly { readonly mask: Buffer; readonly value: Buffer; readonly offset: number; readonly offmask: number }[];
}
const selector: Codec<U32Selector> = {
  write(w, v) {
    SEL_HEAD.write(w, { flags: v.flags, offshift: 0, nkeys: v.keys.length, offmask: 0, off: 0, offoff: 0, hoff: 0, hmask: 0 });
    for (const k of v.keys) SEL_KEY.write(w, k);
  },
  read(b, start, end) {
    const head = SEL_HEAD.read(b, start, end);
    if (!head || start + SEL_HEAD.size + head.nkeys * SEL_KEY.size > end) return undefined;
    const keys = Array.from({ length: head.nkeys }, (_, i) => SEL_KEY.read(b, start + SEL_HEAD.size + i * SEL_KEY.size, end));
    return { flags: head.flags, keys: keys.filter((k) => k !== undefined) };
  },
};
export const TC_U32_TERMINAL = 1;
export const U32_FILTER = {
  classid: attr(1, 'TCA_U32_CLASSID', u32),
  hash: attr(2, 'TCA_U32_HASH', u32),
  link: attr(3, 'TCA_U32_LINK', u32),
  divisor: attr(4, 'TCA_U32_DIVISOR', u32),
  selector: attr(5, 'TCA_U32_SEL', selector),
  actions: attr(7, 'TCA_U32_ACT', ACTIONS),
  pcnt: attr(9, 'TCA_U32_PCNT', raw),
  flags: attr(11, 'TCA_U32_FLAGS', u32),
} as const;
export const MATCHALL = {
  classid: attr(1, 'TCA_MATCHALL_CLASSID', u32),
  actions: attr(2, 'TCA_MATCHALL_ACT', ACTIONS),
  flags: attr(3, 'TCA_MATCHALL_FLAGS', u32),
  pcnt: attr(4, 'TCA_MATCHALL_PCNT', raw),
} as const;
export const BPF = {
  actions: attr(1, 'TCA_BPF_ACT', ACTIONS),
  classid: attr(3, 'TCA_BPF_CLASSID', u32),
  fd: attr(6, 'TCA_BPF_FD', i32),
  name: attr(7, 'TCA_BPF_NAME', str),
  /** TCA_BPF_FLAG_ACT_DIRECT 1: the program's return value is the verdict. */
  flags: attr(8, 'TCA_BPF_FLAGS', u32),
  tag: attr(10, 'TCA_BPF_TAG', raw),
  id: attr(11, 'TCA_BPF_ID', u32),
} as const;
