/**
 * The sockets of a namespace: TCP and UDP, both families. Equivalent: `ss -antue`, with `info` `ss -ti`.
 *
 * One dump for each protocol and family; some 10 µs for each socket. The inode leads to the
 * process (`/proc/PID/fd`), which is not looked up here: that is a walk over all processes.
 * Source: sock_diag(7), linux/inet_diag.h, linux/tcp.h.
 */
import type { Netns } from '../netns.js';
import { AF_INET, AF_INET6, addressText, type Family } from './address.js';
import { attr, readAttributes, str, type Attributes } from './codec.js';
import { NetlinkSocket, type Answer, type Request } from './socket.js';
import { bytesOf, field, pad, struct, U16BE, U32, U64, U8 } from './struct.js';

export const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
export type SocketProtocol = keyof typeof PROTOCOL;

/** TCP_ESTABLISHED is 1. UDP sockets are `close` (unconnected, as ss's UNCONN) or `established`. */
const STATES = ['', 'established', 'syn-sent', 'syn-recv', 'fin-wait-1', 'fin-wait-2', 'time-wait', 'close', 'close-wait', 'last-ack', 'listen', 'closing', 'new-syn-recv'] as const;
export type SocketState = Exclude<(typeof STATES)[number], ''>;
const ALL_STATES = 0xffffffff;

const SOCKID = struct([
  field('sport', U16BE), field('dport', U16BE), field('src', bytesOf(16)), field('dst', bytesOf(16)), field('index', U32), field('cookie', U64),
]);
const REQUEST = struct([field('family', U8), field('protocol', U8), field('ext', U8), pad(1), field('states', U32), field('id', SOCKID)]);
const MESSAGE = struct([
  field('family', U8), field('state', U8), field('timer', U8), field('retrans', U8), field('id', SOCKID), field('expires', U32), field('rqueue', U32),
  field('wqueue', U32), field('uid', U32), field('inode', U32),
]);

/** struct tcp_info, as far as it tells about a path. Times in microseconds unless they end in Ms. */
const TCP_INFO = struct([
  field('state', U8), field('caState', U8), field('retransmits', U8), field('probes', U8), field('backoff', U8), pad(3),
  field('rto', U32), field('ato', U32), field('sndMss', U32), field('rcvMss', U32), field('unacked', U32), field('sacked', U32), field('lost', U32),
  field('retrans', U32), field('fackets', U32), field('lastDataSentMs', U32), field('lastAckSentMs', U32), field('lastDataReceivedMs', U32), field('lastAckReceivedMs', U32),
  field('pmtu', U32), field('rcvSsthresh', U32), field('rtt', U32), field('rttvar', U32), field('sndSsthresh', U32), field('sndCwnd', U32), field('advmss', U32),
  field('reordering', U32), field('rcvRtt', U32), field('rcvSpace', U32), field('totalRetrans', U32), field('pacingRate', U64), field('maxPacingRate', U64),
  field('bytesAcked', U64), field('bytesReceived', U64), field('segsOut', U32), field('segsIn', U32), field('notsentBytes', U32), field('minRtt', U32),
], 104);
export type TcpInfo = NonNullable<ReturnType<(typeof TCP_INFO)['read']>>;

const DIAG = {
  info: attr(2, 'INET_DIAG_INFO', TCP_INFO),
  congestion: attr(4, 'INET_DIAG_CONG', str),
} as const;
/** Bits of idiag_ext: attribute number - 1. */
const EXT_INFO = (1 << (2 - 1)) | (1 << (4 - 1));

export interface SocketInfo {
  readonly protocol: SocketProtocol;
  readonly family: Family;
  readonly state: SocketState;
  readonly local: string;
  readonly localPort: number;
  /** `0.0.0.0` or `::` with port 0 where there is no other end. */
  readonly remote: string;
  readonly remotePort: number;
  /** Device the socket is bound to; 0 is none. */
  readonly index: number;
  /** Bytes not yet read; of a listening socket: connections not yet accepted. */
  readonly receiveQueue: number;
  /** Bytes sent and not yet acknowledged; of a listening socket: how many connections may wait. */
  readonly sendQueue: number;
  readonly uid: number;
  /** 0 when no process holds it any more (time-wait). */
  readonly inode: number;
  readonly tcp: TcpInfo | undefined;
  readonly congestion: string | undefined;
}

export interface SocketQuery {
  readonly protocols?: readonly SocketProtocol[];
  readonly families?: readonly Family[];
  /** Default: all. */
  readonly states?: readonly SocketState[];
  /** Also `tcp` and `congestion`. */
  readonly info?: boolean;
}

const ZERO = Buffer.alloc(16);
/** What `ss -lntu` shows: TCP that listens and UDP that is not connected. */
export const LISTENING: readonly SocketState[] = ['listen', 'close'];

export function socketsRequest(protocol: SocketProtocol, family: Family, q: SocketQuery = {}): Request {
  const states = q.states ? q.states.reduce((bits, s) => bits | (1 << STATES.indexOf(s)), 0) >>> 0 : ALL_STATES;
  return {
    type: SOCK_DIAG_BY_FAMILY,
    flags: 0,
    doing: `list ${protocol} sockets (${family})`,
    body: (w) => REQUEST.write(w, {
      family: family === 'inet' ? AF_INET : AF_INET6, protocol: PROTOCOL[protocol], ext: q.info ? EXT_INFO : 0, states,
      id: { sport: 0, dport: 0, src: ZERO, dst: ZERO, index: 0, cookie: 0n },
    }),
  };
}

export function decodeSocket(a: Answer, protocol: SocketProtocol): SocketInfo | undefined {
  if (a.type !== SOCK_DIAG_BY_FAMILY) return undefined;
  const m = MESSAGE.read(a.buffer, a.start, a.end);
  const state = m && STATES[m.state];
  if (!m || !state || (m.family !== AF_INET && m.family !== AF_INET6)) return undefined;
  const v: Attributes<typeof DIAG> = readAttributes(DIAG, a.buffer, a.start + MESSAGE.size, a.end);
  const four = m.family === AF_INET;
  const text = (b: Buffer): string => addressText(b, 0, four ? 4 : 16) ?? '';
  return {
    protocol, family: four ? 'inet' : 'inet6', state, local: text(m.id.src), localPort: m.id.sport, remote: text(m.id.dst), remotePort: m.id.dport,
    index: m.id.index, receiveQueue: m.rqueue, sendQueue: m.wqueue, uid: m.uid, inode: m.inode, tcp: protocol === 'tcp' ? v.info : undefined, congestion: v.congestion,
  };
}

/** All sockets that match. */
export function listSockets(ns: Netns, q: SocketQuery = {}): SocketInfo[] {
  const socket = NetlinkSocket.open(ns, NETLINK_SOCK_DIAG);
  try {
    return (q.protocols ?? (['tcp', 'udp'] as const)).flatMap((protocol) =>
      (q.families ?? (['inet', 'inet6'] as const)).flatMap((family) => socket.dump(socketsRequest(protocol, family, q), (a) => decodeSocket(a, protocol))));
  } finally {
    socket.close();
  }
}
