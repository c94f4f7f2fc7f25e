/** What Services put into the table, and what reading the table gives back: pure. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { usableEndpoints, type IpFamily, type ServiceEndpoint, type ServiceModel, type ServicePort } from '@podway/kube';
import { baseChains, chainForms, changeCommands, endpointsOfFrontend, frontendsOf, indexText, isStale, LOCAL_OFFSET, serviceEntries, ServiceTable, staleAffinity, tableDifference, type Entry, type SetName } from '../src/index.js';

const NODE = { name: 'm1', addresses: ['172.18.0.2', 'fd01::2'] };

const endpoint = fc.record({
  last: fc.integer({ min: 1, max: 40 }), port: fc.constantFrom(80, 8080), ready: fc.boolean(), serving: fc.boolean(), terminating: fc.boolean(), node: fc.constantFrom('m1', 'm2'),
}).map(({ last, ...rest }): ServiceEndpoint => ({ address: `10.244.1.${last}`, ...rest }));
const endpoints = fc.uniqueArray(endpoint, { maxLength: 6, selector: (e) => `${e.address} ${e.port}` });
const v6 = (list: readonly ServiceEndpoint[]): ServiceEndpoint[] => list.map((e) => ({ ...e, address: e.address.replace('10.244.1.', 'fd00::') }));

const port = fc.record({ protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const), port: fc.integer({ min: 1, max: 5 }), four: endpoints, six: endpoints, hasNodePort: fc.boolean() });
const model = (n: number): fc.Arbitrary<ServiceModel> =>
  fc.record({
    ports: fc.uniqueArray(port, { minLength: 1, maxLength: 3, selector: (p) => `${p.protocol} ${p.port}` }), dual: fc.boolean(), external: fc.constantFrom('Cluster' as const, 'Local' as const),
    internal: fc.constantFrom('Cluster' as const, 'Local' as const), lb: fc.boolean(), sticky: fc.option(fc.constantFrom(60, 10800), { nil: undefined }),
    ranges: fc.option(fc.array(fc.constantFrom('10.0.0.0/8', '10.1.0.0/16', '192.0.2.1/32', '0.0.0.0/0', 'fd00::/8'), { minLength: 1, maxLength: 3 }), { nil: undefined }),
  }).map((m): ServiceModel => ({
    namespace: 'default', name: `s${n}`, type: m.lb ? 'LoadBalancer' : 'NodePort', headless: false, clusterIPs: [`10.96.0.${n}`, ...(m.dual ? [`fd00:96::${n}`] : [])], externalIPs: [],
    loadBalancerIPs: m.lb ? [`198.51.100.${n}`] : [], ...(m.lb && m.ranges ? { loadBalancerSourceRanges: m.ranges } : {}),
    ports: m.ports.map((p): ServicePort => ({
      name: '', protocol: p.protocol, port: p.port, endpoints: { IPv4: p.four, IPv6: v6(p.six) },
      // Every Service its own node ports, as the API gives them.
      ...(p.hasNodePort ? { nodePort: 30_000 + 100 * n + 10 * p.port } : {}),
    })),
    internalTrafficPolicy: m.internal, externalTrafficPolicy: m.external, ...(m.sticky === undefined ? {} : { affinitySeconds: m.sticky }),
  }));
const cluster = fc.integer({ min: 1, max: 5 }).chain((n) => fc.tuple(...Array.from({ length: n }, (_, i) => model(i + 1))));

/** What the kernel would do with a first packet, from the sets alone. */
function reached(t: Pick<ServiceTable, 'elements'>, family: IpFamily, address: string, protocol: string, port: number, from: 'inside' | 'outside'): 'refused' | 'dropped' | 'nothing' | Set<string> {
  const f = family === 'IPv4' ? 4 : 6;
  const key = `${address} . ${protocol.toLowerCase()} . ${port}`;
  const get = (s: string, k = key): string | undefined => t.elements.get(`${s}${f}` as SetName)?.get(k);
  const verdict = (from === 'outside' ? get('outside') : undefined) ?? get('services');
  if (verdict === 'drop') return 'dropped';
  if (verdict === undefined) {
    const refused = get('refused');
    return refused === 'drop' ? 'dropped' : refused !== undefined || get('clusterips', address) !== undefined ? 'refused' : 'nothing';
  }
  const [, kind, count] = /^goto (?:stick-)?(any|here)-(\d+)$/.exec(verdict)!;
  const offset = kind === 'any' ? 0 : LOCAL_OFFSET;
  return new Set(Array.from({ length: Number(count) }, (_, i) => get('endpoints', `${key} . ${indexText(offset + i + 1)}`) ?? 'MISSING'));
}

const names = (list: readonly ServiceEndpoint[]): Set<string> => new Set(list.map((e) => `${e.address} . ${e.port}`));

