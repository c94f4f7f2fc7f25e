/**
 * One netlink socket: open in a namespace, send requests, receive answers.
 *
 * rtnetlink and its relatives answer within the system call that sent the request, so everything
 * here is synchronous: about 25 µs for a request with its answer. A batch puts many requests into
 * one send and asks for an acknowledgement of the last only; the kernel goes on after a request it
 * refuses and answers each refusal with that request's sequence number.
 *
 * Source: netlink(7), RFC 3549, linux/netlink.h.
 */
import { PodwayError, isPodwayError } from '@podway/errors';
import { c, check, errnoName, errnoText, lastErrno, sendAsync, setIntOption } from '../libc.js';
import type { Netns } from '../netns.js';
import { eachAttribute, Writer } from './codec.js';

export const NETLINK_ROUTE = 0;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLM_F_MULTI = 0x2;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const HEADER = 16;

/** How many requests go into one send: keeps all possible refusals within the receive buffer. */
const BATCH_MESSAGES = 1024;
const BATCH_BYTES = 512 * 1024;
const RECEIVE_BUFFER = 8 * 1024 * 1024;
const ANSWER_TIMEOUT_S = 5;
const DUMP_TRIES = 10;

/** A request, not yet numbered. */
export interface Request {
  /** RTM_NEWLINK and so on. */
  readonly type: number;
  /** NLM_F_* besides REQUEST and ACK. */
  readonly flags: number;
  /** Writes the fixed header and the attributes. */
  body(w: Writer): void;
  /** For messages: what is asked, and of which object: `add route 10.0.0.0/24 via …`. Only asked for when it is told. */
  readonly doing: string;
}

/** One answer: `start`..`end` is the payload behind the netlink header, in `buffer`. */
export interface Answer {
  readonly type: number;
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

export interface Refusal {
  /** Index of the request in the batch. */
  readonly index: number;
  readonly error: PodwayError;
}

interface Batch {
  readonly first: number;
  /** The index behind the last request of this send. */
  readonly next: number;
  readonly firstSequence: number;
  /** Of the last one that could be written: its answer ends the batch. */
  readonly lastSequence: number;
  /** False when none of them could be written. */
  readonly written: boolean;
}

export class NetlinkSocket {
  private sequence = (Date.now() & 0x7fffffff) >>> 0;
  private readonly receiveBuffer = Buffer.allocUnsafeSlow(256 * 1024);
  private readonly writer = new Writer(64 * 1024);
  private open = true;

  private constructor(
    readonly fd: number,
    private readonly where: string,
  ) {}

