/**
 * What every backend must keep, whichever it is: run through for each in backends.test.ts. A backend is
 * described by one entry; reasons to leave a check out stand in the entry, in words.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernelHas, Netns, publicKeyOf, RtNetlink } from '@podway/kernel';
import { apply, diff, emptyState, mergeStates, observe, podwayOwnership, type NetnsState } from '@podway/netstate';
import { backendOf, parseNetworkConfig, planBackends, podMtu, wayOf, type LocalNode, type NetworkConfig, type Peer } from '../src/index.js';
import { inNs, lines, needsRoot } from './network.js';

export interface BackendCase {
  /** The `Backend` of a net-conf.json. */
  readonly settings: { readonly Type: string } & Readonly<Record<string, unknown>>;
  /** Bytes less than the uplink, by the family of the underlay; words: not served, and why. */
  readonly overhead: { readonly inet: number; readonly inet6: number | string };
  /** Words: who makes the routes to peers in its place. */
  readonly routes: 'one a pod range' | { readonly madeBy: string };
  /** Why a node of another backend is not served; undefined: it does not matter to this one. */
  readonly foreign: RegExp | undefined;
  /** Commands in a node's namespace and all they print for two peers, m2 and m3, of node m1. */
  readonly forms: readonly (readonly [command: string, output: readonly string[]])[];
  readonly skipForms: string | false;
}

/** What of WireGuard can be made in this kernel without a program. */
const IMPLEMENTATION = needsRoot || !kernelHas('link', 'wireguard') ? 'userspace' : 'kernel';
const privateKeyOfNode = (n: number): string => Buffer.alloc(32, n).toString('base64');
export const keyOfNode = (n: number): string => publicKeyOf(privateKeyOfNode(n));
const secrets = (name: string): string | undefined => [1, 101].map((n) => privateKeyOfNode(n)).find((k) => publicKeyOf(k) === name);

export const local = (uplink: Partial<LocalNode['uplink']> = {}): LocalNode => ({
  name: 'm1', podCidrs: ['10.244.0.0/24'], wireguard: { implementation: IMPLEMENTATION, publicKeys: { 0: keyOfNode(1), 1: keyOfNode(101) } }, uplink: { dev: 'eth0', address: '172.18.0.2', prefix: 16, mtu: 1500, ...uplink },
});

/** Node n of the same kind, as it publishes itself. */
export function peer(config: NetworkConfig, n: number): Peer {
  const self = { ...local({ address: `172.18.0.${n + 1}` }), name: `m${n}`, podCidrs: [`10.244.${n - 1}.0/24`], wireguard: { implementation: IMPLEMENTATION, publicKeys: { 0: keyOfNode(n), 1: keyOfNode(100 + n) } } } as const;
  return { name: self.name, podCidrs: self.podCidrs, ends: planBackends(config, undefined, self, []).ends };
}

export function backendContract(c: BackendCase): void {
  const config = parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: c.settings }));
  const backend = backendOf(config);
  const name = JSON.stringify(c.settings);
  const peers = [2, 3].map((n) => peer(config, n));
  const state = (p: readonly Peer[]): NetnsState => mergeStates('m1', backend.desired(config, local(), p, podMtu(config, local())));

  for (const mtu of [1500, 9000, 1400]) {
    test(`${name}: MTU over an uplink of ${mtu}`, () => {
      assert.equal(backend.overhead(config, 'inet'), c.overhead.inet);
      assert.equal(podMtu(config, local({ mtu })), mtu - c.overhead.inet);
      if (typeof c.overhead.inet6 === 'number') assert.equal(podMtu(config, local({ mtu, address: 'fd00:18::2', prefix: 64 })), mtu - c.overhead.inet6);
    });
  }

  test(`${name}: what a node publishes is enough for its peers to accept it, and is plain JSON`, () => {
    for (const p of peers) {
      assert.equal(backend.refuses(config, local(), p), undefined);
      assert.deepEqual(JSON.parse(JSON.stringify(p.ends)), p.ends);
      assert.deepEqual([p.ends.uses, Object.keys(p.ends.accepts)], [wayOf(config), [wayOf(config)]]);
    }
    const stranger = backend.refuses(config, local(), { ...peers[0]!, ends: { publicIP: '172.18.0.9', uses: 'none', accepts: { none: {} } } });
    if (c.foreign) assert.match(stranger ?? '', c.foreign);
    else assert.equal(stranger, undefined);
  });

  test(`${name}: desired is pure, does not depend on the order of peers, and each peer is its own part`, () => {
    const [both, turned, one, none] = [state(peers), state([...peers].reverse()), state(peers.slice(0, 1)), state([])];
    assert.deepEqual(diff(both, turned, podwayOwnership(() => true)), []);
    assert.deepEqual(state(peers), both, 'twice the same');
    for (const kind of ['routes', 'neighbours', 'fdb', 'wireguardPeers'] as const) {
      const count = (s: NetnsState): number => s[kind]?.length ?? 0;
      assert.equal(count(both) - count(none), 2 * (count(one) - count(none)), `${kind}: as many for each peer`);
      for (const o of one[kind] ?? []) assert.ok(both[kind]!.some((x) => JSON.stringify(x) === JSON.stringify(o)));
    }
    const wanted = c.routes === 'one a pod range' ? 1 : 0;
    for (const p of peers) for (const cidr of p.podCidrs) assert.equal(both.routes.filter((r) => r.dst === cidr).length, wanted);
    assert.ok(both.routes.every((r) => r.why), 'every route says what it is for');
  });

  test(`${name}: in the kernel: nothing left to do the second time, exactly its forms, all of it taken back`, { skip: c.skipForms }, () => {
    const ns = Netns.createNameless(c.settings.Type);
    try {
      RtNetlink.with(ns, (nl) => {
        nl.setLink(1, { up: true });
        nl.createLink({ kind: 'veth', name: 'eth0', peer: { name: 'far' } });
        for (const name of ['eth0', 'far']) nl.setLink(name, { up: true });
        nl.addAddr({ index: nl.mustLink('eth0').index, address: '172.18.0.2', prefix: 16 });
      });
      const ownership = podwayOwnership((a) => a.address.startsWith('10.244.'));
      const before = observe(ns);
      const first = apply(ns, diff(state(peers), before, ownership), { secrets });
      assert.deepEqual(first.failed.map((f) => f.error.message), []);
      assert.deepEqual(diff(state(peers), observe(ns), ownership), []);
      for (const [command, output] of c.forms) assert.deepEqual(lines(inNs(ns, ...command.split(' '))).sort(), [...output].sort(), command);
      const left = apply(ns, diff(state(peers.slice(0, 1)), observe(ns), ownership), { secrets });
      assert.deepEqual(left.failed, []);
      assert.deepEqual(observe(ns).routes.filter((r) => r.dst === '10.244.2.0/24'), []);
      apply(ns, diff(emptyState('none'), observe(ns), ownership));
      const after = observe(ns);
      assert.deepEqual(after.links.map((l) => l.name), before.links.map((l) => l.name));
      assert.deepEqual(after.routes.filter((r) => r.family === 'inet'), before.routes.filter((r) => r.family === 'inet'));
    } finally {
      ns.close();
    }
  });
}
