/** Host ports on a real kernel: from everywhere, for all three protocols, taken, moved, lost and mended. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Capture, Conntrack, Nftables, ProbeSocket, RtNetlink, readSysctl } from '@podway/kernel';
import { crc32c } from '@podway/packet';
import { nftTables, sameTable } from '@podway/netstate';
import { podwayTable, parseNetworkConfig } from '../src/index.js';
import { AgentProcess } from './agent-process.js';
import { addressIn, conf, inNs, needsRoot, NETWORK, OUTSIDE, until, withNetwork, withNode, type Answer, type TestNode, type TestPod } from './network.js';
import { ask, tellWho } from './tcp.js';
import { probe, serve, stream } from './traffic.js';

const skip = needsRoot;
type Mapping = { readonly hostPort: number; readonly containerPort: number; readonly protocol?: string; readonly hostIP?: string };
const mapped = (...portMappings: Mapping[]): string => conf('1.1.0', { runtimeConfig: { portMappings } });
const add = (node: TestNode, pod: TestPod, ...m: Mapping[]): Promise<Answer> => node.cni('ADD', pod.vars, mapped(...m));
async function added(node: TestNode, pod: TestPod, ...m: Mapping[]): Promise<string> {
  const a = await add(node, pod, ...m);
  assert.equal(a.code, 0, JSON.stringify(a.out));
  return addressIn(a.out);
}
/** What the two maps say, `0.0.0.0 . tcp . 8080 : 10.244.0.5 . 80`, sorted. */
function elements(node: TestNode): string[] {
  const list = (name: string): Map<string, string> =>
    new Map([...Nftables.with(node.ns, (nft) => nft.text(`list map inet podway ${name}`)).matchAll(/([\d.]+ \. \w+ \. \d+) : ([\d.]+)/g)].map((m) => [m[1]!, m[2]!]));
  const [addresses, ports] = [list('hostport4'), list('hostport4_port')];
  assert.deepEqual([...addresses.keys()].sort(), [...ports.keys()].sort());
  return [...addresses].map(([key, address]) => `${key} : ${address} . ${ports.get(key)}`).sort();
}
const M1 = '172.18.0.2';

for (const bridged of ['1', '0']) test(`bridged packets ${bridged === '1' ? 'are' : 'are not'} seen by the firewall: reached from outside, another node, the node itself, other pods and the pod itself; the client keeps its address where it can`, { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = [net.addNode(0), net.addNode(1)];
    for (const n of [m1, m2]) await n.start();
    for (const n of [m1, m2]) await n.ready();
    await until('the nodes know each other', () => [m1, m2].every((n) => inNs(n.ns, 'ip', 'route', 'show', 'dev', 'flannel.1').trim() !== ''));
    inNs(m1.ns, 'sysctl', '-qw', `net.bridge.bridge-nf-call-iptables=${bridged}`);
    const [web, neighbour, far] = [net.pod('web'), net.pod('neighbour'), net.pod('far')];
    const ipWeb = await added(m1, web, { hostPort: 8080, containerPort: 80 }, { hostPort: 5353, containerPort: 53, protocol: 'udp' });
    await net.added(m1, neighbour);
    await net.added(m2, far);
    const end = await tellWho(web.ns, 'web', 80);
    await serve(net, web.ns, 53);
    try {
      const rows: [what: string, from: typeof web.ns, to: string, source: string][] = [
        ['from outside', net.outside, M1, OUTSIDE],
        ['from another node', m2.ns, M1, '172.18.0.3'],
        ['from a pod of another node', far.ns, M1, '172.18.0.3'],
        ['from the node, by its address', m1.ns, M1, M1],
        ['from the node, by 127.0.0.1', m1.ns, '127.0.0.1', '10.244.0.1'],
        ['from the node, by the address of its bridge', m1.ns, '10.244.0.1', '10.244.0.1'],
        ['from a pod of the same node', neighbour.ns, M1, '10.244.0.1'],
        ['from the pod itself', web.ns, M1, '10.244.0.1'],
        ['from the pod itself, by its gateway', web.ns, '10.244.0.1', '10.244.0.1'],
      ];
      for (const [what, from, to, source] of rows) {
        assert.equal(await ask(from, to, 8080), `web sees ${source}`, `TCP ${what}`);
        const udp = await probe(net, from, to, 5353);
        assert.deepEqual([udp.answered, udp.sources], [udp.sent, [source]], `UDP ${what}: ${JSON.stringify(udp)}`);
      }
      assert.equal(await ask(neighbour.ns, ipWeb, 80), 'web sees 10.244.0.3', 'to the pod itself nothing is translated');
      assert.equal(await ask(net.outside, M1, 8081), 'ECONNREFUSED', 'a port that nobody has');
      // What route_localnet would open: the node's loopback from outside of it.
      const own = await tellWho(m1.ns, 'node', 9000, '127.0.0.1');
      inNs(neighbour.ns, 'ip', 'route', 'add', '127.0.0.1', 'via', '10.244.0.1', 'table', '99');
      inNs(neighbour.ns, 'ip', 'rule', 'add', 'priority', '1', 'to', '127.0.0.1', 'lookup', '99');
      inNs(neighbour.ns, 'ip', 'rule', 'del', 'priority', '0');
      inNs(neighbour.ns, 'sysctl', '-qw', 'net.ipv4.conf.all.route_localnet=1');
      assert.equal(readSysctl(m1.ns, 'net.ipv4.conf.cni0.route_localnet'), '1');
      assert.equal(await ask(m1.ns, '127.0.0.1', 9000), 'node sees 127.0.0.1');
      assert.equal(await ask(neighbour.ns, '127.0.0.1', 9000, 300), 'ETIMEDOUT');
      own();
      assert.deepEqual(await m1.cni('DEL', web.vars), { code: 0, out: undefined, stderr: '' });
      assert.equal(await ask(net.outside, M1, 8080), 'ECONNREFUSED', 'after DEL');
      assert.deepEqual(elements(m1), []);
    } finally {
      end();
    }
  }));

