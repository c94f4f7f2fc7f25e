/**
 * Netlink attributes as tables: each row gives the attribute's number, its codec and the name of
 * its constant in the kernel header. One encoder and one decoder serve all of them; attributes a
 * table does not know are kept under `unknown` and can be shown.
 *
 * Numbers in netlink headers are in host byte order (little endian on every platform this runs
 * on; checked below), addresses and a few marked fields in network order.
 * Source: linux/netlink.h, netlink(7), Documentation/userspace-api/netlink/intro.rst.
 */
import { endianness } from 'node:os';
import { PodwayError } from '@podway/errors';

if (endianness() !== 'LE') throw new PodwayError('PLATFORM', 'Podway runs on little-endian Linux only');

/** A growing buffer that a request is written into. Offsets stay valid; the buffer may be replaced. */
export class Writer {
  buffer: Buffer;
  length = 0;

  constructor(size = 4096) {
    this.buffer = Buffer.allocUnsafeSlow(size);
  }

  /** Makes room for `n` bytes and returns where they start. They are zeroed. */
  reserve(n: number): number {
    const start = this.length;
    const end = start + n;
    if (end > this.buffer.length) {
      const bigger = Buffer.allocUnsafeSlow(Math.max(end, this.buffer.length * 2));
      this.buffer.copy(bigger, 0, 0, start);
      this.buffer = bigger;
    }
    this.buffer.fill(0, start, end);
    this.length = end;
    return start;
  }

  align(): void {
    const rest = this.length & 3;
    if (rest) this.reserve(4 - rest);
  }

  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }
}

export interface Codec<T> {
  write(w: Writer, value: T): void;
  /** Must not throw on any bytes: what is too short reads as `undefined`, and the attribute counts as unknown. */
  read(b: Buffer, start: number, end: number): T | undefined;
}

const fixed = <T>(size: number, put: (b: Buffer, v: T, at: number) => void, get: (b: Buffer, at: number) => T): Codec<T> => ({
  write(w, v) {
    const at = w.reserve(size);
    put(w.buffer, v, at);
  },
  read: (b, start, end) => (end - start < size ? undefined : get(b, start)),
});

export const u8 = fixed<number>(1, (b, v, at) => b.writeUInt8(v, at), (b, at) => b.readUInt8(at));
export const u16 = fixed<number>(2, (b, v, at) => b.writeUInt16LE(v, at), (b, at) => b.readUInt16LE(at));
export const u16be = fixed<number>(2, (b, v, at) => b.writeUInt16BE(v, at), (b, at) => b.readUInt16BE(at));
export const u32 = fixed<number>(4, (b, v, at) => b.writeUInt32LE(v >>> 0, at), (b, at) => b.readUInt32LE(at));
export const i32 = fixed<number>(4, (b, v, at) => b.writeInt32LE(v, at), (b, at) => b.readInt32LE(at));
export const u64 = fixed<bigint>(8, (b, v, at) => b.writeBigUInt64LE(v, at), (b, at) => b.readBigUInt64LE(at));
/** A byte that is used as a boolean. */
export const bool8 = fixed<boolean>(1, (b, v, at) => b.writeUInt8(v ? 1 : 0, at), (b, at) => b.readUInt8(at) !== 0);

/** A string with a closing NUL. */
export const str: Codec<string> = {
  write(w, v) {
    const size = Buffer.byteLength(v);
    const at = w.reserve(size + 1);
    w.buffer.write(v, at);
  },
  read(b, start, end) {
    let stop = start;
    while (stop < end && b[stop] !== 0) stop++;
    return b.toString('utf8', start, stop);
  },
};

export const raw: Codec<Uint8Array> = {
  write(w, v) {
    const at = w.reserve(v.length);
    w.buffer.set(v, at);
  },
  read: (b, start, end) => Uint8Array.prototype.slice.call(b, start, end),
};

/** An attribute that says what it says by being there. */
export const flag: Codec<true> = { write: () => undefined, read: () => true };

const HEX = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/** A link-layer address as people write it, `0a:58:0a:f4:00:05`. Any length. */
export const mac: Codec<string> = {
  write(w, v) {
    const parts = v.split(':');
    const at = w.reserve(parts.length);
    for (let i = 0; i < parts.length; i++) w.buffer[at + i] = parseInt(parts[i]!, 16);
  },
  read(b, start, end) {
    let text = '';
    for (let i = start; i < end; i++) text += (i > start ? ':' : '') + HEX[b[i]!]!;
    return text;
  },
};

