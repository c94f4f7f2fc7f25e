/** WireGuard between agents in real namespaces, with wireguard-go: traffic, secrecy, changes without loss, death and repair. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { Capture, generatePrivateKey, publicKeyOf, RtNetlink, setUserspaceWireguard, wireguardSocket } from '@podway/kernel';
import { inNs, lines, pathOf, until, NETWORK, type TestNetwork, type TestNode, type TestPod } from './network.js';
import { probe, serve } from './traffic.js';
import { changedTo, needsWireguard, netConf, PingProgram, pidsOf, setNetwork, socketDir, stateOf, USERSPACE, WIREGUARD, wireguardGo, withWireguard } from './wireguard-fixture.js';

const skip = needsWireguard;
const DEV = 'podway.wg';
const routes = (n: TestNode, dev = DEV): string[] => lines(inNs(n.ns, 'ip', '-4', 'route', 'show', 'dev', dev)).sort();
const known = (nodes: readonly TestNode[], dev = DEV): Promise<boolean> => until('every node has a way to every other', () => nodes.every((n) => routes(n, dev).length === nodes.length - 1));
/** Beside the agents, which are in this process. */
const ping = async (from: TestPod, to: string, ...more: string[]): Promise<string> =>
  (await promisify(execFile)('nsenter', [`--net=${pathOf(from.ns)}`, 'busybox', 'ping', '-c', '3', '-i', '0.1', '-W', '1', ...more, to])).stdout;

/** One pod a node, with its address. */
async function podEach(net: TestNetwork, nodes: readonly TestNode[]): Promise<{ pod: TestPod; ip: string }[]> {
  const pods: { pod: TestPod; ip: string }[] = [];
  for (const n of nodes) {
    const pod = net.pod(`on-${n.name}`);
    pods.push({ pod, ip: await net.added(n, pod) });
  }
  return pods;
}

test('three nodes: all pod pairs, sources kept, largest packet fits, plain text in the pod and none on the underlay', { skip }, () =>
  withWireguard(3, {}, async (net, nodes) => {
    await known(nodes);
    assert.deepEqual(routes(nodes[0]!), ['10.244.1.0/24 proto 112 scope link', '10.244.2.0/24 proto 112 scope link']);
    assert.deepEqual(lines(inNs(nodes[0]!.ns, 'ip', '-4', 'route', 'show', 'type', 'blackhole')), ['blackhole 10.244.0.0/16 proto 112 metric 4096']);
    const pods = await podEach(net, nodes);
    for (const p of pods) await serve(net, p.pod.ns, 7000);
    for (const a of pods) {
      for (const b of pods) {
        if (a === b) continue;
        const r = await probe(net, a.pod.ns, b.ip, 7000);
        // On a busy machine its bursts are longer than a TUN device's queue: not all need be answered.
        assert.ok(r.answered > 0, `${a.ip} to ${b.ip}: ${JSON.stringify(r)}`);
        assert.deepEqual(r.sources, [a.ip]);
      }
    }
    const [a, b] = pods as [typeof pods[0], typeof pods[0]];
    assert.match(await ping(a.pod, b.ip, '-s', String(1440 - 28)), /3 packets received/, 'the largest that fits');
    assert.equal(RtNetlink.with(a.pod.ns, (nl) => nl.mustLink('eth0').mtu), 1440);
    const pattern = Buffer.alloc(16, 0x5a);
    const [inside, outside] = [Capture.open(a.pod.ns, { device: 'eth0', immediate: true }), Capture.open(nodes[0]!.ns, { device: 'eth0', immediate: true })];
    try {
      assert.match(await ping(a.pod, b.ip, '-p', '5a'), /3 packets received/);
      const bytes = (c: Capture): Buffer[] => c.read().map((p) => Buffer.from(p.bytes));
      assert.ok(bytes(inside).some((p) => p.includes(pattern)), 'the pod sees its payload');
      const sealed = bytes(outside);
      const udp = sealed.filter((p) => p.readUInt16BE(12) === 0x0800 && p[23] === 17 && p.readUInt16BE(36) === 51820);
      assert.ok(udp.length >= 6 && udp.every((p) => p[42]! >= 1 && p[42]! <= 4), 'WireGuard messages');
      for (const p of sealed) {
        assert.ok(!p.includes(pattern), 'no plain text');
        assert.notEqual(p.toString('hex', 26, 30), '0af40002', 'no pod address');
      }
    } finally {
      inside.close();
      outside.close();
    }
    const key = join(nodes[0]!.stateDir, 'wireguard', 'generation-0.key');
    assert.equal(statSync(key).mode & 0o777, 0o600);
    const secret = readFileSync(key, 'utf8').trim();
    assert.ok(!JSON.stringify([stateOf(nodes[0]!), nodes[0]!.events]).includes(secret), 'the private key is in no state and no event');
  }));

