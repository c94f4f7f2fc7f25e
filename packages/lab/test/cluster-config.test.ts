/** The lab file: what it becomes, and that every mistake is told at once with its place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '@podway/errors';
import { defaultLab, labFileKeys, netConf, parseLabFile, withNode } from '../src/cluster/config.js';
import { LAB_FILE_TEXT } from '../src/cluster/lab-file-text.js';

const HEAD = 'apiVersion: podway.io/v1alpha1\nkind: Lab\n';

function mistakes(text: string): string[] {
  try {
    parseLabFile(text, 'lab.yaml');
  } catch (e) {
    assert.ok(e instanceof PodwayError);
    assert.equal(e.code, 'LAB_FILE_INVALID');
    return (e.said ?? '').split('\n').map((l) => l.trim()).filter(Boolean);
  }
  return [];
}

test('an empty lab is the default one without pods', () => {
  const c = parseLabFile(HEAD, 'lab.yaml');
  assert.deepEqual(c.nodes.map((n) => [n.name, n.address]), [['m1', '172.18.0.2'], ['m2', '172.18.0.3'], ['m3', '172.18.0.4']]);
  assert.deepEqual(c.network, { clusterCIDR: '10.244.0.0/16', nodeMask: 24, backend: { type: 'vxlan', vni: 1, port: 8472, crossSubnet: false }, wiring: 'bridge', gateway: 'host', ipam: 'podCIDR', blockSize: 26, mtu: undefined, masquerade: true, serviceCIDR: '10.96.0.0/12', proxy: 'podway' });
  assert.deepEqual(c.pods, []);
  assert.equal(defaultLab('x', 5).nodes.length, 5);
  assert.deepEqual(defaultLab('x', 1).pods.map((p) => p.name), ['web-a', 'web-b']);
});

test('addresses that are given are kept; the others take what is free', () => {
  const c = parseLabFile(`${HEAD}nodes:\n- name: a\n- name: b\n  address: 172.18.0.2\n- name: c\n`, 'lab.yaml');
  assert.deepEqual(c.nodes.map((n) => n.address), ['172.18.0.3', '172.18.0.2', '172.18.0.4']);
});

const CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['not YAML', `${HEAD}nodes: [`, [/^lab\.yaml:\d+:\d+: /.source]],
  ['an unknown key, and one below', `${HEAD}colour: red\nunderlay: {mtu: 1500, sub: x}\n`, ['^lab.yaml:4:23: underlay.sub: unknown key; there are: subnet, mtu, ', '^lab.yaml:3:1: colour: unknown key; there are: apiVersion, ']],
  ['wrong types', `${HEAD}nodes:\n- name: 5\nnetwork: {nodeMask: "24", backend: {type: magic}}\n`, ['^lab.yaml:4:9: nodes\\[0\\].name: .*string', '^lab.yaml:5:21: network.nodeMask: must be a number, and "24" is a string', '^lab.yaml:5:43: network.backend.type: .*vxlan']],
  ['ranges that overlap', `${HEAD}underlay: {subnet: 10.244.0.0/24}\n`, ['^lab.yaml:\\d+:\\d+: network.clusterCIDR: overlaps']],
  ['names that are there twice', `${HEAD}nodes:\n- name: m1\n- name: m1\npods:\n- name: p\n- name: p\n`, ['^lab.yaml:5:9: nodes\\[1\\].name: "m1" is there twice', '^lab.yaml:8:9: pods\\[1\\].name: "p" is there twice']],
  ['podCIDRs that overlap or lie outside', `${HEAD}nodes:\n- {name: a, podCIDR: 10.244.1.0/24}\n- {name: b, podCIDR: 10.244.1.128/25}\n- {name: c, podCIDR: 10.1.0.0/24}\n`,
    ['^lab.yaml:5:22: nodes\\[1\\].podCIDR: overlaps with that of node a', "^lab.yaml:6:22: nodes\\[2\\].podCIDR: is not within the cluster's range"]],
  ['addresses: taken, outside, no address, the router', `${HEAD}nodes:\n- {name: a, address: 172.18.0.9}\n- {name: b, address: 172.18.0.9}\n- {name: c, address: 10.0.0.1}\n- {name: d, address: 172.18.0.1}\n`,
    ['^lab.yaml:5:22: nodes\\[1\\].address: is already that of node a', '^lab.yaml:6:22: nodes\\[2\\].address: is not in', "^lab.yaml:7:22: nodes\\[3\\].address: is already that of the underlay's router"]],
  ['the network and broadcast address of the underlay', `${HEAD}underlay: {subnet: 192.168.1.0/24}\nnodes:\n- {name: a, address: 192.168.1.0}\n- {name: b, address: 192.168.1.255}\n`,
    ['^lab.yaml:5:22: nodes\\[0\\].address: is the underlay', '^lab.yaml:6:22: nodes\\[1\\].address: is the underlay']],
  ['more nodes than the underlay has addresses', `${HEAD}underlay: {subnet: 192.168.1.0/30}\nnodes: [{name: a}, {name: b}]\n`, ['^lab.yaml:4:20: nodes\\[1\\]: the underlay .* has no address left']],
  ['a fixed pod address outside its node', `${HEAD}nodes: [{name: a, podCIDR: 10.244.1.0/24}]\npods:\n- {name: p, node: a, address: 10.244.9.9}\n`, ["^lab.yaml:5:31: pods\\[0\\].address: is not in node a's range 10.244.1.0/24"]],
  ['a bad name of the lab', `name: No_Good\n${HEAD}`, ['^lab.yaml:1:7: name: ']],
  ['a pod on no such node; reserved names', `name: good\n${HEAD}nodes: [{name: outside}]\npods: [{name: p, node: x}]\n`,
    ['^lab.yaml:4:16: nodes\\[0\\].name: .*part of every lab', '^lab.yaml:5:24: pods\\[0\\].node: there is no node x']],
];

for (const [name, text, expected] of CASES) {
  test(`mistakes with their place: ${name}`, () => {
    const found = mistakes(text);
    assert.equal(found.length, expected.length, found.join('\n'));
    for (const e of expected) assert.ok(found.some((f) => new RegExp(e).test(f)), `${e}\nin\n${found.join('\n')}`);
  });
}

const DUAL = 'network: {ipFamily: dual}\n';

test('families: one, the other, or both, by name or by the ranges that are given', () => {
  const six = defaultLab('x', 2, 'ipv6');
  assert.deepEqual([six.underlay.gateway, six.network.clusterCIDR, six.network.nodeMask, six.second], ['fc00:f853:ccd:e793::1', 'fd00:10:244::/56', 64, undefined]);
  assert.deepEqual(six.nodes.map((n) => n.address), ['fc00:f853:ccd:e793::2', 'fc00:f853:ccd:e793::3']);
  const { Network, IPv6Network, EnableIPv4, EnableIPv6 } = JSON.parse(netConf(six)) as Record<string, unknown>;
  assert.deepEqual([Network, IPv6Network, EnableIPv4, EnableIPv6], [undefined, 'fd00:10:244::/56', false, true]);
  const both = defaultLab('x', 2, 'dual');
  assert.deepEqual(both.second, { subnet: 'fc00:f853:ccd:e793::/64', prefix: 64, gateway: 'fc00:f853:ccd:e793::1', clusterCIDR: 'fd00:10:244::/56', nodeMask: 64 });
  assert.deepEqual(both.nodes.map((n) => [n.address, n.second?.address]), [['172.18.0.2', 'fc00:f853:ccd:e793::2'], ['172.18.0.3', 'fc00:f853:ccd:e793::3']]);
  assert.deepEqual(parseLabFile(`${HEAD}${DUAL}`, 'lab.yaml').second, both.second);
  const given = parseLabFile(`${HEAD}underlay: {subnet: [172.18.0.0/16, "fd18::/64"]}\nnetwork: {clusterCIDR: ["fd99::/48", 10.9.0.0/16], nodeMask6: 60}\n`, 'lab.yaml');
  assert.deepEqual([given.network.clusterCIDR, given.network.nodeMask, given.underlay.subnet, given.second?.clusterCIDR], ['fd99::/48', 60, 'fd18::/64', '10.9.0.0/16'], 'the first range is that of the first family');
});

test('addresses and ranges of nodes and pods, one a family, in any order', () => {
  const c = parseLabFile(`${HEAD}${DUAL}nodes:\n- name: a\n  address: ["fc00:f853:ccd:e793::9", 172.18.0.9]\n  podCIDR: [10.244.7.0/24, "fd00:10:244:7::/64"]\n- name: b\n  address: "fc00:f853:ccd:e793::2"\n`
    + 'pods:\n- {name: p, node: a, address: [10.244.7.70, "fd00:10:244:7::70"]}\n', 'lab.yaml');
  assert.deepEqual(c.nodes.map((n) => [n.address, n.podCIDR, n.second]), [
    ['172.18.0.9', '10.244.7.0/24', { address: 'fc00:f853:ccd:e793::9', podCIDR: 'fd00:10:244:7::/64' }],
    ['172.18.0.2', undefined, { address: 'fc00:f853:ccd:e793::2' }],
  ]);
  assert.deepEqual(c.pods[0]?.address, ['10.244.7.70', 'fd00:10:244:7::70']);
  const more = withNode(c, { name: 'c', podCIDR: ['10.244.8.0/24', 'fd00:10:244:8::/64'] });
  assert.deepEqual(more.nodes.at(-1), { name: 'c', address: '172.18.0.3', podCIDR: '10.244.8.0/24', labels: {}, second: { address: 'fc00:f853:ccd:e793::3', podCIDR: 'fd00:10:244:8::/64' } });
  assert.deepEqual(more.nodes.slice(0, 2), c.nodes, 'those there are stay as they are');
  assert.throws(() => withNode(c, { name: 'd', podCIDR: '10.244.9.0/24' }), (e: PodwayError) => /podCIDR: give one range of each family, or none/.test(e.message));
});

const FAMILY_CASES: readonly (readonly [string, string, readonly string[]])[] = [
  ['Services of a family that the lab has not', 'network: {serviceCIDR: "10.96.0.0/12,fd00:96::/112"}', ['network.serviceCIDR: fd00:96::/112 is of a family that this lab has not']],
  ['Services without the first family', 'network: {ipFamily: dual, serviceCIDR: "fd00:96::/112"}', ['network.serviceCIDR: must have a range of IPv4']],
  ['Services among pods of the second family', 'network: {ipFamily: dual, serviceCIDR: "10.96.0.0/12,fd00:10:244:5::/112"}', ["network.serviceCIDR: overlaps with the cluster's range fd00:10:244::/56"]],
  ['two ranges of one family', 'network: {clusterCIDR: [10.1.0.0/16, 10.2.0.0/16]}', ['network.clusterCIDR: .*are of one family']],
  ['a family that is left out', 'network: {ipFamily: ipv4, clusterCIDR: "fd00::/48"}', ['network.clusterCIDR: fd00::/48 is of a family that network.ipFamily ipv4 leaves out']],
  ['an address of a family there is not', 'nodes: [{name: a, address: "fd00::2"}]', ['nodes\\[0\\].address: fd00::2 is of a family that this lab has not']],
  ['no address at all', `${DUAL}nodes: [{name: a, address: [1.2.3]}]`, ['nodes\\[0\\].address\\[0\\]: must be an IP address']],
  ['three of them', `${DUAL}nodes: [{name: a, address: [172.18.0.2, 172.18.0.3, 172.18.0.4]}]`, ['nodes\\[0\\].address: must be one, or one of IPv4 and one of IPv6']],
  ['one range of two', `${DUAL}nodes: [{name: a, podCIDR: 10.244.1.0/24}]`, ['nodes\\[0\\].podCIDR: give one range of each family, or none']],
  ['IPv6: taken, outside, a mask that does not fit', 'underlay: {subnet: [172.18.0.0/16, "fd18::/64"]}\nnetwork: {ipFamily: dual, clusterCIDR: ["fd99::/60"], nodeMask6: 56}\nnodes: [{name: a, address: "fd18::1"}, {name: b, address: "fd19::1"}]',
    ["nodes\\[0\\].address: fd18::1 is already that of the underlay's router", "nodes\\[1\\].address: fd19::1 is not in the underlay's subnet fd18::/64", "network.nodeMask6: must be from the cluster's /60 to /126"]],
  ['IPv6 ranges that overlap', 'underlay: {subnet: [172.18.0.0/16, "fd00:10:244:5::/64"]}\nnetwork: {ipFamily: dual}', ['network.clusterCIDR: fd00:10:244::/56 overlaps']],
];
for (const [name, text, expected] of FAMILY_CASES) {
  test(`mistakes with families: ${name}`, () => {
    const found = mistakes(`${HEAD}${text}\n`);
    assert.equal(found.length, expected.length, found.join('\n'));
    for (const e of expected) assert.ok(found.some((f) => new RegExp(e).test(f)), `${e}\nin\n${found.join('\n')}`);
  });
}

test('a node more: the next free address; all that is wrong is said', () => {
  const c = defaultLab('x', 2);
  assert.deepEqual(withNode(c, { name: 'm9' }).nodes.at(-1), { name: 'm9', address: '172.18.0.4', podCIDR: undefined, labels: {} });
  assert.throws(() => withNode(c, { name: 'm1', address: '10.0.0.1' }), (e: PodwayError) => e.code === 'NODE_INVALID' && /name: "m1" is there twice; address: is not in/.test(e.message));
});

test('the text with every key is a file that can be used, and has every key of the schema', () => {
  assert.equal(parseLabFile(LAB_FILE_TEXT, 'all').nodes.length, 2);
  const named = new Set([...LAB_FILE_TEXT.matchAll(/([a-zA-Z0-9]+):/g)].map((m) => m[1]));
  const missing = labFileKeys().filter((k) => !named.has(k.split('.').at(-1)!));
  assert.ok(labFileKeys().includes('underlay.racks.link.mtu') && labFileKeys().length > 50);
  assert.deepEqual(missing, []);
});
