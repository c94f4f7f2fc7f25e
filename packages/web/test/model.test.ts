/** What the page draws, as data: differences, packets as headers, drawings without overlaps, exports, explained fields. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Leg, Report, Row } from '@podway/trace';
import { asciiOf } from '../src/model/ascii.js';
import { addCounters, applyDelta, counterDelta, fullCounters, topologyDelta, type Totals } from '../src/model/delta.js';
import { along, drawLeg, type Area } from '../src/model/drawing.js';
import { explain, unexplained } from '../src/model/glossary.js';
import { changeText } from '../src/model/packet.js';
import { fit, sceneOf, textPixels, type SceneWords } from '../src/model/scene.js';
import { svgText } from '../src/model/svg.js';
import type { Counts, ObjectKind, Topology } from '../src/model/types.js';
import { wayOf } from '../src/model/way.js';

const EMPTY: Topology = { source: { kind: 'lab', name: 'x' }, taken: '2026-01-01T00:00:00Z', namespaces: [], pods: [], devices: [], links: [], unread: [], mayTrace: true };
const WORDS: SceneWords = {
  layers: { app: 'Application', pod: 'Pod network', node: 'Node network', physical: 'Physical network' }, received: 'in', sent: 'out', sends: 'sends', receives: 'receives',
  died: { dropped: 'dropped', lost: 'lost', unknown: 'unknown' },
};

type PointRole = Row['point']['role'];

function row(role: PointRole, i: number, more: Partial<Row> & { readonly ttl?: number; readonly outer?: boolean } = {}): Row {
  const { ttl = 64, outer = false, ...rest } = more;
  const netns = role === 'pod' ? 'default/a' : role === 'underlay' ? 'underlay' : 'm1';
  return {
    point: { netns, dev: `d${i}`, label: `${netns}/d${i}`, role, index: i, text: `d${i}`, promiscuous: false },
    predicted: {
      src: '10.244.0.2', dst: '10.244.2.2', ttl, ipLength: 84, frameLength: outer ? 148 : 98, ethernet: { src: '0a:58:0a:f4:00:02', dst: '0a:58:0a:f4:00:01' },
      ...(outer ? { outer: { src: '172.18.0.2', dst: '172.18.0.4', dstPort: 8472, vni: 1, ttl: 64, dontFragment: false, ipLength: 134 } } : {}),
    },
    state: 'not observed', differences: [], decisions: [{ kind: 'route', why: '10.244.2.0/24 via 10.244.2.0 dev flannel.1 → “somewhere”' }], ...rest,
  };
}

function report(rows: readonly Row[], more: Partial<Report> = {}, leg: Partial<Leg> = {}): Report {
  return {
    from: { name: 'default/a', role: 'pod', addresses: [], nodeAddresses: [] }, flow: { from: 'default/a', dst: '10.244.2.2', proto: 'icmp' }, tuple: 'icmp 10.244.0.2 → 10.244.2.2',
    request: { direction: 'request', rows, predicted: { kind: 'delivered', netns: 'default/b', listener: 'kernel' }, alternatives: 0, end: [], steps: [], ...leg },
    asymmetry: [], errors: [], observed: false, verdict: 'delivered', headline: 'Predicted: delivered.', summary: [], evidence: [], notes: [], ...more,
  };
}

const item = fc.record({ id: fc.constantFrom('a', 'b', 'c', 'd', 'e'), mtu: fc.nat(3) }, { noNullPrototype: true });
const list = fc.uniqueArray(item, { selector: (x) => x.id });

test('a topology and the difference to the next make the next', () => {
  fc.assert(fc.property(list, list, list, list, (d1, p1, d2, p2) => {
    const of = (devices: unknown, pods: unknown): Topology => ({ ...EMPTY, devices: devices as Topology['devices'], pods: pods as Topology['pods'] });
    const [before, after] = [of(d1, p1), of(d2, p2)];
    const delta = topologyDelta(before, after);
    const sorted = (t: Topology): unknown => [t.devices, t.pods].map((l) => [...(l as readonly { id: string }[])].sort((a, b) => a.id.localeCompare(b.id)));
    if (delta === undefined) assert.deepEqual(sorted(before), sorted(after));
    else assert.deepEqual(sorted(applyDelta(before, delta)), sorted(after));
    assert.equal(topologyDelta(after, after), undefined);
  }));
});

test('counters: the sum of all differences is the total; a device that counts anew gives all it has', () => {
  const counts = fc.array(fc.nat(1000), { minLength: 6, maxLength: 6 }) as fc.Arbitrary<unknown> as fc.Arbitrary<Counts>;
  fc.assert(fc.property(fc.array(fc.dictionary(fc.constantFrom('x', 'y', 'z'), counts), { minLength: 1, maxLength: 6 }), (steps) => {
    let shown: Totals = addCounters(new Map(), fullCounters(new Map()));
    let kernel = new Map<string, Counts>();
    for (const step of steps) {
      const next = new Map(kernel);
      for (const [k, added] of Object.entries(step)) next.set(k, (next.get(k) ?? [0, 0, 0, 0, 0, 0]).map((v, i) => v + added[i]!) as unknown as Counts);
      shown = addCounters(shown, counterDelta(kernel, next, 1000));
      kernel = next;
    }
    for (const [k, v] of kernel) if (v.some((n) => n > 0)) assert.deepEqual(shown.get(k), v);
  }));
  assert.deepEqual(counterDelta(new Map([['x', [9, 9, 9, 9, 0, 0]]]), new Map([['x', [2, 1, 9, 9, 0, 0]]]), 5).counts, { x: [2, 1, 9, 9, 0, 0] });
});

const WAY: readonly PointRole[] = ['pod', 'veth', 'bridge', 'vtep', 'uplink', 'underlay', 'underlay', 'underlay', 'uplink', 'vtep', 'bridge', 'veth', 'pod'];

test('the packet as headers: sizes add up, and what a hop changed is marked', () => {
  const rows = [row('pod', 0), row('vtep', 1, { ttl: 63 }), row('uplink', 2, { ttl: 63, outer: true }), row('vtep', 3, { ttl: 63 })];
  const [leg] = wayOf(report(rows), EMPTY).legs;
  const [first, second, third, fourth] = leg!.stops.map((s) => s.packet);
  for (const s of leg!.stops) assert.equal(s.packet.headers.reduce((n, h) => n + h.bytes, 0), s.packet.bytes);
  assert.deepEqual(first!.changes, []);
  assert.deepEqual(second!.changes.map(changeText), ['IPv4: TTL 64 → 63']);
  assert.deepEqual(second!.headers.map((h) => [h.key, h.state]), [['ethernet', 'same'], ['ip', 'changed'], ['transport', 'same'], ['payload', 'same']]);
  assert.deepEqual(third!.changes.map(changeText), ['outer Ethernet added', 'outer IPv4 added', 'outer UDP added', 'VXLAN vni 1 added']);
  assert.deepEqual(fourth!.changes.map(changeText), ['outer Ethernet removed', 'outer IPv4 removed', 'outer UDP removed', 'VXLAN vni 1 removed']);
});

const overlap = (a: Area, b: Area): boolean => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;

test('a drawing: no two boxes overlap, each lies in its layer, wires join them, all within the picture, for any way and width', () => {
  fc.assert(fc.property(fc.oneof(fc.constant(WAY), fc.array(fc.constantFrom<PointRole>('pod', 'veth', 'bridge', 'vtep', 'uplink', 'underlay', 'other'), { maxLength: 16 })), fc.integer({ min: 320, max: 1240 }), (roles, width) => {
    const [leg] = wayOf(report(roles.map((r, i) => row(r, i))), EMPTY).legs;
    const d = drawLeg(leg!, width, new Set());
    const boxes: Area[] = [...d.terminals, ...d.boxes];
    boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => assert.ok(!overlap(a, b), `${JSON.stringify(a)} ${JSON.stringify(b)}`)));
    for (const b of boxes) assert.ok(b.x >= 0 && b.x + b.w <= width && b.y >= 0 && b.y + b.h <= d.height && b.w >= 60, JSON.stringify(b));
    assert.deepEqual(d.boxes.map((b) => b.stop.number), leg!.stops.map((s) => s.number));
    assert.equal(d.wires.length, boxes.length - 1);
    const order: Area[] = [d.terminals[0]!, ...d.boxes, d.terminals[1]!];
    d.wires.forEach((w, i) => {
      const touches = (p: { x: number; y: number }, a: Area): boolean => p.x >= a.x - 1 && p.x <= a.x + a.w + 1 && p.y >= a.y - 1 && p.y <= a.y + a.h + 1;
      assert.ok(touches(w.points[0]!, order[i]!) && touches(w.points.at(-1)!, order[i + 1]!));
    });
  }));
});

test('the four layers are drawn, and the packet passes each of them', () => {
  const [leg] = wayOf(report(WAY.map((r, i) => row(r, i))), EMPTY).legs;
  const d = drawLeg(leg!, 1000, new Set(['default/a d0 ↔ m1 d1']));
  assert.deepEqual(d.bands.map((b) => b.layer), ['app', 'pod', 'node', 'physical']);
  assert.deepEqual(d.wires.map((w) => w.pair), WAY.map((_, i) => i === 1).concat(false));
  const visited = new Set(d.wires.flatMap((w) => [0, 0.5, 1].map((t) => along(w.points, t))).map((p) => d.bands.find((b) => p.y >= b.y && p.y <= b.y + b.h)?.layer));
  for (const layer of ['app', 'pod', 'node', 'physical'] as const) assert.ok(visited.has(layer), layer);
});

test('where a packet ends: as predicted, or lost on the way', () => {
  const dropped = wayOf(report([row('pod', 0), row('veth', 1)], { verdict: 'dropped' }, { predicted: { kind: 'dropped', netns: 'm1', reason: 'NO_TX_TARGET', object: 'FDB of flannel.1', why: 'no entry' } }), EMPTY).legs[0]!;
  assert.deepEqual(dropped.death, { after: 2, kind: 'dropped', reason: 'NO_TX_TARGET', text: 'FDB of flannel.1: no entry' });
  assert.equal(dropped.to, undefined);
  const seen = { ...row('pod', 0), observed: { point: 'default/a/d0', headers: [], ttl: 64, checksum: { ip: 'ok' } } as unknown as NonNullable<Row['observed']>, state: 'seen' as const };
  const lost = wayOf(report([seen, row('veth', 1, { state: 'missing' }), row('bridge', 2, { state: 'missing' })], { observed: true }, { lastSeen: 'a/d0', expectedNext: 'm1/d1' }), EMPTY).legs[0]!;
  assert.deepEqual([lost.death?.after, lost.death?.kind, lost.stops.map((s) => s.missed)], [1, 'lost', [false, true, true]]);
  const d = drawLeg(lost, 900, new Set());
  assert.ok(d.death && d.death.y > d.boxes[0]!.y + d.boxes[0]!.h - 1 && d.death.y < d.boxes[1]!.y + 1, 'between the two boxes');
  const scene = sceneOf({ leg: lost, drawing: d, counters: () => undefined, words: WORDS });
  assert.ok(scene.some((p) => p.cls === 'death-cross') && scene.some((p) => p.text === 'lost'));
});

test('exports: plain ASCII with every hop and its counters; SVG that is well formed and asks nothing of anybody', () => {
  const hostile = row('veth', 1, { decisions: [{ kind: 'route', why: '<script>alert(1)</script> & "quotes"' }] });
  const way = wayOf(report([row('pod', 0), hostile, ...WAY.slice(2).map((r, i) => row(r, i + 2))]), EMPTY);
  const text = asciiOf(way, (d) => (d === 'm1 d1' ? { rx: 12, tx: 34 } : undefined));
  assert.match(text, /^[\x20-\x7e\n]*$/);
  for (let n = 1; n <= WAY.length; n++) assert.match(text, new RegExp(`\\+-- Step ${n}: d${n - 1} #${n - 1} in `));
  assert.match(text, /counters: 12 received, 34 sent/);
  for (const line of text.split('\n')) assert.ok(line.length <= 78, line);
  const [leg] = way.legs;
  const drawing = drawLeg(leg!, 1000, new Set());
  const svg = svgText([{ title: 'There', drawing, scene: sceneOf({ leg: leg!, drawing, counters: () => ({ rx: 1, tx: 2 }), words: WORDS }) }], 'a <way>');
  assert.doesNotMatch(svg, /<script|href=|url\(|@import|<image/);
  const open = [...svg.matchAll(/<([a-z]+)[^>]*?(\/?)>/g)].filter((m) => !m[2]).length;
  assert.equal(open, [...svg.matchAll(/<\/[a-z]+>/g)].length);
  assert.match(svg, /&lt;script&gt;/);
});

test('texts are cut to fit', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', 'W', 'i', '路', ' '), maxLength: 40 }), fc.integer({ min: 20, max: 200 }), (s, room) => {
    const cut = fit(s, room, 11);
    assert.ok(textPixels(cut, 11) <= room || [...cut].length <= 2);
    if (textPixels(s, 11) <= room) assert.equal(cut, s);
  }));
});

test('every field of a line is explained, in both languages', () => {
  const lines: [ObjectKind, string][] = [
    ['link', '5: veth5e64b6bc076@if2: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue master cni0 state UP mode DEFAULT group default qlen 1000\n    link/ether 6a:1c:9d:00:00:01 brd ff:ff:ff:ff:ff:ff link-netnsid 1\n    bridge_slave state forwarding hairpin off learning on flood on proxy_arp off neigh_suppress off isolated off\n    alias podway: pod default/web-a'],
    ['link', '4: flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n    link/ether 0e:70:77:f4:00:00 brd ff:ff:ff:ff:ff:ff\n    vxlan id 1 local 172.18.0.2 dev eth0 dstport 8472 nolearning ttl auto df unset noudpcsum\n    alias podway: VTEP of this node'],
    ['link', '3: cni0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1450 qdisc noqueue state UP mode DEFAULT group default qlen 1000\n    link/ether 0a:58:0a:f4:00:01 brd ff:ff:ff:ff:ff:ff\n    bridge ageing_time 30000 stp_state 0 vlan_filtering 0 mcast_snooping 1 nf_call_iptables 0'],
    ['link', '1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00'],
    ['address', 'inet 10.244.0.2/24 brd 10.244.0.255 scope global eth0'], ['address', 'inet6 fe80::858:aff:fef4:2/64 scope link'],
    ['route', '10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 112 onlink'], ['route', 'default via 172.18.0.1 dev eth0'],
    ['route', 'local 10.244.0.1 dev cni0 table local proto kernel scope host src 10.244.0.1'], ['route', 'fe80::/64 dev eth0 proto kernel metric 256 pref medium'],
    ['rule', '32766:  from all lookup main'], ['neighbour', '10.244.2.0 dev flannel.1 lladdr 0e:70:77:f4:02:00 PERMANENT'], ['neighbour', '10.244.0.9 dev cni0 FAILED'],
    ['fdb', '0e:70:77:f4:02:00 dev flannel.1 dst 172.18.0.4 self permanent'], ['fdb', '0a:58:0a:f4:00:02 dev veth5e64b6bc076 master cni0 stale'],
  ];
  for (const [kind, text] of lines) {
    assert.deepEqual(unexplained(kind, text), [], text);
    for (const e of explain(kind, text)) assert.ok(/[.…]$/.test(e.en) && /[。……]$/.test(e.zh) && !/\$\d/.test(e.en + e.zh), e.words);
  }
});
