/** Podway in one list with the reference plugins: before them, and behind one that makes the interface. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConflistRunner, isCniError, parseNetworkList, spawnExec, type NetworkList } from '@podway/cni';
import { Nftables, RtNetlink } from '@podway/kernel';
import { inNs, needsRoot, OUTSIDE, pathOf, podArgs, shim, until, withNode, type TestNetwork, type TestNode, type TestPod } from './network.js';
import { ask, tellWho } from './tcp.js';

const PLUGINS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].find((d) => ['bridge', 'ptp', 'host-local', 'tuning', 'portmap', 'bandwidth', 'firewall', 'sbr'].every((p) => existsSync(join(d, p))));
const skip = needsRoot || (PLUGINS === undefined ? 'the reference plugins are missing (Debian package containernetworking-plugins)' : false);
const M1 = '172.18.0.2';
const SELF = { type: 'podway-cni', capabilities: { portMappings: true, bandwidth: true } };
const list = (...plugins: object[]): NetworkList => parseNetworkList(JSON.stringify({ cniVersion: '1.0.0', name: 'podway', plugins }));
const capabilityArgs = {
  portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }], bandwidth: { ingressRate: 50_000_000, ingressBurst: 8_000_000, egressRate: 50_000_000, egressBurst: 8_000_000 },
};

async function runnerOf(node: TestNode, net: TestNetwork): Promise<ConflistRunner> {
  const path = await shim();
  mkdirSync(join(net.dir, 'cache'), { recursive: true });
  return new ConflistRunner({
    path: [join(path, '..'), PLUGINS ?? ''], cacheDir: join(net.dir, 'cache'), exec: spawnExec(['nsenter', `--net=${pathOf(node.ns)}`, '--']),
    env: { PODWAY_AGENT_SOCKET: node.socket },
  });
}
const params = (pod: TestPod, more: object = {}) => ({
  containerId: pod.name, netns: pathOf(pod.ns), ifname: 'eth0', args: podArgs(pod.name).split(';').map((kv) => kv.split('=') as [string, string]), ...more,
});

interface Row {
  readonly after: string;
  readonly plugin: object;
  readonly takes?: boolean;
  readonly then: (node: TestNode, net: TestNetwork, pod: TestPod) => void | Promise<void>;
  /** Why CHECK of the list is not asked for. */
  readonly noCheck?: string;
}
const rules = (node: TestNode): string => inNs(node.ns, 'iptables-save');
const ROWS: readonly Row[] = [
  { after: 'tuning', plugin: { type: 'tuning', sysctl: { 'net.ipv4.conf.eth0.arp_filter': '1' } }, then: (_n, _net, pod) => assert.match(inNs(pod.ns, 'sysctl', 'net.ipv4.conf.eth0.arp_filter'), /= 1/) },
  {
    after: 'portmap', plugin: { type: 'portmap', capabilities: { portMappings: true } }, takes: true, noCheck: 'portmap 1.1.1 looks for the IPv4 rule in ip6tables and always fails',
    then: async (_n, net) => assert.equal(await ask(net.outside, M1, 8080), `pod sees ${OUTSIDE}`),
  },
  { after: 'bandwidth', plugin: { type: 'bandwidth', capabilities: { bandwidth: true } }, takes: true, then: (node) => assert.match(inNs(node.ns, 'tc', 'qdisc'), /tbf .* rate 50Mbit/) },
  { after: 'firewall', plugin: { type: 'firewall', backend: 'iptables' }, then: (node) => assert.match(rules(node), /-A CNI-FORWARD -s 10\.244\.0\.3\/32/) },
  { after: 'sbr', plugin: { type: 'sbr' }, noCheck: 'sbr moves the routes that Podway made', then: (_n, _net, pod) => assert.match(inNs(pod.ns, 'ip', 'rule'), /from 10\.244\.0\.3 lookup 100/) },
];

for (const row of ROWS) {
  test(`Podway, then ${row.after}: both do their part, and both undo it`, { skip }, () =>
    withNode(async (node, net) => {
      const runner = await runnerOf(node, net);
      const [neighbour, pod] = [net.pod('neighbour'), net.pod('pod')];
      await net.added(node, neighbour);
      const links = node.state().links.map((l) => l.name).sort();
      // The capability belongs to the plugin behind: Podway is not given it.
      const chain = list({ type: 'podway-cni' }, row.plugin);
      const result = await runner.add(chain, params(pod, row.takes ? { capabilityArgs } : {}));
      assert.deepEqual(result.ips?.map((i) => i.address), ['10.244.0.3/24']);
      const end = await tellWho(pod.ns, 'pod', 80);
      assert.equal(await ask(neighbour.ns, '10.244.0.3', 80), 'pod sees 10.244.0.2');
      await row.then(node, net, pod);
      if (row.noCheck === undefined) await runner.check(chain, params(pod));
      end();
      await runner.del(chain, params(pod));
      assert.deepEqual(node.state().links.map((l) => l.name).sort(), links);
      assert.doesNotMatch(rules(node), /10\.244\.0\.3/);
      assert.deepEqual((await node.leavings()).files, ['attachments/neighbour@eth0.json']);
    }));
}

