/** What the agent makes of a node: real packets, nodes that come and go, what others made, what others broke. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RtNetlink } from '@podway/kernel';
import { Nodes } from '@podway/kube';
import { inNs, lines, needsRoot, nodeObject, OUTSIDE, until, vxlanEnds, withNetwork, withNode, type TestNetwork, type TestNode } from './network.js';
import { probe, serve, stream } from './traffic.js';

const skip = needsRoot;

async function nodes(net: TestNetwork, count: number): Promise<TestNode[]> {
  const all = Array.from({ length: count }, (_, n) => net.addNode(n));
  for (const n of all) await n.start();
  for (const n of all) await n.ready();
  await until('every node knows every other', () => all.every((n) => entries(n).routes.length === count - 1));
  return all;
}

const show = (n: TestNode, ...argv: string[]): string[] => lines(inNs(n.ns, ...argv)).sort();
/** The three kinds of entries of the VTEP, as the tools print them. */
const entries = (n: TestNode): { routes: string[]; neighbours: string[]; fdb: string[] } => ({
  routes: show(n, 'ip', 'route', 'show', 'dev', 'flannel.1'),
  neighbours: show(n, 'ip', 'neigh', 'show', 'dev', 'flannel.1', 'nud', 'permanent'),
  fdb: show(n, 'bridge', 'fdb', 'show', 'dev', 'flannel.1').filter((l) => l.includes('dst')),
});

test('pod to pod and node to pod are never translated; what leaves the cluster has the node address', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = await nodes(net, 2);
    const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
    const [ipA, ipB, ipC] = [await net.added(m1!, a), await net.added(m2!, b), await net.added(m1!, c)];
    await serve(net, b.ns, 7000);
    await serve(net, c.ns, 7000);
    await serve(net, net.outside, 7000);
    const seen = async (from: typeof a.ns, to: string): Promise<readonly string[]> => {
      const r = await probe(net, from, to, 7000);
      assert.equal(r.answered, r.sent, `${to}: ${JSON.stringify(r)}`);
      return r.sources;
    };
    assert.deepEqual(await seen(a.ns, ipB), [ipA], 'across nodes');
    assert.deepEqual(await seen(a.ns, ipC), [ipA], 'on one node');
    assert.deepEqual(await seen(m1!.ns, ipC), ['10.244.0.1'], 'node to its own pod: the bridge');
    assert.deepEqual(await seen(m1!.ns, ipB), ['10.244.0.0'], 'node to a pod elsewhere: its VTEP');
    assert.deepEqual(await seen(a.ns, OUTSIDE), ['172.18.0.2'], 'to the outside: the node');
  }));

test('a node joins and leaves: route, neighbour and FDB entry are in the kernel of the others, in Flannel\'s forms', { skip }, (t) =>
  withNetwork(async (net) => {
    const [m1, m2] = await nodes(net, 2);
    const before = entries(m1!);
    const joining = net.addNode(2, { register: false });
    await joining.start();
    const began = performance.now();
    net.client.put(Nodes, nodeObject('m3', 2));
    await until('m3 is in the kernel of m1 and m2', () => [m1!, m2!].every((n) => entries(n).routes.length === 2 && entries(n).fdb.length === 2), 1000);
    t.diagnostic(`a node joins: in the kernel of the others after ${(performance.now() - began).toFixed(0)} ms (its own agent's start of work and three tools per look included)`);
    assert.deepEqual(entries(m1!), {
      routes: ['10.244.1.0/24 via 10.244.1.0 onlink', '10.244.2.0/24 via 10.244.2.0 onlink'],
      neighbours: ['10.244.1.0 lladdr 0e:70:77:f4:01:00 PERMANENT', '10.244.2.0 lladdr 0e:70:77:f4:02:00 PERMANENT'],
      fdb: ['0e:70:77:f4:01:00 dst 172.18.0.3 self permanent', '0e:70:77:f4:02:00 dst 172.18.0.4 self permanent'],
    });
    const [a, c] = [net.pod('a'), net.pod('c')];
    await net.added(m1!, a);
    await joining.ready();
    const ipC = await net.added(joining, c);
    await serve(net, c.ns, 7000);
    const r = await probe(net, a.ns, ipC, 7000);
    assert.equal(r.answered, r.sent);
    const left = performance.now();
    net.client.remove(Nodes, 'm3');
    await until('m3 is gone from the kernel of m1', () => entries(m1!).routes.length === 1 && entries(m1!).fdb.length === 1, 1000);
    t.diagnostic(`a node leaves: gone from the kernel after ${(performance.now() - left).toFixed(0)} ms`);
    assert.deepEqual(entries(m1!), before);
  }));

