/** Labs of two families, and of IPv6 alone: what Kubernetes says of them, and that everything reaches everything by each. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway } from './lab-support.js';

interface Up {
  readonly pairs: { readonly total: number; readonly ok: number; readonly families: readonly string[] };
  readonly map: { readonly clusterCIDRs: readonly string[]; readonly nodes: readonly { readonly addresses: readonly string[]; readonly podCIDRs: readonly string[]; readonly pods: readonly { readonly name: string; readonly addresses: readonly string[] }[] }[] };
}
const wget = (lab: string, from: string, address: string): Promise<string> =>
  good('exec', from, '--lab', lab, '--', 'wget', '-qO-', '-T', '3', `http://${address.includes(':') ? `[${address}]` : address}/json/`);
const pings = (lab: string, from: string, address: string): Promise<string> => good('exec', from, '--lab', lab, '--', 'ping', '-c1', '-W2', address);
const kubectl = (lab: string, ...args: string[]): string => execFileSync('kubectl', ['--kubeconfig', new LabLayout(lab).kubeconfig, ...args], { encoding: 'utf8' });
const asPredicted = async (lab: string, ...args: string[]): Promise<void> => {
  const r = await podway('trace', ...args, '--lab', lab);
  assert.equal(r.code, 0, `${args.join(' ')}: ${r.stdout}${r.stderr}`);
  assert.match(r.stdout, /Observed: the same\./);
};

/** One Service with an address of each family: asked by both, from another node's pod and from one behind the same bridge; traced by both. */
async function serviceOfBoth(lab: string): Promise<void> {
  execFileSync('kubectl', ['--kubeconfig', new LabLayout(lab).kubeconfig, 'apply', '-f', '-'], { input: JSON.stringify({
    apiVersion: 'v1', kind: 'Service', metadata: { name: 'near', namespace: 'default' },
    spec: { ipFamilyPolicy: 'PreferDualStack', selector: { near: 'yes' }, ports: [{ port: 80 }] },
  }) });
  kubectl(lab, 'label', 'pod', 'web-b', 'near=yes');
  const ips = kubectl(lab, 'get', 'svc', 'near', '-o', 'jsonpath={.spec.clusterIPs[*]}').split(' ');
  assert.match(ips.join(' '), /^10\.\d+\.\d+\.\d+ fd00:10:96::[0-9a-f]+$/);
  const endpoints = ['10.244.0.3', 'fd00:10:244::3'];
  for (const [i, ip] of ips.entries()) {
    for (const [from, address] of [['web-a', ['10.244.0.2', 'fd00:10:244::2']], ['web-d', ['10.244.2.2', 'fd00:10:244:2::2']]] as const) {
      const said = await untilGood(() => wget(lab, from, ip));
      assert.ok(said.includes('"web-b"') && said.includes(`"address":"${address[i]!}"`), `${from} by ${ip}: ${said}`);
    }
    await asPredicted(lab, 'web-a', 'near', i === 0 ? '-4' : '-6');
    await asPredicted(lab, 'web-d', 'near', i === 0 ? '-4' : '-6');
    assert.ok((await good('service', 'near', '--lab', lab)).includes(endpoints[i]!));
  }
  assert.equal(kubectl(lab, 'get', 'svc', 'kubernetes', '-o', 'jsonpath={.spec.clusterIP}'), '10.96.0.1');
}

/** The agents take a new Service over after the API has it. */
async function untilGood(act: () => Promise<string>): Promise<string> {
  const end = performance.now() + 15_000;
  for (;;) {
    try {
      return await act();
    } catch (e) {
      if (performance.now() > end) throw e;
    }
  }
}

