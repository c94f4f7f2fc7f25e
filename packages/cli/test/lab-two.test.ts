/** Labs beside one another, starts at the same time, and labs from files. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway, ROOT, scratch, smallLab, start, stateOf, taken, until, upSmall } from './lab-support.js';

const file = (name: string, text: string): string => {
  const path = join(scratch, `${name}.yaml`);
  writeFileSync(path, `apiVersion: podway.io/v1alpha1\nkind: Lab\n${text}`);
  return path;
};

const TWO = 'nodes: [{name: m1}, {name: m2}]\npods: [{name: web-a, node: m1}, {name: web-b, node: m2}]\n';

/** web-a asks web-b. @returns the client's address as web-b saw it, and the name of its node */
async function ask(lab: string): Promise<string> {
  const answer = JSON.parse(await good('exec', 'web-a', '--lab', lab, '--', 'wget', '-qO-', '-T', '3', 'http://10.244.1.2/json/')) as { client: { address: string } };
  return answer.client.address;
}

test('two labs with the same addresses: traffic in both; the end of one leaves the other alone', { skip: needsRoot }, async () => {
  const a = labName();
  // One name is the beginning of the other.
  const b = taken(`${a}-b`);
  const ups = await Promise.all([a, b].map((lab) => podway('up', '-f', file(lab, `name: ${lab}\n${TWO}`))));
  assert.deepEqual(ups.map((u) => [u.code, u.stderr.includes('error')]), [[0, false], [0, false]]);
  assert.deepEqual(await Promise.all([a, b].map(ask)), ['10.244.0.2', '10.244.0.2']);
  const before = stateOf(b);
  await good('down', '--lab', a);
  assert.equal(await ask(b), '10.244.0.2');
  assert.deepEqual(stateOf(b), before);
  await good('up', '-f', file(a, `name: ${a}\n${TWO}`));
  await good('down', '--lab', b);
  assert.equal(await ask(a), '10.244.0.2');
  // A node whose namespace would have the name of another lab's: said, and nothing of that lab is touched.
  const clash = await podway('up', '-f', file(b, `name: ${b}\nnodes: [{name: m1}]\n`));
  assert.equal(clash.code, 0, clash.stderr);
  await good('down', '--lab', a);
  const taking = await podway('up', '-f', file(a, `name: ${a}\nnodes: [{name: b-m1}]\n`));
  assert.equal(taking.code, 1);
  assert.match(taking.stderr, new RegExp(`a network namespace named podway-${a}-b-m1 exists already`));
  assert.match(await good('status', '--lab', b), /✓ node m1/);
  assert.deepEqual(readdirSync('/run/netns').filter((n) => n.startsWith(`podway-${a}`)).sort(), ['m1', 'outside', 'underlay'].map((n) => `podway-${b}-${n}`));
  await good('down', '--lab', b);
});

test('up while another up of the same lab is at it: one starts it, the other says so', { skip: needsRoot }, async () => {
  const lab = labName();
  const f = smallLab(lab);
  const first = start(['up', '-f', f]);
  await until('the first to begin', () => { try { return stateOf(lab).phase === 'starting'; } catch { return false; } });
  const second = await podway('up', '-f', f);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /is being started by another podway up/);
  const { code, stderr } = await first.done;
  assert.equal(code, 0, stderr);
  await good('down', '--lab', lab);
  // At the very same time, and from what a killed lab left: never two, never none.
  await upSmall(lab);
  process.kill(stateOf(lab).pid, 'SIGKILL');
  const both = await Promise.all([podway('up', '-f', f), podway('up', '-f', f)]);
  assert.ok(both.some((r) => r.code === 0), both.map((r) => r.stderr).join('\n'));
  for (const r of both) if (r.code !== 0) assert.match(r.stderr, /is being started by another podway up/);
  assert.equal(stateOf(lab).phase, 'ready');
  await good('down', '--lab', lab);
});

