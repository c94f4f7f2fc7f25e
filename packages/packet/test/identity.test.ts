/** One packet at all capture points of its way: identities that stay and identities that must differ. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, flowKey, identity, innermost, payloadIdentity, reverseFlowKey, type LayerSpec } from '../src/index.js';
import { DATA, ECHO, ETH, filler, OUTER_ETH, OUTER_V4, OUTER_V6, SAMPLES, V4, V6, VXLAN } from './corpus.js';

const of = (stack: readonly LayerSpec[], payload = filler(56)): ReturnType<typeof decode> => decode(encode(stack, payload));

const UPPER: readonly (readonly [string, LayerSpec])[] = [
  ['icmp', ECHO],
  ['tcp', DATA],
  ['udp', { type: 'udp', srcPort: 4, dstPort: 5 }],
];

for (const [name, upper] of UPPER) {
  test(`${name}: the same at pod eth0, bridge, VTEP, both uplinks and in the other pod`, () => {
    const at = [
      of([ETH, { ...V4, ttl: 64 }, upper]),
      of([{ ...ETH, src: '0a:58:0a:f4:00:01', dst: '9e:00:00:00:00:02' }, V4, upper]),
      of([...VXLAN, ETH, V4, upper]),
      of([OUTER_ETH, { ...OUTER_V4, ttl: 60, id: 5 }, { type: 'udp', srcPort: 6, dstPort: 4789 }, { type: 'vxlan', vni: 9 }, ETH, V4, upper]),
      of([OUTER_ETH, OUTER_V6, { type: 'udp', srcPort: 6, dstPort: 4789, checksum: 0 }, { type: 'vxlan', vni: 9 }, ETH, { ...V4, ttl: 62 }, upper]),
      of([OUTER_ETH, { type: 'vlan', id: 3 }, OUTER_V4, V4, upper]),
      ...(upper.type === 'tcp' || upper.type === 'udp' ? [of([ETH, V4, { ...upper, checksum: 'offloaded' }])] : []),
    ].map(identity);
    assert.deepEqual(at, at.map(() => at[0]));
    assert.ok(at[0] !== undefined);
  });

  test(`${name}: NAT changes the identity and not the payload identity`, () => {
    const before = of([ETH, V4, upper]);
    const natted: LayerSpec =
      upper.type === 'icmp' ? { type: 'icmp', message: { kind: 'echo-request', id: 999, sequence: 1 } } : upper.type === 'tcp' || upper.type === 'udp' ? { ...upper, srcPort: 999 } : upper;
    const after = of([ETH, { ...V4, src: '172.18.0.2', dst: '10.244.2.9', ttl: 62 }, natted]);
    assert.notEqual(identity(before), identity(after));
    assert.equal(payloadIdentity(before), payloadIdentity(after));
  });
}

test('other packets have other identities: IP id, sequence, data, length, direction', () => {
  const packets = [
    of([ETH, V4, ECHO]),
    of([ETH, { ...V4, id: 1 }, ECHO]),
    of([ETH, V4, { type: 'icmp', message: { kind: 'echo-request', id: 7, sequence: 2 } }]),
    of([ETH, V4, { type: 'icmp', message: { kind: 'echo-reply', id: 7, sequence: 1 } }]),
    of([ETH, V4, ECHO], filler(57)),
    of([ETH, V4, ECHO], filler(56).reverse()),
    of([ETH, V4, DATA]),
    of([ETH, V4, { ...DATA, sequence: 101 }]),
    of([ETH, V4, { ...DATA, flags: 16 }]),
    of([ETH, V6, DATA]),
    of([ETH, { ...V4, moreFragments: true }, ECHO]),
    of([ETH, { ...V4, fragmentOffset: 64 }, ECHO]),
  ];
  assert.equal(new Set(packets.map(identity)).size, packets.length);
});

test('Ethernet padding does not change the identity', () => {
  const bare = encode([ETH, V4, { ...DATA, options: [] }]);
  assert.equal(identity(decode(bare)), identity(decode(Uint8Array.from([...bare, 0, 0, 0, 0, 0, 0]))));
});

test('a capture of 512 bytes is enough, also inside VXLAN', () => {
  const long = filler(1400);
  const whole = identity(of([ETH, V4, DATA], long));
  const cut = encode([...VXLAN, ETH, V4, DATA], long);
  assert.equal(identity(decode(cut.subarray(0, 512), 1, { originalLength: cut.length })), whole);
});

test('IPv6: by its upper layer, and by fragment where it is one', () => {
  assert.equal(identity(of([ETH, V6, DATA])), identity(of([OUTER_ETH, OUTER_V6, { ...V6, hopLimit: 4 }, DATA])));
  const fragment = SAMPLES.find((s) => s.name === 'ipv6 later fragment');
  assert.match(identity(decode(fragment?.bytes ?? filler(0))) ?? '', /^fd00:10:244::2 > fd00:10:244:2::5 proto 17 id 43981 frag 1448 data 24:/);
});

test('ARP has an identity and no innermost IP', () => {
  const arp = SAMPLES.find((s) => s.name === 'vxlan arp');
  const tunnelled = decode(arp?.bytes ?? filler(0));
  const packet = decode((arp?.bytes ?? filler(0)).subarray(50));
  assert.equal(innermost(packet), undefined);
  assert.equal(identity(packet), 'arp 1 10.244.0.2 (0a:58:0a:f4:00:02) 10.244.0.1 (00:00:00:00:00:00)');
  assert.equal(identity(tunnelled), identity(packet));
});

test('a packet quoted by an error is not the innermost one', () => {
  const error = SAMPLES.find((s) => s.name === 'icmp port unreachable');
  assert.equal(innermost(decode(error?.bytes ?? filler(0)))?.ip.src, '172.18.0.1');
});

test('flow keys of the two directions meet', () => {
  const there = of([ETH, V4, DATA]);
  const back = of([...VXLAN, ETH, { ...V4, src: V4.dst, dst: V4.src }, { ...DATA, srcPort: DATA.dstPort, dstPort: DATA.srcPort }]);
  assert.equal(flowKey(there), '6 10.244.0.2:40000 > 10.244.2.2:9080');
  assert.equal(reverseFlowKey(there), flowKey(back));
  assert.equal(flowKey(of([ETH, V4, ECHO])), '1 10.244.0.2:7 > 10.244.2.2:7');
});
