import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CniError, type Ip, formatIp, isCniError, parseIp } from '@podway/cni';
import { type AllocationState, allocate, allocateFixed, capacity, rangeSets, requestedByAnnotation, setsOfPodCidrs, type RangeSet, type RangeSpec } from '../src/ipam/index.js';

const setOf = (...specs: RangeSpec[]): RangeSet => {
  const [set] = rangeSets([specs]);
  assert.ok(set);
  return set;
};

function state(o: { taken?: string[]; last?: string; released?: Record<string, number>; now?: number } = {}): AllocationState {
  const taken = new Set(o.taken);
  return {
    holder: (ip) => (taken.has(formatIp(ip)) ? `pod default/${formatIp(ip)}` : undefined),
    releasedAt: (ip) => o.released?.[formatIp(ip)],
    lastGiven: o.last === undefined ? undefined : parseIp(o.last),
    now: o.now ?? 0,
    reuseDelayMs: 30_000,
  };
}

const r29 = [{ subnet: '10.0.0.0/29' }]; // gives .2 to .6
const two = [{ subnet: '10.0.0.0/30' }, { subnet: '10.0.1.0/30' }]; // .0.2, .1.2
const table: { what: string; ranges: RangeSpec[]; state?: Parameters<typeof state>[0]; next: string | 'exhausted' }[] = [
  { what: 'the first is after network and gateway', ranges: r29, next: '10.0.0.2' },
  { what: 'next after the last given', ranges: r29, state: { last: '10.0.0.3' }, next: '10.0.0.4' },
  { what: 'freed ones behind the pointer wait their turn', ranges: r29, state: { last: '10.0.0.4', taken: ['10.0.0.4'] }, next: '10.0.0.5' },
  { what: 'around the end, past broadcast, network and gateway', ranges: r29, state: { last: '10.0.0.6', taken: ['10.0.0.6'] }, next: '10.0.0.2' },
  { what: 'around the end to the one hole', ranges: r29, state: { last: '10.0.0.4', taken: ['10.0.0.2', '10.0.0.4', '10.0.0.5', '10.0.0.6'] }, next: '10.0.0.3' },
  { what: 'the last given itself, when it alone is free', ranges: r29, state: { last: '10.0.0.4', taken: ['10.0.0.2', '10.0.0.3', '10.0.0.5', '10.0.0.6'] }, next: '10.0.0.4' },
  { what: 'all taken', ranges: r29, state: { taken: ['10.0.0.2', '10.0.0.3', '10.0.0.4', '10.0.0.5', '10.0.0.6'] }, next: 'exhausted' },
  { what: 'a pointer outside of all ranges is as none', ranges: r29, state: { last: '192.168.0.9' }, next: '10.0.0.2' },
  { what: 'released just now: another is taken', ranges: r29, state: { released: { '10.0.0.2': 0 }, now: 29_999 }, next: '10.0.0.3' },
  { what: 'released long ago: free', ranges: r29, state: { released: { '10.0.0.2': 0 }, now: 30_000 }, next: '10.0.0.2' },
  { what: 'only recently released ones: the oldest release', ranges: r29, state: { taken: ['10.0.0.5', '10.0.0.6'], released: { '10.0.0.2': 30, '10.0.0.3': 10, '10.0.0.4': 20 }, now: 40 }, next: '10.0.0.3' },
  { what: 'a gateway in the middle is passed over', ranges: [{ subnet: '10.0.0.0/29', gateway: '10.0.0.3' }], state: { last: '10.0.0.2' }, next: '10.0.0.4' },
  { what: 'with a gateway elsewhere .1 is given', ranges: [{ subnet: '10.0.0.0/29', gateway: '10.0.0.6' }], next: '10.0.0.1' },
  { what: 'rangeStart and rangeEnd', ranges: [{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.100', rangeEnd: '10.0.0.101' }], state: { last: '10.0.0.101' }, next: '10.0.0.100' },
  { what: 'a second range when the first is full', ranges: two, state: { last: '10.0.0.2', taken: ['10.0.0.2'] }, next: '10.0.1.2' },
  { what: 'from the second back to the first', ranges: two, state: { last: '10.0.1.2', taken: ['10.0.1.2'] }, next: '10.0.0.2' },
  { what: 'IPv6 has no broadcast: the last is given', ranges: [{ subnet: 'fd00::/125' }], state: { last: 'fd00::6' }, next: 'fd00::7' },
  { what: 'IPv6 in a /64', ranges: [{ subnet: 'fd00::/64' }], state: { last: 'fd00::ffff' }, next: 'fd00::1:0' },
  { what: 'the last of a /64, around', ranges: [{ subnet: 'fd00::/64' }], state: { last: 'fd00::ffff:ffff:ffff:ffff' }, next: 'fd00::2' },
];

for (const row of table) {
  test(`next: ${row.what}`, () => {
    const next = (): string => formatIp(allocate(setOf(...row.ranges), state(row.state)).ip);
    if (row.next === 'exhausted') assert.throws(next, (e) => isCniError(e, 'RANGE_EXHAUSTED'));
    else assert.equal(next(), row.next);
  });
}

test('a /24 gives 253; the 254th is told the range, how many are in use, and by whom', () => {
  const set = setOf({ subnet: '10.244.1.0/24' });
  const taken: string[] = [];
  let last: string | undefined;
  for (let i = 0; i < 253; i++) {
    last = formatIp(allocate(set, state({ taken, ...(last === undefined ? {} : { last }) })).ip);
    taken.push(last);
  }
  assert.deepEqual([taken[0], taken[252], new Set(taken).size, capacity(set.ranges[0] ?? assert.fail())], ['10.244.1.2', '10.244.1.254', 253, 253n]);
  assert.throws(
    () => allocate(set, state({ taken })),
    (e) =>
      e instanceof CniError &&
      e.cniCode === 101 &&
      e.message === 'range exhausted: no free address in 10.244.1.0/24: all 253 addresses are in use: 10.244.1.2 pod default/10.244.1.2; 10.244.1.3 pod default/10.244.1.3; 10.244.1.4 pod default/10.244.1.4; 10.244.1.5 pod default/10.244.1.5, and 249 more',
  );
});

test('a fixed address: given, or the reason why not', () => {
  const set = setOf({ subnet: '10.0.0.0/24' });
  const fixed = (a: string, taken: string[] = []): string => formatIp(allocateFixed(set, parseIp(a), state({ taken, released: { [a]: 0 } })).ip);
  assert.equal(fixed('10.0.0.100'), '10.0.0.100');
  const refused: [string, string[], RegExp][] = [
    ['10.0.0.1', [], /it is the gateway/],
    ['10.0.0.0', [], /not one that 10\.0\.0\.0\/24 can give/],
    ['10.0.0.255', [], /not one that 10\.0\.0\.0\/24 can give/],
    ['10.9.0.1', [], /not one that/],
    ['10.0.0.9', ['10.0.0.9'], /10\.0\.0\.9 is in use: by pod default\/10\.0\.0\.9/],
  ];
  for (const [a, taken, why] of refused) assert.throws(() => fixed(a, taken), (e) => isCniError(e, 'ADDRESS_TAKEN') && why.test(e.message), a);
});

test('ranges that cannot be', () => {
  const bad: [RangeSpec[][], RegExp][] = [
    [[[{ subnet: '10.0.0.0' }]], /"10\.0\.0\.0" is not in CIDR notation/],
    [[[{ subnet: '10.0.0.0/31' }]], /10\.0\.0\.0\/31 is too small/],
    [[[{ subnet: 'fd00::/127' }]], /too small/],
    [[[{ subnet: '10.0.0.0/24', gateway: '10.0.1.1' }]], /gateway "10\.0\.1\.1" is not an address of 10\.0\.0\.0\/24/],
    [[[{ subnet: '10.0.0.0/24', rangeStart: '10.0.0.9', rangeEnd: '10.0.0.8' }]], /is empty/],
    [[[{ subnet: '10.0.0.0/24' }, { subnet: 'fd00::/64' }]], /mixes IPv4 and IPv6/],
    [[[{ subnet: '10.0.0.0/16' }], [{ subnet: '10.0.5.0/24' }]], /overlap/],
    [[[]], /empty/],
  ];
  for (const [specs, why] of bad) assert.throws(() => rangeSets(specs), (e) => isCniError(e, 'INVALID_CONFIG') && why.test(e.message), String(why));
  assert.equal(rangeSets([[{ subnet: '10.0.0.0/24', rangeEnd: '10.0.0.99' }, { subnet: '10.0.0.0/24', rangeStart: '10.0.0.100' }]]).length, 1, 'parts of one subnet that do not overlap');
  assert.deepEqual(setsOfPodCidrs(['10.244.0.0/24', 'fd00:10:244::/64']).map((s) => s.id), ['10.244.0.0/24', 'fd00:10:244::/64']);
});

test('annotations', () => {
  const asked = (a: Record<string, string>): string[] => requestedByAnnotation(a).map(formatIp);
  assert.deepEqual(asked({}), []);
  assert.deepEqual(asked({ 'cni.projectcalico.org/ipAddrs': '["10.244.1.100"]' }), ['10.244.1.100']);
  assert.deepEqual(asked({ 'cni.projectcalico.org/ipAddrs': '["10.244.1.100"]', 'podway.io/ip-addrs': '10.244.1.7, fd00::7' }), ['10.244.1.7', 'fd00::7']);
  for (const text of ['["x"]', '[1]', '["10.0.0.1"', '10.0.0']) assert.throws(() => asked({ 'podway.io/ip-addrs': text }), (e) => isCniError(e, 'INVALID_CONFIG') && e.message.includes('podway.io/ip-addrs'));
});

/** What a set can give, worked out in the plainest way: every address of the subnets, one by one. */
function plainly(specs: readonly RangeSpec[]): string[] {
  const out: string[] = [];
  for (const s of specs) {
    const [base = '', prefix = ''] = s.subnet.split('/');
    const size = 2 ** (32 - Number(prefix));
    const start = base.split('.').reduce((v, p) => v * 256 + Number(p), 0);
    for (let i = 1; i < size - 1; i++) {
      const a = [24, 16, 8, 0].map((b) => Math.floor((start + i) / 2 ** b) % 256).join('.');
      if (a !== (s.gateway ?? [24, 16, 8, 0].map((b) => Math.floor((start + 1) / 2 ** b) % 256).join('.'))) out.push(a);
    }
  }
  return out;
}

test('random giving and taking back: never twice, never excluded, exhausted exactly, reuse delay kept', () => {
  const specsArb = fc.uniqueArray(fc.tuple(fc.integer({ min: 26, max: 30 }), fc.nat(3)), { minLength: 1, maxLength: 3, selector: ([, n]) => n }).map((list) => list.map(([p, n]): RangeSpec => ({ subnet: `10.0.${n}.0/${p}` })));
  const stepArb = fc.oneof({ weight: 3, arbitrary: fc.constant({ give: true, n: 0, ms: 0 }) }, { weight: 2, arbitrary: fc.record({ give: fc.constant(false), n: fc.nat(1000), ms: fc.nat(20_000) }) });
  fc.assert(
    fc.property(specsArb, fc.array(stepArb, { maxLength: 200 }), (specs, steps) => {
      const set = setOf(...specs);
      const all = plainly(specs);
      const taken = new Map<string, true>();
      const released = new Map<string, number>();
      let now = 0;
      let lastGiven: Ip | undefined;
      for (const step of steps) {
        if (!step.give) {
          now += step.ms;
          const gone = [...taken.keys()][step.n % Math.max(taken.size, 1)];
          if (gone !== undefined) {
            taken.delete(gone);
            released.set(gone, now);
          }
          continue;
        }
        const st: AllocationState = { holder: (ip) => (taken.has(formatIp(ip)) ? 'x' : undefined), releasedAt: (ip) => released.get(formatIp(ip)), lastGiven, now, reuseDelayMs: 30_000 };
        const free = all.filter((a) => !taken.has(a));
        if (free.length === 0) {
          assert.throws(() => allocate(set, st), (e) => isCniError(e, 'RANGE_EXHAUSTED'));
          continue;
        }
        const { ip, range } = allocate(set, st);
        const text = formatIp(ip);
        assert.ok(free.includes(text), `${text} is free and may be given`);
        assert.ok(ip.value >= range.first && ip.value <= range.last);
        const rested = free.filter((a) => now - (released.get(a) ?? -Infinity) >= 30_000);
        if (rested.length > 0) assert.ok(rested.includes(text), `${text} was released too recently`);
        else assert.equal(released.get(text), Math.min(...free.map((a) => released.get(a) ?? 0)), 'the one released longest ago');
        taken.set(text, true);
        released.delete(text);
        lastGiven = ip;
      }
    }),
    { numRuns: 300 },
  );
});
