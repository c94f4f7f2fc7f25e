/** Two families on one node: what a pod gets, in which forms it is in the kernel, what is mended, kept and given back; and nodes that lack one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readSysctl, RtNetlink, writeSysctl } from '@podway/kernel';
import { Nodes } from '@podway/kube';
import { backendOf, internalIps, parseNetworkConfig, planBackends, podMtu, vtepMac, type LocalNode, type NodeEnds, type Peer } from '../src/index.js';
import { conf, inNs, lines, needsRoot, nodeObject, OUTSIDE, until, withNetwork, type Families, type TestNetwork, type TestNode } from './network.js';
import { ask, Listeners } from './talk.js';

const skip = needsRoot;
const NETWORK = JSON.stringify({ Network: '10.244.0.0/16', IPv6Network: 'fd00:10:244::/56', Backend: { Type: 'vxlan' } });
const ONLY6 = JSON.stringify({ EnableIPv4: false, IPv6Network: 'fd00:10:244::/56', Backend: { Type: 'vxlan' } });
const network = (families: Families): string => (families === '6' ? ONLY6 : NETWORK);

async function nodes(net: TestNetwork, count: number): Promise<TestNode[]> {
  const all = Array.from({ length: count }, (_, n) => net.addNode(n));
  for (const n of all) await n.start({ network: network(net.families) });
  for (const n of all) await n.ready();
  const ways = net.families === 'both' ? 2 : 1;
  await until('every node knows every other', () => all.every((n) => show(n, 'ip', 'route', 'show', 'proto', 'boot', 'type', 'unicast').concat(show(n, 'ip', '-6', 'route', 'show', 'proto', 'boot')).filter((l) => l.includes('flannel')).length === ways * (count - 1)));
  return all;
}
const show = (n: TestNode, ...argv: string[]): string[] => lines(inNs(n.ns, ...argv)).sort();
/** Without what only one version of ip prints. */
const plain = (all: string[]): string[] => all.map((l) => l.replace(/ pref medium$/, ''));

test('one ADD gives both addresses, in every version of CNI; the MAC is from the IPv4 one, and without it from the IPv6 one', { skip }, async () => {
  for (const families of ['both', '6'] as const) {
    await withNetwork(async (net) => {
      const [m1] = await nodes(net, 1);
      let host = 2;
      for (const version of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
        const pod = net.pod(`p-${version.replaceAll('.', '-')}`);
        const { code, out } = await m1!.cni('ADD', pod.vars, conf(version));
        assert.equal(code, 0, JSON.stringify(out));
        const [v4, v6] = [`10.244.0.${host}`, `fd00:10:244::${host}`];
        const { ips, routes, interfaces } = out as { ips: { address: string; gateway: string; version?: string }[]; routes: { dst: string; gw: string }[]; interfaces: { mac: string; name: string }[] };
        const four = families === 'both' ? [[`${v4}/24`, '10.244.0.1', version < '1' ? '4' : undefined]] : [];
        assert.deepEqual(ips.map((i) => [i.address, i.gateway, i.version]), [...four, [`${v6}/64`, 'fd00:10:244::1', version < '1' ? '6' : undefined]]);
        assert.deepEqual(routes.filter((r) => r.dst.includes(':')), [{ dst: '::/0', gw: 'fd00:10:244::1' }, { dst: 'fd00:10:244::/56', gw: 'fd00:10:244::1' }]);
        assert.equal(interfaces.find((i) => i.name === 'eth0')?.mac, families === 'both' ? `0a:58:0a:f4:00:0${host}` : `0a:58:00:00:00:0${host}`);
        const added = RtNetlink.with(pod.ns, (nl) => nl.addrs().find((a) => a.address === v6));
        assert.deepEqual([added?.tentative, added?.flags.includes('nodad')], [false, true], 'usable at once: nothing is asked first');
        assert.deepEqual(['accept_ra', 'accept_dad', 'keep_addr_on_down'].map((k) => readSysctl(pod.ns, `net.ipv6.conf.eth0.${k}`)), ['0', '0', '1']);
        assert.equal((await m1!.cni('CHECK', pod.vars, conf(version === '0.3.1' ? '0.4.0' : version))).code, 0);
        host++;
      }
    }, families);
  }
});