test('what others made is untouched by start, reconciliation, GC and stop', { skip }, () =>
  withNetwork(async (net) => {
    const [m1] = await nodes(net, 2);
    await m1!.stop();
    const tools: string[][] = [
      ['ip', 'route', 'add', '192.0.2.0/24', 'dev', 'flannel.1'],
      ['ip', 'route', 'add', '198.51.100.0/24', 'via', '10.244.1.0', 'dev', 'flannel.1', 'onlink', 'proto', 'static'],
      ['ip', 'neigh', 'add', '10.244.77.0', 'lladdr', '02:00:00:00:00:77', 'dev', 'flannel.1', 'nud', 'permanent'],
      ['bridge', 'fdb', 'add', '02:00:00:00:00:77', 'dev', 'flannel.1', 'dst', '172.18.0.77', 'self', 'permanent'],
      ['ip', 'link', 'add', 'br-mine', 'type', 'bridge'],
      ['ip', 'link', 'add', 'vethmine', 'type', 'veth', 'peer', 'name', 'vethmine2'],
      ['ip', 'link', 'set', 'vethmine', 'master', 'cni0'],
      ['ip', 'addr', 'add', '192.168.7.1/24', 'dev', 'cni0'],
      ['ip', 'rule', 'add', 'from', '192.0.2.1', 'table', '100'],
      ['nft', 'add table ip mine { chain c { type filter hook forward priority 0; policy accept; ip saddr 192.0.2.1 drop ; } ; }'],
      ['nft', 'add table inet podway-not { chain c { } ; }'],
    ];
    for (const t of tools) inNs(m1!.ns, ...t);
    /** One line an object; without what IPv6 and multicast do by themselves in the first seconds of a device. */
    const foreign = (): string[] => {
      const s = m1!.state();
      const nft = s.nft.filter((o) => /"mine"|podway-not/.test(JSON.stringify(o)));
      const all = [
        ...s.links.map(({ counters: _, ...l }) => l), ...s.addresses.filter((x) => x.family === 'inet'), ...s.routes.filter((x) => x.family === 'inet'),
        ...s.rules, ...s.neighbours.filter((x) => x.family === 'inet' && x.state !== 'noarp'), ...s.fdb.filter((x) => !/^(33:33|01:00:5e)/.test(x.lladdr)), ...nft,
      ];
      return all.map((o) => JSON.stringify(o)).sort();
    };
    const before = foreign();
    await m1!.start({ resyncMs: 20 });
    await m1!.ready();
    assert.deepEqual(m1!.seen('changed').map((e) => e.change), []);
    net.client.put(Nodes, { ...nodeObject('m9', 9), metadata: { name: 'm9', annotations: { 'podway.io/backend': vxlanEnds('172.18.0.99', '0e:70:77:f4:09:00') } } });
    await until('m9 is there', () => entries(m1!).fdb.length === 3);
    net.client.remove(Nodes, 'm9');
    await until('m9 is gone', () => entries(m1!).fdb.length === 2);
    const gc = await m1!.cni('GC', {}, JSON.stringify({ cniVersion: '1.1.0', name: 'podway', type: 'podway-cni', 'cni.dev/valid-attachments': [] }));
    assert.equal(gc.code, 0);
    await m1!.stop();
    assert.deepEqual(foreign(), before);
  }));

