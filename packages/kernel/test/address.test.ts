import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBytes, addressText, familyOf } from '../src/index.js';
import { isPodwayError } from '@podway/errors';

test('IPv4: text and bytes are each other\'s inverse', () => {
  fc.assert(fc.property(fc.ipV4(), (text) => assert.equal(addressText(addressBytes(text)), text)));
});

test('IPv6: bytes → text → bytes, and the text is RFC 5952', () => {
  // Many zero groups, so that the shortening rules are met.
  const group = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff }));
  fc.assert(fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
    const b = Buffer.alloc(16);
    groups.forEach((v, i) => b.writeUInt16BE(v, i * 2));
    const text = addressText(b) ?? '';
    assert.equal(isIP(text), 6, text);
    assert.deepEqual(addressBytes(text), b);
    assert.equal(text, text.toLowerCase());
    assert.doesNotMatch(text, /(^|:)0[0-9a-f]/, 'no leading zeros');
    assert.ok(text.split('::').length <= 2);
    if (text.includes('.')) return;
    // :: stands for the first of the longest runs of zero groups, and never for a single one.
    const runs = groups.map((_, i) => groups.slice(i).findIndex((v) => v !== 0)).map((n, i) => (n < 0 ? 8 - i : n));
    const longest = Math.max(...runs);
    if (longest < 2) assert.ok(!text.includes('::'), text);
    else assert.equal(text.split('::')[0], groups.slice(0, runs.indexOf(longest)).map((v) => v.toString(16)).join(':'));
    // The platform's own normal form (WHATWG URL) agrees.
    assert.equal(new URL(`http://[${text}]/`).hostname, `[${text}]`);
  }), { numRuns: 2000 });
});

test('any way of writing an IPv6 address gives the same bytes', () => {
  fc.assert(fc.property(fc.ipV6(), (text) => {
    const b = addressBytes(text);
    assert.equal(b.length, 16);
    assert.deepEqual(addressBytes(addressText(b) ?? ''), b);
  }), { numRuns: 2000 });
});

test('IPv4-mapped addresses keep their dotted part', () => {
  assert.equal(addressText(addressBytes('::ffff:10.0.0.1')), '::ffff:10.0.0.1');
  assert.deepEqual(addressBytes('::ffff:a00:1'), addressBytes('::ffff:10.0.0.1'));
});

test('what is no address is refused by name', () => {
  for (const text of ['', '10.0.0', '10.0.0.256', '1.2.3.4.5', ':::', '1::2::3', 'web-a', '10.0.0.1/24', ' 10.0.0.1', '::ffff:1.2.3']) {
    assert.throws(() => addressBytes(text), (e) => isPodwayError(e, 'BAD_ADDRESS') && e.message.includes(`"${text}"`), text);
  }
});

test('bytes of no address length have no text', () => {
  for (const n of [0, 1, 3, 5, 6, 15, 17]) assert.equal(addressText(Buffer.alloc(n)), undefined);
});

test('family', () => {
  assert.equal(familyOf('10.0.0.1'), 'inet');
  assert.equal(familyOf('::1'), 'inet6');
});
