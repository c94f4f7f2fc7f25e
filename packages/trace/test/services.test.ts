/** Services as the agent writes them: what the model makes of maps, random choice and connection tracking, held against the kernel. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Nftables, type RtNetlink, setPortRequest, writeSysctl } from '@podway/kernel';
import { simulate, simulateRoundTrip, type Flow, type Report } from '../src/index.js';
import { Cluster } from './fixture.js';
import { needsRoot, trace } from './support.js';

/** As predicted at every point but the bridge, which is not watched where a destination is translated onto it. */
function assertWatched(r: Report): void {
  for (const leg of [r.request, r.reply!]) {
    const off = leg.rows.filter((x) => x.state !== 'seen' && x.state !== 'copy' && !(x.state === 'not observed' && x.point.label === 'm1/cni0')).map((x) => `${x.point.label}: ${x.state} ${x.differences.join(', ')}`);
    assert.deepEqual(off, [], `${leg.direction}: ${r.headline}`);
    assert.ok(leg.rows.filter((x) => x.state === 'seen').length >= 4, r.headline);
  }
  assert.ok(r.notes.some((n) => /m1\/cni0.*a copy/.test(n)), r.notes.join());
}

/** One Service of three endpoints, the forms of packages/agent/src/services/ruleset.ts, with few of the sets. */
const table = (ips: readonly string[]): string => `
add table inet podway-services
add map inet podway-services services4 { type ipv4_addr . inet_proto . inet_service : verdict; counter; }
add map inet podway-services endpoints4 { type ipv4_addr . inet_proto . inet_service . classid : ipv4_addr . inet_service; counter; }
add map inet podway-services endpoints6 { type ipv6_addr . inet_proto . inet_service . classid : ipv6_addr . inet_service; counter; }
add map inet podway-services refused4 { type ipv4_addr . inet_proto . inet_service : verdict; }
add map inet podway-services affinity4 { type ipv4_addr . inet_proto . inet_service . ipv4_addr : ipv4_addr . inet_service; size 1024; flags timeout; }
add set inet podway-services clusterips4 { type ipv4_addr; }
add set inet podway-services loops4 { type ipv4_addr . ipv4_addr; }
add chain inet podway-services any-${ips.length}
add chain inet podway-services stick-any-${ips.length}
add chain inet podway-services refuse
add chain inet podway-services masquerading
add chain inet podway-services remember
add chain inet podway-services prerouting { type nat hook prerouting priority -100; }
add chain inet podway-services after { type filter hook prerouting priority -90; }
add chain inet podway-services postrouting { type nat hook postrouting priority 99; }
add rule inet podway-services any-${ips.length} meta priority set numgen random mod ${ips.length} offset 1
add rule inet podway-services any-${ips.length} dnat ip to ip daddr . meta l4proto . th dport . meta priority map @endpoints4
add rule inet podway-services stick-any-${ips.length} dnat ip to ip daddr . meta l4proto . th dport . ip saddr map @affinity4
add rule inet podway-services stick-any-${ips.length} meta priority set jhash ip6 saddr mod ${ips.length} seed 0x1 offset 1
add rule inet podway-services stick-any-${ips.length} dnat ip6 to ip6 daddr . meta l4proto . th dport . meta priority map @endpoints6
add rule inet podway-services stick-any-${ips.length} goto any-${ips.length}
add rule inet podway-services refuse meta l4proto tcp reject with tcp reset
add rule inet podway-services refuse reject with icmpx port-unreachable
add rule inet podway-services prerouting ip daddr . meta l4proto . th dport vmap @services4
add rule inet podway-services after ct state != new accept
add rule inet podway-services after ip daddr . meta l4proto . th dport vmap @refused4
add rule inet podway-services after ip daddr @clusterips4 goto refuse
add rule inet podway-services after ct status dnat jump remember
add rule inet podway-services remember meta l4proto tcp update @affinity4 { ct original ip daddr . meta l4proto . ct original proto-dst . ct original ip saddr timeout 600s : ip daddr . tcp dport }
add rule inet podway-services postrouting ct status dnat jump masquerading
add rule inet podway-services masquerading ip saddr . ip daddr @loops4 masquerade fully-random
add element inet podway-services services4 { 10.96.0.9 . tcp . 80 : goto any-${ips.length}, 10.96.0.10 . tcp . 80 : goto stick-any-${ips.length} }
add element inet podway-services clusterips4 { 10.96.0.9, 10.96.0.10, 10.96.0.11 }
add element inet podway-services loops4 { ${ips[0]} . ${ips[0]} }
${['10.96.0.9', '10.96.0.10'].flatMap((vip) => ips.map((ip, i) => `add element inet podway-services endpoints4 { ${vip} . tcp . 80 . 0:${i + 1} : ${ip} . 8080 }`)).join('\n')}
`;

