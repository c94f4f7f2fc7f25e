/** A pod's bandwidth on a real kernel: the rate that holds, what stands for it, and that nothing of it stays. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { RtNetlink, type Netns } from '@podway/kernel';
import { shapingOf } from '../src/index.js';
import { AgentProcess } from './agent-process.js';
import { addressIn, conf, inNs, needsRoot, until, withNetwork, withNode, type TestNode, type TestPod } from './network.js';

const skip = needsRoot;
type Bandwidth = { readonly ingressRate?: number; readonly ingressBurst?: number; readonly egressRate?: number; readonly egressBurst?: number };
const asked = (bandwidth: Bandwidth): string => conf('1.1.0', { runtimeConfig: { bandwidth } });
async function added(node: TestNode, pod: TestPod, b: Bandwidth): Promise<string> {
  const a = await node.cni('ADD', pod.vars, asked(b));
  assert.equal(a.code, 0, JSON.stringify(a.out));
  return addressIn(a.out);
}
/** Devices and qdiscs that are a pod's on the node. */
function standing(node: TestNode): string[] {
  const s = node.state();
  return [...s.links.filter((l) => l.kind === 'ifb').map((l) => `${l.kind} ${l.alias}`), ...s.qdiscs.filter((q) => q.tbf || q.redirect).map((q) => `${q.kind} ${q.handle} ${q.parent}`)].sort();
}

/** Bits per second as the receiver counted them. */
async function measure(server: Netns, client: Netns, address: string): Promise<number> {
  const listen = server.run(() => spawn('iperf3', ['-s', '-1', '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] }));
  await once(listen.stdout, 'data');
  const send = client.run(() => spawn('iperf3', ['-c', address, '-t', '3', '-O', '1', '-J'], { stdio: ['ignore', 'pipe', 'inherit'] }));
  let text = '';
  send.stdout.on('data', (d: Buffer) => (text += d.toString()));
  await Promise.all([once(send, 'close'), once(listen, 'close')]);
  return (JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second;
}

/** What runtimes send for "any burst" with the annotations: containerd's, and that of others. */
for (const [mbit, burst] of [[10, 2 ** 32 - 1], [100, 2 ** 31 - 1]] as const) {
  test(`${mbit} Mbit/s each way hold within 10 %; another pod is not slowed`, { skip }, (t) =>
    withNode(async (node, net) => {
      const [slow, free] = [net.pod('slow'), net.pod('free')];
      const ip = await added(node, slow, { ingressRate: mbit * 1e6, ingressBurst: burst, egressRate: mbit * 1e6, egressBurst: burst });
      const ipFree = await net.added(node, free);
      assert.match(inNs(node.ns, 'tc', 'qdisc', 'show'), new RegExp(`tbf 7077: dev veth\\w+ root refcnt \\d+ rate ${mbit}Mbit burst`));
      const toPod = await measure(slow.ns, free.ns, ip);
      const fromPod = await measure(free.ns, slow.ns, ipFree);
      const beside = await measure(free.ns, node.ns, ipFree);
      t.diagnostic(`asked ${mbit} Mbit/s: to the pod ${(toPod / 1e6).toFixed(2)}, from the pod ${(fromPod / 1e6).toFixed(2)}; a pod without: ${(beside / 1e6).toFixed(0)}`);
      for (const m of [toPod, fromPod]) assert.ok(Math.abs(m - mbit * 1e6) < mbit * 1e5, `${(m / 1e6).toFixed(2)} Mbit/s`);
      assert.ok(beside > mbit * 2e6, 'the other pod');
      const counted = RtNetlink.with(node.ns, (nl) => nl.qdiscs().filter((q) => q.kind === 'tbf').map((q) => q.stats));
      assert.ok(counted.length === 2 && counted.every((s) => s !== undefined && s.overlimits > 0 && s.packets > 0n), 'both shapers had work');
    }));
}

for (const wiring of ['bridge', 'ptp']) test(`wiring ${wiring}: what is asked is what stands; DEL, GC and a start of the agent leave nothing; nothing asked makes nothing`, { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    const network = JSON.stringify({ Network: '10.244.0.0/16', Wiring: wiring, Backend: { Type: 'vxlan' } });
    await node.start({ network });
    await node.ready();
    const rows: [Bandwidth, string[]][] = [
      [{}, []],
      [{ ingressRate: 0, ingressBurst: 2 ** 32 - 1 }, []],
      [{ ingressRate: 1e6 }, ['tbf 7077: root']],
      [{ egressRate: 1e6, egressBurst: 400_000 }, ['ifb podway: shaper of pod default/p eth0 (p)', 'ingress ffff: ingress', 'tbf 7077: root']],
    ];
    for (const [b, want] of rows) {
      const pod = net.pod('p');
      await added(node, pod, b);
      assert.deepEqual(standing(node), want, JSON.stringify(b));
      assert.equal((await node.cni('CHECK', pod.vars)).code, 0, JSON.stringify(b));
      assert.equal((await node.cni('DEL', pod.vars)).code, 0);
      assert.deepEqual([standing(node), await node.leavings()], [[], { links: [], files: [] }], JSON.stringify(b));
    }
    const [a, gone] = [net.pod('a'), net.pod('gone')];
    for (const p of [a, gone]) await added(node, p, { ingressRate: 1e6, egressRate: 1e6 });
    RtNetlink.with(node.ns, (nl) => nl.createLink({ kind: 'ifb', name: 'ifborphan', alias: 'podway: shaper of pod default/x eth0 (x)' }));
    RtNetlink.with(node.ns, (nl) => nl.createLink({ kind: 'ifb', name: 'ifbforeign' }));
    const before = standing(node);
    await node.stop();
    await (await node.start({ network }), node.ready());
    assert.deepEqual(node.seen('changed'), [], 'a start changes nothing');
    assert.deepEqual(standing(node), before.filter((w) => !w.includes('default/x')), 'but takes what is of no record');
    assert.equal((await node.cni('GC', {}, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'a', ifname: 'eth0' }] }))).code, 0);
    assert.equal(standing(node).filter((w) => w.includes('default/')).length, 1);
    assert.ok(node.state().links.some((l) => l.name === 'ifbforeign'));
    assert.equal((await node.cni('CHECK', a.vars)).code, 0);
  }));