test('a sandbox that was made without IPv6 is given it; one of an IPv4 cluster is left alone', { skip }, async () => {
  for (const families of ['both', '4'] as const) {
    await withNetwork(async (net) => {
      const node = net.addNode(0);
      await node.start(families === '4' ? {} : { network: NETWORK });
      await node.ready();
      const pod = net.pod('a');
      for (const d of ['all', 'default']) writeSysctl(pod.ns, `net.ipv6.conf.${d}.disable_ipv6`, '1');
      await net.added(node, pod);
      assert.equal(readSysctl(pod.ns, 'net.ipv6.conf.eth0.disable_ipv6'), families === 'both' ? '0' : '1');
    }, families);
  }
});

test('in the kernel: Flannel\'s forms, a VTEP on each underlay', { skip }, () =>
  withNetwork(async (net) => {
    const [m1] = await nodes(net, 2);
    const mac = vtepMac('fd00:10:244:1::/64');
    assert.deepEqual(plain(show(m1!, 'ip', '-6', 'route', 'show', 'fd00:10:244:1::/64')), ['fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel-v6.1 metric 1024 onlink']);
    assert.deepEqual(show(m1!, 'ip', '-6', 'neigh', 'show', 'dev', 'flannel-v6.1', 'nud', 'permanent'), [`fd00:10:244:1:: lladdr ${mac} PERMANENT`]);
    assert.deepEqual(show(m1!, 'bridge', 'fdb', 'show', 'dev', 'flannel-v6.1').filter((l) => l.includes('dst')), [`${mac} dst fc00:18::3 self permanent`]);
    assert.deepEqual(show(m1!, 'ip', 'route', 'show', 'dev', 'flannel.1'), ['10.244.1.0/24 via 10.244.1.0 onlink']);
    assert.match(inNs(m1!.ns, 'ip', '-d', 'link', 'show', 'flannel-v6.1'), /mtu 1430 [\s\S]*vxlan id 1 local fc00:18::2 dev eth0 .*dstport 8472 nolearning/);
    const ends = JSON.parse((await net.client.get(Nodes, 'm1')).metadata?.annotations?.['podway.io/backend'] ?? '') as NodeEnds;
    assert.deepEqual([ends.publicIP, ends.secondIP, ends.accepts.vxlan], ['172.18.0.2', 'fc00:18::2', { vtepMAC: vtepMac('10.244.0.0/24'), vtepMAC6: vtepMac('fd00:10:244::/64'), vni: 1, port: 8472 }]);
  }, 'both'));

const drifts: [what: string, ...break: string[][]][] = [
  ['a deleted route', ['ip', '-6', 'route', 'del', 'fd00:10:244:1::/64']],
  ['a route by another way', ['ip', '-6', 'route', 'replace', 'fd00:10:244:1::/64', 'via', 'fc00:18::1', 'metric', '1024', 'proto', '112']],
  ['an FDB entry with another destination', ['bridge', 'fdb', 'replace', vtepMac('fd00:10:244:1::/64'), 'dev', 'flannel-v6.1', 'dst', 'fc00:18::99', 'self', 'permanent']],
  ['a deleted neighbour', ['ip', '-6', 'neigh', 'del', 'fd00:10:244:1::', 'dev', 'flannel-v6.1']],
  ['a deleted VTEP', ['ip', 'link', 'del', 'flannel-v6.1']],
  ['the bridge without its address', ['ip', 'addr', 'del', 'fd00:10:244::1/64', 'dev', 'cni0']],
  ['the bridge down', ['ip', 'link', 'set', 'cni0', 'down']],
  ['IPv6 switched off on the bridge', ['sysctl', '-qw', 'net.ipv6.conf.cni0.disable_ipv6=1'], ['sysctl', '-qw', 'net.ipv6.conf.cni0.disable_ipv6=0']],
  ['forwarding off', ['sysctl', '-qw', 'net.ipv6.conf.all.forwarding=0']],
  ['an emptied table', ['nft', 'flush', 'table', 'inet', 'podway']],
];