test('vxlan to wireguard, new keys twice, and back, under 200 echoes a second: none is lost', { skip }, (t) =>
  withWireguard(3, { network: NETWORK }, async (net, nodes) => {
    const pods = await podEach(net, nodes);
    await known(nodes, 'flannel.1');
    const pings = [[0, 1], [1, 2], [2, 0]].map(([from, to]) => new PingProgram(net, pods[from!]!.pod.ns, pods[to!]!.ip, 200));
    await until('it runs', () => pings.every((p) => p.answers > 20));
    const change = async (backend: object, way: string): Promise<void> => {
      const began = performance.now();
      setNetwork(net, netConf(backend));
      await changedTo(net, way);
      t.diagnostic(`to ${way}: ${(performance.now() - began).toFixed(0)} ms`);
    };
    await change(USERSPACE, 'wireguard');
    const first = stateOf(nodes[0]!).links.find((l) => l.name === DEV)?.wireguard?.publicKey;
    await change({ ...USERSPACE, KeyGeneration: 1 }, 'wireguard/1');
    await until('the first device is gone', () => nodes.every((n) => !stateOf(n).links.some((l) => l.name === DEV)));
    const second = stateOf(nodes[0]!).links.find((l) => l.name === `${DEV}1`)?.wireguard;
    assert.notEqual(second?.publicKey, first);
    assert.equal(second?.port, 51821);
    // Only m2 gets a new key.
    await change({ ...USERSPACE, KeyGeneration: 2, KeyNodes: ['m2'] }, 'wireguard/2');
    const keyOf = (n: TestNode): string | undefined => stateOf(n).links.find((l) => l.name === DEV)?.wireguard?.publicKey;
    assert.equal(keyOf(nodes[0]!), second?.publicKey, 'm1 has kept its key');
    await change({ Type: 'vxlan' }, 'vxlan');
    await until('everything of WireGuard is gone', () =>
      nodes.every((n) => !stateOf(n).links.some((l) => l.kind === 'tun') && !existsSync(wireguardSocket(DEV, socketDir(n))) && readdirSync(join(n.stateDir, 'wireguard')).length === 0 && pidsOf(n).length === 0));
    const results = await Promise.all(pings.map((p) => p.stop()));
    t.diagnostic(`${results.map((r) => r.sent).join(' + ')} echoes, lost: ${results.map((r) => r.lost.length).join(', ')}`);
    assert.deepEqual(results.map((r) => r.lost), [[], [], []]);
    for (const n of nodes) assert.deepEqual(n.seen('refused'), []);
  }));

test('an agent that starts again takes over what runs: same program, same key, no packet lost', { skip }, () =>
  withWireguard(2, {}, async (net, nodes) => {
    await known(nodes);
    const [a, b] = await podEach(net, nodes) as [{ pod: TestPod; ip: string }, { pod: TestPod; ip: string }];
    await ping(a.pod, b.ip);
    const [m1] = nodes as [TestNode];
    const [pid, key] = [pidsOf(m1), stateOf(m1).links.find((l) => l.name === DEV)?.wireguard?.publicKey];
    const stream = new PingProgram(net, a.pod.ns, b.ip, 200);
    await m1.stop();
    await m1.start({ network: WIREGUARD, wireguardGo: wireguardGo(m1), resyncMs: 50 });
    await m1.ready();
    await until('some comparisons', () => stream.answers > 100);
    assert.deepEqual((await stream.stop()).lost, []);
    assert.deepEqual([pidsOf(m1), stateOf(m1).links.find((l) => l.name === DEV)?.wireguard?.publicKey], [pid, key]);
    assert.equal(m1.seen('daemon-adopted').length, 1);
    assert.deepEqual(m1.seen('changed').map((e) => e.change), []);
  }));