for (const gateway of ['host', 'link-local']) test(`wiring ptp, ${gateway} gateway: from everywhere, the pod itself among them; 127.0.0.1 only where a pod asked; lost and mended`, { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    const network = JSON.stringify({ Network: '10.244.0.0/16', Wiring: 'ptp', Gateway: gateway, Backend: { Type: 'vxlan' } });
    await node.start({ network, resyncMs: 50 });
    await node.ready();
    const [web, neighbour] = [net.pod('web'), net.pod('neighbour')];
    await added(node, web, { hostPort: 8080, containerPort: 80 }, { hostPort: 5353, containerPort: 53, protocol: 'udp' });
    await net.added(node, neighbour);
    const end = await tellWho(web.ns, 'web', 80);
    await serve(net, web.ns, 53);
    const self = gateway === 'host' ? '10.244.0.1' : M1;
    const rows: [what: string, from: typeof web.ns, to: string, source: string][] = [
      ['from outside', net.outside, M1, OUTSIDE],
      ['from the node, by its address', node.ns, M1, M1],
      ['from the node, by 127.0.0.1', node.ns, '127.0.0.1', self],
      ['from a pod of the same node', neighbour.ns, M1, self],
      ['from the pod itself', web.ns, M1, self],
    ];
    const all = async (): Promise<void> => {
      for (const [what, from, to, source] of rows) {
        assert.equal(await ask(from, to, 8080), `web sees ${source}`, `TCP ${what}`);
        const udp = await probe(net, from, to, 5353);
        assert.deepEqual([udp.answered, udp.sources], [udp.sent, [source]], `UDP ${what}: ${JSON.stringify(udp)}`);
      }
    };
    try {
      await all();
      const hostOf = (name: string): string => node.state().links.find((l) => l.alias?.includes(`default/${name} `))?.name ?? '';
      const switchOf = (name: string): string => `net.ipv4.conf.${hostOf(name)}.route_localnet`;
      assert.deepEqual([readSysctl(node.ns, switchOf('web')), readSysctl(node.ns, switchOf('neighbour'))], ['1', '0']);
      assert.equal((await node.cni('CHECK', web.vars, mapped({ hostPort: 8080, containerPort: 80 }))).code, 0);
      inNs(node.ns, 'sysctl', '-qw', `${switchOf('web')}=0`);
      inNs(node.ns, 'nft', 'delete', 'table', 'inet', 'podway');
      await until('the agent has mended it', () => readSysctl(node.ns, switchOf('web')) === '1' && inNs(node.ns, 'nft', 'list', 'tables').includes('podway'));
      await all();
      assert.deepEqual(await node.cni('DEL', web.vars), { code: 0, out: undefined, stderr: '' });
      assert.equal(await ask(net.outside, M1, 8080), 'ECONNREFUSED', 'after DEL');
      assert.deepEqual(elements(node), []);
    } finally {
      end();
    }
  }));

