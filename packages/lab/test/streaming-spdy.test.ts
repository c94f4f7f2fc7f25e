/** SPDY/3.1: frames and header blocks by property, the session against a client made of the same frames. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { constants, createDeflate, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { isPodwayError } from '@podway/errors';
import { headerDictionary } from '../src/streaming/spdy/dictionary.js';
import { encodeFrame, FrameParser, LARGEST_CONTROL, type Frame } from '../src/streaming/spdy/frames.js';
import { decodePairs, encodePairs, HeaderCodec, LARGEST_HEADERS } from '../src/streaming/spdy/headers.js';
import { SpdySession, type SpdyStream } from '../src/streaming/spdy/session.js';
import { until } from './runtime-support.js';

type Sent = Exclude<Frame, { type: 'unknown' }>;

const id = fc.integer({ min: 1, max: 0x7fffffff });
const word = fc.integer({ min: 0, max: 0xffffffff });
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((a) => Buffer.from(a));
const rec = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> => fc.record<T>(model, { noNullPrototype: true });
const frame: fc.Arbitrary<Sent> = fc.oneof(
  rec({ type: fc.constant('data' as const), stream: id, fin: fc.boolean(), data: bytes(300) }),
  rec({ type: fc.constant('syn-stream' as const), stream: id, associated: id, priority: fc.integer({ min: 0, max: 7 }), fin: fc.boolean(), unidirectional: fc.boolean(), block: bytes(300) }),
  rec({ type: fc.constantFrom('syn-reply' as const, 'headers' as const), stream: id, fin: fc.boolean(), block: bytes(300) }),
  rec({ type: fc.constant('rst-stream' as const), stream: id, status: word }),
  rec({ type: fc.constant('settings' as const), entries: fc.array(rec({ id: fc.integer({ min: 0, max: 0xffffff }), flags: fc.integer({ min: 0, max: 255 }), value: word }), { maxLength: 8 }) }),
  rec({ type: fc.constant('ping' as const), id: word }),
  rec({ type: fc.constant('goaway' as const), last: id, status: word }),
  rec({ type: fc.constant('window-update' as const), stream: id, delta: id }),
);

/** Pieces of data frames put together again: how they were cut is not part of what was said. */
function joined(frames: readonly Frame[]): Frame[] {
  const out: Frame[] = [];
  let open: { stream: number; parts: Buffer[] } | undefined;
  for (const f of frames) {
    if (f.type !== 'data') {
      out.push(f);
      continue;
    }
    open ??= { stream: f.stream, parts: [] };
    open.parts.push(f.data);
    out.push({ ...f, data: Buffer.concat(open.parts) });
    open = undefined;
  }
  return out;
}

function inChunks(data: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((c) => c % (data.length + 1)))].sort((a, b) => a - b);
  return [...at, data.length].map((end, i) => data.subarray(at[i - 1] ?? 0, end));
}

const total = (frames: readonly Frame[], stream: number): Buffer => Buffer.concat(frames.flatMap((f) => (f.type === 'data' && f.stream === stream ? [f.data] : [])));

describe('SPDY frames', () => {
  it('are read as they were written, however they are cut', () => {
    fc.assert(fc.property(fc.array(frame, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 20 }), (frames, cuts) => {
      const all = Buffer.concat(frames.map(encodeFrame));
      const whole = new FrameParser().push(all);
      assert.deepEqual(joined(whole), frames);
      const parser = new FrameParser();
      const pieces = inChunks(all, cuts).flatMap((c) => parser.push(c));
      // Control frames are the same and in the same order; bytes of each stream too, and its end is said once.
      assert.deepEqual(pieces.filter((f) => f.type !== 'data'), frames.filter((f) => f.type !== 'data'));
      for (const stream of new Set(frames.flatMap((f) => (f.type === 'data' ? [f.stream] : [])))) {
        assert.deepEqual(total(pieces, stream), total(frames, stream));
        const ends = (list: readonly Frame[]): number => list.filter((f) => f.type === 'data' && f.stream === stream && f.fin).length;
        assert.equal(ends(pieces), ends(frames));
      }
    }));
  });

  it('made of anything are frames or an error, and hold no more than one control frame', () => {
    let refused = 0;
    const run = (input: Buffer, cuts: readonly number[]): void => {
      const parser = new FrameParser();
      try {
        for (const c of inChunks(input, cuts)) parser.push(c);
      } catch (e) {
        assert.ok(isPodwayError(e, 'SPDY_PROTOCOL'), String(e));
        refused++;
      }
      const { held } = parser as unknown as { held: Buffer };
      assert.ok(held.length <= LARGEST_CONTROL + 8);
    };
    fc.assert(fc.property(bytes(400), fc.array(fc.nat(), { maxLength: 8 }), run));
    // Bytes changed in what is right: that comes further.
    fc.assert(fc.property(fc.array(frame, { minLength: 1, maxLength: 4 }), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }), fc.array(fc.nat(), { maxLength: 4 }), (frames, changes, cuts) => {
      const input = Buffer.concat(frames.map(encodeFrame));
      for (const [at, value] of changes) input[at % input.length] = value;
      run(input, cuts);
    }), { numRuns: 500 });
    assert.ok(refused > 0);
  });

  it('of a length or version that nobody speaks are refused', () => {
    const long = Buffer.from([0x80, 3, 0, 1, 0, 1, 0, 1]);
    assert.throws(() => new FrameParser().push(long), (e) => isPodwayError(e, 'SPDY_PROTOCOL') && e.message.includes('65537 bytes'));
    assert.throws(() => new FrameParser().push(Buffer.from([0x80, 2, 0, 6, 0, 0, 0, 4])), (e) => isPodwayError(e, 'SPDY_PROTOCOL') && e.message.includes('version 2'));
    assert.throws(() => new FrameParser().push(Buffer.from([0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff])), (e) => isPodwayError(e, 'SPDY_PROTOCOL'));
  });
});