describe('the table of Services', () => {
  test('reaches exactly the endpoints that may be used, by every address, from inside and outside', () => {
    fc.assert(fc.property(cluster, (models) => {
      const t = new ServiceTable();
      models.forEach((m, i) => t.put(`${i}`, serviceEntries(m, NODE)));
      const taken = new Set<string>();
      for (const m of models) for (const p of m.ports) for (const family of ['IPv4', 'IPv6'] as const) {
        for (const a of frontendsOf(m, p, family, NODE)) {
          const id = `${a.address} ${p.protocol} ${a.port}`;
          if (taken.has(id)) continue;
          taken.add(id);
          const all = p.endpoints[family];
          const any = usableEndpoints(all);
          const here = usableEndpoints(all, 'Local', 'm1');
          const want = (list: readonly ServiceEndpoint[]) => (any.length === 0 ? 'refused' : list.length === 0 ? 'dropped' : names(list));
          const inside = a.kind === 'ClusterIP' && m.internalTrafficPolicy === 'Local' ? here : any;
          assert.deepEqual(reached(t, family, a.address, p.protocol, a.port, 'inside'), want(inside), `${id} from inside`);
          const outside = a.kind === 'ClusterIP' ? inside : m.externalTrafficPolicy === 'Local' ? here : any;
          assert.deepEqual(reached(t, family, a.address, p.protocol, a.port, 'outside'), want(outside), `${id} from outside`);
        }
      }
      // Nobody else is reached: every list belongs to an address that was asked for.
      for (const f of [4, 6] as const) for (const key of t.elements.get(`services${f}`)!.keys()) {
        const [address, protocol, port] = key.split(' . ');
        assert.ok(taken.has(`${address} ${protocol!.toUpperCase()} ${port}`), key);
      }
    }), { numRuns: 300 });
  });

  test('by changes, in any order, comes to the same as from nothing', () => {
    const owners = ['a', 'b', 'c', 'd'];
    fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.option(model(1), { nil: undefined })), { maxLength: 12 }), (steps) => {
      const t = new ServiceTable();
      // A copy that only sees the changes: what the kernel has.
      const kernel = { elements: new Map([...t.elements].map(([k]) => [k, new Map<string, string>()])), chains: new Set<string>() };
      const now = new Map<string, readonly Entry[]>();
      for (const [i, m] of steps) {
        const entries = m ? serviceEntries(m, NODE) : [];
        const change = t.put(owners[i]!, entries);
        now.set(owners[i]!, entries);
        for (const c of change.elements) {
          const set = kernel.elements.get(c.set)!;
          assert.equal(set.get(c.key), c.before, `${c.set} ${c.key}: what was there`);
          if (c.after === undefined) set.delete(c.key);
          else set.set(c.key, c.after);
        }
        change.chainsAdded.forEach((c) => kernel.chains.add(c));
        change.chainsRemoved.forEach((c) => kernel.chains.delete(c));
        assert.deepEqual(tableDifference(t, kernel), { elements: [], chainsAdded: [], chainsRemoved: [] });
      }
      const anew = new ServiceTable();
      for (const o of owners) anew.put(o, now.get(o) ?? []);
      assert.deepEqual(tableDifference(t, anew), { elements: [], chainsAdded: [], chainsRemoved: [] }, 'whatever came first');
    }), { numRuns: 200 });
  });

  test('has no more rules for 500 Services than for one of each kind', () => {
    const at = (n: number): number => {
      const t = new ServiceTable();
      for (let i = 1; i <= n; i++) t.put(`${i}`, serviceEntries(simple(`10.96.${i >> 8}.${i & 255}`, 1 + (i % 3)), NODE));
      return [...baseChains(['10.244.0.0/16']), ...[...t.chains].map(chainForms)].reduce((sum, c) => sum + c.rules.length, 0);
    };
    assert.equal(at(500), at(3));
  });

  test('one endpoint more is one element more, and the count of the Service\'s list', () => {
    const t = new ServiceTable();
    t.put('x', serviceEntries(simple('10.96.0.9', 2), NODE));
    t.put('a', serviceEntries(simple('10.96.0.1', 2), NODE));
    const more = t.put('a', serviceEntries(simple('10.96.0.1', 3), NODE));
    assert.deepEqual(more, {
      elements: [
        { set: 'services4', key: '10.96.0.1 . tcp . 80', before: 'goto any-2', after: 'goto any-3' },
        { set: 'endpoints4', key: '10.96.0.1 . tcp . 80 . 0:3', before: undefined, after: '10.244.1.3 . 8080' },
      ], chainsAdded: ['any-3'], chainsRemoved: [],
    });
    const text = changeCommands(more).split('\n');
    assert.ok(text.findIndex((l) => l.startsWith('add chain')) < text.findIndex((l) => l.startsWith('add element')), 'the chain is there before an element leads to it');
    const other = t.put('a', serviceEntries({ ...simple('10.96.0.1', 3), ports: [{ ...simple('10.96.0.1', 3).ports[0]!, endpoints: { IPv4: ends(3).map((e, i) => (i === 2 ? { ...e, address: '10.244.9.9' } : e)), IPv6: [] } }] }, NODE));
    assert.deepEqual(other.elements, [{ set: 'endpoints4', key: '10.96.0.1 . tcp . 80 . 0:3', before: '10.244.1.3 . 8080', after: '10.244.9.9 . 8080' }]);
  });

  test('of two Services that want one address the older has it, and the other gets it when that one goes', () => {
    const t = new ServiceTable();
    t.put('2026-02 default/b', serviceEntries(simple('10.96.0.1', 1), NODE));
    t.put('2026-01 default/a', serviceEntries(simple('10.96.0.1', 2), NODE));
    assert.equal(t.elements.get('services4')!.get('10.96.0.1 . tcp . 80'), 'goto any-2');
    assert.deepEqual(t.conflicts().map((c) => [c.owner, c.holder])[0], ['2026-02 default/b', '2026-01 default/a']);
    t.put('2026-01 default/a', []);
    assert.equal(t.elements.get('services4')!.get('10.96.0.1 . tcp . 80'), 'goto any-1');
    assert.deepEqual(t.conflicts(), []);
  });

  test('headless Services and names of others put nothing into it', () => {
    assert.deepEqual(serviceEntries({ ...simple('10.96.0.1', 2), headless: true }, NODE), []);
    assert.deepEqual(serviceEntries({ ...simple('10.96.0.1', 2), type: 'ExternalName' }, NODE), []);
  });
});

