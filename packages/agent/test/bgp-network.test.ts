/** BGP between real speakers on the real kernel: routes, traffic, death, restart, reflectors, racks. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { PROTOCOL, RtNetlink } from '@podway/kernel';
import { needsBird, PingStream, reaches, routesOf, SETTINGS, tcpdump, until, withLab, type BgpLab, type NodeMember } from './bgp-fixture.js';

const skip = needsBird;

function three(lab: BgpLab): NodeMember[] {
  const at = lab.switch('switch');
  return [0, 1, 2].map((n) => lab.addNode(at, `m${n + 1}`, [`172.18.0.${n + 2}/16`], [`10.244.${n}.0/24`]));
}
const learned = (n: NodeMember): string[] => routesOf(n.ns).filter((r) => r.includes('proto bird'));

test('full mesh: every node learns the others, pods talk bare, own blocks end here, OPEN and UPDATE are on the wire', { skip }, () =>
  withLab(async (lab) => {
    const [a, b, c] = three(lab) as [NodeMember, NodeMember, NodeMember];
    const bgpDump = await tcpdump(a.ns, 'eth0', 'tcp', 'port', '179');
    await lab.start();
    for (const n of lab.nodes) await n.established(2);
    await until('routes', () => lab.nodes.every((n) => learned(n).length === 2));
    assert.deepEqual(learned(a), ['10.244.1.0/24 via 172.18.0.3 dev eth0 proto bird metric 32', '10.244.2.0/24 via 172.18.0.4 dev eth0 proto bird metric 32']);
    assert.deepEqual(routesOf(a.ns).filter((r) => r.startsWith('blackhole')), ['blackhole 10.244.0.0/24 proto 112 metric 4096']);
    assert.deepEqual(routesOf(a.ns, '-d').filter((r) => /vxlan|tunl/.test(r)), []);
    // BIRD's own announcement is not doubled in the kernel.
    assert.equal(routesOf(a.ns).filter((r) => r.includes('10.244.0.0/24')).length, 2);

    await until('tcpdump has seen the prefix', () => bgpDump.seen().includes('10.244.1.0/24'));
    const wire = await bgpDump.stop();
    assert.match(wire, /Open Message \(1\)/);
    assert.match(wire, /Keepalive Message \(4\)/);
    assert.match(wire, /Update Message \(2\)/);

    const [pa, pc] = [lab.addPod(a), lab.addPod(c)];
    const onWire = await tcpdump(b.ns, 'eth0', 'icmp');
    const atA = await tcpdump(a.ns, 'eth0', 'icmp');
    assert.ok(await reaches(pa.ns, pc.address));
    await until('echo captured', () => atA.seen().includes('echo reply'));
    // The receiver's side of the wire: IP directly over Ethernet with the pods' addresses, nothing around.
    assert.match(await atA.stop(), new RegExp(`${pa.address} > ${pc.address}: ICMP echo request`));
    assert.equal((await onWire.stop()).includes('echo'), false, 'nothing of it comes by the third node');

    const status = await a.ask((s) => s.sessions());
    assert.deepEqual(status.map((s) => [s.address, s.name, s.type, s.asn, s.state, s.imported, s.exported]), [
      ['172.18.0.3', 'node m2', 'mesh', 64512, 'Established', 1, 1], ['172.18.0.4', 'node m3', 'mesh', 64512, 'Established', 1, 1],
    ]);
    const routes = await a.ask((s) => s.routes());
    const fromB = routes.find((r) => r.prefix === '10.244.1.0/24');
    assert.deepEqual([fromB?.dest, fromB?.from, fromB?.gateway, fromB?.dev, fromB?.best, fromB?.nextHop], ['unicast', 'mesh_172_18_0_3', '172.18.0.3', 'eth0', true, '172.18.0.3']);
  }));

test('an unused address of the own block is answered here, not bounced; without the bridge the blackhole ends it', { skip }, () =>
  withLab(async (lab) => {
    const [a, b] = three(lab) as [NodeMember, NodeMember];
    await lab.start();
    await until('routes', () => learned(b).length === 2);
    RtNetlink.with(a.ns, (nl) => nl.setLink('cni0', { up: false }));
    const pod = lab.addPod(b);
    const dump = await tcpdump(a.ns, 'eth0', 'icmp');
    const ping = new PingStream(pod.ns, '10.244.0.77', 100);
    await until('it has arrived ten times', () => (dump.seen().match(/> 10\.244\.0\.77: ICMP echo request/g) ?? []).length >= 10);
    assert.equal(ping.answers, 0);
    await ping.stop();
    const seen = await dump.stop();
    // Each once on the wire, with the TTL of one router: nothing comes back towards b.
    const ids = [...seen.matchAll(/> 10\.244\.0\.77: ICMP echo request, id (\d+), seq (\d+)/g)].map((m) => m[0]);
    assert.equal(new Set(ids).size, ids.length);
    assert.doesNotMatch(seen, /time exceeded/);
  }));

test('a speaker that dies for good is withdrawn within the hold time; the session is shown as down at once', { skip }, () =>
  withLab(async (lab) => {
    const [a, b] = three(lab) as [NodeMember, NodeMember];
    await lab.start();
    await until('routes', () => lab.nodes.every((n) => learned(n).length === 2));
    const pid = b.pid;
    await b.supervisor.close();
    process.kill(pid, 'SIGKILL');
    const at = performance.now();
    await until('the session is not shown as Established', async () => (await a.ask((c) => c.sessions())).some((s) => s.address === '172.18.0.3' && s.state !== 'Established' && s.gracefulRestart), 2000);
    await until('withdrawn', () => learned(a).length === 1, 8000);
    assert.ok(performance.now() - at < 7500, `it took ${performance.now() - at} ms with a hold time of 6 s`);
    b.supervisor = b.newSupervisor();
  }));

test('kill -9 of BIRD on both ends in turn, and a restart with other arguments: no packet is lost at 100 a second', { skip }, (t) =>
  withLab(async (lab) => {
    const [a, b] = three(lab) as [NodeMember, NodeMember];
    await lab.start();
    await until('routes', () => lab.nodes.every((n) => learned(n).length === 2));
    const [pa, pb] = [lab.addPod(a), lab.addPod(b)];
    assert.ok(await reaches(pa.ns, pb.address));
    const ping = new PingStream(pa.ns, pb.address, 100);
    const ways: [NodeMember, (pid: number) => unknown][] = [
      [b, (pid) => process.kill(pid, 'SIGKILL')],
      [a, (pid) => process.kill(pid, 'SIGKILL')],
      // Other arguments: BIRD is told to end for a graceful restart.
      [b, () => b.supervisor.apply(b.spec(SETTINGS, lab.nodes).map((s) => ({ ...s, env: { ...s.env, CHANGED: '1' } })))],
    ];
    for (const [n, way] of ways) {
      const before = n.pid;
      await way(before);
      await until('a new one runs', () => (n.supervisor.running()['bird'] ?? before) !== before);
      await n.established(2);
      await until('the restart is over', async () => (await n.ask((c) => c.status())).recovering === false && (await n.ask((c) => c.sessions())).every((s) => s.imported === 1));
      assert.ok(n.events.some((e) => e.type === 'daemon-started' && e.again), JSON.stringify(n.events));
      // Past the time for which peers keep routes of one that restarts.
      const over = performance.now() + 7000;
      await until('the restart time has passed', () => performance.now() > over);
    }
    const { sent, lost } = await ping.stop();
    t.diagnostic(`${sent} echoes, ${lost.length} lost`);
    assert.ok(sent > 2100);
    assert.deepEqual(lost, []);
  }));

test('a new peer is a reload: other sessions stay up; a configuration that BIRD refuses changes nothing', { skip }, () =>
  withLab(async (lab) => {
    const [a, b, c] = three(lab) as [NodeMember, NodeMember, NodeMember];
    for (const n of [a, b]) n.wire(SETTINGS);
    await Promise.all([a, b].map((n) => n.run(n.spec(SETTINGS, [a, b]))));
    await a.established(1);
    const [pid, since] = [a.pid, (await a.ask((s) => s.sessions()))[0]!.since];
    c.wire(SETTINGS);
    await Promise.all([a, b, c].map((n) => n.run(n.spec(SETTINGS, [a, b, c]))));
    for (const n of [a, b, c]) await n.established(2);
    const [first] = await a.ask((s) => s.sessions());
    assert.deepEqual([a.pid, first?.since], [pid, since]);
    assert.ok(a.events.some((e) => e.type === 'daemon-reloaded'));
    const [spec] = a.spec(SETTINGS, [a, b, c]);
    await a.supervisor.apply([{ ...spec!, files: [{ ...spec!.files[0]!, text: 'protocol nonsense {}' }] }]);
    assert.ok(a.events.some((e) => e.type === 'daemon-failed' && /bird\.conf:1:/.test(e.error)), JSON.stringify(a.events));
    await a.established(2);
    assert.equal(a.pid, pid);
  }));

test('the next agent adopts BIRD: sessions do not notice; stopped on purpose, its routes go here and at the peers at once', { skip }, () =>
  withLab(async (lab) => {
    const [a, b] = three(lab) as [NodeMember, NodeMember];
    await lab.start();
    await until('routes', () => lab.nodes.every((n) => learned(n).length === 2));
    const [pid, since] = [a.pid, (await b.ask((c) => c.sessions())).map((s) => s.since)];
    await a.supervisor.close();
    a.supervisor = a.newSupervisor();
    await a.run(a.spec(SETTINGS, lab.nodes));
    assert.equal(a.pid, pid);
    assert.ok(a.events.some((e) => e.type === 'daemon-adopted' && e.pid === pid));
    assert.deepEqual((await b.ask((c) => c.sessions())).map((s) => s.since), since);
    assert.equal(statSync(a.socket).mode & 0o777, 0o600);
    // Another backend: no daemon is wanted any more.
    await a.supervisor.apply([]);
    assert.deepEqual(learned(a), []);
    await until('withdrawn, without waiting for any timer', () => learned(b).length === 1, 2000);
    assert.equal(existsSync(join(a.dir, 'bird.conf')), false);
  }));

/** 200 take 7 to 8 s; the suite is content with fewer. */
const SPEAKERS = Number(process.env['PODWAY_BGP_SPEAKERS'] ?? 20);