describe('SPDY header blocks', () => {
  const headers = fc.dictionary(fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/), fc.string({ maxLength: 40 }), { maxKeys: 8, noNullPrototype: true });

  it('have the dictionary of the specification', () => {
    // The checksum that every SPDY/3 stream begins with, after two bytes of zlib's own.
    const deflate = deflateSync(Buffer.from('x'), { dictionary: headerDictionary });
    assert.equal(deflate.subarray(2, 6).toString('hex'), 'e3c6a7c2');
    assert.equal(headerDictionary.length, 1423);
  });

  it('one after the other come out as they went in', async () => {
    await fc.assert(fc.asyncProperty(fc.array(headers, { minLength: 1, maxLength: 6 }), async (list) => {
      const codec = new HeaderCodec();
      for (const h of list) assert.deepEqual({ ...(await codec.decompress(await codec.compress(h))) }, { ...h });
      codec.close();
    }), { numRuns: 30 });
  });

  it('of any bytes are pairs or an error', async () => {
    fc.assert(fc.property(bytes(200), (b) => {
      try {
        decodePairs(b);
      } catch (e) {
        assert.ok(isPodwayError(e, 'SPDY_PROTOCOL'));
      }
    }));
    await fc.assert(fc.asyncProperty(bytes(200), async (b) => {
      const codec = new HeaderCodec();
      await codec.decompress(b).then((h) => assert.equal(typeof h, 'object'), (e: unknown) => assert.ok(isPodwayError(e, 'SPDY_PROTOCOL')));
      codec.close();
    }), { numRuns: 50 });
  });

  it('that unpack to more than anybody needs are refused before they are unpacked', async () => {
    const codec = new HeaderCodec();
    const bomb = deflateSync(Buffer.alloc(50 * 1024 * 1024), { dictionary: headerDictionary });
    assert.ok(bomb.length < LARGEST_HEADERS);
    await assert.rejects(codec.decompress(bomb), (e) => isPodwayError(e, 'SPDY_PROTOCOL') && e.message.includes('more than'));
  });
});

/** A client by hand: says what it is told to, and remembers what it hears. */
class Client {
  static readonly all = new Set<Client>();
  readonly heard: Frame[] = [];
  readonly taken: SpdyStream[] = [];
  private readonly deflate = createDeflate({ dictionary: headerDictionary, flush: constants.Z_SYNC_FLUSH });
  private constructor(readonly socket: net.Socket, readonly session: SpdySession, private readonly server: net.Server) {
    const parser = new FrameParser();
    socket.on('data', (d: Buffer) => this.heard.push(...parser.push(d))).on('error', () => undefined);
  }

  static async connect(pingInterval = 60_000): Promise<Client> {
    const taken: SpdyStream[] = [];
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
    const [far] = (await once(server, 'connection')) as [net.Socket];
    const client = new Client(socket, new SpdySession(far, { onStream: (s) => taken.push(s), pingInterval }), server);
    (client as { taken: SpdyStream[] }).taken = taken;
    Client.all.add(client);
    return client;
  }

  say(...frames: Sent[]): void {
    for (const f of frames) this.socket.write(encodeFrame(f));
  }

  async open(stream: number, headers: Record<string, string> = {}): Promise<void> {
    const parts: Buffer[] = [];
    const take = (d: Buffer): number => parts.push(d);
    this.deflate.on('data', take);
    await new Promise<void>((resolve) => this.deflate.write(encodePairs(headers), () => resolve()));
    this.deflate.off('data', take);
    this.say({ type: 'syn-stream', stream, associated: 0, priority: 0, fin: false, unidirectional: false, block: Buffer.concat(parts) });
  }

  stream(number: number): Promise<SpdyStream> {
    return until(`stream ${number}`, () => this.taken.find((s) => s.id === number));
  }

  bytesOf(stream: number): number {
    return total(this.heard, stream).length;
  }

  async end(): Promise<void> {
    Client.all.delete(this);
    this.socket.destroy();
    await this.session.closed;
    this.server.close();
  }
}

