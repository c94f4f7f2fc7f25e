/** Labs whose pods are wired point to point, as the command line and the lab file ask for them. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { good, labName, needsRoot, podway, scratch } from './lab-support.js';

const lines = (text: string): string[] => text.trimEnd().split('\n').map((l) => l.trim());

test("wiring ptp as kind's: three routes in the pod, one a pod on the node; a node joins; traces agree under three backends", { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const up = JSON.parse(await good('up', '--wiring', 'ptp', ...at, '-o', 'json')) as { pairs: { total: number; ok: number } };
  assert.deepEqual([up.pairs.total, up.pairs.ok], [12, 12]);
  assert.match(await good('network', 'get', ...at), /^backend vxlan, wiring ptp, pods in 10\.244\.0\.0\/16/);
  assert.deepEqual(lines(await good('exec', 'web-d', ...at, '--', 'ip', 'route')), [
    'default via 10.244.2.1 dev eth0', '10.244.2.0/24 via 10.244.2.1 dev eth0  src 10.244.2.2', '10.244.2.1 dev eth0 scope link  src 10.244.2.2',
  ]);
  const host = lines(await good('node', 'exec', 'm3', ...at, '--', 'ip', 'route', 'show', '10.244.2.2'));
  assert.match(host[0] ?? '', /^10\.244\.2\.2 dev veth[0-9a-f]{11} scope host$/);
  for (const backend of ['host-gw', 'vxlan', 'bgp']) {
    await good('network', 'set', backend, ...at);
    for (const to of ['web-d', 'web-b']) assert.match(await good('trace', 'web-a', to, ...at), /Predicted: delivered to .* Observed: the same\./, `${backend}, ${to}`);
  }
  const joined = JSON.parse(await good('node', 'add', 'm4', ...at, '-o', 'json')) as { steps: { name: string }[] };
  // No bridge to wait for. It begins as the lab did, with VXLAN, and changes over as it learns of the cluster's BGP.
  const steps = joined.steps.map((s) => s.name);
  assert.ok(steps.includes('routes to 3 peers') && steps.at(-1) === 'Ready' && !steps.some((s) => s.startsWith('bridge')), steps.join(', '));
  await good('delete', 'pod', 'web-d', ...at);
  assert.equal(await good('node', 'exec', 'm3', ...at, '--', 'ip', 'route', 'show', '10.244.2.2'), '');
  assert.match(await good('network', 'check', ...at), /Every node has what it should have/);
  await good('down', ...at);
});

test("wiring ptp as Calico's, from a lab file; what does not go together is said with line and column", { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const file = join(scratch, `${lab}.yaml`);
  const write = (network: string): void => writeFileSync(file, `apiVersion: podway.io/v1alpha1\nkind: Lab\nname: ${lab}\nnetwork:\n${network}nodes: [{name: m1}, {name: m2}]\npods: [{name: a, node: m1}, {name: b, node: m2}]\n`);
  write('  gateway: link-local\n');
  const refused = await podway('up', '-f', file);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /:5:\d+: network\.gateway: link-local goes with wiring ptp/);
  assert.match((await podway('up', '--gateway', 'link-local', ...at)).stderr, /does not go with wiring bridge/);
  write('  wiring: ptp\n  gateway: link-local\n');
  await good('up', '-f', file);
  assert.deepEqual(lines(await good('exec', 'a', ...at, '--', 'ip', 'route')), ['default via 169.254.1.1 dev eth0', '169.254.1.1 dev eth0 scope link']);
  assert.match(await good('trace', 'a', 'b', ...at), /Predicted: delivered to .* Observed: the same\./);
  await good('down', ...at);
});
