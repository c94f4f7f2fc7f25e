import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { isPodwayError } from '@podway/errors';
import { diff, emptyState, observe, readState, STATE_SCHEMA } from '../src/index.js';
import { desiredState } from './arbitrary.js';
import { addForeign, needsRoot, ownership, withScratch } from './scratch.js';

const refusal = (json: unknown): string => {
  try {
    readState(json, 'bundle.json');
  } catch (e) {
    assert.ok(isPodwayError(e), String(e));
    return `${e.code} ${e.message}`;
  }
  return 'accepted';
};

test('a state comes back from JSON as it went', () => {
  fc.assert(fc.property(desiredState, (s) => assert.deepEqual(readState(JSON.stringify(s)), JSON.parse(JSON.stringify(s)))));
});

test('so does what was observed, with everything in it', { skip: needsRoot }, async () => {
  await withScratch((s) => {
    addForeign(s);
    s.ip('link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
    s.ip('link', 'set', 'va', 'master', 'up0');
    s.ip('route', 'add', '10.9.0.0/16', 'nexthop', 'via', '172.18.0.7', 'dev', 'up0', 'nexthop', 'via', '172.18.0.8', 'dev', 'up0', 'weight', '3');
    const seen = observe(s.ns);
    assert.deepEqual(seen.unread, []);
    assert.ok(seen.nft.length > 0 && seen.fdb.length > 0 && seen.qdiscs.length > 0);
    assert.deepEqual(readState(JSON.stringify(seen)), seen);
  });
});

test('a newer schema is refused, by name', () => {
  assert.equal(refusal({ ...emptyState(), schema: STATE_SCHEMA + 1, links: 'in another form' }), 'STATE_NEWER bundle.json has schema 2, this version of Podway reads up to 1');
});

test('what is missing is filled in, and lists nobody wrote are unknown, not empty', () => {
  const s = readState({
    schema: 1, links: [{ name: 'v', kind: 'vxlan', up: true, vxlan: { vni: 1, port: 8472 } }], routes: [{ family: 'inet', dst: '10.0.0.0/8' }], unread: ['nftables: no library'],
  }, 'old.json');
  assert.deepEqual(s.links[0]?.vxlan, { vni: 1, port: 8472, learning: false });
  assert.deepEqual(s.routes[0], { family: 'inet', dst: '10.0.0.0/8', type: 'unicast', table: 254, protocol: 0, metric: 0 });
  assert.deepEqual(s.netns, { id: '', name: '' });
  assert.deepEqual(s.unread, [
    'nftables: no library', 'addresses: not in old.json', 'rules: not in old.json', 'neighbours: not in old.json', 'fdb: not in old.json', 'qdiscs: not in old.json',
    'nft: not in old.json', 'sysctls: not in old.json',
  ]);
});

test('fields of a later minor version are kept', () => {
  const s = readState({ ...emptyState(), links: [{ name: 'a', kind: 'veth', up: false, colour: 'red' }], extra: 1 });
  assert.equal((s.links[0] as unknown as Record<string, unknown>)['colour'], 'red');
  assert.equal((s as unknown as Record<string, unknown>)['extra'], 1);
});

test('everything that is wrong is told at once, each with its place', () => {
  assert.equal(
    refusal({
      ...emptyState(), schema: 1, links: [{ name: 'a', kind: 'veth', up: 'yes' }, null], routes: [{ family: 'ipx', dst: 'default' }, { family: 'inet', dst: '10.0.0.0/8', nexthops: [{ weight: -1 }] }],
      sysctls: { 'net.ipv4.ip_forward': 1 }, nft: [{ table: 'podway' }], fdb: {},
    }),
    'STATE_BAD bundle.json is not a network state: links[0].up: must be true or false, is "yes" (a string); links[1]: must be an object, is null (null); ' +
      'routes[0].family: must be "inet" or "inet6", is "ipx" (a string); routes[0].dst: must be a prefix such as 10.0.0.0/8, is "default" (a string); ' +
      'routes[1].nexthops[0].dev: must be a string that is not empty, is missing; routes[1].nexthops[0].weight: must be a whole number of at least 0, is -1 (a number); ' +
      'fdb: must be a list, is {} (an object); nft[0]: must be an nftables object such as {"table": {…}}, is {"table":"podway"} (an object); ' +
      'sysctls["net.ipv4.ip_forward"]: must be a string, is 1 (a number)',
  );
  assert.match(refusal('{"schema": 1'), /^STATE_BAD bundle\.json is not JSON: /);
  assert.equal(refusal('[]'), 'STATE_BAD bundle.json is not a network state: it must be an object, is [] (a list)');
  assert.match(refusal({}), /schema: must be 1, is missing/);
});

test('no JSON whatever makes it fail in another way, and what it accepts can be compared', () => {
  const lists = ['links', 'addresses', 'routes', 'rules', 'neighbours', 'fdb', 'qdiscs', 'nft', 'sysctls', 'unread', 'netns'];
  const anything = fc.oneof(fc.jsonValue(), fc.record(Object.fromEntries(lists.map((k) => [k, fc.oneof(fc.jsonValue(), fc.constant([]))])), { requiredKeys: [] }).map((o) => ({ schema: 1, ...o })));
  fc.assert(fc.property(anything, (json) => {
    const answer = refusal(json);
    assert.match(answer, /^(accepted|STATE_)/);
    if (answer === 'accepted') diff(readState(json), emptyState(), ownership);
  }), { numRuns: 500 });
});
