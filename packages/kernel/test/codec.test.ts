import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  attr, bool8, eachAttribute, flag, i32, list, mac, nested, raw, readAttributes, str, u16, u16be, u32, u64, u8, Writer, writeAttributes,
  type AttributeTable, type Codec,
} from '../src/netlink/codec.js';
import { ip } from '../src/netlink/address.js';
import { BRIDGE, BRIDGE_PORT, IPTUN, LINK, MACVLAN, VXLAN } from '../src/netlink/link-tables.js';

interface Kind {
  readonly name: string;
  readonly codec: Codec<never>;
  readonly value: fc.Arbitrary<unknown>;
}
const kind = <T>(name: string, codec: Codec<T>, value: fc.Arbitrary<T>): Kind => ({ name, codec: codec as Codec<never>, value });
const bytes = (n: number): fc.Arbitrary<string> => fc.array(fc.integer({ min: 0, max: 255 }), { minLength: n, maxLength: n }).map((a) => a.map((v) => v.toString(16).padStart(2, '0')).join(':'));

const KINDS: readonly Kind[] = [
  kind('u8', u8, fc.integer({ min: 0, max: 0xff })),
  kind('u16', u16, fc.integer({ min: 0, max: 0xffff })),
  kind('u16be', u16be, fc.integer({ min: 0, max: 0xffff })),
  kind('u32', u32, fc.integer({ min: 0, max: 0xffffffff })),
  kind('i32', i32, fc.integer()),
  kind('u64', u64, fc.bigInt({ min: 0n, max: 0xffffffffffffffffn })),
  kind('bool8', bool8, fc.boolean()),
  kind('str', str, fc.string().filter((s) => !s.includes('\0') && Buffer.from(s).toString() === s)),
  kind<Uint8Array>('raw', raw, fc.uint8Array({ maxLength: 40 }).map((a) => Buffer.from(a))),
  kind('flag', flag, fc.constant(true as const)),
  kind('mac', mac, bytes(6)),
  kind('ipv4', ip, fc.ipV4()),
  kind('list of u32', list(7, u32), fc.array(fc.integer({ min: 0, max: 0xffffffff }), { maxLength: 5 })),
  kind('list of str', list(52, str), fc.array(fc.constantFrom('a', 'bcd', 'podway0'), { maxLength: 4 })),
];

/** A random table, with values for some of its rows; nested tables up to three deep. */
const tables = fc.letrec<{ leaf: [Kind, unknown]; row: { codec: Codec<never>; value: unknown }; table: { table: AttributeTable; values: Record<string, unknown> } }>((tie) => ({
  leaf: fc.constantFrom(...KINDS).chain((k) => fc.tuple(fc.constant(k), k.value)),
  row: fc.oneof({ maxDepth: 3 },
    tie('leaf').map(([k, value]) => ({ codec: k.codec, value })),
    tie('table').map(({ table, values }) => ({ codec: nested(table) as Codec<never>, value: values }))),
  table: fc.uniqueArray(fc.integer({ min: 1, max: 0x3ffe }), { maxLength: 6 }).chain((numbers) =>
    fc.tuple(...numbers.map(() => tie('row'))).map((rows) => ({
      table: Object.fromEntries(rows.map((r, i) => [`k${i}`, attr(numbers[i]!, `CONSTANT_${i}`, r.codec)])) as AttributeTable,
      values: Object.fromEntries(rows.map((r, i) => [`k${i}`, r.value])),
    }))),
}));

test('what a random table writes, it reads again', () => {
  fc.assert(fc.property(tables.table, ({ table, values }) => {
    const w = new Writer(16);
    writeAttributes(w, table, values);
    assert.equal(w.length % 4, 0, 'padded');
    assert.deepEqual(readAttributes(table, w.bytes(), 0, w.length), values);
  }), { numRuns: 500 });
});

test('attributes the table does not know are kept with their bytes', () => {
  const w = new Writer();
  writeAttributes(w, { a: attr(1, 'A', u32), b: attr(9, 'B', str) }, { a: 7, b: 'kept' });
  const read = readAttributes({ a: attr(1, 'A', u32) }, w.bytes(), 0, w.length);
  assert.equal(read.a, 7);
  assert.deepEqual(read.unknown?.map((u) => [u.number, Buffer.from(u.bytes).toString()]), [[9, 'kept\0']]);
});

test('a value that is too short is kept as unknown, not invented', () => {
  const w = new Writer();
  writeAttributes(w, { a: attr(1, 'A', u8) }, { a: 5 });
  const read = readAttributes({ a: attr(1, 'A', u32) }, w.bytes(), 0, w.length);
  assert.equal(read.a, undefined);
  assert.deepEqual(read.unknown?.map((u) => [...u.bytes]), [[5]]);
});

test('a table with a number twice is refused', () => {
  assert.throws(() => readAttributes({ a: attr(1, 'A', u8), b: attr(1, 'B', u8) }, Buffer.alloc(8), 0, 8), /number 1 twice/);
});

const ALL = { LINK, VXLAN, BRIDGE, BRIDGE_PORT, MACVLAN, IPTUN };

test('the kernel tables have each number once', () => {
  for (const [name, table] of Object.entries(ALL)) {
    const numbers = Object.values(table).map((r) => r.number);
    assert.equal(new Set(numbers).size, numbers.length, name);
    for (const r of Object.values(table)) assert.match(r.constant, /^IFLA_[A-Z0-9_]+$/);
  }
});

test('no bytes make the readers throw, and they end', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.integer({ min: 0, max: 40 }), (bytesOf, start) => {
    const b = Buffer.from(bytesOf);
    let before = start;
    for (const a of eachAttribute(b, start, b.length)) {
      assert.ok(a.start >= before + 4 && a.end >= a.start && a.end <= b.length);
      before = a.start;
    }
    for (const table of Object.values(ALL)) readAttributes(table, b, start, b.length);
    for (const k of KINDS) (k.codec as Codec<unknown>).read(b, Math.min(start, b.length), b.length);
  }), { numRuns: 2000 });
});

test('nor do well-formed attributes with any content', () => {
  const attribute = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.boolean(), fc.uint8Array({ maxLength: 64 }));
  fc.assert(fc.property(fc.array(attribute, { maxLength: 12 }), (list1) => {
    const b = Buffer.concat(list1.map(([number, isNested, content]) => {
      const one = Buffer.alloc((4 + content.length + 3) & ~3);
      one.writeUInt16LE(4 + content.length, 0);
      one.writeUInt16LE(number | (isNested ? 0x8000 : 0), 2);
      one.set(content, 4);
      return one;
    }));
    const back = [...eachAttribute(b, 0, b.length)];
    assert.deepEqual(back.map((a) => a.number), list1.map(([n]) => n));
    for (const table of Object.values(ALL)) readAttributes(table, b, 0, b.length);
  }), { numRuns: 1000 });
});
