/** The agent ends and comes back: killed under traffic, without an API, after a loss of what it had. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { NetlinkSocket } from '@podway/kernel';
import { AgentProcess } from './agent-process.js';
import { conf, inNs, lines, needsRoot, until, vxlanEnds, withNetwork, withNode } from './network.js';
import { asker, serves, serviceObject, sliceObject } from './service-network.js';
import type { ChildOptions } from './agent-child.js';
import { serve, stream } from './traffic.js';

const skip = needsRoot;
/** Multicast groups of rtnetlink: link, neighbour, IPv4 address, IPv4 route. Source: linux/rtnetlink.h. */
const GROUPS = [1, 3, 5, 7];
const RTM = { 16: 'new link', 17: 'deleted link', 20: 'new address', 21: 'deleted address', 24: 'new route', 25: 'deleted route', 28: 'new neighbour', 29: 'deleted neighbour' } as Record<number, string>;

test('killed with -9 and started again under traffic: no packet lost, no change made, ADD and DEL go on', { skip }, (t) =>
  withNetwork(async (net) => {
    const [m1, m2] = [net.addNode(0), net.addNode(1)];
    await m2.start();
    let agent = await AgentProcess.of(m1);
    await agent.begin();
    await m2.ready();
    // The child has an API of its own: what m1 publishes there is put where m2 sees it, and the other way round.
    const { Nodes } = await import('@podway/kube');
    const published = (n: number): object => ({ 'podway.io/backend': vxlanEnds(`172.18.0.${n + 2}`, `0e:70:77:f4:0${n}:00`) });
    await net.client.patch(Nodes, { name: 'm1' }, { metadata: { annotations: published(0) } });
    const both = await net.client.list(Nodes);
    agent.child.stdin!.write(`${JSON.stringify({ put: both.find((n) => n.metadata?.name === 'm2') })}\n`);
    await until('each knows the other', () => [m1, m2].every((n) => lines(inNs(n.ns, 'ip', 'route', 'show', 'dev', 'flannel.1')).length === 1));

    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(m1, a);
    const ipB = await net.added(m2, b);
    await serve(net, b.ns, 7000);
    const traffic = await stream(net, a.ns, ipB, 7000);
    const news = NetlinkSocket.open(m1.ns, 0, GROUPS);
    const took: number[] = [];
    for (let round = 0; round < 3; round++) {
      await agent.kill();
      const next = await AgentProcess.of(m1);
      const began = performance.now();
      await next.begin();
      took.push(performance.now() - began);
      assert.deepEqual(next.seen('took-over').map((e) => [e.attachments, e.changes]), [[1, 0]]);
      assert.deepEqual([next.seen('changed'), next.seen('rolled-back'), next.seen('orphan')], [[], [], []]);
      agent = next;
    }
    const { answers, lost } = news.drain();
    news.close();
    // The kernel's own: neighbours of traffic that is under way are asked again and confirmed.
    assert.deepEqual([answers.map((m) => RTM[m.type] ?? m.type).filter((w) => w !== 'new neighbour'), lost], [[], false], 'the kernel was changed at take-over');
    const report = await traffic.stop();
    assert.deepEqual([report.missing, report.failed, report.sources], [[], 0, ['10.244.0.2']], JSON.stringify(report));
    t.diagnostic(`${report.sent} datagrams there and back while the agent was killed and started 3 times: 0 lost; ready again after ${took.map((x) => x.toFixed(0)).join(', ')} ms (code loaded)`);
    assert.equal((await m1.cni('CHECK', a.vars)).code, 0);
    assert.equal(await net.added(m1, net.pod('c')), '10.244.0.3', 'what is taken stays taken');
    assert.equal((await m1.cni('DEL', a.vars)).code, 0);
    await agent.kill();
  }));

