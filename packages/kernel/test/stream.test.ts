/** What comes from the other end: hostile bytes, interrupted dumps, errors and their text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isPodwayError, PodwayError } from '@podway/errors';
import { listAddrs } from '../src/netlink/addr.js';
import { listLinks } from '../src/netlink/link.js';
import { listFdb, listNeighs } from '../src/netlink/neigh.js';
import { listQdiscs } from '../src/netlink/qdisc.js';
import { listRoutes, lookupRoute } from '../src/netlink/route.js';
import { listRules } from '../src/netlink/rule.js';
import type { NetlinkSocket } from '../src/index.js';
import { DONE, ERROR, FakeKernel, INTERRUPTED, MULTI, withFakeKernel } from './fake-kernel.js';

/** Each list: how many dumps it makes, the type of its messages, and the size of their fixed header. */
const LISTS: readonly { name: string; list: (s: NetlinkSocket) => readonly unknown[]; dumps: number; type: number; header: number; families: readonly number[] }[] = [
  { name: 'links', list: listLinks, dumps: 1, type: 16, header: 16, families: [0, 7] },
  { name: 'addresses', list: listAddrs, dumps: 1, type: 20, header: 8, families: [2, 10] },
  { name: 'routes', list: listRoutes, dumps: 2, type: 24, header: 12, families: [2, 10] },
  { name: 'rules', list: listRules, dumps: 2, type: 32, header: 12, families: [2, 10] },
  { name: 'neighbours', list: listNeighs, dumps: 4, type: 28, header: 12, families: [2, 10] },
  { name: 'fdb', list: listFdb, dumps: 1, type: 28, header: 12, families: [7] },
  { name: 'qdiscs', list: listQdiscs, dumps: 1, type: 36, header: 20, families: [0] },
];

for (const { name, list, dumps, type, header, families } of LISTS) {
  test(`${name}: no bytes throw out of the decoder`, () => {
    const attribute = fc.tuple(fc.integer({ min: 0, max: 56 }), fc.uint8Array({ maxLength: 40 })).map(([number, content]) => {
      const b = Buffer.alloc((4 + content.length + 3) & ~3);
      b.writeUInt16LE(4 + content.length, 0);
      b.writeUInt16LE(number, 2);
      b.set(content, 4);
      return b;
    });
    const formed = fc.tuple(fc.constantFrom(...families), fc.uint8Array({ minLength: header - 1, maxLength: header - 1 }), fc.array(attribute, { maxLength: 8 }))
      .map(([family, rest, attributes]) => Buffer.concat([Buffer.of(family), rest, ...attributes]));
    const payload = fc.oneof(fc.uint8Array({ maxLength: 120 }).map((a) => Buffer.from(a)), formed);
    withFakeKernel((k) => {
      fc.assert(fc.property(fc.array(payload, { maxLength: 4 }), fc.uint8Array({ minLength: 1, maxLength: 40 }), (payloads, junk) => {
        for (let of = 1; of <= dumps; of++) {
          k.raw(junk);
          k.answer(...payloads.map((p) => ({ type, flags: MULTI, of, payload: p })), { type: DONE, flags: MULTI, of });
        }
        const found = list(k.socket);
        assert.ok(found.length <= payloads.length * dumps);
        for (const o of found) JSON.stringify(o, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v));
      }), { numRuns: 300 });
    });
  });
}

test('an interrupted dump is asked again, and only the calm answer counts', () => {
  withFakeKernel((k) => {
    const link = (index: number): Buffer => {
      const b = Buffer.alloc(16);
      b.writeInt32LE(index, 4);
      return b;
    };
    k.answer({ type: 16, flags: MULTI, of: 1, payload: link(1) }, { type: 16, flags: MULTI | INTERRUPTED, of: 1, payload: link(2) });
    k.answer({ type: DONE, flags: MULTI | INTERRUPTED, of: 1 });
    k.answer({ type: 16, flags: MULTI, of: 2, payload: link(3) }, { type: DONE, flags: MULTI, of: 2 });
    assert.deepEqual(listLinks(k.socket).map((l) => l.index), [3]);
  });
});

test('a dump that is interrupted ten times is an error that says so', () => {
  withFakeKernel((k) => {
    for (let of = 1; of <= 10; of++) k.answer({ type: DONE, flags: MULTI | INTERRUPTED, of });
    assert.throws(() => listLinks(k.socket), (e) => isPodwayError(e, 'NETLINK_DUMP_INTERRUPTED') && e.errno === 'EINTR' && e.object === 'fake netns');
  });
});

test('an error in the DONE message of a dump is not overlooked', () => {
  withFakeKernel((k) => {
    const payload = Buffer.alloc(4);
    payload.writeInt32LE(-12);
    k.answer({ type: DONE, flags: MULTI, payload });
    assert.throws(() => listLinks(k.socket), (e) => isPodwayError(e, 'NETLINK_REFUSED') && e.errno === 'ENOMEM' && /list links/.test(e.message));
  });
});

test('answers to somebody else are passed over', () => {
  withFakeKernel((k) => {
    k.answer({ type: ERROR, of: 77, payload: Buffer.from('f5ffffff', 'hex') });
    k.answer({ type: DONE, flags: MULTI });
    assert.deepEqual(listLinks(k.socket), []);
  });
});

test('errors that are garbage still settle the request', () => {
  const k = new FakeKernel();
  try {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 0, max: 0xffff }), (payload, flags) => {
      k.answer({ type: ERROR, flags, payload });
      try {
        lookupRoute(k.socket, { dst: '10.0.0.1' });
      } catch (e) {
        assert.ok(e instanceof PodwayError, String(e));
      }
    }), { numRuns: 500 });
  } finally {
    k.close();
  }
});
