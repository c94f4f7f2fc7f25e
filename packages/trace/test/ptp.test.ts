/** Wiring ptp: routes to single pods, gateways on host ends, proxy ARP: predicted as the kernel does it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { writeSysctl } from '@podway/kernel';
import type { Flow } from '../src/index.js';
import { Cluster } from './fixture.js';
import { assertAsPredicted, needsRoot, trace } from './support.js';

for (const wiring of ['ptp', 'ptp link-local'] as const) {
  describe(`wiring ${wiring}: predicted and observed way are the same`, needsRoot, () => {
    let c: Cluster;
    before(() => {
      c = Cluster.create({ podsPerNode: 2, wiring });
      for (const m of [...c.pods, ...c.nodes]) c.serve(m.ns, 'tcp', 80);
    });
    after(() => c.close());

    const ways: [string, string, string][] = [
      ['pod to pod on one node', 'default/pod-m1-a', '10.244.0.3'],
      ['pod to pod across nodes', 'default/pod-m1-a', '10.244.1.2'],
      ['pod to its own node', 'default/pod-m1-a', '172.18.0.2'],
      ['pod to another node', 'default/pod-m1-a', '172.18.0.3'],
      ['node to its pod', 'm1', '10.244.0.2'],
      ['node to a pod elsewhere', 'm1', '10.244.1.3'],
    ];
    const protocols: Pick<Flow, 'proto' | 'dstPort'>[] = [{ proto: 'icmp' }, { proto: 'tcp', dstPort: 80 }];
    for (const [name, from, dst] of ways) {
      for (const p of protocols) {
        it(`${name}, ${p.proto}`, async () => {
          const { report } = await trace(c, { from, dst, ...p });
          assert.equal(report.verdict, 'delivered', report.headline);
          assertAsPredicted(report);
          assert.match(report.headline, /Observed: the same/);
        });
      }
    }

    it('every packet of a pod is routed, also to its neighbour on the node: TTL 63', async () => {
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.0.3', proto: 'icmp' });
      assert.deepEqual(report.request.rows.map((r) => [r.point.label, r.observed?.ttl]), [
        ['pod-m1-a/eth0', 64], ['m1/veth00000000', 64], ['m1/veth00000001', 63], ['pod-m1-b/eth0', 63],
      ]);
    });

    it('an address of the node that no pod has: dropped by the blackhole, which the kernel names as well', async () => {
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.0.77', proto: 'icmp' });
      assert.equal(report.verdict, 'dropped', report.headline);
      assert.match(JSON.stringify(report.request), /blackhole 10\.244\.0\.0\/24/);
    });
  });
}

describe('wiring ptp link-local, broken', needsRoot, () => {
  const faults: { what: string; break: (c: Cluster) => void }[] = [
    { what: 'proxy ARP is off', break: (c) => writeSysctl(c.node('m1').ns, 'net.ipv4.conf.veth00000000.proxy_arp', '0') },
    { what: 'the host end does not forward', break: (c) => writeSysctl(c.node('m1').ns, 'net.ipv4.conf.veth00000000.forwarding', '0') },
    { what: 'nothing but the veth leads to the next hop', break: (c) => c.change(c.node('m1').ns, (nl) => nl.deleteRoute({ dst: '169.254.1.1/32' })) },
  ];
  for (const f of faults) {
    it(`${f.what}: nobody answers for 169.254.1.1, predicted and observed`, async () => {
      const c = Cluster.create({ podsPerNode: 2, wiring: 'ptp link-local' });
      try {
        f.break(c);
        const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' }, { timeoutMs: 800 });
        assert.equal(report.verdict, 'dropped', report.headline);
        assert.match(report.headline, /169\.254\.1\.1/);
        assert.match(report.headline, /Observed: the same/);
      } finally {
        c.close();
      }
    });
  }
});
