/** The route look-up against the kernel's own answers, on random tables. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { addRouteRequest, addRuleRequest, Netns, RtNetlink, type RouteSpec } from '@podway/kernel';
import { observe } from '@podway/netstate';
import { lookupRoute, routeText, selectSource } from '../src/simulate/route.js';
import { needsRoot } from './support.js';

/** Few bits in use, so that prefixes overlap and addresses hit them. */
const address = fc.tuple(fc.constantFrom(10, 172), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 1, max: 6 })).map((p) => p.join('.'));
const cidr = fc.tuple(address, fc.constantFrom(0, 8, 14, 16, 22, 23, 24, 29, 30, 31, 32)).map(([a, length]) => {
  const bits = a.split('.').reduce((n, x) => n * 256 + Number(x), 0);
  const base = length === 0 ? 0 : Math.floor(bits / 2 ** (32 - length)) * 2 ** (32 - length);
  return `${[24, 16, 8, 0].map((s) => Math.floor(base / 2 ** s) % 256).join('.')}/${length}`;
});
const route = fc.record({
  dst: cidr, dev: fc.constantFrom('a0', 'b0'), table: fc.constantFrom(254, 254, 100), metric: fc.constantFrom(0, 0, 10, 20),
  type: fc.constantFrom('unicast', 'unicast', 'unicast', 'blackhole', 'unreachable', 'prohibit', 'throw'), gateway: fc.boolean(), src: fc.boolean(),
});
const rule = fc.record({ priority: fc.integer({ min: 10, max: 400 }), src: fc.option(cidr, { nil: undefined }), dst: fc.option(cidr, { nil: undefined }), table: fc.constantFrom(100, 254), fwmark: fc.constantFrom(undefined, undefined, 5) });

describe('route look-up', needsRoot, () => {
  it('finds what the kernel finds', () => {
    fc.assert(
      fc.property(fc.array(route, { maxLength: 14 }), fc.array(rule, { maxLength: 3 }), fc.array(fc.tuple(address, fc.constantFrom(0, 5)), { minLength: 6, maxLength: 10 }), (routes, rules, queries) => {
        const ns = Netns.createNameless('routes');
        try {
          RtNetlink.with(ns, (nl) => {
            const at: Record<string, { index: number; gateway: string; own: string }> = {};
            for (const [i, dev] of ['a0', 'b0'].entries()) {
              const l = nl.createLink({ name: dev, kind: 'veth', peer: { name: `${dev}p` } });
              nl.addAddr({ index: l.index, address: `192.168.${i}.1`, prefix: 24 });
              nl.addAddr({ index: l.index, address: `192.168.${i}.77`, prefix: 24 });
              nl.setLink(dev, { up: true });
              nl.setLink(`${dev}p`, { up: true });
              at[dev] = { index: l.index, gateway: `192.168.${i}.9`, own: `192.168.${i}.77` };
            }
            const requests = routes.map((r) => {
              const spec: RouteSpec = r.type === 'unicast'
                ? { dst: r.dst, index: at[r.dev]!.index, table: r.table, metric: r.metric, ...(r.gateway ? { gateway: at[r.dev]!.gateway } : {}), ...(r.src ? { prefsrc: at[r.dev]!.own } : {}) }
                : { dst: r.dst, type: r.type as 'blackhole', table: r.table, metric: r.metric };
              return addRouteRequest(spec);
            });
            // Equal ones are refused: that is the kernel's business.
            nl.batch([...requests, ...rules.map((r) => addRuleRequest({ family: 'inet', ...JSON.parse(JSON.stringify(r)) as typeof r }))]);
            const state = observe(ns, { nft: false });
            for (const [dst, mark] of queries) {
              const mine = lookupRoute(state, { dst, mark });
              const theirs = nl.lookup({ dst, mark }, true);
              const name = (i: number | undefined) => state.links.find((l) => l.index === i)?.name;
              const asked = `${dst} mark ${mark}: ${mine.route ? routeText(mine.route) : mine.error}`;
              if (mine.error) {
                assert.equal(theirs, undefined, asked);
                continue;
              }
              assert.deepEqual(
                [mine.route?.dst, mine.route?.table, mine.route?.metric, mine.nexthops[0]?.dev, mine.nexthops[0]?.gateway],
                [theirs?.dst, theirs?.table, theirs?.metric, name(theirs?.index), theirs?.gateway], asked,
              );
              const used = nl.lookup({ dst, mark });
              assert.equal(selectSource(state, mine, mine.nexthops[0]!)?.address, used?.prefsrc, `source to ${asked}`);
            }
          });
        } finally {
          ns.close();
        }
      }),
      { numRuns: 60 },
    );
  });

  it('lists the losers with their reason', () => {
    const base = { family: 'inet' as const, type: 'unicast' as const, table: 254, protocol: 3, scope: 'global' as const };
    const state = {
      schema: 1 as const, netns: { id: '', name: '' }, links: [], addresses: [], neighbours: [], fdb: [], qdiscs: [], sysctls: {}, nft: [], unread: [],
      rules: [{ family: 'inet' as const, priority: 32766, action: 'lookup', table: 254 }],
      routes: [
        { ...base, dst: '0.0.0.0/0', gateway: '1.1.1.1', dev: 'x', metric: 0 },
        { ...base, dst: '10.0.0.0/8', gateway: '1.1.1.2', dev: 'x', metric: 100 },
        { ...base, dst: '10.0.0.0/8', gateway: '1.1.1.3', dev: 'y', metric: 50 },
        { ...base, dst: '10.1.0.0/16', gateway: '1.1.1.4', dev: 'z', metric: 0, dead: true },
      ],
    };
    const d = lookupRoute(state, { dst: '10.1.2.3', mark: 0 });
    assert.equal(d.nexthops[0]?.gateway, '1.1.1.3');
    assert.deepEqual(d.losing.map((l) => [l.route.gateway, l.why]), [
      ['1.1.1.4', 'its next hop is dead'], ['1.1.1.2', 'higher metric 100'], ['1.1.1.1', 'shorter prefix than /8'],
    ]);
    const two = lookupRoute({ ...state, routes: [{ ...base, dst: '10.0.0.0/8', metric: 0, nexthops: [{ gateway: '1.1.1.1', dev: 'x', weight: 1 }, { gateway: '1.1.1.2', dev: 'y', weight: 1 }] }] }, { dst: '10.1.2.3', mark: 0 });
    assert.deepEqual(two.nexthops.map((h) => h.dev), ['x', 'y']);
  });
});