const drifts: { what: string; break: string[][]; says: RegExp }[] = [
  { what: 'a deleted route', break: [['ip', 'route', 'del', '10.244.1.0/24']], says: /add route .*10\.244\.1\.0\/24.*: missing: pods of node m2 are behind 172\.18\.0\.3/ },
  { what: 'an FDB entry with another destination', break: [['bridge', 'fdb', 'replace', '0e:70:77:f4:01:00', 'dev', 'flannel.1', 'dst', '172.18.0.250', 'self', 'permanent']], says: /change FDB entry .*dst 172\.18\.0\.250 instead of 172\.18\.0\.3/ },
  { what: 'an altered neighbour', break: [['ip', 'neigh', 'replace', '10.244.1.0', 'lladdr', '02:00:00:00:00:01', 'dev', 'flannel.1', 'nud', 'permanent']], says: /change neighbour .*lladdr 02:00:00:00:00:01 instead of 0e:70:77:f4:01:00/ },
  { what: 'a deleted VTEP', break: [['ip', 'link', 'del', 'flannel.1']], says: /add link flannel\.1: missing/ },
  { what: 'a VTEP with another VNI', break: [
    ['ip', 'link', 'del', 'flannel.1'],
    ['ip', 'link', 'add', 'flannel.1', 'type', 'vxlan', 'id', '42', 'dstport', '8472', 'local', '172.18.0.2', 'dev', 'eth0', 'nolearning'],
    ['ip', 'link', 'set', 'flannel.1', 'alias', 'podway: VTEP of this node']], says: /make anew link flannel\.1: vni 42 instead of 1/ },
  { what: 'a bridge with another MTU', break: [['ip', 'link', 'set', 'cni0', 'mtu', '1500']], says: /change link cni0: mtu 1500 instead of 1450/ },
  { what: 'a bridge that is down', break: [['ip', 'link', 'set', 'cni0', 'down']], says: /change link cni0: up false instead of true/ },
  { what: 'forwarding off', break: [['sysctl', '-qw', 'net.ipv4.ip_forward=0']], says: /net\.ipv4\.ip_forward: is 0, must be 1/ },
  { what: 'an emptied table', break: [['nft', 'flush', 'table', 'inet', 'podway']], says: /change nftables table .*podway: its rules differ/ },
  { what: 'a deleted table', break: [['nft', 'delete', 'table', 'inet', 'podway']], says: /add nftables table .*podway: missing/ },
  { what: 'a pod taken off the bridge', break: [['ip', 'link', 'set', 'POD', 'nomaster']], says: /change link veth.*: master none instead of cni0/ },
];

test('what somebody broke is mended at the next full comparison, and said in words; traffic flows again', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = await nodes(net, 2);
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(m1!, a);
    const ipB = await net.added(m2!, b);
    await serve(net, b.ns, 7000);
    await serve(net, net.outside, 7000);
    await m1!.stop();
    await m1!.start({ resyncMs: 20 });
    await m1!.ready();
    const whole = entries(m1!);
    const [host = ''] = (await m1!.leavings()).links;
    for (const d of drifts) {
      m1!.events.length = 0;
      for (const argv of d.break) inNs(m1!.ns, ...argv.map((x) => (x === 'POD' ? host : x)));
      await until(`${d.what} is told (${JSON.stringify(m1!.events)})`, () => m1!.seen('changed').some((e) => d.says.test(e.change)));
      await until(`${d.what} is mended`, () => assert.deepEqual(entries(m1!), whole) === undefined);
      for (const to of [ipB, OUTSIDE]) {
        const r = await probe(net, a.ns, to, 7000);
        assert.ok(r.answered > 0, `${d.what}: ${to} answers again: ${JSON.stringify(r)}`);
      }
      assert.deepEqual(m1!.seen('refused'), [], d.what);
    }
  }));

