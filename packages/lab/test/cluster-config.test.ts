/** The lab file: what it becomes, and that every mistake is told at once with its place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '@podway/errors';
import { defaultLab, labFileKeys, parseLabFile, withNode } from '../src/cluster/config.js';
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
  assert.deepEqual(c.network, { clusterCIDR: '10.244.0.0/16', nodeMask: 24, backend: { type: 'vxlan', vni: 1, port: 8472, crossSubnet: false }, wiring: 'bridge', gateway: 'host', ipam: 'podCIDR', blockSize: 26, mtu: undefined, masquerade: true });
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

test('a node more: the next free address; all that is wrong is said', () => {
  const c = defaultLab('x', 2);
  assert.deepEqual(withNode(c, { name: 'm9' }).nodes.at(-1), { name: 'm9', address: '172.18.0.4', podCIDR: undefined, labels: {} });
  assert.throws(() => withNode(c, { name: 'm1', address: '10.0.0.1' }), (e: PodwayError) => e.code === 'NODE_INVALID' && /name: "m1" is there twice; address: is not in/.test(e.message));
});

test('the text with every key is a file that can be used, and has every key of the schema', () => {
  assert.equal(parseLabFile(LAB_FILE_TEXT, 'all').nodes.length, 2);
  const named = new Set([...LAB_FILE_TEXT.matchAll(/([a-zA-Z]+):/g)].map((m) => m[1]));
  const missing = labFileKeys().filter((k) => !named.has(k.split('.').at(-1)!));
  assert.ok(labFileKeys().includes('underlay.racks.link.mtu') && labFileKeys().length > 50);
  assert.deepEqual(missing, []);
});
