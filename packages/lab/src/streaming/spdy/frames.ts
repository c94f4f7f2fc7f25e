/**
 * SPDY/3.1 frames: bytes to frames and back. Pure; header blocks stay compressed here (headers.ts).
 * Source: draft-mbelshe-httpbis-spdy-00 with WINDOW_UPDATE for the session (3.1).
 *
 *   control  1 version(15)  type(16)   flags(8) length(24)   payload
 *   data     0 stream(31)              flags(8) length(24)   bytes
 */
import { PodwayError } from '@podway/errors';

export const VERSION = 3;
/** Control frames are headers and numbers: a longer one is no honest one. */
export const LARGEST_CONTROL = 64 * 1024;

export const FLAG_FIN = 1;
export const FLAG_UNIDIRECTIONAL = 2;

export type Frame =
  /** A data frame comes in as many pieces as its bytes did; `fin` is with the last. */
  | { readonly type: 'data'; readonly stream: number; readonly fin: boolean; readonly data: Buffer }
  | { readonly type: 'syn-stream'; readonly stream: number; readonly associated: number; readonly priority: number; readonly fin: boolean; readonly unidirectional: boolean; readonly block: Buffer }
  | { readonly type: 'syn-reply' | 'headers'; readonly stream: number; readonly fin: boolean; readonly block: Buffer }
  | { readonly type: 'rst-stream'; readonly stream: number; readonly status: number }
  | { readonly type: 'settings'; readonly entries: readonly { readonly id: number; readonly flags: number; readonly value: number }[] }
  | { readonly type: 'ping'; readonly id: number }
  | { readonly type: 'goaway'; readonly last: number; readonly status: number }
  | { readonly type: 'window-update'; readonly stream: number; readonly delta: number }
  /** Frames of later versions must be passed over. */
  | { readonly type: 'unknown'; readonly kind: number };

const KIND = { 'syn-stream': 1, 'syn-reply': 2, 'rst-stream': 3, settings: 4, ping: 6, goaway: 7, headers: 8, 'window-update': 9 } as const;

/** RST_STREAM and GOAWAY statuses. */
export const STATUS = { protocolError: 1, invalidStream: 2, refusedStream: 3, cancel: 5, internalError: 6, flowControlError: 7 } as const;

const STREAM_MASK = 0x7fffffff;

export const spdyError = (why: string): PodwayError => new PodwayError('SPDY_PROTOCOL', `not SPDY/3.1: ${why}`);

export function encodeFrame(f: Exclude<Frame, { type: 'unknown' }>): Buffer {
  if (f.type === 'data') {
    const head = Buffer.alloc(8);
    head.writeUInt32BE(f.stream & STREAM_MASK, 0);
    head.writeUInt32BE(f.data.length, 4);
    head[4] = f.fin ? FLAG_FIN : 0;
    return f.data.length === 0 ? head : Buffer.concat([head, f.data]);
  }
  const { flags, payload } = controlPayload(f);
  const head = Buffer.alloc(8);
  head.writeUInt16BE(0x8000 | VERSION, 0);
  head.writeUInt16BE(KIND[f.type], 2);
  head.writeUInt32BE(payload.length, 4);
  head[4] = flags;
  return Buffer.concat([head, payload]);
}

function words(...values: number[]): Buffer {
  const b = Buffer.alloc(values.length * 4);
  values.forEach((v, i) => b.writeUInt32BE(v >>> 0, i * 4));
  return b;
}

function controlPayload(f: Exclude<Frame, { type: 'unknown' | 'data' }>): { flags: number; payload: Buffer } {
  switch (f.type) {
    case 'syn-stream':
      return {
        flags: (f.fin ? FLAG_FIN : 0) | (f.unidirectional ? FLAG_UNIDIRECTIONAL : 0),
        payload: Buffer.concat([words(f.stream, f.associated), Buffer.from([f.priority << 5, 0]), f.block]),
      };
    case 'syn-reply':
    case 'headers':
      return { flags: f.fin ? FLAG_FIN : 0, payload: Buffer.concat([words(f.stream), f.block]) };
    case 'rst-stream': return { flags: 0, payload: words(f.stream, f.status) };
    case 'settings': return { flags: 0, payload: Buffer.concat([words(f.entries.length), ...f.entries.map((e) => words((e.flags << 24) | e.id, e.value))]) };
    case 'ping': return { flags: 0, payload: words(f.id) };
    case 'goaway': return { flags: 0, payload: words(f.last, f.status) };
    case 'window-update': return { flags: 0, payload: words(f.stream, f.delta) };
  }
}