test('a pod whose device somebody deleted is told once; DEL of it succeeds', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('a');
    await net.added(node, pod);
    const [host] = (await node.leavings()).links;
    inNs(node.ns, 'ip', 'link', 'del', host!);
    await until('it is told', () => node.seen('device-lost').length > 0);
    const at = node.events.length;
    await until('several more comparisons', async () => {
      inNs(node.ns, 'sysctl', '-qw', 'net.ipv4.ip_forward=0');
      await until('mended', () => inNs(node.ns, 'sysctl', '-n', 'net.ipv4.ip_forward').trim() === '1');
      return node.events.length >= at + 3;
    });
    assert.deepEqual(node.seen('device-lost').map((e) => [e.link, e.why]), [[host, 'host end of pod default/a']]);
    assert.equal((await node.cni('DEL', pod.vars)).code, 0);
    assert.deepEqual(await node.leavings(), { links: [], files: [] });
  }, { resyncMs: 10 }));

test('a full comparison in the midst of ADDs and DELs takes no pod its device', { skip }, () =>
  withNode(async (node, net) => {
    for (let round = 0; round < 3; round++) {
      const pods = Array.from({ length: 6 }, (_, i) => net.pod(`p${round}-${i}`));
      await Promise.all(pods.map((p) => net.added(node, p)));
      assert.equal((await node.leavings()).links.length, 6);
      for (const p of pods) assert.equal((await node.cni('CHECK', p.vars)).code, 0);
      await Promise.all(pods.map((p) => node.cni('DEL', p.vars)));
      assert.deepEqual(await node.leavings(), { links: [], files: [] });
    }
    assert.deepEqual([node.seen('device-lost'), node.seen('refused')], [[], []]);
    assert.equal(RtNetlink.with(node.ns, (nl) => nl.mustLink('cni0').mtu), 1450, 'a bridge without ports keeps its MTU');
  }, { resyncMs: 1 }));

test('jumbo uplinks give jumbo pods; an uplink that changes its MTU is followed', { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0, { mtu: 9000 });
    await node.start({ resyncMs: 20 });
    await node.ready();
    const pod = net.pod('a');
    await net.added(node, pod);
    const mtus = (): number[] => RtNetlink.with(node.ns, (nl) => nl.links().filter((l) => ['bridge', 'vxlan', 'veth'].includes(l.kind ?? '') && l.name !== 'eth0').map((l) => l.mtu));
    assert.deepEqual(mtus(), [8950, 8950, 8950]);
    inNs(node.ns, 'ip', 'link', 'set', 'eth0', 'mtu', '1400');
    await until('all devices of the node follow', () => mtus().every((m) => m === 1350));
  }));

test('reconciling under traffic loses nothing', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = await nodes(net, 2);
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(m1!, a);
    const ipB = await net.added(m2!, b);
    await serve(net, b.ns, 7000);
    const s = await stream(net, a.ns, ipB, 7000);
    await m1!.stop();
    await m1!.start({ resyncMs: 5 });
    await m1!.ready();
    for (let i = 3; i < 9; i++) {
      const published = { 'podway.io/backend': vxlanEnds(`172.18.0.${i + 90}`, `0e:70:77:f4:0${i}:00`) };
      net.client.put(Nodes, { ...nodeObject(`x${i}`, i), metadata: { name: `x${i}`, annotations: published } });
      await until(`x${i} is there`, () => m1!.seen('peers').some((e) => e.joined.includes(`x${i}`)));
      net.client.remove(Nodes, `x${i}`);
    }
    const r = await s.stop();
    assert.deepEqual([r.missing, r.failed, r.sources.length], [[], 0, 1], JSON.stringify(r));
  }));