const MAKERS: readonly { readonly name: string; readonly plugin: (dir: string) => object; readonly reason?: string }[] = ['bridge', 'ptp'].map((type) => ({
  name: type,
  plugin: (dir: string) => ({
    type, ...(type === 'bridge' ? { bridge: 'other0', isGateway: true, hairpinMode: true } : {}), ipMasq: false,
    ipam: { type: 'host-local', dataDir: join(dir, 'host-local'), ranges: [[{ subnet: '10.99.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
  }),
}));
for (const maker of MAKERS) {
  test(`${maker.name}, then Podway: its interface stays, with host ports and bandwidth of ours`, { skip }, () =>
    withNode(async (node, net) => {
      const runner = await runnerOf(node, net);
      const chain = list(maker.plugin(net.dir), SELF);
      const [a, b, c, own] = [net.pod('a'), net.pod('b'), net.pod('c'), net.pod('own')];
      await net.added(node, own);
      const before = node.state();
      const result = await runner.add(chain, params(a, { capabilityArgs }));
      assert.deepEqual([result.ips?.map((i) => i.address), result.interfaces?.at(-1)?.name], [['10.99.0.2/24'], 'eth0'], 'the answer of the plugin before, unchanged');
      await runner.add(chain, params(b));
      const host = node.state().qdiscs.find((q) => q.redirect);
      assert.equal(RtNetlink.with(node.ns, (nl) => nl.link(host?.dev ?? ''))?.alias, undefined, 'the device bears no mark of ours');
      const end = await tellWho(a.ns, 'a', 80);
      assert.equal(await ask(net.outside, M1, 8080), `a sees ${OUTSIDE}`);
      assert.match(await ask(node.ns, '127.0.0.1', 8080), /^a sees 10\./);
      assert.match(await ask(own.ns, M1, 8080), /^a sees 10\.99\.0\.1$/, 'a pod of Podway: 10.99.0.2 is no address of the cluster, so this is masqueraded');
      assert.match(await ask(b.ns, M1, 8080), /^a sees 10\.99\.0\./);
      assert.match(await ask(a.ns, M1, 8080), /^a sees 10\.99\.0\./, 'itself');
      end();
      await runner.check(chain, params(a));
      await assert.rejects(runner.add(chain, params(c, { capabilityArgs })), (e) => isCniError(e, 'PORT_TAKEN') && /taken by pod default\/a/.test(e.message));
      await runner.del(chain, params(c));
      await node.stop();
      await (await node.start({ resyncMs: 50 }), node.ready());
      Nftables.with(node.ns, (n) => n.text('flush map inet podway hostport4'));
      inNs(node.ns, 'tc', 'qdisc', 'del', 'dev', host!.dev, 'root');
      await until('the agent mends these too', async () => (await runner.check(chain, params(a)).then(() => true, () => false)));
      for (const p of [a, b]) await runner.del(chain, params(p));
      const after = node.state();
      assert.deepEqual(after.links.filter((l) => l.kind === 'veth' || l.kind === 'ifb').map((l) => l.name), before.links.filter((l) => l.kind === 'veth' || l.kind === 'ifb').map((l) => l.name));
      assert.deepEqual((await node.leavings()).files, ['attachments/own@eth0.json']);
    }));
}

test('behind another plugin: DEL of Podway alone gives the host end back as it was; what cannot be done is said', { skip }, () =>
  withNode(async (node, net) => {
    const runner = await runnerOf(node, net);
    const pod = net.pod('a');
    const maker = list(MAKERS[0]!.plugin(net.dir));
    const { dns: _, ...prevResult } = await runner.add(maker, params(pod)); // host-local prints an empty one
    const qdiscs = (): string => inNs(node.ns, 'tc', 'qdisc', 'show');
    const before = qdiscs();
    const stdin = (more: object): string => JSON.stringify({ cniVersion: '1.0.0', name: 'podway', type: 'podway-cni', prevResult, ...more });
    const added = await node.cni('ADD', pod.vars, stdin({ runtimeConfig: capabilityArgs }));
    assert.deepEqual([added.code, added.out], [0, prevResult]);
    assert.deepEqual((await node.cni('ADD', pod.vars, stdin({ runtimeConfig: capabilityArgs }))).out, prevResult, 'again');
    assert.notEqual(qdiscs(), before);
    assert.equal((await node.cni('DEL', pod.vars, stdin({}))).code, 0);
    assert.equal(qdiscs(), before);
    const wrong = await node.cni('ADD', net.pod('empty').vars, stdin({}));
    assert.deepEqual([(wrong.out as { code: number }).code, (wrong.out as { msg: string }).msg], [7, 'there is no interface eth0 in the container']);
    await runner.del(maker, params(pod));
  }));
