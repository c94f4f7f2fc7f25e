/**
 * Plain sockets inside a namespace, for probes: real kernel sockets, so that routing, conntrack
 * and NAT treat what they send like anybody's traffic. A socket keeps the namespace it was made in.
 * Source: socket(7), raw(7), udp(7), tcp(7). IPv4.
 */
import { PodwayError } from '@podway/errors';
import { addressBytes } from './netlink/address.js';
import { c, check, errnoName, errnoText, lastErrno, setIntOption } from './libc.js';
import type { Netns } from './netns.js';

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOCK_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const IPPROTO_ICMP = 1;
const IPPROTO_SCTP = 132;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_BINDTODEVICE = 25;
const SO_LINGER = 13;
const IPPROTO_IP = 0;
const IP_TTL = 2;
const IP_MTU_DISCOVER = 10;
const MSG_NOSIGNAL = 0x4000;
const EINPROGRESS = 115;

export type SocketKind = 'icmp' | 'tcp' | 'udp' | 'sctp';

export interface SocketOptions {
  readonly ttl?: number;
  /** true: DF set, and nothing is fragmented on the way out (what a probe of the MTU needs). false: DF not set. Default: as any socket. */
  readonly dontFragment?: boolean;
  readonly source?: string;
  readonly sourcePort?: number;
  readonly device?: string;
}

function sockaddr(address: string, port: number): Buffer {
  const b = Buffer.alloc(16);
  b.writeUInt16LE(AF_INET, 0);
  b.writeUInt16BE(port, 2);
  addressBytes(address).copy(b, 4);
  return b;
}

/** One non-blocking IPv4 socket. `icmp` and `sctp` are raw sockets: what is sent is the message, what is received begins with the IP header. */
export class ProbeSocket {
  private open = true;

  private constructor(
    readonly fd: number,
    private readonly where: string,
  ) {}

  static open(ns: Netns, kind: SocketKind, o: SocketOptions = {}): ProbeSocket {
    const [type, protocol] = ({ icmp: [SOCK_RAW, IPPROTO_ICMP], sctp: [SOCK_RAW, IPPROTO_SCTP], tcp: [SOCK_STREAM, 0], udp: [SOCK_DGRAM, 0] } as const)[kind];
    const fd = ns.run(() => check(c.socket(AF_INET, type | SOCK_NONBLOCK_CLOEXEC, protocol), `open a socket for ${kind}`, ns.label));
    const s = new ProbeSocket(fd, ns.label);
    try {
      if (o.ttl !== undefined) setIntOption(fd, IPPROTO_IP, IP_TTL, o.ttl, 'set the TTL');
      // IP_PMTUDISC_PROBE sets DF and ignores what the path MTU cache believes; IP_PMTUDISC_DONT leaves DF unset.
      if (o.dontFragment !== undefined) setIntOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, o.dontFragment ? 3 : 0, 'set path MTU discovery');
      if (o.device !== undefined) {
        const name = Buffer.from(`${o.device}\0`);
        check(c.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length), `bind to device ${o.device}`, ns.label);
      }
      if (o.source !== undefined || o.sourcePort !== undefined) {
        check(c.bind(fd, sockaddr(o.source ?? '0.0.0.0', o.sourcePort ?? 0), 16), `bind to ${o.source ?? '*'}:${o.sourcePort ?? 0}`, ns.label);
      }
    } catch (e) {
      s.close();
      throw e;
    }
    return s;
  }

  /** Fixes the peer. For TCP this starts the handshake. The answer is an errno name when the kernel refused at once (ENETUNREACH). */
  connect(address: string, port: number): string | undefined {
    if (c.connect(this.fd, sockaddr(address, port), 16) === 0) return undefined;
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
    const b = Buffer.alloc(16);
    const length = Buffer.from([16, 0, 0, 0]);
    if (c.getsockname(this.fd, b, length) < 0) {
      throw new PodwayError('SYSCALL_FAILED', 'read the address of a socket', { object: this.where, said: errnoText(lastErrno()) });
    }
    return { address: [...b.subarray(4, 8)].join('.'), port: b.readUInt16BE(2) };
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