test(`${SPEAKERS} speakers through two reflectors converge`, { skip }, (t) =>
  withLab(async (lab) => {
    const at = lab.switch('switch');
    for (let n = 0; n < SPEAKERS; n++) lab.addNode(at, `m${n + 1}`, [`172.18.0.${n + 2}/16`], [`10.244.${n}.0/24`]);
    const began = performance.now();
    await lab.start({ ...SETTINGS, reflectors: ['m1', 'm2'] });
    const started = performance.now();
    await until('every node has all others', () => lab.nodes.every((n) => RtNetlink.with(n.ns, (nl) => nl.routes().filter((r) => r.protocol === PROTOCOL.bird).length) === SPEAKERS - 1), 60_000);
    t.diagnostic(`${SPEAKERS} speakers: started in ${(started - began).toFixed(0)} ms, all routes in all kernels after ${(performance.now() - began).toFixed(0)} ms`);
    for (const n of lab.nodes.slice(2)) assert.equal((await n.ask((c) => c.sessions())).length, 2);
  }));

test('route reflectors: each node holds two sessions and learns all', { skip }, () =>
  withLab(async (lab) => {
    const at = lab.switch('switch');
    const settings = { ...SETTINGS, mesh: false, reflectors: ['rr1', 'role=reflector'] };
    for (let n = 0; n < 6; n++) {
      const name = n === 0 ? 'rr1' : `m${n}`;
      lab.addNode(at, name, [`172.18.0.${n + 2}/16`], [`10.244.${n}.0/26`], n === 1 ? { role: 'reflector' } : {});
    }
    await lab.start(settings);
    await until('routes', () => lab.nodes.every((n) => learned(n).length === 5));
    for (const [i, n] of lab.nodes.entries()) await n.established(i < 2 ? 5 : 2);
    const last = lab.nodes[5]!;
    assert.ok(learned(last).includes('10.244.4.0/26 via 172.18.0.6 dev eth0 proto bird metric 32'), 'the next hop is the node itself, not the reflector');
    assert.deepEqual((await last.ask((c) => c.sessions())).map((s) => s.type), ['rr', 'rr']);
    const [p, q] = [lab.addPod(last), lab.addPod(lab.nodes[4]!)];
    assert.ok(await reaches(p.ns, q.address));
  }));