  /** @param groups multicast group numbers (RTNLGRP_*) to listen to. */
  static open(ns: Netns, protocol = NETLINK_ROUTE, groups: readonly number[] = []): NetlinkSocket {
    const fd = ns.run(() => check(c.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol), 'open a netlink socket', ns.label));
    try {
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK, 0);
      check(c.bind(fd, address, address.length), 'bind a netlink socket', ns.label);
      // The forced sizes need CAP_NET_ADMIN; without it the defaults serve for reading.
      const size = Buffer.alloc(4);
      size.writeInt32LE(RECEIVE_BUFFER);
      c.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, 4);
      c.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, 4);
      const time = Buffer.alloc(16);
      time.writeBigInt64LE(BigInt(ANSWER_TIMEOUT_S), 0);
      check(c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, time, 16), 'set the netlink time-out');
      setIntOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1, 'ask for extended acknowledgements');
      setIntOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1, 'ask for short acknowledgements');
      setIntOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1, 'ask for strict checking');
      for (const group of groups) setIntOption(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group, `join netlink group ${group}`);
    } catch (e) {
      c.close(fd);
      throw e;
    }
    return new NetlinkSocket(fd, ns.label);
  }

  close(): void {
    if (this.open) c.close(this.fd);
    this.open = false;
  }

  /** Sends one request and waits for its acknowledgement. Answers other than the ACK are returned. */
  request(r: Request): Answer[] {
    this.writer.truncate(0);
    const sequence = this.write(r, NLM_F_ACK);
    this.send(() => r.doing);
    const answers: Answer[] = [];
    for (;;) {
      for (const m of this.receive(() => r.doing)) {
        if (m.sequence !== sequence) continue;
        if (m.type === NLMSG_ERROR) {
          const error = this.errorOf(m, () => r.doing);
          if (error) throw error;
          return answers;
        }
        answers.push({ type: m.type, buffer: Buffer.from(m.buffer.subarray(m.start, m.end)), start: 0, end: m.end - m.start });
      }
    }
  }

  /**
   * Sends all, in order, in as few sends as possible. A refusal does not stop those after it.
   * @returns the refusals, each with the index of its request; empty when all was done.
   */
  batch(requests: readonly Request[]): Refusal[] {
    const refusals: Refusal[] = [];
    for (let next = 0; next < requests.length; ) {
      const batch = this.compose(requests, next, refusals);
      if (batch.written) {
        this.send(() => `${batch.next - next} requests`);
        this.collect(requests, batch, refusals);
      }
      next = batch.next;
    }
    return refusals.sort((a, b) => a.index - b.index);
  }

  /**
   * As `batch`, with the send on a worker thread: for requests in which the kernel waits long (the
   * removal of a device). Nothing else may be asked of this socket until the promise settles.
   */
  async batchInThread(requests: readonly Request[]): Promise<Refusal[]> {
    const refusals: Refusal[] = [];
    for (let next = 0; next < requests.length; ) {
      const batch = this.compose(requests, next, refusals);
      if (batch.written) {
        if (!this.open) throw new PodwayError('NETLINK_CLOSED', 'the netlink socket was closed', { object: this.where });
        if ((await sendAsync(this.fd, this.writer.buffer, this.writer.length)) < 0) {
          throw new PodwayError('NETLINK_FAILED', `send to netlink: ${batch.next - next} requests`, { object: this.where });
        }
        this.collect(requests, batch, refusals);
      }
      next = batch.next;
    }
    return refusals.sort((a, b) => a.index - b.index);
  }

  /** As many of the requests from `first` on as go into one send, written; the last asks for an acknowledgement. */
  private compose(requests: readonly Request[], first: number, refusals: Refusal[]): Batch {
    const w = this.writer;
    w.truncate(0);
    const firstSequence = (this.sequence + 1) >>> 0;
    let next = first;
    let last = -1;
    let lastSequence = 0;
    while (next < requests.length && next - first < BATCH_MESSAGES && w.length < BATCH_BYTES) {
      const at = w.length;
      try {
        lastSequence = this.write(requests[next]!, 0);
        last = at;
      } catch (e) {
        // What cannot be written (an address that is none) is refused like what the kernel will not have. Its number is spent.
        w.truncate(at);
        refusals.push({ index: next, error: isPodwayError(e) ? e : new PodwayError('NETLINK_FAILED', requests[next]!.doing, { object: this.where, cause: e }) });
      }
      next++;
    }
    if (last >= 0) w.view.setUint16(last + 6, w.view.getUint16(last + 6, true) | NLM_F_ACK, true);
    return { first, next, firstSequence, lastSequence, written: last >= 0 };
  }

  private collect(requests: readonly Request[], batch: Batch, refusals: Refusal[]): void {
    const { first, next, firstSequence, lastSequence } = batch;
    for (let done = false; !done; ) {
      for (const m of this.receive(() => requests[next - 1]!.doing)) {
        const index = first + ((m.sequence - firstSequence) >>> 0);
        if (m.type !== NLMSG_ERROR || index < first || index >= next) continue;
        const error = this.errorOf(m, () => requests[index]!.doing);
        if (error) refusals.push({ index, error });
        if (m.sequence === lastSequence) done = true;
      }
    }
  }

  /**
   * A dump: all answers of a multipart reply. When objects changed meanwhile the kernel marks the
   * dump as interrupted; it is then asked again, since entries may be missing or doubled.
   * @throws NETLINK_DUMP_INTERRUPTED after ten tries.
   */
  dump<T>(r: Request, decode: (a: Answer) => T | undefined): T[] {
    for (let attempt = 1; attempt <= DUMP_TRIES; attempt++) {
      const found = this.dumpOnce(r, decode);
      if (found) return found;
    }
    throw new PodwayError('NETLINK_DUMP_INTERRUPTED', `${r.doing}: objects kept changing while they were listed`, {
      object: this.where, errno: 'EINTR', hint: 'Try again when the namespace is calmer.',
    });
  }

  private dumpOnce<T>(r: Request, decode: (a: Answer) => T | undefined): T[] | undefined {
    this.writer.truncate(0);
    const sequence = this.write(r, NLM_F_DUMP);
    this.send(() => r.doing);
    const found: T[] = [];
    let interrupted = false;
    for (;;) {
      for (const m of this.receive(() => r.doing)) {
        if (m.sequence !== sequence) continue;
        if (m.flags & NLM_F_DUMP_INTR) interrupted = true;
        if (m.type === NLMSG_ERROR || m.type === NLMSG_DONE) {
          const error = this.errorOf(m, () => r.doing);
          if (error) throw error;
          return interrupted ? undefined : found;
        }
        const value = decode(m);
        if (value !== undefined) found.push(value);
        if (!(m.flags & NLM_F_MULTI)) return interrupted ? undefined : found;
      }
    }
  }

  /** Notifications that are waiting, without blocking. For sockets opened with groups. `lost` when the buffer overran. */
  drain(): { answers: Answer[]; lost: boolean } {
    const answers: Answer[] = [];
    let lost = false;
    for (;;) {
      const size = c.recv(this.fd, this.receiveBuffer, this.receiveBuffer.length, MSG_DONTWAIT | MSG_TRUNC);
      if (size < 0) {
        const name = errnoName(lastErrno());
        if (name === 'ENOBUFS') {
          lost = true;
          continue;
        }
        if (name === 'EAGAIN') return { answers, lost };
        throw new PodwayError('NETLINK_FAILED', 'read notifications', { object: this.where, errno: name });
      }
      if (size > this.receiveBuffer.length) lost = true;
      for (const m of split(Buffer.from(this.receiveBuffer.subarray(0, Math.min(size, this.receiveBuffer.length))))) answers.push(m);
    }
  }

  private write(r: Request, flags: number): number {
    const w = this.writer;
    const sequence = (this.sequence = (this.sequence + 1) >>> 0);
    const at = w.reserve(HEADER);
    r.body(w);
    w.align();
    const d = w.view;
    d.setUint32(at, w.length - at, true);
    d.setUint32(at + 4, r.type | ((NLM_F_REQUEST | r.flags | flags) << 16), true);
    d.setUint32(at + 8, sequence, true);
    return sequence;
  }

  private send(doing: () => string): void {
    if (!this.open) throw new PodwayError('NETLINK_CLOSED', `${doing()}: the netlink socket was closed`, { object: this.where });
    const sent = c.send(this.fd, this.writer.buffer, this.writer.length, 0);
    if (sent < 0) check(sent, `send to netlink: ${doing()}`, this.where);
  }

  private receive(doing: () => string): Message[] {
    const size = c.recv(this.fd, this.receiveBuffer, this.receiveBuffer.length, MSG_TRUNC);
    if (size < 0) {
      const name = errnoName(lastErrno());
      if (name === 'EINTR') return [];
      throw new PodwayError(name === 'EAGAIN' ? 'NETLINK_TIMEOUT' : 'NETLINK_FAILED', doing(), {
        object: this.where, errno: name,
        said: name === 'EAGAIN' ? `the kernel did not answer within ${ANSWER_TIMEOUT_S} s` : errnoText(lastErrno()),
      });
    }
    if (size > this.receiveBuffer.length) {
      throw new PodwayError('NETLINK_FAILED', doing(), { object: this.where, said: `an answer of ${size} bytes does not fit` });
    }
    return split(this.receiveBuffer.subarray(0, size));
  }

  /** The error in an ERROR or DONE message, or undefined for success. */
  private errorOf(m: Message, doing: () => string): PodwayError | undefined {
    const code = m.end - m.start >= 4 ? m.buffer.readInt32LE(m.start) : -22;
    if (code === 0) return undefined;
    if (m.type === NLMSG_DONE && code > 0) return undefined;
    const said = extendedAck(m);
    const name = errnoName(code);
    return new PodwayError('NETLINK_REFUSED', `cannot ${doing()}`, {
      object: this.where,
      errno: name,
      said: said ?? errnoText(code),
      ...(name === 'EPERM' ? { hint: 'This needs root (CAP_NET_ADMIN in that namespace).' } : {}),
      ...(name === 'ENOTSUP' || name === 'EOPNOTSUPP' ? { hint: 'This kernel may lack the module for that kind of object.' } : {}),
    });
  }
}