test('SCTP is translated there and back', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('s');
    const ip = await added(node, pod, { hostPort: 3868, containerPort: 3869, protocol: 'sctp' });
    const seen = Capture.open(pod.ns, { device: 'eth0', filter: 'ip proto 132' });
    const back = Capture.open(net.outside, { device: 'eth0', filter: 'ip proto 132 and dst host 203.0.113.2' });
    // An INIT: connection tracking takes no other chunk for the begin of an association.
    const init = Buffer.alloc(32);
    init.writeUInt16BE(40000, 0); init.writeUInt16BE(3868, 2);
    init[12] = 1; init.writeUInt16BE(20, 14); init.writeUInt32BE(7, 16); init.writeUInt32BE(65536, 20); init.writeUInt16BE(1, 24); init.writeUInt16BE(1, 26); init.writeUInt32BE(1, 28);
    try {
      sendSctp(net.outside, M1, init);
      const there = await until('the INIT at the pod', () => seen.read()[0]);
      assert.equal(Buffer.from(there.bytes).readUInt16BE(14 + 20 + 2), 3869);
      const abort = Buffer.alloc(16);
      abort.writeUInt16BE(3869, 0); abort.writeUInt16BE(40000, 2); abort.writeUInt32BE(7, 4); abort[12] = 6; abort[13] = 0; abort.writeUInt16BE(4, 14);
      sendSctp(pod.ns, OUTSIDE, abort);
      const answer = await until('the answer outside', () => back.read()[0]);
      const at = 14;
      assert.deepEqual([[...answer.bytes.subarray(at + 12, at + 16)].join('.'), Buffer.from(answer.bytes).readUInt16BE(at + 20)], [M1, 3868], 'from the node and its port');
      assert.equal(ip, '10.244.0.2');
    } finally {
      seen.close();
      back.close();
    }
  }));

const wrong: { what: string; first: Mapping; then: Mapping[]; says: RegExp | undefined }[] = [
  { what: 'the same port', first: { hostPort: 8080, containerPort: 80 }, then: [{ hostPort: 8080, containerPort: 81 }], says: /^host port 8080\/tcp is taken by pod default\/first$/ },
  { what: 'another protocol', first: { hostPort: 8080, containerPort: 80 }, then: [{ hostPort: 8080, containerPort: 80, protocol: 'udp' }], says: undefined },
  { what: 'one address against all', first: { hostPort: 8080, containerPort: 80 }, then: [{ hostPort: 8080, containerPort: 80, hostIP: M1 }], says: /^host port 172\.18\.0\.2:8080\/tcp is taken/ },
  { what: 'all against one address', first: { hostPort: 8080, containerPort: 80, hostIP: M1 }, then: [{ hostPort: 8080, containerPort: 80, hostIP: '0.0.0.0' }], says: /taken by pod default\/first/ },
  { what: 'two addresses', first: { hostPort: 8080, containerPort: 80, hostIP: M1 }, then: [{ hostPort: 8080, containerPort: 80, hostIP: '127.0.0.1' }], says: undefined },
  { what: 'twice in one pod', first: { hostPort: 1, containerPort: 1 }, then: [{ hostPort: 8080, containerPort: 80 }, { hostPort: 8080, containerPort: 81 }], says: /8080\/tcp is mapped twice/ },
  { what: 'no host port', first: { hostPort: 8080, containerPort: 80 }, then: [{ hostPort: 0, containerPort: 80 }], says: undefined },
];
test('a port that is taken is refused, naming who has it; and nothing is left of the attempt', { skip }, () =>
  withNode(async (node, net) => {
    for (const w of wrong) {
      const [first, second] = [net.pod('first'), net.pod('second')];
      await added(node, first, w.first);
      const before = [await node.leavings(), elements(node)];
      const a = await add(node, second, ...w.then);
      if (w.says) {
        const e = a.out as { code: number; msg: string };
        assert.equal(a.code, 1, w.what);
        assert.match(e.msg, w.says, w.what);
        assert.equal(e.code, w.what === 'twice in one pod' ? 7 : 105);
        assert.deepEqual([await node.leavings(), elements(node)], before, w.what);
        assert.equal((await node.cni('DEL', first.vars)).code, 0);
        if (e.code === 105) assert.equal((await add(node, second, ...w.then)).code, 0, 'free after DEL');
      } else assert.equal(a.code, 0, `${w.what}: ${JSON.stringify(a.out)}`);
      for (const p of [first, second]) assert.equal((await node.cni('DEL', p.vars)).code, 0);
      assert.deepEqual([await node.leavings(), elements(node)], [{ links: [], files: [] }, []], w.what);
    }
    // Many at once for one port: one has it.
    const pods = Array.from({ length: 6 }, (_, i) => net.pod(`race${i}`));
    const answers = await Promise.all(pods.map((p) => add(node, p, { hostPort: 9999, containerPort: 1 })));
    assert.deepEqual(answers.map((a) => a.code).sort(), [0, 1, 1, 1, 1, 1]);
    assert.equal(elements(node).length, 1);
  }));

