import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ProbeSocket } from '@podway/kernel';
import { decode, encode, payloadIdentity, readCapture } from '@podway/packet';
import { buildReport, observeFlow, renderReport, savePcapng, textWidth, type Flow } from '../src/index.js';
import { Cluster } from './fixture.js';
import { assertAsPredicted, needsRoot, trace } from './support.js';

describe('predicted and observed way are the same', needsRoot, () => {
  let c: Cluster;

  before(() => {
    c = Cluster.create({ podsPerNode: 2 });
    for (const m of [...c.pods, ...c.nodes]) {
      c.serve(m.ns, 'tcp', 80);
      c.serve(m.ns, 'udp', 53);
    }
  });
  after(() => c.close());

  const ways: [string, string, string][] = [
    ['pod to pod on one node', 'default/pod-m1-a', '10.244.0.3'],
    ['pod to pod across nodes', 'default/pod-m1-a', '10.244.1.2'],
    ['pod to its own node', 'default/pod-m1-a', '172.18.0.2'],
    ['pod to its gateway', 'default/pod-m1-a', '10.244.0.1'],
    ['pod to another node', 'default/pod-m1-a', '172.18.0.3'],
    ['node to its pod', 'm1', '10.244.0.2'],
    ['node to a pod elsewhere', 'm1', '10.244.1.3'],
    ['node to node', 'm2', '172.18.0.2'],
  ];
  const protocols: Pick<Flow, 'proto' | 'dstPort'>[] = [{ proto: 'icmp' }, { proto: 'tcp', dstPort: 80 }, { proto: 'udp', dstPort: 53 }];
  for (const [name, from, dst] of ways) {
    for (const p of protocols) {
      it(`${name}, ${p.proto}`, async () => {
        const { report } = await trace(c, { from, dst, ...p });
        assert.equal(report.verdict, 'delivered', report.headline);
        // A bound UDP socket without a program behind it does not answer: only the way there is to be seen.
        assertAsPredicted(p.proto === 'udp' ? { ...report, reply: undefined as never } : report);
        assert.match(report.headline, p.proto === 'udp' ? /Predicted: delivered/ : /Observed: the same/);
        assert.deepEqual(report.notes.filter((n) => n.startsWith('not captured')), []);
      });
    }
  }

  it('shows TTL, lengths and MAC addresses of a ping across nodes exactly', async () => {
    const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' });
    const rows = report.request.rows.filter((r) => r.point.role !== 'underlay').map((r) => {
      const s = r.observed;
      assert.ok(s);
      return [r.point.label, s.ttl, s.ipLength, s.frameLength, s.outer?.ipLength, s.outer?.ttl, s.outer?.udpLength, s.overhead];
    });
    // The node of the destination forwards too (flannel.1 → cni0): 62 there. Encapsulation changes no TTL.
    assert.deepEqual(rows, [
      ['pod-m1-a/eth0', 64, 84, 98, undefined, undefined, undefined, 0],
      ['m1/veth00000000', 64, 84, 98, undefined, undefined, undefined, 0],
      ['m1/cni0', 64, 84, 98, undefined, undefined, undefined, 0],
      ['m1/flannel.1', 63, 84, 98, undefined, undefined, undefined, 0],
      ['m1/eth0', 63, 84, 148, 134, 64, 114, 50],
      ['m2/eth0', 63, 84, 148, 134, 64, 114, 50],
      ['m2/flannel.1', 63, 84, 98, undefined, undefined, undefined, 0],
      ['m2/cni0', 62, 84, 98, undefined, undefined, undefined, 0],
      ['m2/veth00000002', 62, 84, 98, undefined, undefined, undefined, 0],
      ['pod-m2-a/eth0', 62, 84, 98, undefined, undefined, undefined, 0],
    ]);
    const at = (label: string) => report.request.rows.find((r) => r.point.label === label)?.observed;
    const ids = new Set(report.request.rows.map((r) => r.observed?.ipId));
    assert.equal(ids.size, 1, 'one and the same packet at every point');
    assert.notEqual([...ids][0], 0);
    // Bridging rewrites nothing: at cni0 the source is still the pod's eth0.
    assert.deepEqual(at('m1/cni0')?.ethernet, { src: '0a:58:0a:f4:00:02', dst: '0a:58:0a:f4:00:01' });
    assert.deepEqual(at('m1/flannel.1')?.ethernet, { src: '0e:50:57:00:00:01', dst: '0e:50:57:00:00:02' });
    assert.deepEqual(at('m2/cni0')?.ethernet, { src: '0a:58:0a:f4:01:01', dst: '0a:58:0a:f4:01:02' });
    const outer = at('m1/eth0')?.outer;
    assert.deepEqual([outer?.src, outer?.dst, outer?.dstPort, outer?.vni, outer?.vxlanFlags, outer?.dontFragment], ['172.18.0.2', '172.18.0.3', 8472, 1, 8, false]);
    assert.deepEqual(at('m1/eth0')?.headers.map((h) => h.bytes), [14, 20, 8, 8, 14, 20, 8, 56]);
    assert.match(report.budget ?? '', / = 148$/);
    assert.ok(report.summary.includes('addresses constant: 10.244.0.2 → 10.244.1.2'), report.summary.join('; '));
    assert.ok(report.summary.includes('TTL 64 → 62 (2 nodes forwarded it)'), report.summary.join('; '));
    assert.ok(report.summary.some((s) => s.startsWith('VXLAN adds 50 bytes')));
    const times = report.request.rows.map((r) => r.observed?.offsetUs ?? -1);
    // A bridge shows the stamp of its port, so neighbours may be equal; the farther end is later for sure.
    assert.ok(times[0] === 0 && times.every((t) => t >= 0) && times.at(-1)! > 0, String(times));
    assert.equal(report.from.node, 'm1');
    assert.deepEqual(report.to?.nodeAddresses, ['172.18.0.3']);
  });

  it('names index and peer, route with losers, neighbour and FDB entry per row', async () => {
    const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' });
    const row = (label: string) => report.request.rows.find((r) => r.point.label === label);
    assert.match(row('pod-m1-a/eth0')?.point.text ?? '', /^eth0@if\d+ ↔ veth00000000$/);
    const why = (label: string, kind: string) => row(label)?.decisions.find((d) => d.kind === kind)?.why ?? '';
    assert.match(why('pod-m1-a/eth0', 'route'), /^10\.244\.0\.0\/16 via 10\.244\.0\.1 dev eth0; lost: default via .* \(shorter prefix than \/16\)/);
    assert.match(why('m1/flannel.1', 'route'), /^10\.244\.1\.0\/24 via 10\.244\.1\.0 dev flannel\.1 onlink/);
    assert.match(why('m1/flannel.1', 'neighbour'), /^10\.244\.1\.0 lladdr 0e:50:57:00:00:02 PERMANENT$/);
    assert.match(why('m1/eth0', 'encapsulate'), /^FDB entry 0e:50:57:00:00:02 dst 172\.18\.0\.3: VNI 1, UDP port 8472, 50 bytes more/);
    assert.match(why('m2/veth00000002', 'bridge'), /^FDB entry 0a:58:0a:f4:01:02 → veth00000002$/);
    assert.deepEqual(report.asymmetry, []);
  });

  it('flags the asymmetric way between a pod and another node', async () => {
    const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '172.18.0.3', proto: 'icmp' });
    assert.deepEqual(report.asymmetry, ['only on the way back: m1/flannel.1, m2/flannel.1']);
    assertAsPredicted(report);
  });

  it('one flow keeps its outer source port, another flow has its own', async () => {
    const { observed } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'udp', dstPort: 53 }, { count: 8, timeoutMs: 1500 });
    const ports = observed.observation.probes.map((p) => [...new Set(p.request.flatMap((s) => (s.outer ? [s.outer.srcPort] : [])))]);
    assert.ok(ports.every((p) => p.length === 1), JSON.stringify(ports));
    assert.ok(new Set(ports.flat()).size > 1, JSON.stringify(ports));
  });

  it('copes with other traffic on the same way', async () => {
    const noise = spawn(process.execPath, [new URL('../../../kernel/dist/test/support/blast.js', import.meta.url).pathname, `/proc/${process.pid}/fd/${c.pod('pod-m1-a').ns.fd}`, '10.244.1.2', '53', '1500', '50000']);
    try {
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' });
      assertAsPredicted(report);
      const { report: udp } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'udp', dstPort: 53 });
      assert.deepEqual(udp.request.rows.filter((r) => r.state !== 'seen').map((r) => r.point.label), []);
    } finally {
      noise.kill();
    }
  });

  it('follows traffic that is there already, and says when there is none', async () => {
    const { world, live } = c.read();
    const flow: Flow = { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' };
    const none = await observeFlow(world, live, flow, { traffic: 'existing', timeoutMs: 100 });
    assert.equal(none.observation.noTraffic, true);
    assert.match(buildReport(world, none.prediction, none.observation).headline, /No such traffic was seen/);
    const ping = ProbeSocket.open(c.pod('pod-m1-a').ns, 'icmp', { ttl: 33 });
    ping.connect('10.244.1.2', 0);
    let sequence = 0;
    const timer = setInterval(() => ping.send(encode([{ type: 'icmp', message: { kind: 'echo-request', id: 99, sequence: sequence++ } }], new Uint8Array(200))), 30);
    try {
      const o = await observeFlow(world, live, flow, { traffic: 'existing', timeoutMs: 3000 });
      const report = buildReport(world, o.prediction, o.observation);
      assertAsPredicted(report);
      assert.match(report.headline, /Observed: the same/);
      assert.deepEqual([report.request.rows[0]?.observed?.ttl, report.request.rows.at(-1)?.observed?.ttl, report.request.rows[0]?.observed?.ipLength], [33, 31, 228]);
    } finally {
      clearInterval(timer);
      ping.close();
    }
  });

  it('saves what tcpdump sees, in one pcapng that tshark reads', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'podway-trace-'));
    const where: [string, () => string, string][] = [
      ['pod-m1-a/eth0', () => `/proc/${process.pid}/fd/${c.pod('pod-m1-a').ns.fd}`, 'eth0'],
      ['m1/cni0', () => `/proc/${process.pid}/fd/${c.node('m1').ns.fd}`, 'cni0'],
      ['m1/flannel.1', () => `/proc/${process.pid}/fd/${c.node('m1').ns.fd}`, 'flannel.1'],
      ['m2/eth0', () => `/proc/${process.pid}/fd/${c.node('m2').ns.fd}`, 'eth0'],
      ['pod-m2-a/eth0', () => `/proc/${process.pid}/fd/${c.pod('pod-m2-a').ns.fd}`, 'eth0'],
    ];
    try {
      const dumps = where.map(([label, path, dev], i) => {
        const file = join(dir, `${i}.pcap`);
        const child = spawn('nsenter', [`--net=${path()}`, 'tcpdump', '-i', dev, '-U', '-Z', 'root', '--immediate-mode', '-w', file, 'ip'], { stdio: ['ignore', 'ignore', 'pipe'] });
        const ready = new Promise<void>((resolve, reject) => {
          child.stderr.on('data', (d: Buffer) => void (d.includes('listening on') && resolve()));
          child.on('error', reject);
          child.on('exit', (code) => reject(new Error(`tcpdump ended with ${code}`)));
        });
        return { label, file, child, ready };
      });
      await Promise.all(dumps.map((d) => d.ready));
      const { observed } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' });
      for (const d of dumps) {
        const done = new Promise((resolve) => d.child.once('close', resolve));
        d.ready.catch(() => undefined);
        d.child.kill('SIGINT');
        await done;
      }
      const bytesAt = (label: string) => observed.packets.filter((p) => p.point === label).map((p) => p.bytes.toString('hex'));
      for (const d of dumps) {
        const mine = bytesAt(d.label);
        const theirs = [...readCapture(readFileSync(d.file))].map((r) => Buffer.from(r.bytes).toString('hex'));
        assert.equal(mine.length, 2, `${d.label}: request and reply`);
        for (const m of mine) assert.ok(theirs.includes(m), `${d.label}: tcpdump saw another packet`);
      }
      const file = join(dir, 'all.pcapng');
      assert.equal(savePcapng(file, observed), observed.packets.length);
      assert.equal(statSync(file).mode & 0o777, 0o600);
      const back = [...readCapture(readFileSync(file))];
      assert.equal(back.length, observed.packets.length);
      assert.equal(new Set(back.map((r) => payloadIdentity(decode(r.bytes)))).size, 2);
      let text: string;
      try {
        text = execFileSync('tshark', ['-r', file, '-T', 'fields', '-e', 'frame.interface_name', '-e', 'ip.ttl'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      } catch (e) {
        if ((e as NodeJS.ErrnoException).code !== 'ENOENT') throw e;
        return t.diagnostic('tshark is not installed: reading by tshark was not checked');
      }
      assert.ok(text.includes('m1/flannel.1\t63'), text);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  for (const width of [80, 120, 140]) {
    it(`fits ${width} columns`, async () => {
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'tcp', dstPort: 80 });
      const lines = renderReport(report, { width, steps: true }).map((l) => l.text);
      for (const l of lines) assert.ok(textWidth(l) <= width, `${textWidth(l)}: ${l}`);
      const text = lines.join('\n');
      assert.match(text, /^default\/pod-m1-a → default\/pod-m2-a: tcp 10\.244\.0\.2:\d+ → 10\.244\.1\.2:80$/m);
      assert.match(text, /^✓ {2}4 {2}m1\/flannel\.1 #\d+ +63 +60 +74 +\| +\d+\.\d +63 +60 +74 +\d+( +ok\/offloaded)?$/m);
      assert.match(text, /ok\/offloaded/);
      JSON.parse(JSON.stringify(report));
    });
  }
});
