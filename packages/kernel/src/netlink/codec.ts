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

/**
 * A growing buffer that a request is written into. Offsets stay valid; buffer and view may be replaced.
 * All behind `length` is zero at any time: room is cleared once when it is given back, not at every
 * reservation, which for a thousand small messages would cost more than writing them.
 */
export class Writer {
  buffer: Buffer;
  /** The same bytes, for numbers of several bytes. */
  view: DataView;
  /** Bytes written so far. To be changed by the methods only. */
  length = 0;

  constructor(size = 4096) {
    this.buffer = Buffer.alloc(size);
    this.view = viewOf(this.buffer);
  }

  /** Makes room for `n` bytes and returns where they start. They are zeroed. */
  reserve(n: number): number {
    const start = this.length;
    const end = start + n;
    if (end > this.buffer.length) this.grow(end);
    this.length = end;
    return start;
  }

  align(): void {
    const rest = this.length & 3;
    if (rest) this.reserve(4 - rest);
  }

  /** Takes back all that was written from `at` on. */
  truncate(at: number): void {
    this.buffer.fill(0, at, this.length);
    this.length = at;
  }

  bytes(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  private grow(least: number): void {
    const bigger = Buffer.alloc(Math.max(least, this.buffer.length * 2));
    this.buffer.copy(bigger, 0, 0, this.length);
    this.buffer = bigger;
    this.view = viewOf(bigger);
  }
}

const viewOf = (b: Buffer): DataView => new DataView(b.buffer, b.byteOffset, b.length);

export interface Codec<T> {
  write(w: Writer, value: T): void;
  /** Must not throw on any bytes: what is too short reads as `undefined`, and the attribute counts as unknown. */
  read(b: Buffer, start: number, end: number): T | undefined;
}

const fixed = <T>(size: number, put: (v: DataView, value: T, at: number) => void, get: (b: Buffer, at: number) => T): Codec<T> => ({
  write(w, v) {
    const at = w.reserve(size);
    put(w.view, v, at);
  },
  read: (b, start, end) => (end - start < size ? undefined : get(b, start)),
});

export const u8 = fixed<number>(1, (d, v, at) => d.setUint8(at, v), (b, at) => b.readUInt8(at));
export const u16 = fixed<number>(2, (d, v, at) => d.setUint16(at, v, true), (b, at) => b.readUInt16LE(at));
export const u16be = fixed<number>(2, (d, v, at) => d.setUint16(at, v), (b, at) => b.readUInt16BE(at));
/** The most frequent one: written without a detour. */
export const u32: Codec<number> = {
  write(w, v) {
    const at = w.reserve(4);
    w.view.setUint32(at, v, true);
  },
  read: (b, start, end) => (end - start < 4 ? undefined : b.readUInt32LE(start)),
};
export const i32 = fixed<number>(4, (d, v, at) => d.setInt32(at, v, true), (b, at) => b.readInt32LE(at));
export const u64 = fixed<bigint>(8, (d, v, at) => d.setBigUint64(at, v, true), (b, at) => b.readBigUInt64LE(at));
/** A byte that is used as a boolean. */
export const bool8 = fixed<boolean>(1, (d, v, at) => d.setUint8(at, v ? 1 : 0), (b, at) => b.readUInt8(at) !== 0);

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

/** By character code: the value of a hex digit, 255 for anything else. */
const HEX_VALUE = new Uint8Array(0x10000).fill(255);
for (let i = 0; i < 16; i++) for (const digit of [i.toString(16), i.toString(16).toUpperCase()]) HEX_VALUE[digit.charCodeAt(0)] = i;

/** A link-layer address as people write it, `0a:58:0a:f4:00:05`. Any length. Writing throws BAD_ADDRESS. */
export const mac: Codec<string> = {
  write(w, v) {
    const count = (v.length + 1) / 3;
    const at = w.reserve(Math.floor(count));
    const b = w.buffer;
    let valid = Number.isInteger(count) || v === '';
    for (let i = 0, p = 0; valid && p < v.length; i++, p += 3) {
      const high = HEX_VALUE[v.charCodeAt(p)]!;
      const low = HEX_VALUE[v.charCodeAt(p + 1)]!;
      valid = (high | low) < 16 && (p + 2 === v.length || v.charCodeAt(p + 2) === 58);
      b[at + i] = (high << 4) | low;
    }
    if (!valid) throw new PodwayError('BAD_ADDRESS', `"${v}" is not a link-layer address`);
  },
  read(b, start, end) {
    let text = start < end ? HEX[b[start]!]! : '';
    for (let i = start + 1; i < end; i++) text += `:${HEX[b[i]!]!}`;
    return text;
  },
};

/** Something known that is of no use to us: not decoded, and not kept among the unknown. */
export const ignored: Codec<true> = { write: () => undefined, read: () => true };

export interface Attribute<T> {
  readonly number: number;
  readonly codec: Codec<T>;
  /** The constant in the kernel header. */
  readonly constant: string;
  /** The value is made of attributes itself. */
  readonly nested: boolean;
}

const NESTED = new WeakSet<object>();

/** One row of a table. */
export const attr = <T>(number: number, constant: string, codec: Codec<T>): Attribute<T> => ({ number, constant, codec, nested: NESTED.has(codec) });

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
  const end = w.length;
  w.view.setUint32(at, (end - at) | ((nested ? number | NLA_F_NESTED : number) << 16), true);
  if (end & 3) w.reserve(4 - (end & 3));
}

/** Writes the attribute of one row, where there is a value. For messages that are sent by the thousand: no walk over the table. */
export function put<T>(w: Writer, row: Attribute<T>, value: T | undefined): void {
  if (value !== undefined) writeAttribute(w, row.number, row.codec, value, row.nested);
}

/** Writes the attributes that are present, in the table's order. */
export function writeAttributes<T extends AttributeTable>(w: Writer, table: T, values: Attributes<T>): void {
  for (const key in table) put(w, table[key]!, values[key]);
}

type Rows = readonly (readonly [string, Attribute<unknown>] | undefined)[];
const rowsByNumber = new WeakMap<object, Rows>();

function numbered(table: AttributeTable): Rows {
  const known = rowsByNumber.get(table);
  if (known) return known;
  const rows: [string, Attribute<unknown>][] = [];
  for (const [key, row] of Object.entries(table)) {
    if (rows[row.number]) throw new Error(`attribute table has number ${row.number} twice (${row.constant})`);
    rows[row.number] = [key, row];
  }
  rowsByNumber.set(table, rows);
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
  // The loop of `eachAttribute`, without a generator: this is where dumps of thousands of objects spend their time.
  for (let at = start; at + 4 <= end; ) {
    const length = b[at]! | (b[at + 1]! << 8);
    const stop = at + length;
    if (length < 4 || stop > end) break;
    const number = (b[at + 2]! | (b[at + 3]! << 8)) & NLA_TYPE_MASK;
    const row = rows[number];
    const value = row?.[1].codec.read(b, at + 4, stop);
    if (row !== undefined && value !== undefined) values[row[0]] = value;
    else (unknown ??= []).push({ number, bytes: Uint8Array.prototype.slice.call(b, at + 4, stop) });
    at += (length + 3) & ~3;
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
