/**
 * The runtime and a CNI plugin, on the real kernel. The plugin is a few lines of shell around ip(8):
 * what is tested is what a plugin is given, where it runs, and what becomes of its answer.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Nodes, Pods, type Pod } from '@podway/kube';
import { CniNetwork, addressesOf, execInContainer, execInNode, type CommandLine } from '../src/runtime/index.js';
import { initBinary, needsRoot, testNode, until, type TestNode } from './runtime-support.js';

const plugin = `#!/bin/sh
exec 3>>/var/log/pods/calls
config=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS" >&3
case $CNI_COMMAND in
ADD)
  [ -e /var/log/pods/full ] && { echo '{"cniVersion":"1.1.0","code":100,"msg":"no free address in 10.99.0.0/24"}'; exit 1; }
  ip link add h1 type veth peer name $CNI_IFNAME netns "$CNI_NETNS" || exit 1
  ip link set h1 up
  nsenter --net="$CNI_NETNS" ip addr add 10.99.0.2/24 dev $CNI_IFNAME
  nsenter --net="$CNI_NETNS" ip link set $CNI_IFNAME up
  mac=$(cat /sys/class/net/h1/address)
  echo "{\\"cniVersion\\":\\"1.1.0\\",\\"interfaces\\":[{\\"name\\":\\"h1\\",\\"mac\\":\\"$mac\\"},{\\"name\\":\\"$CNI_IFNAME\\",\\"sandbox\\":\\"$CNI_NETNS\\"}],\\"ips\\":[{\\"address\\":\\"10.99.0.1/24\\",\\"interface\\":0},{\\"address\\":\\"10.99.0.2/24\\",\\"interface\\":1}]}" ;;
DEL)
  [ -e /var/log/pods/stuck ] && { echo '{"cniVersion":"1.1.0","code":11,"msg":"the agent does not answer"}'; exit 1; }
  ip link del h1 2>/dev/null || true ;;
STATUS) [ -e /var/log/pods/full ] && { echo '{"cniVersion":"1.1.0","code":50,"msg":"the plugin is not available"}'; exit 1; } ;;
esac
exit 0
`;

describe('pods by CNI', { skip: needsRoot }, () => {
  let node: TestNode;
  let dir: string;
  let conf: string;
  const init = initBinary;
  const call = (c: CommandLine) => spawnSync(c.file, c.args, { env: { ...c.env }, encoding: 'utf8' });
  const onNode = (...command: string[]) => call(execInNode(init(), node.holder.pid, command)).stdout.trim();
  const conflist = () => writeFileSync(join(conf, '10-test.conflist'), JSON.stringify({ cniVersion: '1.1.0', name: 'testnet', plugins: [{ type: 'test-plugin' }] }));

  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'podway-cnirt-'));
    conf = join(dir, 'conf');
    mkdirSync(conf);
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'bin/test-plugin'), plugin, { mode: 0o755 });
    node = await testNode({}, {
      overlays: [{ target: '/opt', dir: join(dir, 'opt') }],
      binds: [{ source: join(dir, 'bin'), target: '/opt/cni/bin', readOnly: true }],
      network: (holderPid) => new CniNetwork({ init: init(), holderPid, confDir: conf, path: [{ inNode: '/opt/cni/bin', onMachine: join(dir, 'bin') }], cacheDir: join(dir, 'cache') }),
    });
  });
  after(async () => {
    await node.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const nodeReady = async () => (await node.client.get(Nodes, 'm1')).status?.conditions?.find((c) => c.type === 'Ready');

  test('without a configuration the node is not ready and a pod says why', async () => {
    assert.match((await nodeReady())?.message ?? '', /reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized$/);
    await node.pod('a', { containers: [{ name: 'c', image: 'busybox', command: ['sleep', '1000'], ports: [{ containerPort: 80, hostPort: 8080 }] }] });
    const e = await until('the event', async () => (await node.events('a')).find((x) => x.reason === 'FailedCreatePodSandBox'));
    assert.match(e.message, /failed to setup network for sandbox "[0-9a-f]{64}": no networks found in \/etc\/cni\/net\.d$/);
  });

  test('with one, the waiting pod comes up with what the plugin gave', async () => {
    conflist();
    const p: Pod = await until('the pod', async () => {
      const x = await node.get('a');
      return x.status?.phase === 'Running' && x;
    });
    assert.equal(p.status?.podIP, '10.99.0.2', 'the address of the sandbox’s interface, not the host’s');
    const record = node.runtime.record('default', 'a');
    const calls = readFileSync(join(node.dir, 'logs/calls'), 'utf8').split('\n');
    assert.ok(calls.includes(`ADD ${record.sandbox.id} ${record.sandbox.netns} eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=${record.sandbox.id};K8S_POD_UID=${record.uid}`));
    await until('the node to be ready', async () => (await nodeReady())?.status === 'True');
  });

  test('eth0’s iflink is the ifindex of the host’s end, read in the pod and on the node', () => {
    const iflink = call(execInContainer(init(), node.runtime.record('default', 'a'), ['cat', '/sys/class/net/eth0/iflink'])).stdout.trim();
    assert.equal(onNode('cat', '/sys/class/net/h1/ifindex'), iflink);
    assert.match(onNode('ip', '-o', 'link'), new RegExp(`^${iflink}: h1@`, 'm'));
  });

  test('deletion runs DEL with the same arguments while the netns is there', async () => {
    const { sandbox } = node.runtime.record('default', 'a');
    await node.client.delete(Pods, { name: 'a', namespace: 'default' });
    await until('the pod to be gone', () => node.get('a').then(() => false, () => true));
    const del = readFileSync(join(node.dir, 'logs/calls'), 'utf8').trim().split('\n').filter((l) => l.startsWith(`DEL ${sandbox.id}`));
    assert.equal(del.length, 1);
    assert.ok(del[0]?.includes(` ${sandbox.netns} eth0 `));
    assert.equal(onNode('ls', '/sys/class/net'), 'lo');
    assert.deepEqual(readdirSync(join(dir, 'cache/results')), []);
  });

  test('the plugin’s own words reach the pod’s events and the node’s condition', async () => {
    writeFileSync(join(node.dir, 'logs/full'), '');
    await node.pod('b', { containers: [{ name: 'c', image: 'busybox', command: ['sleep', '1000'] }] });
    const e = await until('the event', async () => (await node.events('b')).find((x) => x.reason === 'FailedCreatePodSandBox'));
    assert.match(e.message, /plugin type="test-plugin" failed \(add\): no free address in 10\.99\.0\.0\/24/);
    await node.runtime.heartbeat();
    assert.match((await nodeReady())?.message ?? '', /the plugin is not available/);
    unlinkSync(join(node.dir, 'logs/full'));
    await until('the pod', async () => (await node.get('b')).status?.phase === 'Running');
    writeFileSync(join(node.dir, 'logs/stuck'), '');
    await node.client.delete(Pods, { name: 'b', namespace: 'default' });
    const k = await until('the event', async () => (await node.events('b')).find((x) => x.reason === 'FailedKillPod'));
    assert.match(k.message, /^error killing pod: plugin type="test-plugin" failed \(del\): the agent does not answer/);
    unlinkSync(join(node.dir, 'logs/stuck'));
    await until('the pod to be gone', () => node.get('b').then(() => false, () => true));
  });

  test('what a node writes below an overlay stays its own', () => {
    onNode('sh', '-c', 'echo mine > /opt/mine');
    assert.equal(readFileSync(join(dir, 'opt/upper/mine'), 'utf8'), 'mine\n');
    assert.ok(!readdirSync('/opt').includes('mine'));
  });
});

test('addresses of a result: those of the sandbox, without prefix', () => {
  assert.deepEqual(addressesOf({ cniVersion: '1.0.0', ips: [{ address: '10.0.0.1/24' }, { address: 'fd00::1/64' }] }), ['10.0.0.1', 'fd00::1']);
  assert.deepEqual(addressesOf({ cniVersion: '1.0.0' }), []);
});