test('a host IP is that address only; 127.0.0.1 is the node’s own alone', { skip }, () =>
  withNode(async (node, net) => {
    RtNetlink.with(node.ns, (nl) => nl.addAddr({ index: nl.mustLink('eth0').index, address: '172.18.0.99', prefix: 16 }));
    const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
    await added(node, a, { hostPort: 80, containerPort: 80, hostIP: '172.18.0.99' });
    await added(node, b, { hostPort: 80, containerPort: 80, hostIP: '127.0.0.1' });
    await net.added(node, c);
    const ends = [await tellWho(a.ns, 'a', 80), await tellWho(b.ns, 'b', 80)];
    assert.equal(await ask(net.outside, '172.18.0.99', 80), `a sees ${OUTSIDE}`);
    assert.equal(await ask(net.outside, M1, 80), 'ECONNREFUSED');
    assert.equal(await ask(node.ns, '127.0.0.1', 80), 'b sees 10.244.0.1');
    assert.equal(await ask(node.ns, '172.18.0.99', 80), 'a sees 172.18.0.2', 'a second address of a network has the first for its source');
    assert.equal(await ask(c.ns, '172.18.0.99', 80), 'a sees 10.244.0.1');
    for (const e of ends) e();
  }));

test('UDP flows do not outlive their mapping, nor begin beside it', { skip }, () =>
  withNode(async (node, net) => {
    // A flow to a port that nobody has yet: it is remembered as one to the node itself.
    const early = await stream(net, net.outside, M1, 5353);
    await until('the flow is remembered', () => Conntrack.with(node.ns, (ct) => ct.list({ protocol: 17, dport: 5353 }).length > 0));
    const a = net.pod('a');
    await serve(net, a.ns, 53);
    await added(node, a, { hostPort: 5353, containerPort: 53, protocol: 'udp' });
    await until('the flow that began before goes to the pod', () => Conntrack.with(node.ns, (ct) => ct.list({ protocol: 17, dport: 5353, replySrc: '10.244.0.2' }).length > 0));
    await node.cni('DEL', a.vars);
    const b = net.pod('b');
    await serve(net, b.ns, 53);
    assert.equal(await added(node, b, { hostPort: 5353, containerPort: 53, protocol: 'udp' }), '10.244.0.3');
    await until('and to the next pod that has the port', () => Conntrack.with(node.ns, (ct) => ct.list({ protocol: 17, dport: 5353, replySrc: '10.244.0.3' }).length > 0));
    assert.deepEqual(Conntrack.with(node.ns, (ct) => ct.list({ protocol: 17, dport: 5353, replySrc: '10.244.0.2' })), []);
    await early.stop();
  }));