test('both families: two addresses for every node and pod, all pairs by each, the outside, another backend and back', { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const up = JSON.parse(await good('up', '--ip-family', 'dual', ...at, '-o', 'json')) as Up;
  assert.deepEqual([up.pairs.total, up.pairs.ok, up.pairs.families], [24, 24, ['IPv4', 'IPv6']]);
  assert.deepEqual(up.map.nodes[2], {
    ...up.map.nodes[2], addresses: ['172.18.0.4', 'fc00:f853:ccd:e793::4'], podCIDRs: ['10.244.2.0/24', 'fd00:10:244:2::/64'],
    pods: [{ ...up.map.nodes[2]!.pods[0]!, addresses: ['10.244.2.2', 'fd00:10:244:2::2'] }],
  });
  assert.equal(kubectl(lab, 'get', 'pod', 'web-d', '-o', 'jsonpath={.status.podIPs[*].ip} {.status.hostIPs[*].ip}'), '10.244.2.2 fd00:10:244:2::2 172.18.0.4 fc00:f853:ccd:e793::4');
  assert.equal(kubectl(lab, 'get', 'node', 'm3', '-o', 'jsonpath={.spec.podCIDRs} {.status.addresses[*].address}'), '["10.244.2.0/24","fd00:10:244:2::/64"] 172.18.0.4 fc00:f853:ccd:e793::4 m3');
  assert.match(await good('get', 'pods', '-o', 'wide', ...at), /10\.244\.2\.2,fd00:10:244:2::2/);
  assert.match(await good('inspect', 'pod', 'web-d', ...at), /10\.244\.2\.2, fd00:10:244:2::2/);
  assert.match(await good('status', ...at), /web-d 10\.244\.2\.2 fd00:10:244:2::2/);
  for (const a of ['8.8.8.8', '2001:4860:4860::8888']) await pings(lab, 'web-a', a);
  for (const to of ['web-b', 'web-d:80', '2001:4860:4860::8888']) await asPredicted(lab, 'web-a', to, ...(to.startsWith('2001') ? [] : ['-6']));
  assert.match((await podway('trace', 'web-a', '10.244.2.2', '-6', ...at)).stderr, /10\.244\.2\.2 is no IPv6 address/);
  await serviceOfBoth(lab);
  for (const backend of ['host-gw', 'vxlan']) await good('network', 'set', backend, ...at);
  assert.match(await good('network', 'check', ...at), /Every node has what it should have/);
  await asPredicted(lab, 'web-a', 'web-d', '-6');
  const refused = await podway('network', 'set', 'ipip', ...at);
  assert.match(refused.stderr, /"ipip" carries IPv4 packets only/);
  const joined = JSON.parse(await good('node', 'add', 'm4', ...at, '-o', 'json')) as { addresses: string[]; podCIDRs: string[] };
  assert.deepEqual([joined.addresses, joined.podCIDRs], [['172.18.0.5', 'fc00:f853:ccd:e793::5'], ['10.244.3.0/24', 'fd00:10:244:3::/64']]);
  await good('run', 'web-e', '--node', 'm4', ...at);
  assert.match(await wget(lab, 'web-a', 'fd00:10:244:3::2'), /"fd00:10:244::2"/);
  await good('node', 'remove', 'm4', '--now', ...at);
  assert.equal(await good('node', 'exec', 'm1', ...at, '--', 'ip', '-6', 'route', 'show', 'fd00:10:244:3::/64'), '');
  await good('down', ...at);
});

test('IPv6 alone: no node and no pod has an IPv4 address, and all goes', { skip: needsRoot }, async () => {
  const lab = labName();
  const at = ['--lab', lab];
  const up = JSON.parse(await good('up', '--ip-family', 'ipv6', '--nodes', '2', ...at, '-o', 'json')) as Up;
  assert.deepEqual([up.pairs.ok, up.pairs.families, up.map.clusterCIDRs], [up.pairs.total, ['IPv6'], ['fd00:10:244::/56']]);
  for (const where of [['node', 'exec', 'm1'], ['exec', 'web-a']]) {
    assert.doesNotMatch((await good(...where, ...at, '--', 'ip', '-4', 'addr', 'show', 'scope', 'global')), /inet /);
  }
  assert.equal(kubectl(lab, 'get', 'pods', '-o', 'jsonpath={.items[*].status.podIP}'), 'fd00:10:244::2 fd00:10:244::3 fd00:10:244:1::2');
  assert.match(await wget(lab, 'web-a', 'fd00:10:244:1::2'), /"podIP":"fd00:10:244:1::2".*"hostIP":"fc00:f853:ccd:e793::3","client":\{"address":"fd00:10:244::2"/);
  await pings(lab, 'web-a', '2001:4860:4860::8888');
  await asPredicted(lab, 'web-a', 'web-c');
  kubectl(lab, 'expose', 'pod', 'web-c', '--port', '80', '--name', 'c');
  const address = kubectl(lab, 'get', 'svc', 'c', '-o', 'jsonpath={.spec.clusterIP}');
  assert.match(address, /^fd00:10:96::/);
  assert.match(await untilGood(() => wget(lab, 'web-a', address)), /"podIP":"fd00:10:244:1::2"/);
  await asPredicted(lab, 'web-a', 'c');
  assert.match(await good('network', 'check', ...at), /Every node has what it should have/);
  await good('down', ...at);
});
