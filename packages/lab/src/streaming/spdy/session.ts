/**
 * A SPDY/3.1 connection of the accepting side: streams that the other side opens, over any duplex.
 *
 * Flow control. What we take is announced by WINDOW_UPDATE. Whether the other side keeps to windows
 * shows when it speaks of them (SETTINGS, WINDOW_UPDATE): from then on we keep to its. kubectl does
 * neither, so there the transport holds back: while one stream's bytes are not taken the connection is not
 * read, and while the connection takes no more no stream is read. Memory: READ_AHEAD per stream, and no more than
 * STREAMS of them.
 *
 * A connection that is not read does not show that its other end died: a PING goes out regularly, and a
 * dead end's kernel answers it with a reset.
 */
import { Duplex } from 'node:stream';
import { encodeFrame, FrameParser, STATUS, spdyError, type Frame } from './frames.js';
import { HeaderCodec, type Headers } from './headers.js';

const READ_AHEAD = 256 * 1024;
const LARGEST_DATA = 32 * 1024;
const DEFAULT_WINDOW = 64 * 1024;
const LARGEST_WINDOW = 0x7fffffff;
const SETTINGS_INITIAL_WINDOW = 7;
/** Open at the same time. */
const STREAMS = 1024;
const PING_INTERVAL = 5_000;
/** For the last words to one who broke the protocol. */
const GOODBYE_PATIENCE = 500;

export class SpdyStream extends Duplex {
  window: number;
  /** Wakes a write that waits for the window. */
  private opened: (() => void) | undefined;
  private taken: (() => void) | undefined;
  /** Taken by the reader and not yet announced. */
  private credit = 0;
  ended = false;
  reset = false;

  constructor(private readonly session: SpdySession, readonly id: number, readonly headers: Headers, window: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD, writableHighWaterMark: LARGEST_DATA });
    this.window = window;
    this.on('error', () => undefined); // told by 'close'
  }

  /** Resolves when more may come. */
  arrive(data: Buffer): Promise<void> | undefined {
    if (data.length === 0 || this.ended || this.destroyed) return undefined;
    this.credit += data.length;
    if (this.push(data)) return undefined;
    return new Promise((resolve) => (this.taken = resolve));
  }

  finish(): void {
    if (this.ended) return;
    this.ended = true;
    if (!this.destroyed) this.push(null);
  }

  /** @throws SPDY_PROTOCOL for a window beyond what the format can say. */
  widen(by: number): void {
    this.window += by;
    if (this.window > LARGEST_WINDOW) throw spdyError('a window of more than 2^31 - 1 bytes');
    if (this.window > 0) this.opened?.();
  }

  override _read(): void {
    this.taken?.();
    this.taken = undefined;
    if (this.credit === 0) return;
    const delta = this.credit;
    this.credit = 0;
    if (!this.ended) void this.session.send({ type: 'window-update', stream: this.id, delta });
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (e?: Error | null) => void): void {
    this.sendAll(chunk).then(() => done(), done);
  }

  private async sendAll(chunk: Buffer): Promise<void> {
    for (let at = 0; at < chunk.length; ) {
      while (this.session.windows && this.window <= 0) await new Promise<void>((resolve) => (this.opened = resolve));
      if (this.destroyed) throw spdyError('the stream was reset');
      const room = this.session.windows ? this.window : Infinity;
      const data = chunk.subarray(at, at + Math.min(LARGEST_DATA, room));
      this.window -= data.length;
      at += data.length;
      await this.session.send({ type: 'data', stream: this.id, fin: false, data });
    }
  }

  override _final(done: (e?: Error | null) => void): void {
    this.session.send({ type: 'data', stream: this.id, fin: true, data: Buffer.alloc(0) }).then(() => done(), done);
  }

  override _destroy(e: Error | null, done: (e?: Error | null) => void): void {
    this.taken?.();
    this.opened?.();
    if (!this.reset && !(this.ended && this.writableFinished)) void this.session.send({ type: 'rst-stream', stream: this.id, status: STATUS.cancel });
    this.session.forget(this);
    done(e);
  }
}

export interface SessionOptions {
  /** A new stream, already answered. Whoever gets it must read it or destroy it. */
  onStream(stream: SpdyStream): void;
  readonly pingInterval?: number;
}

export class SpdySession {
  /** Settles when the connection has ended, for whatever reason. Never rejects. */
  readonly closed: Promise<void>;
  /** The other side keeps to windows. */
  windows = false;
  private readonly streams = new Map<number, SpdyStream>();
  private readonly codec = new HeaderCodec();
  private lastStream = 0;
  private initialWindow = DEFAULT_WINDOW;
  private leaving = false;
  private pings = 0;
  private room: Promise<void> | undefined;