test('the API is out of reach at the start: nothing is taken away, ADD and DEL work; all is as before when it is back', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = [net.addNode(0), net.addNode(1)];
    for (const n of [m1, m2]) await n.start();
    for (const n of [m1, m2]) await n.ready();
    await until('m2 is in the kernel of m1', () => lines(inNs(m1.ns, 'ip', 'route', 'show', 'dev', 'flannel.1')).length === 1);
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(m1, a);
    const before = lines(inNs(m1.ns, 'ip', 'route'));
    await m1.stop();
    net.client.down = true;
    await m1.start({ resyncMs: 10 });
    await until('it says so', () => m1.seen('api-lost').length > 0);
    assert.equal((await m1.cni('STATUS')).code, 0);
    assert.equal(await net.added(m1, b), '10.244.0.3');
    assert.match(m1.seen('failed')[0]?.doing ?? '', /annotations of pod default\/b; it gets the next free address/);
    assert.equal((await m1.cni('CHECK', a.vars)).code, 0);
    assert.equal((await m1.cni('DEL', b.vars)).code, 0);
    assert.deepEqual(lines(inNs(m1.ns, 'ip', 'route')), before);
    net.client.down = false;
    await m1.ready();
    assert.deepEqual(m1.seen('changed').map((e) => e.change), []);
    assert.deepEqual(lines(inNs(m1.ns, 'ip', 'route')), before);
  }));

test('a node that was restarted: its devices are gone and so are its pods; the records go, the addresses are free', { skip }, () =>
  withNode(async (node, net) => {
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(node, a);
    await net.added(node, b);
    await node.stop();
    a.ns.close();
    await until('the kernel has ended the namespace of a', async () => (await node.leavings()).links.length === 1);
    await node.start();
    await node.ready();
    assert.deepEqual((await node.leavings()).files, ['attachments/b@eth0.json'], 'b, whose namespace is still there, keeps its record');
    assert.deepEqual(node.seen('collected').map((e) => e.pod), ['pod default/a']);
  }));

test('a second agent on the same node is refused and harms nothing', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('a');
    await net.added(node, pod);
    const first = node.agent!;
    await assert.rejects(node.start(), /another agent is alive/);
    node.agent = first;
    assert.equal((await node.cni('CHECK', pod.vars)).code, 0);
    assert.equal((await node.leavings()).files.length, 1);
  }));

test('the configuration for the runtime appears when pods can be served, whole, and is the one that works', { skip }, () =>
  withNode(async (node, net) => {
    const list = JSON.parse(await readFile(join(node.confDir, '10-podway.conflist'), 'utf8')) as { cniVersion: string; name: string; plugins: object[] };
    assert.equal(list.name, 'podway');
    const pod = net.pod('a');
    assert.equal((await node.cni('ADD', pod.vars, conf(list.cniVersion, { ...list.plugins[0], name: list.name }))).code, 0);
  }));

test('an agent killed with -9: Services go on, new connections and those that are remembered; the next agent changes nothing', { skip }, () =>
  withNetwork(async (net) => {
    const m1 = net.addNode(0);
    const spec = { clusterIP: '10.96.0.20', sessionAffinity: 'ClientIP', ports: [{ port: 80 }] };
    const [a, b] = [net.pod('a'), net.pod('b')];
    const of = (ips: readonly string[]): Partial<ChildOptions> =>
      ({ services: [serviceObject('web', spec)], slices: [sliceObject('web', ips.map((address) => ({ address, node: 'm1' })), [{ port: 8080 }])] });
    const first = await (await AgentProcess.of(m1, of(['10.244.0.2', '10.244.0.3']))).begin();
    for (const [name, pod] of [['a', a], ['b', b]] as const) {
      await net.added(m1, pod);
      await serves(net, pod.ns, name, 8080);
    }
    await until('the rules are there', () => first.seen('services').length > 0);
    const client = await asker(net, a.ns);
    const before = await client.ask('tcp', '10.96.0.20', 80, 5);
    assert.deepEqual([Object.values(before.by), before.errors], [[5], {}]);
    await first.kill();
    const alone = await client.ask('tcp', '10.96.0.20', 80, 50);
    assert.deepEqual([Object.keys(alone.by), alone.errors], [Object.keys(before.by), {}]);
    const second = await (await AgentProcess.of(m1, of(['10.244.0.2', '10.244.0.3']))).begin();
    const after = await client.ask('tcp', '10.96.0.20', 80, 50);
    assert.deepEqual([Object.keys(after.by), after.errors], [Object.keys(before.by), {}], 'the table was not made anew');
    assert.deepEqual(second.seen('services'), []);
    await second.kill();
    // What changed while nobody looked is taken over at once.
    const third = await (await AgentProcess.of(m1, of(['10.244.0.3']))).begin();
    await until('it has the change', () => third.seen('services').length > 0);
    const moved = await client.ask('tcp', '10.96.0.20', 80, 5);
    assert.deepEqual([moved.by, moved.errors], [{ b: 5 }, {}]);
    await third.kill();
  }));
