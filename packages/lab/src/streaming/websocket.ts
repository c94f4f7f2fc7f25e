/**
 * Channels in one WebSocket: the first byte of each message is its channel. v5 adds the half close of a
 * channel: channel 255 and its number.
 * Source: k8s.io/apimachinery/pkg/util/remotecommand, k8s.io/apiserver/pkg/endpoints/.../wsstream.
 *
 * Back-pressure: the socket is paused while a channel's bytes are not taken. Memory: READ_AHEAD per channel and the
 * message in hand (at most LARGEST_MESSAGE).
 */
import { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

const READ_AHEAD = 256 * 1024;
export const LARGEST_MESSAGE = 16 * 1024 * 1024;
const CLOSE = 255;
const PING_INTERVAL = 5_000;

class Channel extends Duplex {
  private full: boolean = false;

  constructor(private readonly owner: ChannelSocket, private readonly ws: WebSocket, private readonly number: number) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_AHEAD });
    this.on('error', () => undefined); // told by 'close'
  }

  arrive(data: Buffer): void {
    if (this.destroyed || this.readableEnded || data.length === 0) return;
    if (this.push(data) || this.full) return;
    this.full = true;
    this.owner.hold(1);
  }

  override _read(): void {
    if (!this.full) return;
    this.full = false;
    this.owner.hold(-1);
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (e?: Error | null) => void): void {
    this.ws.send(Buffer.concat([Buffer.from([this.number]), chunk]), done);
  }

  override _destroy(e: Error | null, done: (e?: Error | null) => void): void {
    this._read();
    done(e);
  }
}

export class ChannelSocket {
  /** Never rejects. */
  readonly closed: Promise<void>;
  private readonly channels = new Map<number, Channel>();
  private held = 0;

  constructor(private readonly ws: WebSocket, pingInterval = PING_INTERVAL) {
    const timer = setInterval(() => {
      if (ws.readyState === ws.OPEN) ws.ping();
    }, pingInterval);
    this.closed = new Promise<void>((resolve) => ws.once('close', () => resolve())).then(() => {
      clearInterval(timer);
      for (const c of this.channels.values()) {
        if (!c.readableEnded) c.push(null);
        c.destroy();
      }
    });
    ws.on('error', () => undefined); // 'close' follows
    ws.on('message', (message: Buffer) => {
      const number = message[0];
      if (number === CLOSE) this.channels.get(message[1] ?? CLOSE)?.push(null);
      else if (number !== undefined) this.channels.get(number)?.arrive(message.subarray(1));
    });
  }

  channel(number: number): Duplex {
    const c = new Channel(this, this.ws, number);
    this.channels.set(number, c);
    return c;
  }

  hold(by: number): void {
    this.held += by;
    if (this.ws.readyState !== this.ws.OPEN) return;
    if (this.held > 0) this.ws.pause();
    else this.ws.resume();
  }

  /** An empty message: the client learns that the channel is there. */
  greet(number: number): void {
    this.ws.send(Buffer.from([number]));
  }

  async close(): Promise<void> {
    if (this.ws.readyState === this.ws.OPEN) {
      this.held = 0;
      this.ws.resume(); // the answer to the closing must be read
      for (const c of this.channels.values()) c.resume();
      this.ws.close(1000);
    }
    await this.closed;
  }
}