test('a node joins and leaves: its way is in the kernel of all others within a second, and gone again', { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  await good('up', '-f', file(lab, `name: ${lab}\n${TWO}`));
  const route = (node: string): Promise<string> => good('node', 'exec', node, ...at, '--', 'ip', 'route', 'show', '10.244.2.0/24');
  const joined = JSON.parse(await good('node', 'add', 'm3', ...at, '-o', 'json')) as { address: string; podCIDR: string; steps: { name: string; at: number }[]; peers: { node: string; ms: number }[] };
  assert.deepEqual([joined.address, joined.podCIDR], ['172.18.0.4', '10.244.2.0/24']);
  assert.deepEqual(joined.steps.map((s) => s.name), [
    'machine m3, cable at 172.18.0.4, Node object', 'podCIDR 10.244.2.0/24 registered', 'bridge cni0', 'tunnel flannel.1', 'routes to 2 peers',
    'route, neighbour and FDB entry on 2 peers', 'Ready',
  ]);
  assert.deepEqual(joined.peers.map((p) => p.node), ['m1', 'm2']);
  for (const node of ['m1', 'm2']) {
    assert.equal(await route(node), '10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink \n');
    assert.match(await good('node', 'exec', node, ...at, '--', 'ip', 'neigh', 'show', '10.244.2.0'), /dev flannel\.1 lladdr \S+ PERMANENT/);
    assert.match(await good('node', 'exec', node, ...at, '--', 'bridge', 'fdb', 'show', 'dev', 'flannel.1'), /dst 172\.18\.0\.4 self permanent/);
  }
  await good('run', 'web-c', '--node', 'm3', ...at);
  assert.match(await good('exec', 'web-a', ...at, '--', 'wget', '-qO-', '-T', '3', 'http://10.244.2.2/json/'), /"10\.244\.0\.2"/);
  assert.match(await good('up', ...at), /already running/);
  const again = await podway('node', 'add', 'm3', ...at);
  assert.deepEqual([again.code, /already has a node m3$/m.test(again.stderr)], [2, true]);
  assert.match((await podway('node', 'add', 'Bad_Name', '--address', '1.2.3', ...at)).stderr, /address: must be an IP address/);

  const left = JSON.parse(await good('node', 'remove', 'm3', '--now', ...at, '-o', 'json')) as typeof joined;
  assert.equal(left.steps[0]!.name, '1 pods deleted');
  for (const node of ['m1', 'm2']) {
    assert.equal(await route(node), '');
    assert.equal(await good('node', 'exec', node, ...at, '--', 'ip', 'neigh', 'show', '10.244.2.0'), '');
    assert.doesNotMatch(await good('node', 'exec', node, ...at, '--', 'bridge', 'fdb', 'show'), /172\.18\.0\.4/);
  }
  assert.equal(await good('get', 'nodes', ...at, '-o', 'name'), 'node/m1\nnode/m2\n');
  assert.equal(await good('get', 'pods', ...at, '-o', 'name'), 'pod/web-a\npod/web-b\n');
  assert.equal(readdirSync('/run/netns').some((n) => n === `podway-${lab}-m3`), false);
  assert.deepEqual(readdirSync(join(new LabLayout(lab).dir, 'nodes')).sort(), ['m1', 'm2']);
  await good('node', 'remove', 'm2', '--now', ...at);
  assert.match((await podway('node', 'remove', 'm1', ...at)).stderr, /m1 is the only node/);
  await good('down', ...at);
  for (const [what, peers] of [['knew', joined.peers], ['forgot', left.peers]] as const) {
    for (const p of peers) assert.ok(p.ms < 1000, `${p.node} ${what} m3 after ${p.ms} ms`);
  }
});

test('the tutorial\'s two nodes: examples/two-nodes.yaml has its addresses', { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const up = JSON.parse(await good('up', '-f', join(ROOT, 'examples/two-nodes.yaml'), ...at, '-o', 'json')) as {
    pairs: { total: number; ok: number }; map: { nodes: { name: string; address: string; podCIDR: string; pods: { name: string; address: string }[] }[] };
  };
  assert.deepEqual([up.pairs.total, up.pairs.ok], [2, 2]);
  assert.deepEqual(up.map.nodes.map((n) => [n.name, n.address, n.podCIDR, n.pods.map((p) => `${p.name} ${p.address}`)]), [
    ['node1', '192.168.1.101', '10.244.1.0/24', ['pod-a 10.244.1.5']], ['node2', '192.168.1.102', '10.244.2.0/24', ['pod-b 10.244.2.8']],
  ]);
  assert.deepEqual((await good('node', 'exec', 'node1', ...at, '--', 'ip', 'route', 'show')).trimEnd().split('\n').map((l) => l.trim()), [
    'default via 192.168.1.1 dev eth0',
    '10.244.1.0/24 dev cni0 proto kernel scope link src 10.244.1.1',
    '10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink',
    '192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.101',
  ]);
  await good('down', ...at);
});
