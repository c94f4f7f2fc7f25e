/** CTA_* attributes; numbers are in network order. Source: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h, nf_conntrack_tcp.h. */
import { ip } from './address.js';
import { attr, nested, raw, str, u16be, u32, u8 } from './codec.js';
import { u32be, u64be } from './struct.js';

const IP = {
  src4: attr(1, 'CTA_IP_V4_SRC', ip),
  dst4: attr(2, 'CTA_IP_V4_DST', ip),
  src6: attr(3, 'CTA_IP_V6_SRC', ip),
  dst6: attr(4, 'CTA_IP_V6_DST', ip),
} as const;
const PROTO = {
  number: attr(1, 'CTA_PROTO_NUM', u8),
  sport: attr(2, 'CTA_PROTO_SRC_PORT', u16be),
  dport: attr(3, 'CTA_PROTO_DST_PORT', u16be),
  icmpId: attr(4, 'CTA_PROTO_ICMP_ID', u16be),
  icmpType: attr(5, 'CTA_PROTO_ICMP_TYPE', u8),
  icmpCode: attr(6, 'CTA_PROTO_ICMP_CODE', u8),
  icmp6Id: attr(7, 'CTA_PROTO_ICMPV6_ID', u16be),
  icmp6Type: attr(8, 'CTA_PROTO_ICMPV6_TYPE', u8),
  icmp6Code: attr(9, 'CTA_PROTO_ICMPV6_CODE', u8),
} as const;
export const TUPLE = {
  ip: attr(1, 'CTA_TUPLE_IP', nested(IP)),
  proto: attr(2, 'CTA_TUPLE_PROTO', nested(PROTO)),
  zone: attr(3, 'CTA_TUPLE_ZONE', u16be),
} as const;
const TCP = {
  state: attr(1, 'CTA_PROTOINFO_TCP_STATE', u8),
  wscaleOrig: attr(2, 'CTA_PROTOINFO_TCP_WSCALE_ORIGINAL', u8),
  wscaleReply: attr(3, 'CTA_PROTOINFO_TCP_WSCALE_REPLY', u8),
  flagsOrig: attr(4, 'CTA_PROTOINFO_TCP_FLAGS_ORIGINAL', raw),
  flagsReply: attr(5, 'CTA_PROTOINFO_TCP_FLAGS_REPLY', raw),
} as const;
const SCTP = { state: attr(1, 'CTA_PROTOINFO_SCTP_STATE', u8) } as const;
const PROTOINFO = { tcp: attr(1, 'CTA_PROTOINFO_TCP', nested(TCP)), sctp: attr(3, 'CTA_PROTOINFO_SCTP', nested(SCTP)) } as const;
const COUNTERS = { packets: attr(1, 'CTA_COUNTERS_PACKETS', u64be), bytes: attr(2, 'CTA_COUNTERS_BYTES', u64be) } as const;
const HELP = { name: attr(1, 'CTA_HELP_NAME', str) } as const;

/** What of the tuple given beside it a dump must match; kernel 5.8 and later, others ignore it. */
const FILTER = { orig: attr(1, 'CTA_FILTER_ORIG_FLAGS', u32), reply: attr(2, 'CTA_FILTER_REPLY_FLAGS', u32) } as const;
/** CTA_FILTER_F_*. Source: net/netfilter/nf_internals.h. */
export const CT_FILTER = { src: 1 << 0, dst: 1 << 1, protocol: 1 << 3, sport: 1 << 4, dport: 1 << 5 } as const;

export const CT = {
  orig: attr(1, 'CTA_TUPLE_ORIG', nested(TUPLE)),
  reply: attr(2, 'CTA_TUPLE_REPLY', nested(TUPLE)),
  status: attr(3, 'CTA_STATUS', u32be),
  protoinfo: attr(4, 'CTA_PROTOINFO', nested(PROTOINFO)),
  help: attr(5, 'CTA_HELP', nested(HELP)),
  timeout: attr(7, 'CTA_TIMEOUT', u32be),
  mark: attr(8, 'CTA_MARK', u32be),
  countersOrig: attr(9, 'CTA_COUNTERS_ORIG', nested(COUNTERS)),
  countersReply: attr(10, 'CTA_COUNTERS_REPLY', nested(COUNTERS)),
  use: attr(11, 'CTA_USE', u32be),
  id: attr(12, 'CTA_ID', u32be),
  master: attr(14, 'CTA_TUPLE_MASTER', nested(TUPLE)),
  zone: attr(18, 'CTA_ZONE', u16be),
  secctx: attr(19, 'CTA_SECCTX', raw),
  timestamp: attr(20, 'CTA_TIMESTAMP', raw),
  markMask: attr(21, 'CTA_MARK_MASK', u32be),
  labels: attr(22, 'CTA_LABELS', raw),
  filter: attr(25, 'CTA_FILTER', nested(FILTER)),
} as const;

export const CT_STATS = {
  entries: attr(1, 'CTA_STATS_GLOBAL_ENTRIES', u32be),
  maxEntries: attr(2, 'CTA_STATS_GLOBAL_MAX_ENTRIES', u32be),
} as const;

/** IPS_*, in the order of the bits. */
export const CT_STATUS = [
  'expected', 'seen-reply', 'assured', 'confirmed', 'src-nat', 'dst-nat', 'seq-adjust', 'src-nat-done', 'dst-nat-done', 'dying', 'fixed-timeout', 'template',
  'untracked', 'helper', 'offload', 'hw-offload',
] as const;
export type ConntrackStatus = (typeof CT_STATUS)[number];

/** TCP_CONNTRACK_*, as `conntrack -L` writes them. */
export const CT_TCP_STATE = ['NONE', 'SYN_SENT', 'SYN_RECV', 'ESTABLISHED', 'FIN_WAIT', 'CLOSE_WAIT', 'LAST_ACK', 'TIME_WAIT', 'CLOSE', 'SYN_SENT2'] as const;
/** SCTP_CONNTRACK_*. */
export const CT_SCTP_STATE = ['NONE', 'CLOSED', 'COOKIE_WAIT', 'COOKIE_ECHOED', 'ESTABLISHED', 'SHUTDOWN_SENT', 'SHUTDOWN_RECD', 'SHUTDOWN_ACK_SENT', 'HEARTBEAT_SENT'] as const;