describe('Services', needsRoot, () => {
  let cluster: Cluster;
  /** Two pods of m1 and one of m2 are the endpoints. */
  let ends: string[];
  const flow = (dst: string, port = 80, proto: 'tcp' | 'udp' = 'tcp'): Flow => ({ from: `default/${cluster.pods[0]!.name}`, dst, proto, dstPort: port });

  before(() => {
    cluster = Cluster.create({ nodes: 2, podsPerNode: 2 });
    const onNode = (name: string) => cluster.pods.filter((p) => p.node === name);
    const chosen = [...onNode('m1'), onNode('m2')[0]!];
    ends = chosen.map((p) => p.address);
    for (const p of chosen) cluster.serve(p.ns, 'tcp', 8080);
    const m1 = cluster.node('m1');
    writeSysctl(m1.ns, 'net.bridge.bridge-nf-call-iptables', '1');
    cluster.change(m1.ns, (nl: RtNetlink) => nl.batch(onNode('m1').map((p) => setPortRequest(nl.mustLink(p.veth).index, { hairpin: true }))));
    Nftables.with(m1.ns, (nft) => nft.text(table(ends)));
  });
  after(() => cluster.close());

  it('every endpoint is an outcome, with the translation at prerouting and the way back', () => {
    const { request, reply } = simulateRoundTrip(cluster.read().world, flow('10.96.0.9'));
    const traces = request.traces.filter((t) => !t.copy);
    assert.deepEqual(traces.map((t) => [t.outcome.kind, t.final.dst]).sort(), ends.map((ip) => ['delivered', ip]).sort());
    for (const t of traces) {
      const nat = t.hops.flatMap((h) => h.steps).find((s) => s.kind === 'nat');
      assert.ok(nat?.kind === 'nat' && nat.hook === 'prerouting' && nat.before.dst === '10.96.0.9' && nat.netns === 'm1', JSON.stringify(nat));
    }
    const own = traces.find((t) => t.final.dst === ends[0])!;
    assert.notEqual(own.final.src, ends[0], 'a pod that reaches itself does not see its own address');
    for (const t of reply!.traces.filter((x) => !x.copy)) assert.deepEqual([t.outcome.kind, t.final.src], ['delivered', '10.96.0.9']);
  });

  it('is what the kernel does, whichever endpoint it draws', async () => {
    const drawn = new Set<string>();
    for (let i = 0; i < 40 && drawn.size < ends.length; i++) {
      const { report } = await trace(cluster, flow('10.96.0.9'));
      assertWatched(report);
      assert.equal(report.verdict, 'delivered');
      drawn.add(report.request.rows.findLast((r) => r.observed)!.observed!.dst);
    }
    assert.deepEqual([...drawn].sort(), [...ends].sort());
  });

  it('knows what a client is remembered for', async () => {
    assert.equal(simulate(cluster.read().world, flow('10.96.0.10')).traces.filter((t) => !t.copy).length, ends.length, 'unknown: any of them');
    const { report } = await trace(cluster, flow('10.96.0.10'));
    assertWatched(report);
    const after = simulate(cluster.read().world, flow('10.96.0.10')).traces.filter((t) => !t.copy);
    assert.deepEqual(after.map((t) => t.final.dst), [report.request.rows.findLast((r) => r.observed)!.observed!.dst]);
  });

  it('refuses what has no endpoints, and names the rule', () => {
    for (const f of [flow('10.96.0.11'), flow('10.96.0.9', 81), flow('10.96.0.9', 80, 'udp')]) {
      const [t] = simulate(cluster.read().world, f).traces;
      assert.ok(t?.outcome.kind === 'dropped' && t.outcome.reason === 'NETFILTER_DROP' && /chain inet podway-services refuse/.test(t.outcome.object), JSON.stringify(t?.outcome));
      assert.match(t.outcome.why, /says reject/);
    }
  });
});
