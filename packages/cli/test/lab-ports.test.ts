/** Host ports, bandwidth, hostNetwork, DNS of pods and other plugins, in a lab: as somebody with kubectl has them. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Events, isNotFound, Pods, RemoteClient, type Pod } from '@podway/kube';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway, scratch, until } from './lab-support.js';

const PLUGINS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].find((d) => ['bridge', 'host-local', 'portmap', 'bandwidth'].every((p) => existsSync(join(d, p))));
const [M1, M2] = ['172.18.0.2', '172.18.0.3'];

async function withLab(use: (lab: string, client: RemoteClient) => Promise<void>): Promise<void> {
  const lab = labName();
  const file = join(scratch, `${lab}.yaml`);
  writeFileSync(file, `apiVersion: podway.io/v1alpha1\nkind: Lab\nname: ${lab}\nnodes: [{name: m1}, {name: m2}]\n`);
  await good('up', '-f', file);
  const client = await RemoteClient.load({ kubeconfig: new LabLayout(lab).kubeconfig });
  try {
    await use(lab, client);
  } finally {
    client.close();
    await good('down', '--lab', lab);
  }
}

const create = (client: RemoteClient, name: string, spec: object, annotations: Record<string, string> = {}): Promise<Pod> => client.create(Pods, {
  apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', annotations }, spec: { containers: [{ name: 'web', image: 'podway/web' }], terminationGracePeriodSeconds: 1, ...spec },
} as Pod);
async function ready(client: RemoteClient, name: string): Promise<Pod> {
  try {
    return await until(`pod ${name} is ready`, async () => {
      const p = await client.get(Pods, name, 'default');
      return p.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') && p;
    });
  } catch (e) {
    const said = (await client.list(Events, { namespace: 'default' })).filter((x) => x.involvedObject.name === name).map((x) => `${x.reason}: ${x.message}`);
    throw new Error(`${(e as Error).message}: ${said.join('; ')}`);
  }
}
const web = (hostPort: number): object => ({ containers: [{ name: 'web', image: 'podway/web', ports: [{ containerPort: 80, hostPort }] }] });

test('a host port in a lab: reached, taken, freed; bandwidth stands; hostNetwork; resolv.conf by policy; nothing differs', { skip: needsRoot }, () =>
  withLab(async (lab, client) => {
    const on = (node: string, ...argv: string[]): Promise<string> => good('node', 'exec', '--lab', lab, node, '--', ...argv);
    const inside = (pod: string, ...argv: string[]): Promise<string> => good('exec', '--lab', lab, pod, '--', ...argv);
    const events = async (pod: string): Promise<string[]> =>
      (await client.list(Events, { namespace: 'default' })).filter((e) => e.involvedObject.name === pod).map((e) => `${e.reason}: ${e.message}`);
    await create(client, 'a', { nodeName: 'm1', ...web(8080) }, { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '10M' });
    await create(client, 'hn', { nodeName: 'm2', hostNetwork: true });
    await create(client, 'dns', {
      nodeName: 'm2', dnsPolicy: 'None', dnsConfig: { nameservers: ['1.2.3.4'], searches: ['ns1.svc.cluster-domain.example', 'my.dns.search.suffix'], options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] },
    });
    await create(client, 'fast', { nodeName: 'm2' }, { 'kubernetes.io/ingress-bandwidth': '2P' });
    for (const p of ['a', 'hn', 'dns']) await ready(client, p);

    for (const [node, url] of [['m2', `http://${M1}:8080/`], ['m1', 'http://127.0.0.1:8080/']] as const) assert.match(await on(node, 'wget', '-qO-', '-T', '3', url), /a\n/, url);
    assert.match(await inside('a', 'wget', '-qO-', '-T', '3', `http://${M1}:8080/`), /a\n/, 'the pod itself');
    const shapers = await on('m1', 'tc', 'qdisc', 'show');
    assert.equal(shapers.match(/tbf 7077: dev \w+ root refcnt \d+ rate 10Mbit burst \S+ lat 25ms/g)?.length, 2, shapers);
    assert.match((await until('the annotation is refused', async () => (await events('fast')).find((e) => e.startsWith('FailedCreatePodSandBox')))), /unreasonably large \(> 1Pbit\)/);

    await create(client, 'b', { nodeSelector: { 'kubernetes.io/hostname': 'm1' }, ...web(8080) });
    await until('the scheduler says why', async () => (await events('b')).some((e) => /FailedScheduling: 0\/2 nodes are available: 1 node\(s\) didn't have free ports for the requested pod ports/.test(e)));
    await client.delete(Pods, { name: 'a', namespace: 'default' }, { gracePeriodSeconds: 1 });
    await ready(client, 'b');
    assert.match(await on('m2', 'wget', '-qO-', '-T', '3', `http://${M1}:8080/`), /b\n/, 'the port is free for the next');

    const hn = await client.get(Pods, 'hn', 'default');
    assert.deepEqual([hn.status?.podIP, hn.status?.hostIP], [M2, M2]);
    assert.match(await on('m1', 'wget', '-qO-', '-T', '3', `http://${M2}/`), /hn|m2/);
    assert.equal((await inside('hn', 'hostname')).trim(), 'm2');
    assert.equal((await on('m2', 'ip', '-o', 'link', 'show', 'type', 'veth')).split('\n').filter((l) => /veth[0-9a-f]{11}/.test(l)).length, 1, 'the one of pod dns');

    assert.equal(await inside('dns', 'cat', '/etc/resolv.conf'), 'search ns1.svc.cluster-domain.example my.dns.search.suffix\nnameserver 1.2.3.4\noptions ndots:2 edns0\n');
    assert.equal(await inside('b', 'cat', '/etc/resolv.conf'), await on('m1', 'cat', '/etc/resolv.conf'), 'no cluster DNS: that of the node');
    assert.ok((await events('b')).some((e) => /^MissingClusterDNS: .*Falling back to "Default" policy\.$/.test(e)));
    assert.ok(!(await events('dns')).some((e) => e.startsWith('MissingClusterDNS')));

    assert.equal((await podway('network', 'check', '--lab', lab)).code, 0);
    await on('m1', 'nft', 'flush', 'map', 'inet', 'podway', 'hostport4');
    const drift = await podway('network', 'check', '--lab', lab);
    assert.deepEqual([drift.code, /missing in hostport4: 0\.0\.0\.0 \. tcp \. 8080 : 10\.244\.0\.\d+/.test(drift.stdout)], [1, true], drift.stdout);
  }));

test('the reference plugins in /opt/cni/bin of a node: their network, through the lab’s runtime', { skip: needsRoot || (PLUGINS === undefined ? 'the reference plugins are missing (Debian package containernetworking-plugins)' : false) }, () =>
  withLab(async (lab, client) => {
    const dirs = new LabLayout(lab).node('m2');
    for (const p of ['bridge', 'host-local', 'portmap', 'bandwidth']) copyFileSync(join(PLUGINS ?? '', p), join(dirs.cniBin, p));
    const list = join(dirs.cniConf, '05-reference.conflist');
    writeFileSync(list, JSON.stringify({
      cniVersion: '1.0.0', name: 'reference', plugins: [
        { type: 'bridge', bridge: 'other0', isGateway: true, hairpinMode: true, ipam: { type: 'host-local', ranges: [[{ subnet: '10.99.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] } },
        { type: 'portmap', capabilities: { portMappings: true } }, { type: 'bandwidth', capabilities: { bandwidth: true } },
      ],
    }));
    await create(client, 'p', { nodeName: 'm2', ...web(8081) }, { 'kubernetes.io/ingress-bandwidth': '10M' });
    assert.equal((await ready(client, 'p')).status?.podIP, '10.99.0.2');
    assert.match(await good('node', 'exec', '--lab', lab, 'm1', '--', 'wget', '-qO-', '-T', '3', `http://${M2}:8081/`), /p\n/);
    assert.match(await good('node', 'exec', '--lab', lab, 'm2', '--', 'tc', 'qdisc', 'show'), /rate 10Mbit/);
    unlinkSync(list);
    await client.delete(Pods, { name: 'p', namespace: 'default' }, { gracePeriodSeconds: 1 });
    await until('it is gone by the plugins that made it', () => client.get(Pods, 'p', 'default').then(() => false, (e: unknown) => isNotFound(e)));
    assert.doesNotMatch(await good('node', 'exec', '--lab', lab, 'm2', '--', 'iptables-save', '-t', 'nat'), /8081/);
  }));
