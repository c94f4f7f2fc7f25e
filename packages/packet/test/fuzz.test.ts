/** A bounded run of the fuzzer; the long ones are `node packages/packet/dist/fuzz/main.js`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzz } from '../fuzz/run.js';
import { mutate, random } from '../fuzz/mutate.js';
import { filler } from './corpus.js';

for (const seed of [1, 20260101, (Date.now() & 0xffffffff) >>> 0]) {
  test(`30,000 mutated packets, seed ${seed}`, () => {
    const result = fuzz(seed, 30_000);
    assert.equal(result.failure, undefined);
    assert.ok(result.layers > 60_000, `${result.layers} headers were decoded: the mutations leave enough to read`);
  });
}

test('the same seed makes the same inputs', () => {
  const run = (): string[] => {
    const next = random(42);
    return Array.from({ length: 50 }, () => Buffer.from(mutate(filler(100), filler(30), next)).toString('hex'));
  };
  assert.deepEqual(run(), run());
  assert.ok(new Set(run()).size > 45);
});