interface Message extends Answer {
  readonly flags: number;
  readonly sequence: number;
}

function split(b: Buffer): Message[] {
  const messages: Message[] = [];
  let at = 0;
  while (at + HEADER <= b.length) {
    const length = b.readUInt32LE(at);
    if (length < HEADER || at + length > b.length) break;
    const type = b.readUInt16LE(at + 4);
    if (type !== NLMSG_OVERRUN) {
      messages.push({ type, flags: b.readUInt16LE(at + 6), sequence: b.readUInt32LE(at + 8), buffer: b, start: at + HEADER, end: at + length });
    }
    at += (length + 3) & ~3;
  }
  return messages;
}

const NLMSGERR_ATTR_MSG = 1;

/** The kernel's own sentence, where it has one. The request's header (16 bytes) stands between code and text. */
function extendedAck(m: Message): string | undefined {
  if (!(m.flags & NLM_F_ACK_TLVS)) return undefined;
  let at = m.start + 4;
  if (m.type === NLMSG_ERROR) {
    if (at + HEADER > m.end) return undefined;
    at += m.flags & NLM_F_CAPPED ? HEADER : (m.buffer.readUInt32LE(at) + 3) & ~3;
  }
  for (const a of eachAttribute(m.buffer, at, m.end)) {
    if (a.number === NLMSGERR_ATTR_MSG) return m.buffer.toString('utf8', a.start, a.end).replace(/\0.*$/s, '');
  }
  return undefined;
}
