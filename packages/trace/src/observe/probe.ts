/**
 * One probe: a marked packet from inside the source's namespace by a real socket, so that routing, conntrack and NAT treat it like
 * anybody's. ICMP and UDP carry the mark in their data; a SYN has none and is known by its port and sequence number.
 * DF is set (a probe without it would be fragmented and hide MTU faults).
 */
import { randomBytes } from 'node:crypto';
import { ProbeSocket, type Netns } from '@podway/kernel';
import { encode } from '@podway/packet';
import { isV6 } from '../simulate/ipv6.js';
import { IPV4_HEADER, IPV6_HEADER, type Flow } from '../simulate/types.js';

const familyOf = (address: string): 'inet' | 'inet6' => (isV6(address) ? 'inet6' : 'inet');

export const MARK_BYTES = 16;
/** Of IP, and 8 of ICMP or UDP. */
const headers = (dst: string): number => (isV6(dst) ? IPV6_HEADER : IPV4_HEADER) + 8;
const DEFAULT_LENGTH = { icmp: 84, udp: 52 } as const;

export interface Answer {
  /** `reply`: what was asked for came. `refused`: a reset or port unreachable. `error`: the kernel gave up, with its errno. */
  readonly kind: 'reply' | 'refused' | 'error';
  readonly errno?: string;
}

export class Probe {
  readonly mark = randomBytes(MARK_BYTES);
  private ownPort: number;
  private answered: Answer | undefined;

  private constructor(
    private readonly socket: ProbeSocket,
    readonly flow: Flow,
    readonly number: number,
    readonly id: number,
  ) {
    this.ownPort = flow.proto === 'icmp' ? id : 0;
  }

  /** Own port (TCP, UDP; 0 before sending) or echo id. */
  get port(): number {
    return this.ownPort;
  }

  static open(ns: Netns, flow: Flow, number: number, id: number): Probe {
    const socket = ProbeSocket.open(ns, flow.proto, {
      family: familyOf(flow.dst),
      ...(flow.ttl === undefined ? {} : { ttl: flow.ttl }),
      ...(flow.dontFragment === undefined ? {} : { dontFragment: flow.dontFragment }),
      ...(flow.src === undefined ? {} : { source: flow.src }),
      ...(flow.srcPort === undefined || number > 0 ? {} : { sourcePort: flow.srcPort }),
    });
    return new Probe(socket, flow, number, id);
  }

  /** Sends. A refusal at once (no route, message too long) is the answer. */
  send(): void {
    const { flow } = this;
    const failed = this.socket.connect(flow.dst, flow.proto === 'icmp' ? 0 : (flow.dstPort ?? 80)) ?? (flow.proto === 'tcp' ? undefined : this.socket.send(this.message()));
    if (failed !== undefined) this.answered = { kind: failed === 'ECONNREFUSED' ? 'refused' : 'error', errno: failed };
    else if (flow.proto !== 'icmp') this.ownPort = this.socket.local().port;
  }

  private message(): Uint8Array {
    const { flow, mark } = this;
    const proto = flow.proto === 'icmp' ? 'icmp' : 'udp';
    const data = new Uint8Array(Math.max(MARK_BYTES, (flow.length ?? DEFAULT_LENGTH[proto] + headers(flow.dst) - headers('')) - headers(flow.dst)));
    for (let i = 0; i < data.length; i++) data[i] = i & 255;
    data.set(mark, 0);
    return proto === 'udp' ? data : encode([{ type: isV6(flow.dst) ? 'icmpv6' : 'icmp', message: { kind: 'echo-request', id: this.id, sequence: this.number + 1 } }], data);
  }

  /** Looks whether the answer has come. Never blocks. */
  poll(): Answer | undefined {
    if (this.answered) return this.answered;
    if (this.flow.proto === 'tcp') {
      const errno = this.socket.takeError() ?? this.socket.connect(this.flow.dst, this.flow.dstPort ?? 80);
      if (errno === 'EISCONN') this.answered = { kind: 'reply' };
      else if (errno === 'ECONNREFUSED') this.answered = { kind: 'refused', errno };
      else if (errno !== undefined && errno !== 'EALREADY') this.answered = { kind: 'error', errno };
      return this.answered;
    }
    for (;;) {
      const got = this.socket.receive();
      if (got === undefined) return undefined;
      if (typeof got === 'string') return (this.answered = { kind: got === 'ECONNREFUSED' ? 'refused' : 'error', errno: got });
      // A raw socket sees all ICMP of the namespace: ours is the echo reply with the mark. In IPv6 it comes without the IP header.
      const icmp = this.flow.proto !== 'icmp' || (isV6(this.flow.dst) ? got[0] === 129 : got[(got[0]! & 15) * 4] === 0);
      if (icmp && got.includes(this.mark)) return (this.answered = { kind: 'reply' });
    }
  }

  close(): void {
    this.socket.close();
  }
}

/** Which source address the kernel takes for this flow, without sending anything; an errno name when there is no way. */
export function sourceAddress(ns: Netns, flow: Flow): { readonly address: string } | { readonly errno: string } {
  if (flow.src !== undefined) return { address: flow.src };
  const s = ProbeSocket.open(ns, 'udp', { family: familyOf(flow.dst) });
  try {
    const errno = s.connect(flow.dst, 9);
    return errno === undefined ? { address: s.local().address } : { errno };
  } finally {
    s.close();
  }
}