describe('SPDY session', () => {
  afterEach(async () => {
    for (const c of Client.all) await c.end(); // of a test that failed
  });

  it('answers streams, carries bytes both ways, half-closes', async () => {
    const c = await Client.connect();
    await c.open(1, { streamtype: 'stdin', port: '80' });
    const s = await c.stream(1);
    assert.equal(s.headers['streamtype'], 'stdin');
    c.say({ type: 'data', stream: 1, fin: false, data: Buffer.from('hello ') }, { type: 'data', stream: 1, fin: true, data: Buffer.from('there') });
    let text = '';
    s.on('data', (d: Buffer) => (text += d.toString()));
    await once(s, 'end');
    assert.equal(text, 'hello there');
    s.end('bye');
    await until('the answer', () => c.heard.some((f) => f.type === 'data' && f.fin));
    assert.equal(total(c.heard, 1).toString(), 'bye');
    assert.equal(c.heard[0]?.type, 'syn-reply');
    c.say({ type: 'ping', id: 7 });
    await until('the ping', () => c.heard.some((f) => f.type === 'ping' && f.id === 7));
    await c.end();
  });

  it('keeps to windows once the other side speaks of them, and announces what it took', async () => {
    const c = await Client.connect();
    c.say({ type: 'settings', entries: [{ id: 7, flags: 0, value: 1000 }] });
    await c.open(1);
    const s = await c.stream(1);
    s.write(Buffer.alloc(5000));
    await until('the first window', () => c.bytesOf(1) === 1000);
    c.say({ type: 'window-update', stream: 1, delta: 1500 });
    await until('the second window', () => c.bytesOf(1) === 2500);
    c.say({ type: 'settings', entries: [{ id: 7, flags: 0, value: 5000 }] });
    await until('the rest', () => c.bytesOf(1) === 5000);
    s.resume();
    c.say({ type: 'data', stream: 1, fin: false, data: Buffer.alloc(300) });
    await until('the announcement', () => c.heard.some((f) => f.type === 'window-update' && f.stream === 1 && f.delta === 300));
    await c.end();
  });

  it('does not read on while a stream is not taken', async () => {
    const c = await Client.connect();
    await c.open(1);
    const s = await c.stream(1);
    const much = 64 * 1024 * 1024;
    let sent = false;
    c.socket.write(Buffer.concat([encodeFrame({ type: 'data', stream: 1, fin: false, data: Buffer.alloc(0) })]));
    for (let left = much; left > 0; left -= 1024 * 1024) c.socket.write(encodeFrame({ type: 'data', stream: 1, fin: left === 1024 * 1024, data: Buffer.alloc(1024 * 1024) }), () => (sent = left === 1024 * 1024));
    await until('the stream to be full', () => s.readableLength >= s.readableHighWaterMark);
    assert.ok(s.readableLength < 1024 * 1024, `${s.readableLength} bytes are held`);
    assert.equal(sent, false);
    let got = 0;
    for await (const d of s as AsyncIterable<Buffer>) got += d.length;
    assert.equal(got, much);
    await c.end();
  });

  it('stops writing while the connection is not read', async () => {
    const c = await Client.connect();
    await c.open(1);
    const s = await c.stream(1);
    c.socket.pause();
    let blocked = false;
    for (let i = 0; i < 4000 && !blocked; i++) {
      if (!s.write(Buffer.alloc(32 * 1024))) blocked = !(await Promise.race([once(s, 'drain').then(() => true), new Promise((r) => setTimeout(r, 300)).then(() => false)]));
    }
    assert.ok(blocked, 'it took 128 MB that nobody read');
    await c.end();
  });

  it('a reset ends the stream at both ends; the connection\'s end ends all', async () => {
    const c = await Client.connect();
    await c.open(1);
    await c.open(3);
    await c.open(5);
    const [one, three, five] = [await c.stream(1), await c.stream(3), await c.stream(5)];
    c.say({ type: 'rst-stream', stream: 1, status: 5 });
    await once(one, 'close');
    three.destroy();
    await until('the reset', () => c.heard.some((f) => f.type === 'rst-stream' && f.stream === 3));
    const closed = once(five, 'close');
    await c.end();
    await closed;
  });

  it('says goodbye to what is no SPDY', async () => {
    for (const wrong of [
      Buffer.from([0x80, 9, 0, 1, 0, 0, 0, 0]),
      encodeFrame({ type: 'data', stream: 9, fin: false, data: Buffer.from('x') }),
      encodeFrame({ type: 'syn-stream', stream: 1, associated: 0, priority: 0, fin: false, unidirectional: false, block: Buffer.from('no zlib') }),
    ]) {
      const c = await Client.connect();
      c.socket.write(wrong);
      await c.session.closed;
      await until('the goodbye', () => c.heard.some((f) => f.type === 'goaway'));
      await c.end();
    }
  });

  it('finds out that the other end died although it does not read', async () => {
    const c = await Client.connect(50);
    await c.open(1);
    const s = await c.stream(1);
    // More than all buffers take: the end of the connection lies behind it.
    c.socket.write(encodeFrame({ type: 'data', stream: 1, fin: false, data: Buffer.alloc(15 * 1024 * 1024) }));
    await until('the stream to be full', () => s.readableLength >= s.readableHighWaterMark);
    c.socket.destroy();
    await c.session.closed;
    await c.end();
  });
});
