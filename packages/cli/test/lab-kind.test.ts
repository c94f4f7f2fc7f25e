/** kind's file as a real lab: nodes that wait for their network, ports of this machine that lead to nodes, kubectl's contexts. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway, ROOT, scratch, stateOf, until } from './lab-support.js';

interface Listed {
  readonly items: readonly { readonly metadata: { readonly name: string }; readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string; readonly message: string }[] } }[];
}
const ready = async (lab: string): Promise<string[]> => {
  const { items } = JSON.parse(await good('get', 'nodes', '--lab', lab, '-o', 'json')) as Listed;
  return items.map((n) => n.status.conditions.find((c) => c.type === 'Ready')!).map((c) => `${c.status} ${/NetworkPluginNotReady/.exec(c.message)?.[0] ?? ''}`.trim());
};

/** A port that nobody has at this moment. */
const freePort = (): Promise<number> => new Promise((resolve) => {
  const s = createServer().listen(0, '127.0.0.1', () => {
    const { port } = s.address() as AddressInfo;
    s.close(() => resolve(port));
  });
});

test('three control planes and three workers without a network: NotReady until one is installed', { skip: needsRoot }, async () => {
  const lab = labName();
  const file = join(scratch, `${lab}.yaml`);
  const port = await freePort();
  // The example asks for a port that may be taken on a machine where tests run.
  writeFileSync(file, readFileSync(join(ROOT, 'examples', 'kind.yaml'), 'utf8').replace('hostPort: 6443', `hostPort: ${port}`));
  const up = await podway('up', '-f', file, '--lab', lab);
  assert.equal(up.code, 0, up.stderr);
  assert.match(up.stderr, /networking\.apiServerAddress: 10\.10\.151\.201 is not used: the API listens on 127\.0\.0\.1/);
  assert.match(up.stdout, new RegExp(`6 nodes.*\\n[\\s\\S]*127\\.0\\.0\\.1:${port} leads to port 6443 of the API`));
  assert.deepEqual(stateOf(lab).nodes.map((n) => n.name), ['control-plane', 'control-plane2', 'control-plane3', 'worker', 'worker2', 'worker3'].map((n) => `${lab}-${n}`));
  assert.deepEqual(new Set(await ready(lab)), new Set(['False NetworkPluginNotReady']));
  const installed = JSON.parse(await good('network', 'install', '--lab', lab, '-o', 'json')) as { nodes: string[] };
  assert.equal(installed.nodes.length, 6);
  assert.deepEqual(new Set(await ready(lab)), new Set(['True']));
  const again = await podway('network', 'install', '--lab', lab);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /has its network already/);
  // The taint keeps pods off control planes, as kubeadm's does.
  await good('run', 'box', '--image', 'busybox', '--lab', lab, '--', 'sleep', '600');
  const { spec } = JSON.parse(await good('get', 'pods', 'box', '--lab', lab, '-o', 'json')) as { spec: { nodeName: string } };
  assert.match(spec.nodeName, /-worker\d?$/);
  // Whatever a tutorial calls the context, it is there.
  const config = JSON.parse(readFileSync(new LabLayout(lab).kubeconfig, 'utf8')) as { contexts: { name: string }[] };
  assert.deepEqual(config.contexts.map((c) => c.name), [`podway-${lab}`, lab, `kind-${lab}`]);
  await good('down', '--lab', lab);
});

test('a port of this machine leads to a pod of the host network on a node; a port that is taken is said', { skip: needsRoot }, async () => {
  const lab = labName();
  const file = join(scratch, `${lab}.yaml`);
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  const { port } = taken.address() as AddressInfo;
  writeFileSync(file, `kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n  extraPortMappings: [{containerPort: 80, hostPort: ${port}}]\n`);
  const refused = await podway('up', '-f', file, '--lab', lab);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, new RegExp(`port ${port} of 127\\.0\\.0\\.1 cannot be used`));
  await new Promise<void>((resolve) => taken.close(() => resolve()));
  await good('up', '-f', file, '--lab', lab);
  const manifest = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web' }, spec: { hostNetwork: true, containers: [{ name: 'web', image: 'podway/web' }] } };
  execFileSync(process.execPath, ['-e', createPod], { env: { ...process.env, KUBE: new LabLayout(lab).kubeconfig, POD: JSON.stringify(manifest) } });
  const text = await until('an answer through the port', () => ask(port));
  // The node sees the router of the underlay as its client.
  assert.equal((JSON.parse(text) as { client: { address: string } }).client.address, '172.18.0.1');
  await good('down', '--lab', lab);
});

/** The body of the answer; undefined when there is none. Not `fetch`: its idle connections keep no process waiting, and the test would end in the middle. */
const ask = (port: number): Promise<string | undefined> => new Promise((resolve) => {
  const request = get({ host: '127.0.0.1', port, path: '/json/', timeout: 2000, agent: false }, (answer) => {
    let text = '';
    answer.setEncoding('utf8').on('data', (d: string) => (text += d)).on('end', () => resolve(text)).on('error', () => resolve(undefined));
  });
  request.on('timeout', () => request.destroy());
  request.on('error', () => resolve(undefined));
});

/** A program of its own: the API wants the lab's CA, and this process keeps none. */
const createPod = `
const { contexts, clusters, users } = JSON.parse(require('node:fs').readFileSync(process.env.KUBE, 'utf8'));
const { server, 'certificate-authority-data': ca } = clusters[0].cluster;
const r = require('node:https').request(server + '/api/v1/namespaces/default/pods', { method: 'POST', ca: Buffer.from(ca, 'base64'), headers: { authorization: 'Bearer ' + users[0].user.token, 'content-type': 'application/json' } }, (a) => process.exit(a.statusCode === 201 ? 0 : 1));
r.end(process.env.POD);
`;