test('wireguard-go dies: it is started and set again, packets flow both ways, and none takes another way meanwhile', { skip }, (t) =>
  withWireguard(2, { resyncMs: 60_000 }, async (net, nodes) => {
    await known(nodes);
    const [a, b] = await podEach(net, nodes) as [{ pod: TestPod; ip: string }, { pod: TestPod; ip: string }];
    await ping(a.pod, b.ip);
    const [m1] = nodes as [TestNode];
    // From the other side: the one that was restarted must make itself heard of.
    const stream = new PingProgram(net, b.pod.ns, a.ip, 200);
    const plain = Capture.open(m1.ns, { device: 'eth0', immediate: true, filter: 'net 10.244.0.0/16' });
    const out = new PingProgram(net, a.pod.ns, b.ip, 200);
    await until('it runs', () => stream.answers > 20 && out.answers > 20);
    process.kill(pidsOf(m1)[0]!, 'SIGKILL');
    await until('it runs again', () => m1.seen('daemon-started').length > 1);
    const at = stream.answers;
    await until('echoes are answered again', () => stream.answers > at + 20, 10_000);
    const [r, o] = [await stream.stop(), await out.stop()];
    t.diagnostic(`wireguard-go killed: ${r.lost.length} of ${r.sent} echoes lost to it, ${o.lost.length} of ${o.sent} from it, at 200 a second`);
    assert.deepEqual(plain.read(), [], 'nothing in plain text');
    plain.close();
    assert.deepEqual(m1.seen('refused'), []);
  }));

test('what somebody broke is mended and said: a peer removed, another one, other allowed IPs, another key, another port, a deleted device', { skip }, () =>
  withWireguard(2, { resyncMs: 50 }, async (net, nodes) => {
    await known(nodes);
    const [a, b] = await podEach(net, nodes) as [{ pod: TestPod; ip: string }, { pod: TestPod; ip: string }];
    await ping(a.pod, b.ip);
    const [m1] = nodes as [TestNode];
    const [peer] = stateOf(m1).wireguardPeers!;
    const stranger = publicKeyOf(generatePrivateKey());
    const set = (change: Parameters<typeof setUserspaceWireguard>[1]) => () => setUserspaceWireguard(DEV, change, socketDir(m1));
    const drifts: { what: string; act: () => unknown; says: RegExp }[] = [
      { what: 'a peer removed', act: set({ peers: [{ publicKey: peer!.publicKey, remove: true }] }), says: /^add WireGuard peer .* dev podway\.wg: missing: pods of node m2 are behind 172\.18\.0\.3/ },
      { what: 'a stranger', act: set({ peers: [{ publicKey: stranger, allowedIps: ['10.99.0.0/24'] }] }), says: /^remove WireGuard peer .* no longer wanted/ },
      { what: 'other allowed IPs', act: set({ peers: [{ publicKey: peer!.publicKey, allowedIps: ['10.77.0.0/24'], replaceAllowedIps: true }] }), says: /allowed IPs 10\.77\.0\.0\/24 instead of 10\.244\.1\.0\/24/ },
      { what: 'another endpoint', act: set({ peers: [{ publicKey: peer!.publicKey, endpoint: { address: '172.18.0.77', port: 7 } }] }), says: /endpoint 172\.18\.0\.77:7 instead of 172\.18\.0\.3:51820/ },
      { what: 'another key', act: set({ privateKey: generatePrivateKey() }), says: /^change link podway\.wg: publicKey .* instead of/ },
      { what: 'another port', act: set({ listenPort: 51999 }), says: /^change link podway\.wg: port 51999 instead of 51820/ },
      { what: 'a deleted device', act: () => inNs(m1.ns, 'ip', 'link', 'del', DEV), says: /^add link podway\.wg: missing/ },
      { what: 'a deleted route', act: () => inNs(m1.ns, 'ip', 'route', 'del', '10.244.1.0/24'), says: /^add route 10\.244\.1\.0\/24.*encrypted/ },
    ];
    for (const d of drifts) {
      m1.events.length = 0;
      d.act();
      await until(`${d.what} is told (${JSON.stringify(m1.events)})`, () => m1.seen('changed').some((e) => d.says.test(e.change)));
      await until(`${d.what} is mended`, async () => (await ping(a.pod, b.ip)).includes('3 packets received'));
    }
  }));
