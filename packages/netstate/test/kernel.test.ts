/** Observe, diff and apply on a real kernel, with random desired states and somebody else's objects beside ours. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PROTOCOL } from '@podway/kernel';
import { apply, diff, emptyState, invert, observe, type Applied, type NetnsState } from '../src/index.js';
import { desiredState } from './arbitrary.js';
import { addForeign, needsRoot, ownership, snapshot, withScratch, type Scratch } from './scratch.js';

const bring = (s: Scratch, desired: NetnsState): Applied => apply(s.ns, diff(desired, observe(s.ns), ownership));
const nothingFailed = (a: Applied): void => assert.deepEqual(a.failed.map((f) => f.error.message), []);
const left = (s: Scratch, desired: NetnsState): string[] => diff(desired, observe(s.ns), ownership).map((c) => `${c.op} ${c.kind} ${c.key}: ${c.reason}`);

test('any state can be reached from any other, applying twice changes nothing the second time, and foreign objects stay as they are', { skip: needsRoot }, async () => {
  await withScratch((s) => {
    addForeign(s);
    const before = snapshot(s);
    fc.assert(
      fc.property(desiredState, desiredState, (one, two) => {
        for (const desired of [one, two, emptyState()]) {
          nothingFailed(bring(s, desired));
          assert.deepEqual(left(s, desired), []);
        }
        assert.equal(snapshot(s), before);
      }),
      { numRuns: 25, includeErrorInReport: true },
    );
  });
});

test('an undo leads back to what was observed', { skip: needsRoot }, async () => {
  await withScratch((s) => {
    addForeign(s);
    fc.assert(
      fc.property(desiredState, desiredState, (one, two) => {
        nothingFailed(bring(s, one));
        const before = observe(s.ns);
        const changes = diff(two, before, ownership);
        nothingFailed(apply(s.ns, changes));
        nothingFailed(apply(s.ns, invert(changes)));
        assert.deepEqual(comparable(observe(s.ns)), comparable(before));
        bring(s, emptyState());
      }),
      { numRuns: 20, includeErrorInReport: true },
    );
  });
});

/** Without what the kernel makes by itself, numbers, counts and finds out later (carrier), and in one order. */
function comparable(s: NetnsState): unknown {
  const sorted = <T>(list: readonly T[]) => list.map((o) => JSON.stringify(o)).sort();
  return {
    links: s.links.map(({ index: _, counters: _c, shown: _s, lowerUp: _l, operstate: _o, ...l }) => l).sort((a, b) => (a.name < b.name ? -1 : 1)),
    addresses: sorted(s.addresses), routes: sorted(s.routes.filter((r) => r.protocol !== PROTOCOL.kernel).map(({ linkdown: _, dead: _d, ...r }) => r)), rules: sorted(s.rules), neighbours: sorted(s.neighbours.filter((n) => n.state === 'permanent')), fdb: sorted(s.fdb.filter((f) => f.dst !== undefined)),
    nft: sorted(s.nft.map((o) => withoutHandle(o))),
  };
}

const withoutHandle = (o: NetnsState['nft'][number]): unknown => Object.entries(o).map(([kind, { handle: _, ...body }]) => ({ [kind]: body }));
