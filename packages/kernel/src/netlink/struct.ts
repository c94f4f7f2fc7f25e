/**
 * Codecs for what stands inside attributes without being attributes: C structures as tables, and
 * numbers in network order (nfnetlink, the addresses of sock_diag).
 *
 * A structure is declared field by field with explicit padding, in the order of the kernel header.
 * Newer kernels append fields: what lies behind the last known one is not looked at, and with
 * `least` a structure of an older kernel is read as far as it goes.
 */
import { eachAttribute, writeAttribute, type Codec, type Writer } from './codec.js';

const fixed = <T>(size: number, put: (b: Buffer, v: T, at: number) => unknown, get: (b: Buffer, at: number) => T): Codec<T> => ({
  write(w, v) {
    const at = w.reserve(size);
    put(w.buffer, v, at);
  },
  read: (b, start, end) => (end - start < size ? undefined : get(b, start)),
});

export const u32be = fixed<number>(4, (b, v, at) => b.writeUInt32BE(v >>> 0, at), (b, at) => b.readUInt32BE(at));
export const u64be = fixed<bigint>(8, (b, v, at) => b.writeBigUInt64BE(v, at), (b, at) => b.readBigUInt64BE(at));

/** Methods, not function properties: rows of different types stand in one list. */
interface Field<T> {
  readonly size: number;
  put(b: Buffer, v: T, at: number): void;
  get(b: Buffer, at: number): T;
}
const number = (size: number, put: (b: Buffer, v: number, at: number) => unknown, get: (b: Buffer, at: number) => number): Field<number> => ({ size, put: (b, v, at) => void put(b, v, at), get });

/** Field types of structures. */
export const U8 = number(1, (b, v, at) => b.writeUInt8(v, at), (b, at) => b.readUInt8(at));
export const U16 = number(2, (b, v, at) => b.writeUInt16LE(v, at), (b, at) => b.readUInt16LE(at));
export const I16 = number(2, (b, v, at) => b.writeInt16LE(v, at), (b, at) => b.readInt16LE(at));
export const U16BE = number(2, (b, v, at) => b.writeUInt16BE(v, at), (b, at) => b.readUInt16BE(at));
export const U32 = number(4, (b, v, at) => b.writeUInt32LE(v >>> 0, at), (b, at) => b.readUInt32LE(at));
export const U32BE = number(4, (b, v, at) => b.writeUInt32BE(v >>> 0, at), (b, at) => b.readUInt32BE(at));
export const I32 = number(4, (b, v, at) => b.writeInt32LE(v, at), (b, at) => b.readInt32LE(at));
export const U64: Field<bigint> = { size: 8, put: (b, v, at) => void b.writeBigUInt64LE(v, at), get: (b, at) => b.readBigUInt64LE(at) };
export const I64: Field<bigint> = { size: 8, put: (b, v, at) => void b.writeBigInt64LE(v, at), get: (b, at) => b.readBigInt64LE(at) };
export const bytesOf = (size: number): Field<Buffer> => ({
  size, put: (b, v, at) => void v.copy(b, at, 0, size), get: (b, at) => Buffer.from(b.subarray(at, at + size)),
});

type Row = readonly [name: string, field: Field<unknown>] | readonly [pad: number];
/** One field, by name. */
export const field = <const N extends string, T>(name: N, type: Field<T>): readonly [N, Field<T>] => [name, type];
/** Bytes without a meaning. */
export const pad = (size: number): readonly [number] => [size];

type Fields<R extends readonly Row[]> = {
  readonly [E in Extract<R[number], readonly [string, unknown]> as E[0]]: E[1] extends Field<infer T> ? T : never;
};

/** A structure: a codec, and a field of larger structures. */
export type Struct<T> = Codec<T> & Field<T>;

/** @param least bytes that must be there; fields beyond them may be missing and read as undefined. Default: all. */
export function struct<const R extends readonly Row[]>(rows: R, least?: number): Struct<Fields<R>> {
  const places: { readonly name: string; readonly type: Field<unknown>; readonly at: number }[] = [];
  let size = 0;
  for (const row of rows as readonly Row[]) {
    if (row.length === 2) places.push({ name: row[0], type: row[1], at: size });
    size += row.length === 2 ? row[1].size : row[0];
  }
  const put = (b: Buffer, value: Fields<R>, at: number): void => {
    const values = value as Readonly<Record<string, unknown>>;
    for (const p of places) if (values[p.name] !== undefined) p.type.put(b, values[p.name], at + p.at);
  };
  const get = (b: Buffer, start: number, end: number): Fields<R> => {
    const values: Record<string, unknown> = {};
    for (const p of places) if (start + p.at + p.type.size <= end) values[p.name] = p.type.get(b, start + p.at);
    return values as Fields<R>;
  };
  return {
    size,
    put,
    get: (b, at) => get(b, at, at + size),
    write(w, value) {
      const at = w.reserve(size);
      put(w.buffer, value, at);
    },
    read: (b, start, end) => (end - start < (least ?? size) ? undefined : get(b, start, end)),
  };
}

/** Attributes whose *number* is a position (`first`, `first` + 1 …) and whose content is attributes of one kind. */
export function positions<T>(inner: Codec<T>, first = 0): Codec<T[]> {
  return {
    write: (w, values) => values.forEach((v, i) => writeAttribute(w, first + i, inner, v, true)),
    read(b, start, end) {
      const values: T[] = [];
      for (const a of eachAttribute(b, start, end)) {
        const v = inner.read(b, a.start, a.end);
        if (v !== undefined) values.push(v);
      }
      return values;
    },
  };
}

/** Encodes with a function: for an attribute whose layout depends on the object's kind. */
export const inline = (write: (w: Writer) => void): Codec<undefined> => ({ write, read: () => undefined });