  constructor(private readonly socket: Duplex, private readonly options: SessionOptions) {
    socket.on('error', () => undefined); // 'close' follows
    const timer = setInterval(() => void this.send({ type: 'ping', id: (this.pings += 2) }), options.pingInterval ?? PING_INTERVAL);
    this.closed = new Promise<void>((resolve) => socket.once('close', () => resolve())).then(() => {
      clearInterval(timer);
      this.codec.close();
      for (const s of [...this.streams.values()]) {
        s.reset = true;
        s.destroy();
      }
    });
    void this.read();
  }

  private async read(): Promise<void> {
    const parser = new FrameParser();
    try {
      for await (const chunk of this.socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        for (const frame of parser.push(chunk)) await this.handle(frame);
      }
      this.socket.end(); // the other side has said all
    } catch {
      if (this.socket.destroyed) return;
      void this.send({ type: 'goaway', last: this.lastStream, status: 1 });
      this.socket.end();
      setTimeout(() => this.socket.destroy(), GOODBYE_PATIENCE).unref();
    }
  }

  private async handle(f: Frame): Promise<void> {
    switch (f.type) {
      case 'syn-stream':
        await this.open(f);
        return;
      case 'data': {
        const s = this.streams.get(f.stream);
        if (!s) {
          if (f.stream > this.lastStream) throw spdyError(`data for stream ${f.stream}, which was never opened`);
          return; // it was closed here meanwhile
        }
        await s.arrive(f.data);
        if (f.fin) s.finish();
        return;
      }
      case 'syn-reply':
      case 'headers':
        await this.codec.decompress(f.block); // every block counts for those after it
        if (f.fin) this.streams.get(f.stream)?.finish();
        return;
      case 'rst-stream': {
        const s = this.streams.get(f.stream);
        if (s) {
          s.reset = true;
          s.destroy();
        }
        return;
      }
      case 'settings': {
        const wanted = f.entries.find((e) => e.id === SETTINGS_INITIAL_WINDOW);
        if (!wanted) return;
        this.windows = true;
        const by = wanted.value - this.initialWindow;
        this.initialWindow = wanted.value;
        for (const s of this.streams.values()) s.widen(by);
        return;
      }
      case 'window-update':
        this.windows = true;
        this.streams.get(f.stream)?.widen(f.delta);
        return;
      case 'ping':
        if (f.id % 2 === 1) await this.send(f); // even: the answer to ours
        return;
      case 'goaway':
        this.leaving = true;
        return;
      case 'unknown':
    }
  }

  private async open(f: Extract<Frame, { type: 'syn-stream' }>): Promise<void> {
    const headers = await this.codec.decompress(f.block);
    if (f.stream % 2 === 0 || f.stream <= this.lastStream) throw spdyError(`stream ${f.stream} after ${this.lastStream}`);
    this.lastStream = f.stream;
    if (this.streams.size >= STREAMS || this.leaving) {
      await this.send({ type: 'rst-stream', stream: f.stream, status: STATUS.refusedStream });
      return;
    }
    const stream = new SpdyStream(this, f.stream, headers, this.initialWindow);
    this.streams.set(f.stream, stream);
    await this.send({ type: 'syn-reply', stream: f.stream, fin: false, block: await this.codec.compress({}) });
    if (f.unidirectional) stream.end();
    this.options.onStream(stream);
    if (f.fin) stream.finish();
  }

  forget(s: SpdyStream): void {
    if (this.streams.get(s.id) === s) this.streams.delete(s.id);
  }

  /** Resolves when the connection has room again. Sending to a connection that ended is done at once. */
  async send(f: Parameters<typeof encodeFrame>[0]): Promise<void> {
    if (this.socket.destroyed || this.socket.writableEnded) return;
    if (this.socket.write(encodeFrame(f))) return;
    this.room ??= new Promise<void>((resolve) => {
      const done = (): void => {
        this.socket.off('drain', done).off('close', done);
        this.room = undefined;
        resolve();
      };
      this.socket.on('drain', done).on('close', done);
    });
    await this.room;
  }

  /**
   * All is said: the connection ends when the other side ends it, or after `patience` ms. To end it at once
   * would take from old clients what they have not read yet.
   */
  async leave(patience: number): Promise<void> {
    const timer = setTimeout(() => this.socket.destroy(), patience);
    await this.closed;
    clearTimeout(timer);
  }

  destroy(): void {
    this.socket.destroy();
  }
}