test('racks: nodes peer with their top-of-rack routers; pods of two subnets reach each other bare', { skip }, () =>
  withLab(async (lab) => {
    const racks = [lab.switch('rack1'), lab.switch('rack2')];
    const spine = lab.switch('spine');
    const tors = [1, 2].map((r) => {
      const tor = lab.addRouter(`tor${r}`);
      lab.plug(racks[r - 1]!, 'tor', tor.ns, 'down', [`172.18.${r}.1/24`]);
      lab.plug(spine, `tor${r}`, tor.ns, 'up', [`192.0.2.${r}/24`]);
      return tor;
    });
    const nodes = [[1, 2], [1, 3], [2, 2]].map(([r, h], n) => lab.addNode(racks[r! - 1]!, `m${n + 1}`, [`172.18.${r}.${h}/24`], [`10.244.${n}.0/24`], { rack: `r${r}` }));
    const settings = {
      ...SETTINGS, peers: [1, 2].map((r) => ({ address: `172.18.${r}.1`, asn: 65000 + r, nodeSelector: `rack=r${r}`, password: `key of rack ${r}` })),
    };
    await Promise.all(tors.map((tor, i) => tor.run(lab.routerSpec(tor, {
      asn: 65001 + i, routerId: `192.0.2.${i + 1}`,
      neighbours: [
        { name: 'the other rack', address: `192.0.2.${2 - i}`, asn: 65002 - i },
        ...nodes.filter((n) => n.local.labels!['rack'] === `r${i + 1}`).map((n) => ({ name: `node ${n.name}`, address: n.local.uplink.address, asn: 64512, password: `key of rack ${i + 1}` })),
      ],
    }))));
    await lab.start(settings);
    const [a, b, c] = nodes as [NodeMember, NodeMember, NodeMember];
    await until('routes', () => nodes.every((n) => learned(n).length === 2));
    // On the own subnet straight to the node (and by its mesh session), to the other rack through the router.
    assert.deepEqual(learned(a), ['10.244.1.0/24 via 172.18.1.3 dev eth0 proto bird metric 32', '10.244.2.0/24 via 172.18.1.1 dev eth0 proto bird metric 32']);
    assert.deepEqual(learned(c), ['10.244.0.0/24 via 172.18.2.1 dev eth0 proto bird metric 32', '10.244.1.0/24 via 172.18.2.1 dev eth0 proto bird metric 32']);
    await a.established(2);
    await c.established(1);
    assert.ok((await a.ask((s) => s.routes())).some((r) => r.prefix === '10.244.2.0/24' && r.asPath.join() === '65001,65002,64512'));
    assert.ok(routesOf(tors[0]!.ns).includes('10.244.2.0/24 via 192.0.2.2 dev up proto bird metric 32'));
    const [pa, pb, pc] = [lab.addPod(a), lab.addPod(b), lab.addPod(c)];
    const dump = await tcpdump(tors[0]!.ns, 'up', 'icmp');
    assert.ok(await reaches(pa.ns, pc.address));
    assert.ok(await reaches(pb.ns, pa.address));
    await until('echo captured', () => dump.seen().includes('echo reply'));
    assert.match(await dump.stop(), new RegExp(`ttl 62, [^\n]*proto ICMP[^\n]*\n +${pa.address} > ${pc.address}: ICMP echo request`));
    // A node announces its own ranges and nobody else's.
    assert.deepEqual((await a.ask((s) => s.sessions())).map((s) => [s.type, s.exported]), [['external', 1], ['mesh', 1]]);
  }));

test('dual stack: a session per family', { skip }, () =>
  withLab(async (lab) => {
    const at = lab.switch('switch');
    for (let n = 0; n < 2; n++) lab.addNode(at, `m${n + 1}`, [`172.18.0.${n + 2}/16`, `fd00:18::${n + 2}/64`], [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`]);
    await lab.start();
    const [a] = lab.nodes as [NodeMember];
    assert.deepEqual(a.drift(SETTINGS), [], 'what was applied is seen as applied');
    await a.established(2);
    await until('IPv6 route', () => routesOf(a.ns, '-6').includes('fd00:10:244:1::/64 via fd00:18::3 dev eth0 proto bird metric 32 pref medium'));
    assert.ok(routesOf(a.ns, '-6').some((r) => r.startsWith('blackhole fd00:10:244::/64 dev lo proto 112 metric 4096')), routesOf(a.ns, '-6').join('\n'));
    await until('IPv4 route', () => learned(a).length === 1);
  }));