test('what somebody broke of IPv6 is mended, and both families go on', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = await nodes(net, 2);
    const [a, b] = [net.pod('a'), net.pod('b')];
    const own = await net.addedAll(m1!, a);
    const to = await net.addedAll(m2!, b);
    const listeners = new Listeners();
    await listeners.add(b.ns);
    await listeners.add(net.outside);
    try {
      await m1!.stop();
      await m1!.start({ network: NETWORK, resyncMs: 20 });
      await m1!.ready();
      assert.deepEqual(m1!.seen('took-over').map((e) => e.changes), [0], 'a restart changes nothing');
      for (const [what, ...commands] of drifts) {
        for (const argv of commands) inNs(m1!.ns, ...argv);
        for (const [i, address] of to.entries()) {
          await until(`${what}: ${address} answers`, async () => assert.equal((await ask(a.ns, address)).seen, own[i]) === undefined);
        }
        for (const [address, node] of [[OUTSIDE, '172.18.0.2'], ['2001:db8:113::2', 'fc00:18::2']] as const) {
          await until(`${what}: ${address} answers`, async () => assert.equal((await ask(a.ns, address)).seen, node) === undefined);
        }
        assert.deepEqual(m1!.seen('refused'), [], what);
      }
    } finally {
      await listeners.close();
    }
  }, 'both'));

test('addresses of both families are kept over a restart, and both come back with GC', { skip }, () =>
  withNetwork(async (net) => {
    const [m1] = await nodes(net, 1);
    const [a, b] = [net.pod('a'), net.pod('b')];
    assert.deepEqual(await net.addedAll(m1!, a), ['10.244.0.2', 'fd00:10:244::2']);
    await m1!.stop();
    await m1!.start({ network: NETWORK });
    await m1!.ready();
    assert.deepEqual(await net.addedAll(m1!, a), ['10.244.0.2', 'fd00:10:244::2'], 'the same answer again');
    assert.deepEqual(await net.addedAll(m1!, b), ['10.244.0.3', 'fd00:10:244::3']);
    const gc = await m1!.cni('GC', {}, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }));
    assert.equal(gc.code, 0, gc.stderr);
    assert.deepEqual(m1!.seen('collected').map((e) => e.addresses), [['10.244.0.2/24', 'fd00:10:244::2/64']]);
    assert.equal((await m1!.leavings()).links.length, 1);
  }, 'both'));

test('an uplink that believed routers goes on to, though its node forwards now; one that did not is left alone', { skip }, () =>
  withNetwork(async (net) => {
    for (const [n, before, after] of [[0, '1', '2'], [1, '0', '0']] as const) {
      const node = net.addNode(n);
      writeSysctl(node.ns, 'net.ipv6.conf.eth0.accept_ra', before);
      await node.start({ network: NETWORK });
      await node.ready();
      assert.equal(readSysctl(node.ns, 'net.ipv6.conf.eth0.accept_ra'), after);
    }
  }, 'both'));

test('a node without an IPv6 address of its own: its IPv6 pods are reached through the VTEP on IPv4', { skip }, () =>
  withNetwork(async (net) => {
    // m1 has both; m2 has pods of both families and an IPv4 address only.
    const [m1, m2] = [net.addNode(0), net.addNode(1)];
    RtNetlink.with(m2.ns, (nl) => nl.deleteAddr({ index: nl.mustLink('eth0').index, address: 'fc00:18::3', prefix: 64 }));
    net.client.put(Nodes, { ...nodeObject('m2', 1, 'both'), status: { addresses: [{ type: 'InternalIP', address: '172.18.0.3' }] } });
    for (const n of [m1, m2]) await n.start({ network: NETWORK });
    for (const n of [m1, m2]) await n.ready();
    const [a, b] = [net.pod('a'), net.pod('b')];
    const [own, to] = [await net.addedAll(m1, a), await net.addedAll(m2, b)];
    const listeners = new Listeners();
    await listeners.add(b.ns);
    try {
      for (const [i, address] of to.entries()) await until(`${address} answers`, async () => assert.equal((await ask(a.ns, address)).seen, own[i]) === undefined);
      assert.deepEqual(plain(show(m1, 'ip', '-6', 'route', 'show', 'fd00:10:244:1::/64')), ['fd00:10:244:1::/64 via fd00:10:244:1:: dev flannel.1 metric 1024 onlink']);
    } finally {
      await listeners.close();
    }
  }, 'both'));