test('CHECK sees a mapping that is gone or leads elsewhere; the agent mends it; a flushed table is made anew by the next ADD', { skip }, () =>
  withNode(async (node, net) => {
    const nft = (text: string): void => void Nftables.with(node.ns, (n) => n.text(text));
    const check = async (pod: TestPod): Promise<string> => {
      const a = await node.cni('CHECK', pod.vars);
      return a.code === 0 ? '' : String((a.out as { details?: string }).details);
    };
    const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
    await added(node, a, { hostPort: 8080, containerPort: 80 });
    assert.equal(await check(a), '');
    nft('delete element inet podway hostport4 { 0.0.0.0 . tcp . 8080 : 10.244.0.2 }');
    assert.match(await check(a), /host port 0\.0\.0\.0 \. tcp \. 8080 in map hostport4: missing/);
    nft('add element inet podway hostport4 { 0.0.0.0 . tcp . 8080 : 10.244.0.77 }');
    assert.match(await check(a), /leads to 10\.244\.0\.77 port 80 instead of 10\.244\.0\.2 port 80/);
    assert.equal((await node.cni('ADD', a.vars, mapped({ hostPort: 8080, containerPort: 80 }))).code, 0, 'ADD again makes it whole');
    assert.equal(await check(a), '');
    nft('delete element inet podway hostport4 { 0.0.0.0 . tcp . 8080 : 10.244.0.3 }; flush chain inet podway output');
    assert.match(await check(a), /its rules differ; .*missing/);
    await node.stop();
    await node.start({ resyncMs: 100 });
    await until('the agent has mended it', async () => (await check(a)) === '');
    nft('delete table inet podway');
    await added(node, b, { hostPort: 8081, containerPort: 80 });
    assert.deepEqual(elements(node), ['0.0.0.0 . tcp . 8080 : 10.244.0.3 . 80', '0.0.0.0 . tcp . 8081 : 10.244.0.4 . 80']);
    assert.equal(await check(a), '');
    nft('delete table inet podway');
    assert.equal((await node.cni('DEL', b.vars)).code, 0, 'a DEL without the table');
    await added(node, c, { hostPort: 8082, containerPort: 80 });
    const [listed] = nftTables(Nftables.with(node.ns, (n) => n.list({ family: 'inet', name: 'podway' })));
    const [wanted] = nftTables(podwayTable(parseNetworkConfig(NETWORK), ['10.244.0.0/24'], [
      { ...REC, hostPorts: [{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }], ips: [{ address: '10.244.0.3/24', gateway: '10.244.0.1' }] },
      { ...REC, hostPorts: [{ protocol: 'tcp', hostPort: 8082, containerPort: 80 }], ips: [{ address: '10.244.0.5/24', gateway: '10.244.0.1' }] },
    ]));
    assert.ok(sameTable(listed!, wanted!), JSON.stringify(listed));
  }));
const REC = { version: 1, containerId: 'x', ifname: 'eth0', network: 'podway', netns: '', mac: '', hostIfname: 'v', phase: 'ready', created: '' } as const;

test('an agent killed and started again keeps them and changes nothing; GC and a join touch no other pod’s', { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    let agent = await AgentProcess.of(node);
    await agent.begin();
    const [a, b] = [net.pod('a'), net.pod('b')];
    await added(node, a, { hostPort: 8080, containerPort: 80 });
    await added(node, b, { hostPort: 8081, containerPort: 80 });
    const end = await tellWho(a.ns, 'a', 80);
    const before = elements(node);
    await agent.kill();
    assert.equal(await ask(net.outside, M1, 8080), `a sees ${OUTSIDE}`, 'without an agent');
    agent = await (await AgentProcess.of(node)).begin();
    assert.deepEqual(agent.seen('changed'), []);
    assert.deepEqual(elements(node), before);
    // A node that joins changes the desired state: the pods' elements stay.
    agent.child.stdin!.write(`${JSON.stringify({ put: { metadata: { name: 'm2', annotations: { 'podway.io/backend': JSON.stringify({ publicIP: '172.18.0.3', uses: 'vxlan', accepts: { vxlan: { vtepMAC: '0e:70:77:f4:01:00', vni: 1, port: 8472 } } }) } }, spec: { podCIDRs: ['10.244.1.0/24'] }, status: { addresses: [{ type: 'InternalIP', address: '172.18.0.3' }] } } })}\n`);
    await until('m2 is known', () => inNs(node.ns, 'ip', 'route', 'show', 'dev', 'flannel.1').trim() !== '');
    assert.deepEqual(agent.seen('changed').filter((e) => e.change.includes('nftables')), []);
    assert.equal((await node.cni('GC', {}, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'a', ifname: 'eth0' }] }))).code, 0);
    assert.deepEqual(elements(node), ['0.0.0.0 . tcp . 8080 : 10.244.0.2 . 80']);
    assert.equal(await ask(net.outside, M1, 8080), `a sees ${OUTSIDE}`);
    end();
    await agent.kill();
  }));

/** One packet of protocol 132, its checksum filled in. */
function sendSctp(ns: TestPod['ns'], to: string, packet: Buffer): void {
  packet.writeUInt32BE(crc32c(packet, 0, packet.length, 8), 8);
  const s = ProbeSocket.open(ns, 'sctp');
  try {
    s.connect(to, 0);
    assert.equal(s.send(packet), undefined);
  } finally {
    s.close();
  }
}