export interface Attribute<T> {
  readonly number: number;
  readonly codec: Codec<T>;
  /** The constant in the kernel header. */
  readonly constant: string;
}

/** One row of a table. */
export const attr = <T>(number: number, constant: string, codec: Codec<T>): Attribute<T> => ({ number, constant, codec });

// A table's rows have different value types; each row's own type is kept by inference below.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type AttributeTable = Readonly<Record<string, Attribute<any>>>;

export interface UnknownAttribute {
  readonly number: number;
  readonly bytes: Uint8Array;
}

export type Attributes<T extends AttributeTable> = {
  [K in keyof T]?: (T[K] extends Attribute<infer V> ? V : never) | undefined;
} & { unknown?: UnknownAttribute[] };

const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;

/** Writes one attribute: length, number, value, padding. */
export function writeAttribute<T>(w: Writer, number: number, codec: Codec<T>, value: T, nested = false): void {
  const at = w.reserve(4);
  codec.write(w, value);
  w.buffer.writeUInt16LE(w.length - at, at);
  w.buffer.writeUInt16LE(nested ? number | NLA_F_NESTED : number, at + 2);
  w.align();
}

const NESTED = new WeakSet<object>();

/** Writes the attributes that are present, in the table's order. */
export function writeAttributes<T extends AttributeTable>(w: Writer, table: T, values: Attributes<T>): void {
  for (const key in table) {
    const value = values[key];
    if (value === undefined) continue;
    const row = table[key]!;
    writeAttribute(w, row.number, row.codec, value, NESTED.has(row.codec));
  }
}

const rowsByNumber = new WeakMap<object, Map<number, [string, Attribute<unknown>]>>();

function numbered(table: AttributeTable): Map<number, [string, Attribute<unknown>]> {
  let rows = rowsByNumber.get(table);
  if (!rows) {
    rows = new Map();
    for (const [key, row] of Object.entries(table)) {
      if (rows.has(row.number)) throw new Error(`attribute table has number ${row.number} twice (${row.constant})`);
      rows.set(row.number, [key, row]);
    }
    rowsByNumber.set(table, rows);
  }
  return rows;
}

/** Splits bytes into attributes. Stops, without throwing, at a length that cannot be. */
export function* eachAttribute(b: Buffer, start: number, end: number): Generator<{ number: number; start: number; end: number }> {
  let at = start;
  while (at + 4 <= end) {
    const length = b.readUInt16LE(at);
    if (length < 4 || at + length > end) return;
    yield { number: b.readUInt16LE(at + 2) & NLA_TYPE_MASK, start: at + 4, end: at + length };
    at += (length + 3) & ~3;
  }
}

export function readAttributes<T extends AttributeTable>(table: T, b: Buffer, start: number, end: number): Attributes<T> {
  const rows = numbered(table);
  const values: Record<string, unknown> = {};
  let unknown: UnknownAttribute[] | undefined;
  for (const a of eachAttribute(b, start, end)) {
    const row = rows.get(a.number);
    const value = row?.[1].codec.read(b, a.start, a.end);
    if (row && value !== undefined) values[row[0]] = value;
    else (unknown ??= []).push({ number: a.number, bytes: Uint8Array.prototype.slice.call(b, a.start, a.end) });
  }
  if (unknown) values['unknown'] = unknown;
  return values as Attributes<T>;
}

/** Attributes within an attribute. */
export function nested<T extends AttributeTable>(table: T): Codec<Attributes<T>> {
  const codec: Codec<Attributes<T>> = {
    write: (w, v) => writeAttributes(w, table, v),
    read: (b, start, end) => readAttributes(table, b, start, end),
  };
  NESTED.add(codec);
  return codec;
}

/** A list: the same attribute number again and again within one attribute. */
export function list<T>(number: number, codec: Codec<T>): Codec<T[]> {
  const self: Codec<T[]> = {
    write(w, values) {
      for (const v of values) writeAttribute(w, number, codec, v, NESTED.has(codec));
    },
    read(b, start, end) {
      const values: T[] = [];
      for (const a of eachAttribute(b, start, end)) {
        const v = a.number === number ? codec.read(b, a.start, a.end) : undefined;
        if (v !== undefined) values.push(v);
      }
      return values;
    },
  };
  NESTED.add(self);
  return self;
}
