/** Labs whose nodes claim blocks of pools; what `podway ipam` shows and frees; further networks through kubectl's objects. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { kernelHas } from '@podway/kernel';
import type { Pod } from '@podway/kube';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway, scratch, until } from './lab-support.js';

const lines = (text: string): string[] => text.trimEnd().split('\n').map((l) => l.trim());
interface Use { node: string; cidr: string; pool: string; used: number; free: number }

test('pools: several blocks a node, announced one by one by BGP; an address that leaked is named and freed', { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const file = join(scratch, `${lab}.yaml`);
  const pods = [...Array.from({ length: 7 }, (_, i) => `{name: p${i}, node: m1}`), '{name: far, node: m2}'].join(', ');
  writeFileSync(file, `apiVersion: podway.io/v1alpha1\nkind: Lab\nname: ${lab}\nnetwork: {ipam: pools, blockSize: 29, backend: {type: bgp}}\nnodes: [{name: m1}, {name: m2}]\npods: [${pods}]\n`);
  const up = JSON.parse(await good('up', '-f', file, '-o', 'json')) as { pairs: { total: number; ok: number } };
  assert.equal(up.pairs.ok, up.pairs.total, 'pods of every block reach each other');
  const show = async (): Promise<Use[]> => JSON.parse(await good('ipam', 'show', ...at, '-o', 'json')) as Use[];
  const uses = await show();
  assert.deepEqual(uses.map((u) => [u.node, u.pool, u.used + u.free]), [['m1', 'default', 5], ['m1', 'default', 5], ['m2', 'default', 5]]);
  assert.equal(uses.filter((u) => u.node === 'm1').reduce((n, u) => n + u.used, 0), 7);
  const routes = lines(await good('node', 'exec', 'm2', ...at, '--', 'ip', 'route', 'show', 'proto', 'bird'));
  for (const u of uses.filter((x) => x.node === 'm1')) assert.ok(routes.some((r) => r.startsWith(`${u.cidr} via 172.18.0.2 dev eth0`)), `${u.cidr}: ${routes.join(' | ')}`);
  assert.match(await good('ipam', 'check', ...at), /No address is lost/);

  // What a runtime leaves that died between ADD and its own record.
  const cni = (verb: string, ...more: string[]): Promise<string> => good('node', 'exec', 'm1', ...at, '--', 'sh', '-c',
    `${more.join(' ')} echo '{"cniVersion":"1.1.0","name":"podway","type":"podway-cni"}' | CNI_COMMAND=${verb} CNI_CONTAINERID=lost1 CNI_NETNS=/var/run/netns/lost CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin CNI_ARGS="K8S_POD_NAMESPACE=default;K8S_POD_NAME=lost" /opt/cni/bin/podway-cni`);
  await cni('ADD', 'ip netns add lost;');
  const leaked = await podway('ipam', 'check', ...at);
  assert.equal(leaked.code, 1);
  assert.match(leaked.stdout, /m1 +10\.244\.\S+ +pod default\/lost eth0 +there is no such pod any more/);
  assert.match(await good('ipam', 'check', '--free', ...at), /Freed: 10\.244\.\S+\. No address is lost\./);
  assert.equal((await show()).reduce((n, u) => n + u.used, 0), 8);
  assert.match(await good('network', 'check', ...at), /Every node has what it should have/);
  const joined = JSON.parse(await good('node', 'add', 'm3', ...at, '-o', 'json')) as { podCIDR: string; steps: { name: string }[] };
  assert.match(joined.podCIDR, /\/29$/);
  assert.match(joined.steps[1]?.name ?? '', /^block 10\.244\.\S+ claimed$/);
  await good('node', 'remove', 'm3', '--now', ...at);
  await until('the block of a node that left is free', async () => (await show()).every((u) => u.node !== 'm3'));
  await good('down', ...at);
});

test("a NetworkAttachmentDefinition as tutorials show it: net1 on the wire, in the pod's annotation; a wrong one is refused when it is made", {
  skip: needsRoot || (existsSync('/usr/lib/cni/macvlan') ? false : 'the reference plugins are missing (Debian package containernetworking-plugins)')
    || (kernelHas('link', 'macvlan') ? false : 'this kernel has no macvlan'),
}, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  await good('up', '--nodes', '2', ...at);
  const kubeconfig = new LabLayout(lab).kubeconfig;
  const { RemoteClient, NetworkAttachmentDefinitions, Pods } = await import('@podway/kube');
  const client = await RemoteClient.load({ kubeconfig });
  try {
    const definition = (name: string, config: string) => ({ apiVersion: 'k8s.cni.cncf.io/v1', kind: 'NetworkAttachmentDefinition', metadata: { name, namespace: 'default' }, spec: { config } });
    await assert.rejects(client.create(NetworkAttachmentDefinitions, definition('wrong', '{ "type": ')), /spec\.config.*JSON/);
    await client.create(NetworkAttachmentDefinitions, definition('macvlan-conf', `{
      "cniVersion": "0.3.1", "type": "macvlan", "master": "eth0", "mode": "bridge",
      "ipam": { "type": "host-local", "subnet": "192.168.1.0/24", "rangeStart": "192.168.1.200", "rangeEnd": "192.168.1.216" }
    }`));
    const pod = (name: string, networks: string): Pod => ({
      apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', annotations: { 'k8s.v1.cni.cncf.io/networks': networks } },
      spec: { nodeName: 'm1', terminationGracePeriodSeconds: 0, containers: [{ name: 'app', image: 'podway/web' }] },
    });
    await client.create(Pods, pod('multi', 'macvlan-conf'));
    await until('multi runs', async () => (await client.get(Pods, 'multi', 'default')).status?.phase === 'Running');
    assert.match(await good('exec', 'multi', ...at, '--', 'ip', 'addr', 'show', 'net1'), /inet 192\.168\.1\.200\/24/);
    const status = (await client.get(Pods, 'multi', 'default')).metadata?.annotations?.['k8s.v1.cni.cncf.io/network-status'] ?? '';
    assert.deepEqual((JSON.parse(status) as { name: string; interface: string }[]).map((s) => [s.name, s.interface]), [['podway', 'eth0'], ['default/macvlan-conf', 'net1']]);
    // A machine on the same wire: node m2 with an address of that network.
    await good('node', 'exec', 'm2', ...at, '--', 'ip', 'addr', 'add', '192.168.1.1/24', 'dev', 'eth0');
    await good('node', 'exec', 'm2', ...at, '--', 'ping', '-c1', '-W3', '192.168.1.200');
    await client.create(Pods, pod('lost', 'no-such-network'));
    await until('the reason is in the pod\'s events', async () => /there is no network default\/no-such-network/.test(await good('get', 'events', ...at)));
    for (const name of ['multi', 'lost']) await client.delete(Pods, { name, namespace: 'default' }, { gracePeriodSeconds: 0 });
    await until('both are gone', async () => (await client.list(Pods)).every((p) => !['multi', 'lost'].includes(p.metadata?.name ?? '')));
    assert.match(await good('ipam', 'check', ...at), /No address is lost/);
    const left = lines(await good('node', 'exec', 'm1', ...at, '--', 'find', '/var/lib/cni/networks/macvlan-conf', '-name', '192*'));
    assert.deepEqual(left, ['']);
  } finally {
    client.close();
  }
  await good('down', ...at);
});
