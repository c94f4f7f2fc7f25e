/**
 * Plain sockets inside a namespace, for probes: real kernel sockets, so that routing, conntrack
 * and NAT treat what they send like anybody's traffic. A socket keeps the namespace it was made in.
 * Source: socket(7), raw(7), udp(7), tcp(7), ipv6(7).
 */
import { PodwayError } from '@podway/errors';
import { addressText, familyNumber, type Family } from './netlink/address.js';
import { socketAddress } from './listen.js';
import { c, check, errnoName, errnoText, lastErrno, setIntOption } from './libc.js';
import type { Netns } from './netns.js';

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const IPPROTO_SCTP = 132;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_BINDTODEVICE = 25;
const SO_LINGER = 13;
/** The same settings in both families: level, TTL or hop limit, path MTU discovery, protocol of echo messages. */
const FAMILY = {
  inet: { level: 0, ttl: 2, mtuDiscover: 10, dontFragment: undefined, icmp: 1, any: '0.0.0.0', addressAt: 4 },
  inet6: { level: 41, ttl: 16, mtuDiscover: 23, dontFragment: 62, icmp: 58, any: '::', addressAt: 8 },
} as const;
const MSG_NOSIGNAL = 0x4000;
const EINPROGRESS = 115;

export type SocketKind = 'icmp' | 'tcp' | 'udp' | 'sctp';

export interface SocketOptions {
  /** Default: inet. */
  readonly family?: Family;
  readonly ttl?: number;
  /** true: DF set, and nothing is fragmented on the way out (what a probe of the MTU needs). false: DF not set. Default: as any socket. */
  readonly dontFragment?: boolean;
  readonly source?: string;
  readonly sourcePort?: number;
  readonly device?: string;
}

/**
 * One non-blocking socket. `icmp` and `sctp` are raw sockets: what is sent is the message; what is received begins with the IP
 * header in IPv4, with the message in IPv6, where the kernel fills in the checksum of ICMP too.
 */
export class ProbeSocket {
  private open = true;

  private constructor(
    readonly fd: number,
    private readonly where: string,
    readonly family: Family,
  ) {}

  static open(ns: Netns, kind: SocketKind, o: SocketOptions = {}): ProbeSocket {
    const family = o.family ?? 'inet';
    const f = FAMILY[family];
    const [type, protocol] = ({ icmp: [SOCK_RAW, f.icmp], sctp: [SOCK_RAW, IPPROTO_SCTP], tcp: [SOCK_STREAM, 0], udp: [SOCK_DGRAM, 0] } as const)[kind];
    const fd = ns.run(() => check(c.socket(familyNumber(family), type | SOCK_NONBLOCK_CLOEXEC, protocol), `open a socket for ${kind}`, ns.label));
    const s = new ProbeSocket(fd, ns.label, family);
    try {
      if (o.ttl !== undefined) setIntOption(fd, f.level, f.ttl, o.ttl, 'set the TTL');
      // IP(V6)_PMTUDISC_PROBE sets DF and ignores what the path MTU cache believes; IP_PMTUDISC_DONT leaves DF unset.
      if (o.dontFragment !== undefined) setIntOption(fd, f.level, f.mtuDiscover, o.dontFragment ? 3 : 0, 'set path MTU discovery');
      // In IPv6 only the sender fragments, and it does so unless told not to.
      if (f.dontFragment !== undefined && o.dontFragment) setIntOption(fd, f.level, f.dontFragment, 1, 'forbid fragmenting');
      if (o.device !== undefined) {
        const name = Buffer.from(`${o.device}\0`);
        check(c.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length), `bind to device ${o.device}`, ns.label);
      }
      if (o.source !== undefined || o.sourcePort !== undefined) {
        const own = socketAddress(o.source ?? f.any, o.sourcePort ?? 0);
        check(c.bind(fd, own, own.length), `bind to ${o.source ?? '*'}:${o.sourcePort ?? 0}`, ns.label);
      }
    } catch (e) {
      s.close();
      throw e;
    }
    return s;
  }

  /** Fixes the peer. For TCP this starts the handshake. The answer is an errno name when the kernel refused at once (ENETUNREACH). */
  connect(address: string, port: number): string | undefined {
    const to = socketAddress(address, port);
    if (c.connect(this.fd, to, to.length) === 0) return undefined;
    const errno = lastErrno();
    // libuv, whose table of names is used, has none for EINPROGRESS.
    return errno === EINPROGRESS ? undefined : errnoName(errno);
  }

  /** Sends to the connected peer. The answer is an errno name when the kernel refused (EMSGSIZE, ECONNREFUSED from an earlier ICMP error). */
  send(bytes: Uint8Array): string | undefined {
    return c.send(this.fd, bytes, bytes.length, MSG_NOSIGNAL) >= 0 ? undefined : errnoName(lastErrno());
  }

  /** What has arrived, one datagram or chunk; undefined when nothing waits; an errno name when the peer or the path refused. */
  receive(): Buffer | string | undefined {
    const b = Buffer.allocUnsafe(65536);
    const n = c.recv(this.fd, b, b.length, 0);
    if (n >= 0) return b.subarray(0, n);
    const errno = errnoName(lastErrno());
    return errno === 'EAGAIN' ? undefined : errno;
  }

  /** SO_ERROR as an errno name: how an asynchronous connect ended. Reading it clears it. */
  takeError(): string | undefined {
    const value = Buffer.alloc(4);
    const length = Buffer.from([4, 0, 0, 0]);
    check(c.getsockopt(this.fd, SOL_SOCKET, SO_ERROR, value, length), 'read the state of a socket', this.where);
    const errno = value.readInt32LE(0);
    return errno === 0 ? undefined : errnoName(errno);
  }

  /** The own address and port: for TCP and UDP once connected. */
  local(): { address: string; port: number } {
    const b = Buffer.alloc(28);
    const length = Buffer.from([b.length, 0, 0, 0]);
    if (c.getsockname(this.fd, b, length) < 0) {
      throw new PodwayError('SYSCALL_FAILED', 'read the address of a socket', { object: this.where, said: errnoText(lastErrno()) });
    }
    const at = FAMILY[this.family].addressAt;
    return { address: addressText(b, at, at + (this.family === 'inet' ? 4 : 16)) ?? '', port: b.readUInt16BE(2) };
  }

  /** Listens (TCP). */
  listen(backlog = 16): void {
    check(c.listen(this.fd, backlog), 'listen', this.where);
  }

  /** TCP: closing sends a reset instead of leaving TIME_WAIT behind. */
  resetOnClose(): void {
    const linger = Buffer.alloc(8);
    linger.writeInt32LE(1, 0);
    check(c.setsockopt(this.fd, SOL_SOCKET, SO_LINGER, linger, 8), 'set SO_LINGER', this.where);
  }

  close(): void {
    if (this.open) c.close(this.fd);
    this.open = false;
  }
}
