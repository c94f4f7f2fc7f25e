/** Wiring ptp in both forms: what is on the node and in the pod, in the words of `ip`; real packets; CHECK, repair, restart. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RtNetlink } from '@podway/kernel';
import { Nodes } from '@podway/kube';
import { conf, inNs, lines, needsRoot, OUTSIDE, pathOf, plansOf, until, withNetwork, nodeObject, type Answer, type TestNetwork, type TestNode, type TestPod } from './network.js';
import { ask, Listeners } from './talk.js';
import { probe, serve, stream } from './traffic.js';

const skip = needsRoot;
type Gateway = 'host' | 'link-local';
const GATEWAYS: readonly Gateway[] = ['host', 'link-local'];

const network = (gateway: Gateway, more: object = {}): string =>
  JSON.stringify({ Network: '10.244.0.0/16', Wiring: 'ptp', Gateway: gateway, Backend: { Type: 'vxlan' }, ...more });

async function started(net: TestNetwork, count: number, text: string): Promise<TestNode[]> {
  const all = Array.from({ length: count }, (_, n) => net.addNode(n));
  for (const n of all) await n.start({ network: text, resyncMs: 50 });
  for (const n of all) await n.ready();
  return all;
}

const withPtp = (gateway: Gateway, use: (node: TestNode, net: TestNetwork) => Promise<void>): Promise<void> =>
  withNetwork(async (net) => use((await started(net, 1, network(gateway)))[0]!, net));

const hostOf = (node: TestNode, pod: TestPod): string =>
  RtNetlink.with(node.ns, (nl) => nl.links().find((l) => l.alias?.includes(`default/${pod.name} `)))?.name ?? '';

const FORMS: Readonly<Record<Gateway, { pod: string[]; host: (veth: string) => string[]; address: string; ips: object; routes: object[] }>> = {
  host: {
    pod: ['default via 10.244.0.1 dev eth0', '10.244.0.0/24 via 10.244.0.1 dev eth0 src 10.244.0.2', '10.244.0.1 dev eth0 scope link src 10.244.0.2'],
    host: (veth) => [`10.244.0.2 dev ${veth} scope host`],
    address: 'inet 10.244.0.2/24 brd 10.244.0.255 scope global noprefixroute eth0',
    ips: { interface: 1, address: '10.244.0.2/24', gateway: '10.244.0.1' },
    routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1' }],
  },
  'link-local': {
    pod: ['default via 169.254.1.1 dev eth0', '169.254.1.1 dev eth0 scope link'],
    host: (veth) => [`10.244.0.2 dev ${veth} scope link`],
    address: 'inet 10.244.0.2/32 scope global eth0',
    ips: { interface: 1, address: '10.244.0.2/32', gateway: '169.254.1.1' },
    routes: [{ dst: '0.0.0.0/0', gw: '169.254.1.1' }],
  },
};

for (const gateway of GATEWAYS) {
  const form = FORMS[gateway];

  test(`${gateway}: ADD, again, CHECK, DEL: exactly its routes, and nothing of them left`, { skip }, () =>
    withPtp(gateway, async (node, net) => {
      const pod = net.pod('web-a');
      const before = lines(inNs(node.ns, 'ip', 'route'));
      const add = await node.cni('ADD', pod.vars);
      assert.equal(add.code, 0, JSON.stringify(add.out));
      const veth = hostOf(node, pod);
      const host = RtNetlink.with(node.ns, (nl) => nl.mustLink(veth));
      assert.deepEqual(add.out, {
        cniVersion: '1.1.0',
        interfaces: [{ name: veth, mac: host.address, mtu: 1450 }, { name: 'eth0', mac: '0a:58:0a:f4:00:02', mtu: 1450, sandbox: pathOf(pod.ns) }],
        ips: [form.ips], routes: form.routes,
      });
      assert.deepEqual(lines(inNs(pod.ns, 'ip', 'route')), form.pod);
      assert.deepEqual(lines(inNs(node.ns, 'ip', 'route', 'show', 'dev', veth)).map((l) => l.replace('10.244.0.2', `10.244.0.2 dev ${veth}`)), form.host(veth));
      assert.ok(lines(inNs(pod.ns, 'ip', '-4', 'addr', 'show', 'eth0')).includes(form.address), inNs(pod.ns, 'ip', '-4', 'addr', 'show', 'eth0'));
      assert.equal(RtNetlink.with(node.ns, (nl) => nl.link('cni0')), undefined, 'no bridge');
      assert.deepEqual((await node.cni('ADD', pod.vars)).out, add.out, 'the same attachment again: the same answer');
      assert.deepEqual(await node.cni('CHECK', pod.vars, conf('1.1.0', { prevResult: add.out })), { code: 0, out: undefined, stderr: '' });
      for (let i = 0; i < 2; i++) assert.equal((await node.cni('DEL', pod.vars)).code, 0);
      assert.deepEqual(await node.leavings(), { links: [], files: [] });
      assert.deepEqual(lines(inNs(node.ns, 'ip', 'route')), before);
      assert.deepEqual(node.seen('refused'), []);
    }));

  test(`${gateway}: both families: CHECK, a full comparison that changes nothing, pods usable at once, what is broken is mended`, { skip }, () =>
    withNetwork(async (net) => {
      const text = network(gateway, { IPv6Network: 'fd00:10:244::/56', EnableIPv6: true });
      const [node] = await started(net, 1, text);
      const [a, b] = [net.pod('a'), net.pod('b')];
      const listeners = new Listeners();
      try {
        const addresses = [];
        for (const p of [a, b]) {
          addresses.push(await net.addedAll(node!, p));
          await listeners.add(p.ns);
        }
        assert.deepEqual(addresses[0]!.map((x) => x.includes(':')), [false, true]);
        for (const [i, address] of addresses[1]!.entries()) {
          assert.equal((await ask(a.ns, address)).seen, addresses[0]![i], `a to b by ${address}`);
          await ask(node!.ns, address);
        }
        await listeners.add(net.outside);
        for (const plan of plansOf('both')) assert.equal((await ask(a.ns, plan.outside)).seen, plan.nodeAddress(0), 'outside it is the node');
        for (const p of [a, b]) assert.deepEqual(await node!.cni('CHECK', p.vars), { code: 0, out: undefined, stderr: '' });
        await node!.stop();
        await node!.start({ network: text });
        await node!.ready();
        assert.deepEqual(node!.seen('changed'), [], 'a start changes nothing');
        const veth = hostOf(node!, a);
        inNs(node!.ns, 'ip', '-6', 'route', 'del', `${addresses[0]![1]!}/128`, 'dev', veth);
        inNs(node!.ns, 'sysctl', '-qw', `net.ipv6.conf.${veth}.accept_ra=1`);
        const { details } = (await node!.cni('CHECK', a.vars)).out as { details: string };
        assert.match(details, /add route fd00:10:244::2\/128/);
        assert.match(details, /accept_ra: is 1, must be 0/);
        await node!.stop();
        await node!.start({ network: text });
        await node!.ready();
        assert.equal((await node!.cni('CHECK', a.vars)).code, 0, 'mended');
        assert.equal((await ask(b.ns, addresses[0]![1]!)).seen, addresses[1]![1]);
        for (const p of [a, b]) assert.equal((await node!.cni('DEL', p.vars)).code, 0);
        assert.deepEqual(await node!.leavings(), { links: [], files: [] });
        assert.deepEqual(node!.seen('refused'), []);
      } finally {
        await listeners.close();
      }
    }, 'both'));

  const broken: { what: string; on: 'node' | 'pod'; argv: string[]; says: RegExp; only?: Gateway }[] = [
    { what: 'the route to the pod', on: 'node', argv: ['ip', 'route', 'del', '10.244.0.2'], says: /add route 10\.244\.0\.2\/32 .*missing: pod default\/web-a is behind veth/ },
    { what: 'the scope of that route', on: 'node', argv: ['ip', 'route', 'replace', '10.244.0.2', 'dev', 'VETH', 'scope', 'global'], says: /route 10\.244\.0\.2\/32 .*scope global instead of (host|link)/ },
    { what: 'the host end is down', on: 'node', argv: ['ip', 'link', 'set', 'VETH', 'down'], says: /change link veth.*up false instead of true/ },
    { what: 'forwarding of the host end', on: 'node', argv: ['sysctl', '-qw', 'net.ipv4.conf.VETH.forwarding=0'], says: /forwarding: is 0, must be 1/ },
    { what: 'the gateway on the host end', on: 'node', argv: ['ip', 'addr', 'del', '10.244.0.1/32', 'dev', 'VETH'], says: /add address 10\.244\.0\.1\/32 dev veth.*missing/, only: 'host' },
    { what: 'proxy ARP', on: 'node', argv: ['sysctl', '-qw', 'net.ipv4.conf.VETH.proxy_arp=0'], says: /proxy_arp: is 0, must be 1/, only: 'link-local' },
    { what: "proxy ARP's delay", on: 'node', argv: ['sysctl', '-qw', 'net.ipv4.neigh.VETH.proxy_delay=80'], says: /proxy_delay: is 80, must be 0/, only: 'link-local' },
  ];
  const inPod = { what: 'the default route', argv: ['ip', 'route', 'del', 'default'], says: /add route 0\.0\.0\.0\/0 .*missing/ };

  test(`${gateway}: CHECK names what somebody changed; the next full comparison mends the node's side`, { skip }, () =>
    withPtp(gateway, async (node, net) => {
      const pod = net.pod('web-a');
      const { out: prevResult } = await node.cni('ADD', pod.vars);
      const check = (): Promise<Answer> => node.cni('CHECK', pod.vars, conf('1.1.0', { prevResult }));
      const veth = hostOf(node, pod);
      await node.stop();
      await node.start({ network: network(gateway) });
      await node.ready();
      for (const b of broken.filter((x) => x.only === undefined || x.only === gateway)) {
        inNs(node.ns, ...b.argv.map((a) => a.replace('VETH', veth)));
        const { code, details } = (await check()).out as { code: number; details: string };
        assert.equal(code, 104, b.what);
        assert.match(details, b.says, b.what);
        await node.stop();
        await node.start({ network: network(gateway) });
        await node.ready();
        assert.ok(node.seen('changed').some((e) => b.says.test(e.change)), `${b.what}: ${JSON.stringify(node.events)}`);
        assert.equal((await check()).code, 0, `${b.what} is mended`);
      }
      inNs(pod.ns, ...inPod.argv);
      assert.match(((await check()).out as { details: string }).details, inPod.says);
    }));

  test(`${gateway}: pod to pod on one node and across, node to pod, pod to node and outside, each with the right source`, { skip }, () =>
    withNetwork(async (net) => {
      const [m1, m2] = await started(net, 2, network(gateway));
      const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
      const [ipA, ipB, ipC] = [await net.added(m1!, a), await net.added(m2!, b), await net.added(m1!, c)];
      await until('each knows the other', () => lines(inNs(m1!.ns, 'ip', 'route')).some((l) => l.startsWith('10.244.1.0/24')) && lines(inNs(m2!.ns, 'ip', 'route')).some((l) => l.startsWith('10.244.0.0/24 via')));
      for (const ns of [b.ns, c.ns, net.outside, m1!.ns]) await serve(net, ns, 7000);
      const seen = async (from: TestPod['ns'], to: string): Promise<readonly string[]> => {
        const r = await probe(net, from, to, 7000);
        assert.equal(r.answered, r.sent, `${to}: ${JSON.stringify(r)}`);
        return r.sources;
      };
      assert.deepEqual(await seen(a.ns, ipC), [ipA], 'on one node');
      assert.deepEqual(await seen(a.ns, ipB), [ipA], 'across nodes');
      assert.deepEqual(await seen(m1!.ns, ipC), [gateway === 'host' ? '10.244.0.1' : '172.18.0.2'], 'node to its own pod');
      assert.deepEqual(await seen(m1!.ns, ipB), ['10.244.0.0'], 'node to a pod elsewhere: its VTEP');
      assert.deepEqual(await seen(a.ns, '172.18.0.2'), [gateway === 'host' ? ipA : ipA], 'pod to its node');
      assert.deepEqual(await seen(a.ns, OUTSIDE), ['172.18.0.2'], 'to the outside: the node');
      assert.match(inNs(a.ns, 'ip', 'neigh'), gateway === 'host' ? /10\.244\.0\.1 dev eth0 lladdr 02:/ : /169\.254\.1\.1 dev eth0 lladdr 02:/);
      // An address that no pod has: ended here, not sent round by the default route.
      assert.throws(() => inNs(a.ns, 'ping', '-c1', '-W1', '10.244.0.77'));
      assert.equal(RtNetlink.with(m1!.ns, (nl) => nl.neighs().some((n) => n.dst === '10.244.0.77')), false);
      assert.match(inNs(m1!.ns, 'ip', 'route'), /blackhole 10\.244\.0\.0\/24 proto 112 metric 4096/);
    }));
}

test('link-local: proxy ARP answers on a node without a default route, and with the strict reverse path filter', { skip }, () =>
  withPtp('link-local', async (node, net) => {
    inNs(node.ns, 'ip', 'route', 'del', 'default');
    inNs(node.ns, 'sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1');
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(node, a);
    const ipB = await net.added(node, b);
    await serve(net, b.ns, 7000);
    const r = await probe(net, a.ns, ipB, 7000);
    assert.equal(r.answered, r.sent);
    // A pod that takes another's address gets nothing through.
    inNs(a.ns, 'ip', 'addr', 'add', '10.244.0.99/32', 'dev', 'eth0');
    assert.throws(() => inNs(a.ns, 'ping', '-c1', '-W1', '-I', '10.244.0.99', ipB));
  }));

for (const gateway of GATEWAYS) {
  test(`${gateway}: both families`, { skip }, () =>
    withNetwork(async (net) => {
      const node = net.addNode(0, { register: false });
      const object = nodeObject('m1', 0);
      net.client.put(Nodes, { ...object, spec: { podCIDR: '10.244.0.0/24', podCIDRs: ['10.244.0.0/24', 'fd00:10:244::/64'] } });
      await node.start({ network: network(gateway, { IPv6Network: 'fd00:10:244::/56', Backend: { Type: 'none' } }) });
      await node.ready();
      const [a, b] = [net.pod('a'), net.pod('b')];
      for (const p of [a, b]) await net.added(node, p);
      assert.deepEqual(lines(inNs(a.ns, 'ip', '-6', 'route', 'show', 'default')), [
        gateway === 'host' ? 'default via fd00:10:244::1 dev eth0 metric 1024 pref medium' : 'default via fe80::ecee:eeee:eeee:eeee dev eth0 metric 1024 pref medium',
      ]);
      inNs(a.ns, 'ping', '-c1', '-W3', '10.244.0.3');
      await until('IPv6 answers (addresses that the kernel gave by itself are checked for a second)', () => inNs(a.ns, 'ping', '-6', '-c1', '-W1', 'fd00:10:244::3'));
      for (const p of [a, b]) {
        const check = await node.cni('CHECK', p.vars);
        assert.equal(check.code, 0, JSON.stringify(check.out));
        assert.equal((await node.cni('DEL', p.vars)).code, 0);
      }
      assert.deepEqual(await node.leavings(), { links: [], files: [] });
    }));
}

test('the agent started again under traffic changes nothing and loses no packet; comparisons amid ADDs and DELs take no pod anything', { skip }, () =>
  withNetwork(async (net) => {
    const [node] = await started(net, 1, network('link-local'));
    const [a, b] = [net.pod('a'), net.pod('b')];
    await net.added(node!, a);
    const ipB = await net.added(node!, b);
    await serve(net, b.ns, 7000);
    const s = await stream(net, a.ns, ipB, 7000);
    await node!.stop();
    await node!.start({ network: network('link-local'), resyncMs: 1 });
    await node!.ready();
    assert.deepEqual(node!.seen('took-over').map((e) => [e.attachments, e.changes]), [[2, 0]]);
    for (let round = 0; round < 3; round++) {
      const pods = Array.from({ length: 6 }, (_, i) => net.pod(`p${round}-${i}`));
      await Promise.all(pods.map((p) => net.added(node!, p)));
      for (const p of pods) assert.equal((await node!.cni('CHECK', p.vars)).code, 0);
      await Promise.all(pods.map((p) => node!.cni('DEL', p.vars)));
    }
    const r = await s.stop();
    assert.deepEqual([r.missing, r.failed, r.sources.length], [[], 0, 1], JSON.stringify(r));
    assert.deepEqual([node!.seen('device-lost'), node!.seen('refused'), node!.seen('changed')], [[], [], []]);
    assert.equal((await node!.leavings()).links.length, 2);
  }));

for (const text of [JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } }), network('host'), network('link-local')]) {
  test(`a second interface in one pod: no default route, and it answers by itself (${(JSON.parse(text) as { Gateway?: string }).Gateway ?? 'bridge'})`, { skip }, () =>
    withNetwork(async (net) => {
      const node = net.addNode(0);
      await node.start({ network: text });
      await node.ready();
      const [a, b] = [net.pod('a'), net.pod('b')];
      await net.added(node, a);
      await net.added(node, b);
      const main = inNs(a.ns, 'ip', 'route');
      const second = { ...a.vars, CNI_IFNAME: 'net1' };
      const add = await node.cni('ADD', second);
      assert.equal(add.code, 0, JSON.stringify(add.out));
      assert.deepEqual((add.out as { routes?: unknown[] }).routes ?? [], []);
      assert.equal(inNs(a.ns, 'ip', 'route'), main, 'the first interface keeps all that leaves');
      for (const address of ['10.244.0.2', '10.244.0.4']) {
        inNs(b.ns, 'ping', '-c1', '-W2', address);
        inNs(node.ns, 'ping', '-c1', '-W2', address);
      }
      assert.equal((await node.cni('CHECK', second)).code, 0);
      assert.equal((await node.cni('DEL', second)).code, 0);
      assert.equal((await node.cni('CHECK', a.vars)).code, 0);
      assert.equal(inNs(a.ns, 'ip', 'rule', 'show', 'priority', '1001'), '');
    }));
}