function decodeControl(kind: number, flags: number, p: Buffer): Frame {
  const fin = (flags & FLAG_FIN) !== 0;
  const need = (bytes: number): void => {
    if (p.length < bytes) throw spdyError(`a frame of type ${kind} has ${p.length} bytes, at least ${bytes} are needed`);
  };
  const id = (at: number): number => p.readUInt32BE(at) & STREAM_MASK;
  switch (kind) {
    case KIND['syn-stream']:
      need(10);
      return { type: 'syn-stream', stream: id(0), associated: id(4), priority: (p[8] ?? 0) >> 5, fin, unidirectional: (flags & FLAG_UNIDIRECTIONAL) !== 0, block: p.subarray(10) };
    case KIND['syn-reply']:
    case KIND.headers:
      need(4);
      return { type: kind === KIND.headers ? 'headers' : 'syn-reply', stream: id(0), fin, block: p.subarray(4) };
    case KIND['rst-stream']:
      need(8);
      return { type: 'rst-stream', stream: id(0), status: p.readUInt32BE(4) };
    case KIND.settings: {
      need(4);
      const n = p.readUInt32BE(0);
      need(4 + n * 8);
      return { type: 'settings', entries: Array.from({ length: n }, (_, i) => ({ id: p.readUInt32BE(4 + i * 8) & 0xffffff, flags: p[4 + i * 8] ?? 0, value: p.readUInt32BE(8 + i * 8) })) };
    }
    case KIND.ping:
      need(4);
      return { type: 'ping', id: p.readUInt32BE(0) };
    case KIND.goaway:
      need(4);
      return { type: 'goaway', last: id(0), status: p.length < 8 ? 0 : p.readUInt32BE(4) };
    case KIND['window-update']:
      need(8);
      return { type: 'window-update', stream: id(0), delta: id(4) };
    default:
      return { type: 'unknown', kind };
  }
}

/** Takes bytes as they come. Holds at most one control frame; bytes of data frames are passed on at once. */
export class FrameParser {
  private held: Buffer = Buffer.alloc(0);
  /** Inside a data frame: what is still to come. */
  private open: { readonly stream: number; readonly fin: boolean; left: number } | undefined;

  /** @throws SPDY_PROTOCOL; nothing can be read after that. */
  push(chunk: Buffer): Frame[] {
    const frames: Frame[] = [];
    let rest = this.held.length === 0 ? chunk : Buffer.concat([this.held, chunk]);
    for (;;) {
      if (this.open) {
        const data = rest.subarray(0, this.open.left);
        if (data.length === 0 && this.open.left > 0) break;
        rest = rest.subarray(data.length);
        this.open.left -= data.length;
        const last = this.open.left === 0;
        frames.push({ type: 'data', stream: this.open.stream, fin: last && this.open.fin, data });
        if (last) this.open = undefined;
        continue;
      }
      if (rest.length < 8) break;
      const first = rest.readUInt32BE(0);
      const flags = rest[4] ?? 0;
      const length = rest.readUInt32BE(4) & 0xffffff;
      if (first >>> 31 === 0) {
        this.open = { stream: first, fin: (flags & FLAG_FIN) !== 0, left: length };
        rest = rest.subarray(8);
        continue;
      }
      const version = (first >>> 16) & 0x7fff;
      if (version !== VERSION) throw spdyError(`version ${version}`);
      if (length > LARGEST_CONTROL) throw spdyError(`a control frame of ${length} bytes`);
      if (rest.length < 8 + length) break;
      frames.push(decodeControl(first & 0xffff, flags, rest.subarray(8, 8 + length)));
      rest = rest.subarray(8 + length);
    }
    this.held = Buffer.from(rest);
    return frames;
  }
}