describe('what is forgotten', () => {
  const t = new ServiceTable();
  t.put('a', serviceEntries({ ...simple('10.96.0.1', 2), affinitySeconds: 60, ports: [{ ...simple('10.96.0.1', 2).ports[0]!, protocol: 'UDP', port: 53 }] }, NODE));
  const flow = (replySrc: string, sport: number, dport = 53, protocol = 17) => ({
    id: 1, family: 'inet' as const, protocol, orig: { src: '10.244.0.2', dst: '10.96.0.1', sport: 4000, dport, icmp: undefined, zone: undefined },
    reply: { src: replySrc, dst: '10.244.0.2', sport, dport: 4000, icmp: undefined, zone: undefined }, status: [], state: undefined, timeout: 30, mark: 0, zone: 0, helper: undefined, counters: undefined,
  });

  test('UDP flows to who is no endpoint any more, and to the bare address', () => {
    assert.deepEqual(endpointsOfFrontend(t, '10.96.0.1 . udp . 53'), new Set(['10.244.1.1 . 8080', '10.244.1.2 . 8080']));
    for (const [what, f, stale] of [
      ['an endpoint', flow('10.244.1.1', 8080), false], ['one that is gone', flow('10.244.1.7', 8080), true], ['the right address, another port', flow('10.244.1.1', 80), true],
      ['not translated at all', flow('10.96.0.1', 53), true], ['a port of nobody', flow('10.244.1.7', 8080, 54), false], ['TCP', flow('10.244.1.7', 8080, 53, 6), false],
    ] as const) assert.equal(isStale(t, f), stale, what);
  });

  test('what clients are remembered for', () => {
    const key = (client: string): string => `10.96.0.1 . udp . 53 . ${client}`;
    const remembered = new Map([[key('10.244.0.2'), '10.244.1.1 . 8080'], [key('10.244.0.3'), '10.244.1.9 . 8080'], ['10.96.0.9 . tcp . 80 . 10.244.0.2', '10.244.1.1 . 8080']]);
    assert.deepEqual(staleAffinity(t, remembered), [key('10.244.0.3'), '10.96.0.9 . tcp . 80 . 10.244.0.2']);
  });
});

function ends(n: number): ServiceEndpoint[] {
  return Array.from({ length: n }, (_, i) => ({ address: `10.244.1.${i + 1}`, port: 8080, ready: true, serving: true, terminating: false, node: 'm2' }));
}

function simple(ip: string, n: number): ServiceModel {
  return {
    namespace: 'default', name: 'web', type: 'ClusterIP', headless: false, clusterIPs: [ip], externalIPs: [], loadBalancerIPs: [],
    ports: [{ name: '', protocol: 'TCP', port: 80, endpoints: { IPv4: ends(n), IPv6: [] } }], internalTrafficPolicy: 'Cluster', externalTrafficPolicy: 'Cluster',
  };
}
