/**
 * A netlink socket whose other end is the test: answers are laid ready before the request is made,
 * bearing the sequence number the request will have. One end of a socket pair stands in for the
 * kernel's socket, so the very code that reads from the kernel reads them.
 */
import koffi from 'koffi';
import { NetlinkSocket } from '../src/index.js';
import { c } from '../src/libc.js';

const libc = koffi.load('libc.so.6');
const socketpair = libc.func('int socketpair(int domain, int type, int protocol, void *fds)') as unknown as (d: number, t: number, p: number, fds: Uint8Array) => number;

export interface Message {
  readonly type: number;
  readonly flags?: number;
  /** Which request it answers: 1 is the next one. */
  readonly of?: number;
  readonly payload?: Uint8Array;
}
export const MULTI = 2;
export const INTERRUPTED = 0x10;
export const ERROR = 2;
export const DONE = 3;

export class FakeKernel {
  readonly socket: NetlinkSocket;
  private readonly far: number;

  constructor() {
    const fds = Buffer.alloc(8);
    const AF_UNIX = 1;
    const SOCK_SEQPACKET = 5;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) !== 0) throw new Error('socketpair');
    this.far = fds.readInt32LE(4);
    // A missing answer must fail the test, not stop it.
    const time = Buffer.alloc(16);
    time.writeBigInt64LE(2n, 0);
    for (const at of [0, 4]) c.setsockopt(fds.readInt32LE(at), 1, 20, time, 16);
    // Its constructor is private, for all but this.
    this.socket = Reflect.construct(NetlinkSocket, [fds.readInt32LE(0), 'fake netns']) as NetlinkSocket;
  }

  /** Lays one datagram of messages ready. */
  answer(...messages: readonly Message[]): void {
    const now = Reflect.get(this.socket, 'sequence') as number;
    this.raw(Buffer.concat(messages.map((m) => {
      const payload = Buffer.from(m.payload ?? Buffer.alloc(4));
      const b = Buffer.alloc((16 + payload.length + 3) & ~3);
      b.writeUInt32LE(16 + payload.length, 0);
      b.writeUInt16LE(m.type, 4);
      b.writeUInt16LE(m.flags ?? 0, 6);
      b.writeUInt32LE((now + (m.of ?? 1)) >>> 0, 8);
      payload.copy(b, 16);
      return b;
    })));
  }

  raw(bytes: Uint8Array): void {
    // The requests are not looked at, but they must not fill the pipe.
    const MSG_DONTWAIT = 0x40;
    const scratch = Buffer.alloc(4096);
    while (c.recv(this.far, scratch, scratch.length, MSG_DONTWAIT) > 0);
    if (bytes.length && c.send(this.far, bytes, bytes.length, 0) !== bytes.length) throw new Error('send');
  }

  close(): void {
    this.socket.close();
    c.close(this.far);
  }
}

export function withFakeKernel<T>(work: (k: FakeKernel) => T): T {
  const k = new FakeKernel();
  try {
    return work(k);
  } finally {
    k.close();
  }
}
