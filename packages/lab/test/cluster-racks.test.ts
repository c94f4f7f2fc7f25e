/** Racks of a lab file: what is filled in, what cannot be, and who speaks BGP with whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseNetworkConfig, type BgpSettings } from '@podway/agent';
import { PodwayError } from '@podway/errors';
import { netConf, parseLabFile, withNode } from '../src/cluster/config.js';
import { speakers } from '../src/cluster/routers.js';

const HEAD = 'apiVersion: podway.io/v1alpha1\nkind: Lab\n';
const TWO = `${HEAD}underlay: {racks: [{name: r1, bgp: true}, {name: r2, asn: 65100}]}\n`;

const mistakes = (text: string): string[] => {
  try {
    parseLabFile(text, 'lab.yaml');
    return [];
  } catch (e) {
    assert.ok(e instanceof PodwayError && e.code === 'LAB_FILE_INVALID', String(e));
    return (e.said ?? '').split('\n').map((l) => l.trim()).filter(Boolean);
  }
};

test('racks take their subnets, links and AS numbers in order, nodes their racks in turn', () => {
  const c = parseLabFile(TWO, 'lab.yaml');
  assert.deepEqual(c.underlay.racks.map((r) => [r.subnet, r.gateway, r.asn, r.link.near, r.link.far]), [
    ['172.18.1.0/24', '172.18.1.1', 65001, '100.64.1.2', '100.64.1.1'], ['172.18.2.0/24', '172.18.2.1', 65100, '100.64.2.2', '100.64.2.1'],
  ]);
  assert.deepEqual(c.nodes.map((n) => [n.name, n.rack, n.address, n.labels]), [
    ['m1', 'r1', '172.18.1.2', { 'podway.io/rack': 'r1' }], ['m2', 'r2', '172.18.2.2', { 'podway.io/rack': 'r2' }], ['m3', 'r1', '172.18.1.3', { 'podway.io/rack': 'r1' }],
  ]);
});

test('an address tells the rack; a rack tells the address; MTUs come from above', () => {
  const c = parseLabFile(`${HEAD}underlay: {mtu: 9000, racks: [{name: a, subnet: 10.1.0.0/16}, {name: b, subnet: 10.2.0.0/24, mtu: 1400, switchMTU: 1300, link: {mtu: 1350}}]}
nodes: [{name: x, address: 10.2.0.9}, {name: y, rack: b}, {name: z}]\n`, 'lab.yaml');
  assert.deepEqual(c.nodes.map((n) => [n.rack, n.address]), [['b', '10.2.0.9'], ['b', '10.2.0.2'], ['a', '10.1.0.2']]);
  assert.deepEqual(c.underlay.racks.map((r) => [r.mtu, r.switchMTU, r.link.mtu]), [[9000, 9000, 9000], [1400, 1300, 1350]]);
});

test('a node more goes into the emptiest rack, or the one that is asked for; what is there stays', () => {
  const c = parseLabFile(TWO, 'lab.yaml');
  const more = withNode(c, { name: 'm4' });
  assert.deepEqual([more.nodes.at(-1)?.rack, more.nodes.at(-1)?.address], ['r2', '172.18.2.3']);
  assert.deepEqual([more.nodes.slice(0, 3), more.underlay, more.network], [c.nodes, c.underlay, c.network]);
  assert.equal(withNode(c, { name: 'm4', rack: 'r1' }).nodes.at(-1)?.address, '172.18.1.4');
  assert.throws(() => withNode(c, { name: 'm4', rack: 'r3' }), /rack: there is no rack r3; racks: r1, r2/);
});

const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['subnets that overlap', 'underlay: {racks: [{name: a, subnet: 10.1.0.0/16}, {name: b, subnet: 10.1.2.0/24}]}', ['^lab.yaml:3:\\d+: underlay.racks\\[1\\].subnet: 10.1.2.0/24 overlaps with 10.1.0.0/16 of rack a']],
  ['the ranges of pods and of links between routers', 'underlay: {racks: [{name: a, subnet: 10.244.3.0/24}, {name: b, subnet: 100.64.9.0/24}]}', ['overlaps with the cluster', 'overlaps with 100.64.0.0/15']],
  ['an underlay that is too small to be shared', 'underlay: {subnet: 192.168.1.0/24, racks: [{name: a}, {name: b, subnet: 192.168.1.0/25}]}', ['underlay.racks\\[0\\]: the underlay 192.168.1.0/24 has no range for it']],
  ['names', 'underlay: {racks: [{name: a}, {name: a}]}\nnodes: [{name: router-a}, {name: core}, {name: m, rack: c}]',
    ['racks\\[1\\].name: "a" is there twice', 'nodes\\[0\\].name: "router-a" is the name of a part', 'nodes\\[1\\].name: "core" is', 'nodes\\[2\\].rack: there is no rack c; racks: a, a']],
  ['a rack where there are none', 'nodes: [{name: m, rack: c}]', ['nodes\\[0\\].rack: there is no rack c; this underlay has none']],
  ['tunnels', 'underlay: {racks: [{name: a}, {name: b}], tunnels: [{between: [a, x]}, {between: [a, b], mtu: 1480}, {between: [b, b]}]}',
    ['tunnels\\[0\\].between\\[1\\]: there is no rack x; racks: a, b', 'tunnels\\[1\\].mtu: 1480 does not fit: the smaller of the two cables has 1500, the tunnel.s headers take 50, 1450 are left', 'tunnels\\[2\\].between: joins a rack with itself']],
  ['host-gw across racks', 'underlay: {racks: [{name: a}, {name: b}]}\nnetwork: {backend: {type: host-gw}}',
    ['^lab.yaml:4:\\d+: network.backend.type: host-gw reaches nodes of one subnet only: m1 is on 172.18.1.0/24, m2 is on 172.18.2.0/24; use vxlan']],
  ['bgp with routers that do not speak', 'underlay: {racks: [{name: a, bgp: true}, {name: b}]}\nnetwork: {backend: {type: bgp}}', ['network.backend.type: with bgp the routers must learn where pods are: rack b needs bgp: true']],
  ['bgp settings that the agents would refuse', 'network: {backend: {type: bgp, asn: 0, reflectors: ["a in"]}}', ['network.backend: .*asn: 0 is no AS number.*reflectors "a in"']],
  ['near misses', 'underlay: {rack: []}\nnodes: [{name: a, podCidr: 10.244.0.0/24}]', ['underlay.rack: unknown key; did you mean racks\\?', 'nodes\\[0\\].podCidr: unknown key; did you mean podCIDR\\?']],
];

for (const [name, text, expected] of CASES) {
  test(`mistakes with their place: ${name}`, () => {
    const found = mistakes(`${HEAD}${text}\n`);
    assert.equal(found.length, expected.length, found.join('\n'));
    for (const e of expected) assert.ok(found.some((f) => new RegExp(e).test(f)), `${e}\nin\n${found.join('\n')}`);
  });
}

test('nodes are told their routers, and routers each other, the core and their nodes', () => {
  const c = parseLabFile(`${TWO.replace(']}', '], tunnels: [{between: [r1, r2]}]}')}network: {backend: {type: bgp, asn: 64600, peers: [{address: 10.9.9.9, asn: 65200, multihop: 3}]}}\n`, 'lab.yaml');
  const { backend } = parseNetworkConfig(netConf(c)) as { backend: BgpSettings };
  assert.deepEqual(backend.peers, [
    { address: '172.18.1.1', asn: 65001, nodeSelector: 'podway.io/rack=r1' }, { address: '172.18.2.1', asn: 65100, nodeSelector: 'podway.io/rack=r2' }, { address: '10.9.9.9', asn: 65200, multihop: 3 },
  ]);
  const found = speakers(c, backend).map((r) => [r.name, r.asn, r.neighbours.map((n) => `${n.name} ${n.address} AS ${n.asn}${n.passive ? ', waits' : ''}`)]);
  assert.deepEqual(found, [
    ['router-r1', 65001, ['core 100.64.1.1 AS 65000', 'router-r2 100.65.1.2 AS 65100', 'node m1 172.18.1.2 AS 64600, waits', 'node m3 172.18.1.3 AS 64600, waits']],
    ['router-r2', 65100, ['core 100.64.2.1 AS 65000', 'router-r1 100.65.1.1 AS 65001', 'node m2 172.18.2.2 AS 64600, waits']],
    ['core', 65000, ['router-r1 100.64.1.2 AS 65001', 'router-r2 100.64.2.2 AS 65100']],
  ]);
  assert.deepEqual(speakers(parseLabFile(HEAD, 'lab.yaml'), backend), []);
});
