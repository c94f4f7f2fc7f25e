/** Who is a peer, who is not (yet), and why; which device is the uplink. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '@podway/kube';
import { emptyState, type NetnsState } from '@podway/netstate';
import { backendOf, BACKEND_ANNOTATION, parseNetworkConfig, peersOf, podCidrsOf, uplinkOf, type BackendEnd, type LocalNode, type NodeEnds } from '../src/index.js';

const ends = (n: number, end: BackendEnd = {}): NodeEnds => ({
  publicIP: `172.18.0.${n}`, uses: 'vxlan', accepts: { vxlan: { vtepMAC: `0e:70:77:f4:0${n}:00`, vni: 1, port: 8472, ...end } },
});
const node = (name: string, podCidrs: readonly string[], annotation: NodeEnds | string | undefined): Node => ({
  metadata: { name, ...(annotation === undefined ? {} : { annotations: { [BACKEND_ANNOTATION]: typeof annotation === 'string' ? annotation : JSON.stringify(annotation) } }) },
  spec: { podCIDRs: [...podCidrs] },
} as Node);
const self = node('m1', ['10.244.0.0/24'], ends(1));
const why = (...nodes: Node[]): string[] => peersOf([self, ...nodes], 'm1').problems.map((p) => `${p.node}: ${p.reason}`);

test('all others, by name, whatever the order they came in', () => {
  const nodes = [node('m3', ['10.244.2.0/24'], ends(3)), self, node('m2', ['10.244.1.0/24'], ends(2))];
  assert.deepEqual(peersOf(nodes, 'm1'), {
    peers: [{ name: 'm2', podCidrs: ['10.244.1.0/24'], ends: ends(2), labels: {} }, { name: 'm3', podCidrs: ['10.244.2.0/24'], ends: ends(3), labels: {} }], problems: [],
  });
  assert.deepEqual(peersOf([...nodes].reverse(), 'm1'), peersOf(nodes, 'm1'));
});

const UNPUBLISHED = 'it has not published its end of the network yet';
const cases: [what: string, node: Node, reason: string][] = [
  ['no pod CIDR', node('m2', [], ends(2)), 'it has no pod CIDR yet'],
  ['a pod CIDR that is none', node('m2', ['10.244.1'], ends(2)), 'it has no pod CIDR yet'],
  ['no annotation', node('m2', ['10.244.1.0/24'], undefined), UNPUBLISHED],
  ['an annotation that is no JSON', node('m2', ['10.244.1.0/24'], '{'), UNPUBLISHED],
  ['an annotation that is null', node('m2', ['10.244.1.0/24'], 'null'), UNPUBLISHED],
  ['an address that is none', node('m2', ['10.244.1.0/24'], { ...ends(2), publicIP: 'm2' }), UNPUBLISHED],
  ['an annotation of another form', node('m2', ['10.244.1.0/24'], JSON.stringify({ publicIP: '172.18.0.2', uses: 'vxlan' })), UNPUBLISHED],
];
for (const [what, n, reason] of cases) test(`not a peer: ${what}`, () => assert.deepEqual(why(n), [`m2: ${reason}`]));

test('a pod CIDR that two have: the first by name keeps it, the other is told, and so is one that has ours', () => {
  const twice = [node('m3', ['10.244.1.0/24'], ends(3)), node('m2', ['10.244.1.0/24'], ends(2))];
  assert.deepEqual(why(...twice), ['m3: its pod CIDR 10.244.1.0/24 is already that of node m2']);
  assert.deepEqual(why(node('m2', ['10.244.0.128/25'], ends(2))), ['m2: its pod CIDR 10.244.0.128/25 overlaps that of this node, m1']);
  assert.deepEqual(why(node('m2', ['10.244.0.0/24'], ends(2))), ['m2: its pod CIDR 10.244.0.0/24 overlaps that of this node, m1']);
});

const refusals: [what: string, backend: object, ends: NodeEnds, reason: string | RegExp][] = [
  ['no VTEP MAC', { Type: 'vxlan' }, { ...ends(2), accepts: { vxlan: { vni: 1, port: 8472 } } }, 'it has not published its VTEP MAC'],
  ['another VNI', { Type: 'vxlan' }, ends(2, { vni: 2 }), 'its VNI is 2, here it is 1'],
  ['another port', { Type: 'vxlan' }, ends(2, { port: 4789 }), 'its VXLAN port is 4789, here it is 8472'],
  ['another backend', { Type: 'vxlan' }, { publicIP: '172.18.0.2', uses: 'host-gw', accepts: { 'host-gw': {} } }, 'it does not take VXLAN; it uses host-gw'],
  ['IPIP to a node without it', { Type: 'ipip' }, ends(2), 'it does not take IPIP; it uses vxlan'],
  ['host-gw to another subnet', { Type: 'host-gw' }, { ...ends(2), publicIP: '172.19.0.2' }, /not on this node's subnet 172\.18\.0\.1\/16: host-gw reaches neighbours only/],
];
for (const [what, Backend, other, reason] of refusals) {
  test(`refused by ${(Backend as { Type: string }).Type}: ${what}`, () => {
    const config = parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend }));
    const here: LocalNode = { name: 'm1', podCidrs: ['10.244.0.0/24'], uplink: { dev: 'eth0', address: '172.18.0.1', prefix: 16, mtu: 1500 } };
    const said = backendOf(config).refuses(config, here, { name: 'm2', podCidrs: ['10.244.1.0/24'], ends: other });
    if (typeof reason === 'string') assert.equal(said, reason);
    else assert.match(said ?? '', reason);
  });
}

test('podCIDR stands in for podCIDRs', () => {
  assert.deepEqual(podCidrsOf({ metadata: { name: 'x' }, spec: { podCIDR: '10.244.7.0/24' } } as Node), ['10.244.7.0/24']);
  assert.deepEqual(podCidrsOf({ metadata: { name: 'x' } } as Node), []);
});

test('the uplink: the device of the InternalIP; without one, that of the default route; else none', () => {
  const state: NetnsState = {
    ...emptyState('n'),
    links: [{ name: 'eth0', kind: 'device', up: true, mtu: 1500 }, { name: 'eth1', kind: 'device', up: true, mtu: 9000 }],
    addresses: [
      { dev: 'eth0', family: 'inet', address: '172.18.0.2', prefix: 16, scope: 'global' }, { dev: 'eth1', family: 'inet', address: '10.9.0.2', prefix: 24, scope: 'global' },
    ],
    routes: [{ family: 'inet', dst: '0.0.0.0/0', type: 'unicast', table: 254, protocol: 3, metric: 0, gateway: '172.18.0.1', dev: 'eth0' }],
  };
  assert.deepEqual(uplinkOf(state, ['10.9.0.2']), { dev: 'eth1', address: '10.9.0.2', prefix: 24, mtu: 9000 });
  for (const ips of [[], ['192.0.2.1']]) assert.deepEqual(uplinkOf(state, ips), { dev: 'eth0', address: '172.18.0.2', prefix: 16, mtu: 1500 });
  assert.equal(uplinkOf({ ...state, routes: [] }, []), undefined);
  assert.equal(uplinkOf(emptyState('n'), ['172.18.0.2']), undefined);
});
