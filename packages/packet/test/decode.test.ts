/** What a newcomer reads off a packet: the byte budget, the checksum states, what is quoted, what is cut. Golden values, by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, describeHeaders, encapsulationOverhead, encode, LINKTYPE, payloadOf, standardRegistry, type Layer, type LayerSpec } from '../src/index.js';
import { bytes, DATA, ECHO, ETH, filler, join, OUTER_ETH, OUTER_V4, OUTER_V6, SAMPLES, V4, V6, VXLAN } from './corpus.js';

function layer<T extends Layer['type']>(layers: readonly Layer[], type: T): Extract<Layer, { type: T }> {
  const found = layers.find((l) => l.type === type);
  assert.ok(found, `no ${type} layer`);
  return found as Extract<Layer, { type: T }>;
}

const sizes = (bytes: Uint8Array): number[] => describeHeaders(decode(bytes)).map((h) => h.bytes);

test('the byte budget of a ping in VXLAN: 14/20/8/8/14/20/8 and 56 of data, 148 in all', () => {
  const frame = encode([...VXLAN, ETH, V4, ECHO], filler(56));
  const packet = decode(frame);
  assert.equal(frame.length, 148);
  assert.deepEqual(describeHeaders(packet).map((h) => `${h.label} ${h.bytes}`), [
    'outer Ethernet 14', 'outer IPv4 20', 'outer UDP 8', 'VXLAN vni 1 8', 'inner Ethernet 14', 'inner IPv4 20', 'inner ICMP 8', 'payload 56',
  ]);
  const [outer, inner] = packet.layers.filter((l) => l.type === 'ipv4');
  assert.equal(outer?.totalLength, 134);
  assert.equal(inner?.totalLength, 84);
  assert.equal(layer(packet.layers, 'udp').length, 114);
});

test('overhead is computed: 50 over IPv4, 70 over IPv6, 4 more with an inner VLAN, 20 for IPIP, 0 without encapsulation', () => {
  const overhead = (stack: readonly LayerSpec[]): number => encapsulationOverhead(decode(encode(stack, filler(20))));
  const tunnel: readonly LayerSpec[] = [{ type: 'udp', srcPort: 5, dstPort: 8472, checksum: 0 }, { type: 'vxlan', vni: 1 }];
  assert.equal(overhead([OUTER_ETH, OUTER_V4, ...tunnel, ETH, V4, DATA]), 50);
  assert.equal(overhead([OUTER_ETH, OUTER_V6, ...tunnel, ETH, V4, DATA]), 70);
  assert.equal(overhead([OUTER_ETH, OUTER_V4, ...tunnel, ETH, { type: 'vlan', id: 5 }, V4, DATA]), 54);
  assert.equal(overhead([OUTER_ETH, OUTER_V4, V4, DATA]), 20);
  assert.equal(overhead([ETH, V4, DATA]), 0);
});

test('sizes of all samples sum to the length on the wire, in order and without gaps', () => {
  for (const s of SAMPLES) {
    const packet = decode(s.bytes, s.linkType, { originalLength: s.originalLength ?? 0 });
    let at = 0;
    for (const h of describeHeaders(packet)) {
      assert.equal(h.offset, at, `${s.name}: ${h.label}`);
      at += h.bytes;
    }
    assert.equal(at, s.originalLength ?? s.bytes.length, s.name);
  }
});

test('padding and cut-off bytes are listed as such', () => {
  assert.deepEqual(sizes(join(encode([ETH, V4, { type: 'udp', srcPort: 1, dstPort: 2 }], filler(2)), new Uint8Array(16))), [14, 20, 8, 2, 16]);
  const cut = decode(encode([ETH, V4, DATA], filler(100)).subarray(0, 80), LINKTYPE.ethernet, { originalLength: 166 });
  assert.deepEqual(describeHeaders(cut).map((h) => `${h.name} ${h.bytes}`), ['ethernet 14', 'ipv4 20', 'tcp 32', 'payload 14', 'not captured 86']);
});

test('sound samples have no problem, unsound ones have one', () => {
  for (const s of SAMPLES) {
    const { problems } = decode(s.bytes, s.linkType, { originalLength: s.originalLength ?? 0 });
    assert.equal(problems.length === 0, s.sound, `${s.name}: ${JSON.stringify(problems)}`);
  }
});

test('checksum states', () => {
  const state = (name: string, type: 'tcp' | 'udp' | 'icmp' | 'icmpv6' | 'ipv4' | 'sctp'): string => {
    const s = SAMPLES.find((x) => x.name === name);
    assert.ok(s, name);
    return layer(decode(s.bytes, s.linkType, { originalLength: s.originalLength ?? 0 }).layers, type).checksumState;
  };
  assert.equal(state('tcp data', 'tcp'), 'ok');
  assert.equal(state('tcp checksum offloaded', 'tcp'), 'offloaded');
  assert.equal(state('ipv6 tcp offloaded', 'tcp'), 'offloaded');
  assert.equal(state('udp checksum offloaded', 'udp'), 'offloaded');
  assert.equal(state('vxlan ipv6 inside, offloaded', 'tcp'), 'offloaded');
  assert.equal(state('udp without checksum', 'udp'), 'absent');
  assert.equal(state('vxlan tcp over ipv6, iana port', 'udp'), 'absent');
  assert.equal(state('ipv6 udp checksum 0', 'udp'), 'bad');
  assert.equal(state('bad ipv4 checksum', 'ipv4'), 'bad');
  assert.equal(state('bad tcp checksum', 'tcp'), 'bad');
  assert.equal(state('bad icmp checksum', 'icmp'), 'bad');
  assert.equal(state('bad icmpv6 checksum', 'icmpv6'), 'bad');
  assert.equal(state('bad sctp checksum', 'sctp'), 'bad');
  assert.equal(state('sctp offloaded', 'sctp'), 'offloaded');
  assert.equal(state('ipv4 first fragment', 'udp'), 'unverifiable');
  assert.equal(state('ipv6 first fragment', 'udp'), 'unverifiable');
  assert.equal(state('ipv6 atomic fragment', 'udp'), 'ok');
  assert.equal(state('ipv6 routing, one segment left', 'udp'), 'ok');
  assert.equal(state('cut by the capture', 'tcp'), 'unverifiable');
});

test('local checksum offload: the outer sum is right for the inner packet as it will be', () => {
  for (const outer of [OUTER_V4, OUTER_V6]) {
    const stack = (tcp: LayerSpec): LayerSpec[] => [
      OUTER_ETH, outer, { type: 'udp', srcPort: 6, dstPort: 8472 }, { type: 'vxlan', vni: 1 }, ETH, V4, tcp,
    ];
    const frame = encode(stack(DATA), filler(101));
    const at = frame.length - 101 - 32 + 16;
    // The kernel writes the outer checksum of the finished packet, and leaves the pseudo-header sum in the inner one.
    frame.set(encode(stack({ ...DATA, checksum: 'offloaded' }), filler(101)).subarray(at, at + 2), at);
    const packet = decode(frame);
    assert.deepEqual(packet.problems, []);
    assert.equal(layer(packet.layers, 'udp').checksumState, 'offloaded');
    assert.equal(layer(packet.layers, 'tcp').checksumState, 'offloaded');
    // A flipped bit in the VXLAN header, which only the outer sum covers, is found all the same.
    const vni = packet.layers.find((l) => l.type === 'vxlan')?.offset ?? 0;
    frame[vni + 6] = 2;
    assert.deepEqual(decode(frame).problems.map((p) => `${p.protocol} ${p.code}`), ['udp bad-checksum']);
    assert.equal(layer(decode(frame).layers, 'udp').checksumState, 'bad');
  }
});

test('an IPv4 total length of 0: normal above 64 KiB, wrong below', () => {
  const zeroed = (size: number): Uint8Array => {
    const tcp = encode([{ ...V4 }, DATA], filler(100)).slice();
    tcp.set([0, 0], 2);
    return join(encode([{ ...ETH, etherType: 0x800 }]), tcp, filler(size));
  };
  const wrong = decode(zeroed(0), 1, { verifyChecksums: false });
  assert.deepEqual(wrong.problems.map((p) => p.code), ['bad-length']);
  const big = decode(zeroed(70_000), 1, { verifyChecksums: false });
  assert.deepEqual(big.problems, []);
  assert.equal(payloadOf(big).length, 70_100);
});

test('a UDP checksum that computes to 0 is sent as 0xffff and is ok', () => {
  for (let i = 0; i < 65536; i++) {
    const frame = encode([ETH, V4, { type: 'udp', srcPort: i, dstPort: 9 }]);
    const udp = layer(decode(frame).layers, 'udp');
    if (udp.checksum !== 0xffff) continue;
    assert.equal(udp.checksumState, 'ok');
    return;
  }
  assert.fail('no source port gives a sum of 0');
});

test('without verifying, checksums are unverifiable and never a problem', () => {
  const packet = decode(encode([ETH, V4, { ...DATA, checksum: 1 }]), LINKTYPE.ethernet, { verifyChecksums: false });
  assert.equal(layer(packet.layers, 'tcp').checksumState, 'unverifiable');
  assert.deepEqual(packet.problems, []);
});

test('the packet that an ICMP error quotes is decoded apart from the stack', () => {
  const s = SAMPLES.find((x) => x.name === 'icmp host unreachable, 8 bytes of tcp quoted');
  assert.ok(s);
  const packet = decode(s.bytes);
  assert.deepEqual(packet.layers.map((l) => l.type), ['ethernet', 'ipv4', 'icmp']);
  const { message } = layer(packet.layers, 'icmp');
  assert.ok('quoted' in message);
  assert.deepEqual(message.quoted.map((l) => l.type), ['ipv4', 'partial']);
  assert.deepEqual(layer(message.quoted, 'partial').fields, { srcPort: 40000, dstPort: 9080, sequence: 100 });
  assert.deepEqual(packet.problems, [], 'a quote is expected to be cut');
});

test('fragmentation needed and packet too big give the MTU', () => {
  const message = (name: string, type: 'icmp' | 'icmpv6'): object => {
    const { kind, ...rest } = layer(decode(SAMPLES.find((s) => s.name === name)?.bytes ?? new Uint8Array()).layers, type).message;
    return { kind, mtu: 'mtu' in rest ? rest.mtu : undefined };
  };
  assert.deepEqual(message('icmp fragmentation needed', 'icmp'), { kind: 'unreachable', mtu: 1450 });
  assert.deepEqual(message('icmpv6 packet too big', 'icmpv6'), { kind: 'packet-too-big', mtu: 1430 });
});

test('quotes within quotes end, and it is said', () => {
  let bytes = encode([V4, { type: 'udp', srcPort: 1, dstPort: 2 }], filler(8));
  for (let i = 0; i < 5; i++) bytes = encode([V4, { type: 'icmp', message: { kind: 'time-exceeded' } }], bytes);
  let layers = decode(bytes, LINKTYPE.raw).layers;
  let depth = 0;
  for (;;) {
    const { message } = layer(layers, 'icmp');
    assert.ok('quoted' in message);
    if (message.quoted.length === 0) break;
    layers = message.quoted;
    depth++;
  }
  assert.equal(depth, 2);
  assert.deepEqual(layer(layers, 'icmp').problems.map((p) => p.code), ['depth-limit']);
});

test('VXLAN on other ports, and only on the destination', () => {
  const stack = (srcPort: number, dstPort: number): Uint8Array =>
    encode([OUTER_ETH, OUTER_V4, { type: 'udp', srcPort, dstPort, checksum: 0 }, { type: 'vxlan', vni: 4096 }, ETH, V4, ECHO]);
  const vni = (bytes: Uint8Array, options = {}): number | undefined => decode(bytes, 1, options).layers.find((l) => l.type === 'vxlan')?.vni;
  assert.equal(vni(stack(5, 8472)), 4096);
  assert.equal(vni(stack(5, 4789)), 4096);
  assert.equal(vni(stack(8472, 5)), undefined);
  assert.equal(vni(stack(5, 6081)), undefined);
  assert.equal(vni(stack(5, 6081), { vxlanPorts: [6081] }), 4096);
  assert.equal(vni(stack(5, 8472), { vxlanPorts: [6081] }), undefined);
});

test('WireGuard: what is encrypted stays payload; another protocol on its port, a cut message and a wrong length are told apart', () => {
  const wg = (udp: Uint8Array, dstPort = 51820) => decode(encode([OUTER_ETH, OUTER_V4, { type: 'udp', srcPort: 5, dstPort }], udp));
  const data = encode([{ type: 'wireguard', message: 'data', receiverIndex: 7, counter: 3 }], filler(96));
  const good = wg(data);
  assert.deepEqual(good.problems, []);
  assert.equal(layer(good.layers, 'wireguard').counter, 3);
  assert.equal(good.payloadEnd - good.payloadOffset, 96);
  assert.equal(wg(data, 51821).layers.at(-1)?.type, 'wireguard');
  assert.equal(wg(data, 5000).layers.at(-1)?.type, 'udp');
  for (const other of [bytes('00000000'), bytes('04000100 00000000'), bytes('05000000'), filler(40), bytes('04')]) assert.equal(wg(other).layers.at(-1)?.type, 'udp');
  assert.equal(layer(wg(data.subarray(0, 10)).layers, 'partial').protocol, 'wireguard');
  assert.deepEqual(wg(data.subarray(0, 40)).problems.map((p) => `${p.protocol} ${p.code}`), ['wireguard bad-length']);
  assert.deepEqual(wg(join(encode([{ type: 'wireguard', message: 'response' }]), filler(4))).problems.map((p) => p.code), ['bad-length']);
});

test('a tunnel in a tunnel in a tunnel, to any depth up to the limit, which is reported', () => {
  const small: readonly LayerSpec[] = [OUTER_ETH, OUTER_V4, { type: 'udp', srcPort: 5, dstPort: 8472, checksum: 0 }, { type: 'vxlan', vni: 1 }];
  const nested = (depth: number): Uint8Array => encode([...Array.from({ length: depth }, () => small).flat(), ETH, V4, ECHO]);
  const deep = decode(nested(31));
  assert.equal(deep.layers.length, 127);
  assert.deepEqual(deep.problems, []);
  const tooDeep = decode(nested(40));
  assert.equal(tooDeep.layers.length, 128);
  assert.deepEqual(tooDeep.problems.map((p) => p.code), ['depth-limit']);
  assert.equal(decode(nested(300), 1, { maxLayers: 5000 }).layers.length, 1203);
});

test('VXLAN without the I flag is read and reported', () => {
  const packet = decode(encode([OUTER_ETH, OUTER_V4, { type: 'udp', srcPort: 5, dstPort: 8472, checksum: 0 }, { type: 'vxlan', vni: 1, flags: 0 }, ETH, V4, ECHO]));
  assert.deepEqual(packet.problems.map((p) => `${p.protocol} ${p.code}`), ['vxlan bad-value']);
  assert.equal(packet.layers.at(-1)?.type, 'icmp');
});

test('the checksum behind a routing header is that of the final destination', () => {
  const [a, b] = ['20010db8000000000000000000000007', '20010db8000000000000000000000008'];
  const state = (routing: string, final: string): string => {
    const segment = encode([{ ...V6, dst: final }, { type: 'udp', srcPort: 1, dstPort: 2 }], filler(5)).subarray(40);
    return layer(decode(encode([ETH, { ...V6, nextHeader: 43 }], join(bytes(routing + a + b), segment))).layers, 'udp').checksumState;
  };
  // Source route (type 0): the last address. Segment routing (type 4): the first one. None left: the destination itself.
  assert.equal(state('11040001 00000000', '2001:db8::8'), 'ok');
  assert.equal(state('11040401 01000000', '2001:db8::7'), 'ok');
  assert.equal(state('11040000 00000000', V6.dst), 'ok');
  assert.equal(state('11040001 00000000', V6.dst), 'bad');
});

test('a lying length cannot make an inner layer read what lies outside', () => {
  // UDP says 200 bytes but its IPv4 packet has room for 16; the Ethernet frame is padded with what looks like an answer.
  const udp = encode([V4, { type: 'udp', srcPort: 1, dstPort: 8472, checksum: 0 }], filler(8)).slice(20);
  udp[5] = 200;
  const frame = join(encode([ETH, { ...V4, protocol: 17 }], udp), filler(300));
  const packet = decode(frame);
  assert.deepEqual(packet.layers.slice(3).map((l) => l.type), ['vxlan', 'partial']);
  assert.equal(layer(packet.layers, 'partial').headerLength, 0);
});

test('a caller can add a protocol by port', () => {
  const registry = standardRegistry();
  let at = -1;
  registry.udpPort.set(53, { match: 'either', decode: (c) => ((at = c.offset), c.stop(c.offset, c.end)) });
  decode(encode([ETH, V4, { type: 'udp', srcPort: 53, dstPort: 40000 }], filler(12)), 1, { registry });
  assert.equal(at, 42);
});

test('unknown link types and empty frames are data, not errors', () => {
  assert.deepEqual(decode(filler(10), 9999).problems.map((p) => p.code), ['unknown-link-type']);
  const empty = decode(new Uint8Array());
  assert.deepEqual(empty.layers.map((l) => l.type), ['partial']);
  assert.equal(payloadOf(empty).length, 0);
});

test('a decoded packet is plain data', () => {
  const packet = decode(encode([...VXLAN, ETH, V6, DATA], filler(4)));
  assert.deepEqual(JSON.parse(JSON.stringify(packet.layers)), packet.layers);
});

test('encode refuses what cannot be sent, in words', () => {
  assert.throws(() => encode([ETH, { ...V4, src: '10.0.0.256' }, ECHO]), /not an IPv4 address: "10.0.0.256"/);
  assert.throws(() => encode([{ ...ETH, src: '0a:58' }, V4, ECHO]), /not a MAC address/);
  assert.throws(() => encode([ETH, V6], filler(3)), /a ipv6 layer cannot hold a bare payload/);
  assert.throws(() => encode([ETH, V4, DATA], filler(65536)), /at most 65535 fit/);
  assert.throws(() => encode([ETH, { ...V4, fragmentOffset: 3 }, ECHO]), /not a multiple of 8/);
});