const local = (podCidrs: readonly string[], second?: LocalNode['uplink']['second']): LocalNode => ({
  name: 'm1', podCidrs, uplink: { dev: 'eth0', address: '172.18.0.2', prefix: 16, mtu: 1500, ...(second ? { second } : {}) },
});
const both = local(['10.244.0.0/24', 'fd00:10:244::/64'], { address: 'fc00:18::2', prefix: 64 });
const peer = (ends: Partial<NodeEnds>, podCidrs = ['10.244.1.0/24', 'fd00:10:244:1::/64']): Peer => ({ name: 'm2', podCidrs, ends: { publicIP: '172.18.0.3', uses: 'vxlan', accepts: {}, ...ends } });

test('families are judged one by one: a peer that can be served in one is served in that one, and the other is told', () => {
  const hostGw = parseNetworkConfig(JSON.stringify({ ...JSON.parse(NETWORK) as object, Backend: { Type: 'host-gw' } }));
  const lacking = peer({ uses: 'host-gw', accepts: { 'host-gw': {} } });
  assert.equal(backendOf(hostGw).refuses(hostGw, both, lacking), undefined);
  const plan = planBackends(hostGw, undefined, both, [lacking]);
  assert.deepEqual(plan.problems, [{ node: 'm2', reason: 'no IPv6: it has no IPv6 address of its own that a route could lead to' }]);
  assert.deepEqual(plan.parts[0]?.peers.map((p) => p.name), ['m2']);
  assert.deepEqual(backendOf(hostGw).desired(hostGw, both, [lacking], 1500).routes?.map((r) => r.dst), ['10.244.1.0/24']);
  assert.match(backendOf(hostGw).refuses(hostGw, both, peer({}, ['fd00:10:244:1::/64'])) ?? '', /no IPv6 address of its own/);
  assert.equal(backendOf(hostGw).refuses(hostGw, local(['10.244.0.0/24']), peer({}, ['fd00:10:244:1::/64'])), 'its pods have IPv6 addresses, and those of this node IPv4');
  const vxlan = parseNetworkConfig(NETWORK);
  const six = peer({ publicIP: 'fc00:18::3', accepts: { vxlan: { vtepMAC6: '0e:70:77:00:00:01', vni: 1, port: 8472 } } }, ['10.244.1.0/24']);
  assert.match(backendOf(vxlan).refuses(vxlan, local(['10.244.0.0/24']), six) ?? '', /its VTEP is on an underlay of IPv6, that of this node on one of IPv4/);
});

test('the MTU: 50 or 70 less by what the packets travel on, the greater of the two with both', () => {
  const mtu = (text: string, l: LocalNode): number => podMtu(parseNetworkConfig(text), l);
  assert.equal(mtu(NETWORK, both), 1430);
  assert.equal(mtu(NETWORK, local(['10.244.0.0/24', 'fd00:10:244::/64'])), 1450, 'all over IPv4');
  assert.equal(mtu(ONLY6, { ...both, podCidrs: ['fd00:10:244::/64'] }), 1430);
  assert.throws(() => mtu(NETWORK.replace('{', '{"MTU":1450,'), both), /1500 \(eth0\) - 70 \(vxlan\) = 1430/);
});

test('VTEP MACs differ between ranges of one size, whichever it is; a node\'s addresses are one a family, the first first', () => {
  for (const ranges of [['fd00:10:244::/64', 'fd00:10:244:1::/64'], ['fd00::1:0/112', 'fd00::2:0/112'], ['fd00::100/120', 'fd00::200/120'], ['fd00::/48', 'fd00:0:1::/48']]) {
    assert.equal(new Set(ranges.map(vtepMac)).size, ranges.length, ranges.join());
  }
  const node = { metadata: { name: 'm1' }, status: { addresses: ['fc00:18::2', 'fc00:18::3', '172.18.0.2', '172.18.0.3'].map((address) => ({ type: 'InternalIP', address })) } };
  assert.deepEqual(internalIps(node), ['fc00:18::2', '172.18.0.2']);
});