test('CHECK sees a rate that was altered, a shaper or a filter that is gone; the agent mends them', { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    await node.start();
    await node.ready();
    const pod = net.pod('p');
    await added(node, pod, { ingressRate: 8e6, egressRate: 8e6 });
    const host = node.state().qdiscs.find((q) => q.redirect)!;
    const check = async (): Promise<string> => {
      const a = await node.cni('CHECK', pod.vars);
      return a.code === 0 ? '' : String((a.out as { details?: string }).details);
    };
    const harm: [argv: string[], says: RegExp][] = [
      [['tc', 'qdisc', 'change', 'dev', host.dev, 'root', 'handle', '7077:', 'tbf', 'rate', '99mbit', 'burst', '100k', 'latency', '50ms'], /change qdisc root dev veth\w+: rate 12375000 instead of 1000000 bytes\/s/],
      [['tc', 'qdisc', 'del', 'dev', host.dev, 'root'], /add qdisc root dev veth\w+: missing/],
      [['tc', 'filter', 'del', 'dev', host.dev, 'parent', 'ffff:'], /change qdisc ingress dev veth\w+: redirect none instead of ifb\w+/],
      [['tc', 'qdisc', 'del', 'dev', host.dev, 'ingress'], /add qdisc ingress dev veth\w+: missing/],
      [['ip', 'link', 'del', host.redirect!], /add link ifb\w+: missing/],
    ];
    for (const [argv, says] of harm) {
      inNs(node.ns, ...argv);
      assert.match(await check(), says, argv.join(' '));
      await node.stop();
      await node.start({ resyncMs: 50 });
      await until(`mended: ${argv.join(' ')}`, async () => (await check()) === '');
      await node.stop();
      await (await node.start(), node.ready());
    }
  }));

test('a killed agent is no harm to a shaped pod, and the next one takes it over', { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    let agent = await (await AgentProcess.of(node)).begin();
    const pod = net.pod('p');
    await added(node, pod, { ingressRate: 8e6, egressRate: 8e6 });
    const before = standing(node);
    await agent.kill();
    assert.deepEqual(standing(node), before);
    agent = await (await AgentProcess.of(node)).begin();
    assert.deepEqual([standing(node), agent.seen('changed')], [before, []]);
    assert.equal((await node.cni('CHECK', pod.vars)).code, 0);
    await agent.kill();
  }));

test('what cannot be kept is refused before anything is made', () => {
  const rows: [Bandwidth, RegExp][] = [
    [{ ingressBurst: 1000 }, /ingressBurst without ingressRate/],
    [{ egressRate: 1e6, egressBurst: 8000 }, /egressRate 1000000 with egressBurst 8000 cannot be kept/],
    [{ ingressRate: 7 }, /ingressRate 7 .* cannot be kept/],
  ];
  for (const [b, says] of rows) assert.throws(() => shapingOf(b, 1450), (e: Error & { cniCode?: number }) => e.cniCode === 7 && says.test(e.message));
  assert.deepEqual(shapingOf({ ingressRate: 8e6, ingressBurst: 2 ** 32 - 1 }, 1450), { ingress: { rate: 1_000_000, burst: 50_000, limit: 75_000 } });
});
