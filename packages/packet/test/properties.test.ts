/** What must hold for any packet and any bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decode,
  describeHeaders,
  encode,
  identity,
  ipv4Text,
  ipv6Text,
  macText,
  parseIpv4,
  parseIpv6,
  parseMac,
  payloadIdentity,
  payloadOf,
  readCapture,
  summary,
  type DecodedPacket,
  type Ipv4Spec,
  type Ipv6Spec,
  type Layer,
  type LayerSpec,
  type TcpOption,
} from '../src/index.js';
import { crc32c, expectedChecksum, fold, sum } from '../src/checksum.js';
import { PcapngWriter, pcapHeader, pcapRecord } from '../src/index.js';
import { checkInvariants } from '../fuzz/invariants.js';
import { SAMPLES } from './corpus.js';

const int = (max: number): fc.Arbitrary<number> => fc.integer({ min: 0, max });
const octets = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const mac = octets(6).map((b) => macText(b, 0));
const ipv4 = octets(4).map((b) => ipv4Text(b, 0));
/** With many zero words, or "::" would hardly occur. */
const ipv6 = fc.array(fc.oneof(fc.constant(0), int(0xffff)), { minLength: 8, maxLength: 8 }).map((w) => ipv6Text(Uint8Array.from(w.flatMap((x) => [x >> 8, x & 255])), 0));
const u32 = int(0xffffffff);
const option: fc.Arbitrary<TcpOption> = fc.oneof(
  fc.constant({ kind: 'nop' } as const),
  fc.record({ kind: fc.constant('mss' as const), value: int(0xffff) }),
  fc.record({ kind: fc.constant('window-scale' as const), shift: int(14) }),
  fc.constant({ kind: 'sack-permitted' } as const),
  fc.record({ kind: fc.constant('sack' as const), blocks: fc.array(fc.record({ left: u32, right: u32 }), { minLength: 1, maxLength: 2 }) }),
  fc.record({ kind: fc.constant('timestamp' as const), value: u32, echo: u32 }),
);

const ethernetSpec = fc.record({ type: fc.constant('ethernet' as const), src: mac, dst: mac });
const vlanSpec = fc.record({ type: fc.constant('vlan' as const), id: int(4095), priority: int(7), dropEligible: fc.boolean(), tpid: fc.constantFrom(0x8100, 0x88a8) });
const ipv4Spec: fc.Arbitrary<Ipv4Spec> = fc.record({
  type: fc.constant('ipv4' as const), src: ipv4, dst: ipv4, ttl: int(255), id: int(0xffff), dscp: int(63), ecn: int(3), dontFragment: fc.boolean(),
  options: fc.array(fc.record({ type: int(253).map((n) => n + 2), data: fc.uint8Array({ maxLength: 8 }) }), { maxLength: 3 }),
});
const ipv6Spec: fc.Arbitrary<Ipv6Spec> = fc.record({
  type: fc.constant('ipv6' as const), src: ipv6, dst: ipv6, hopLimit: int(255), flowLabel: int(0xfffff), dscp: int(63), ecn: int(3),
});
const tcpSpec = fc.record({
  type: fc.constant('tcp' as const), srcPort: int(0xffff), dstPort: int(0xffff), sequence: u32, acknowledgement: u32, flags: int(0x1ff), window: int(0xffff),
  urgentPointer: int(0xffff), options: fc.array(option, { maxLength: 2 }),
});
const port = int(0xffff).filter((p) => p !== 8472 && p !== 4789);
const udpSpec = fc.record({ type: fc.constant('udp' as const), srcPort: int(0xffff), dstPort: port });
const icmpSpec = fc.record({
  type: fc.constant('icmp' as const),
  message: fc.record({ kind: fc.constantFrom('echo-request' as const, 'echo-reply' as const), id: int(0xffff), sequence: int(0xffff) }),
});
const icmpv6Spec = icmpSpec.map(({ message }) => ({ type: 'icmpv6' as const, message }));
const innerStack: fc.Arbitrary<LayerSpec[]> = fc
  .tuple(
    ethernetSpec,
    fc.array(vlanSpec, { maxLength: 2 }),
    fc.oneof(
      fc.tuple(ipv4Spec, fc.oneof<fc.Arbitrary<LayerSpec>[]>(tcpSpec, udpSpec, icmpSpec)),
      fc.tuple(ipv6Spec, fc.oneof<fc.Arbitrary<LayerSpec>[]>(tcpSpec, udpSpec, icmpv6Spec)),
    ),
  )
  .map(([ethernet, vlans, ip]) => [ethernet, ...vlans, ...ip]);
const tunnel: fc.Arbitrary<LayerSpec[]> = fc
  .tuple(ethernetSpec, fc.oneof<fc.Arbitrary<LayerSpec>[]>(ipv4Spec, ipv6Spec), udpSpec, fc.constantFrom(8472, 4789), int(0xffffff))
  .map(([ethernet, ip, udp, dstPort, vni]) => [ethernet, ip, { ...udp, dstPort }, { type: 'vxlan' as const, vni }]);
const stack: fc.Arbitrary<LayerSpec[]> = fc.tuple(fc.array(tunnel, { maxLength: 2 }), innerStack).map(([tunnels, inner]) => [...tunnels.flat(), ...inner]);
const payload = fc.uint8Array({ maxLength: 300 });

/** The fields of a layer that its spec names. */
function asSpecified(spec: LayerSpec, layer: Layer): Record<string, unknown> {
  const from = layer as unknown as Record<string, unknown>;
  return Object.fromEntries(Object.keys(spec).map((key) => [key, from[key]]));
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_, v: unknown) => (v instanceof Uint8Array ? [...v] : v)));

test('what is encoded is decoded again, with every checksum right and nothing wrong', () => {
  fc.assert(
    fc.property(stack, payload, (specs, data) => {
      const packet = decode(encode(specs, data));
      assert.deepEqual(packet.problems, []);
      assert.equal(packet.layers.length, specs.length);
      specs.forEach((spec, i) => assert.deepEqual(plain(asSpecified(spec, packet.layers[i] as Layer)), plain(spec)));
      for (const layer of packet.layers) if ('checksumState' in layer) assert.equal(layer.checksumState, 'ok');
      assert.deepEqual([...payloadOf(packet)], [...data]);
      checkInvariants(packet);
    }),
    { numRuns: 500 },
  );
});

const walk = (packet: DecodedPacket): void => {
  checkInvariants(packet);
  summary(packet);
  identity(packet);
  payloadIdentity(packet);
  describeHeaders(packet);
};

test('any bytes under any link type', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.constantFrom(0, 1, 101, 108, 113, 228, 229, 276, 77), (bytes, linkType) => walk(decode(bytes, linkType))),
    { numRuns: 3000 },
  );
});

test('every truncation of every sample, told and untold', () => {
  for (const s of SAMPLES) {
    for (let length = 0; length < s.bytes.length; length++) {
      const cut = s.bytes.subarray(0, length);
      walk(decode(cut, s.linkType));
      const told = decode(cut, s.linkType, { originalLength: s.bytes.length });
      walk(told);
      assert.ok(told.problems.some((p) => p.code === 'truncated'), `${s.name} cut to ${length}`);
    }
  }
});

test('a truncation changes no field of the headers before it', () => {
  fc.assert(
    fc.property(stack, payload, fc.double({ min: 0, max: 1, noNaN: true }), (specs, data, where) => {
      const bytes = encode(specs, data);
      const cut = decode(bytes.subarray(0, Math.floor(bytes.length * where)), 1, { originalLength: bytes.length });
      const whole = decode(bytes);
      const strip = (l: Layer): unknown => plain({ ...l, problems: 0, checksumState: 0 });
      cut.layers.forEach((l, i) => {
        const full = whole.layers[i] as Layer;
        if (l.type !== 'partial' && l.headerLength === full.headerLength) assert.deepEqual(strip(l), strip(full));
      });
      assert.ok(cut.layers.length <= whole.layers.length);
    }),
    { numRuns: 500 },
  );
});

test('every single bit of every sample flipped', () => {
  for (const s of SAMPLES) {
    const bytes = s.bytes.slice();
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      walk(decode(bytes, s.linkType));
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
    }
  }
});

test('a flipped bit under a checksum is found', () => {
  fc.assert(
    fc.property(innerStack, payload, fc.nat(), (specs, data, where) => {
      const bytes = encode(specs, data);
      const transport = decode(bytes).layers.at(-1) as Layer;
      if (transport.type === 'udp' || transport.type === 'icmp' || transport.type === 'icmpv6' || transport.type === 'tcp') {
        const bit = transport.offset * 8 + (where % ((bytes.length - transport.offset) * 8));
        bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
        const after = decode(bytes);
        const layer = after.layers.find((l) => l.offset === transport.offset) as Layer;
        // A flip may also make an ICMP type that is read otherwise, a shorter UDP length, or the checksum 0 that UDP takes as absent.
        assert.ok('checksumState' in layer ? layer.checksumState !== 'ok' : layer.type === 'partial');
      }
    }),
    { numRuns: 500 },
  );
});

test('the fast sum equals the plain one of RFC 1071, at any offset', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), int(7), (bytes, offset) => {
      const shifted = Uint8Array.from([...new Uint8Array(offset), ...bytes]).subarray(offset);
      let expected = 0;
      for (let i = 0; i < bytes.length; i += 2) {
        expected += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0);
        expected = (expected & 0xffff) + (expected >>> 16);
      }
      assert.equal(fold(sum(shifted, 0, shifted.length)), expected);
    }),
  );
});

test('the expected checksum that a problem names makes the packet right', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 4, maxLength: 60 }).map((b) => b.subarray(0, b.length & ~1)), (bytes) => {
      const right = expectedChecksum(sum(bytes, 0, bytes.length), ((bytes[0] as number) << 8) | (bytes[1] as number));
      const mended = Uint8Array.from([right >> 8, right & 255, ...bytes.subarray(2)]);
      assert.equal(fold(sum(mended, 0, mended.length)), 0xffff);
    }),
  );
});

test('CRC32c: the check value of the catalogue of CRCs', () => {
  // Of "123456789": 0xe3069283, here in the byte order of the wire.
  assert.equal(crc32c(new TextEncoder().encode('123456789'), 0, 9, 100), 0x839206e3);
});

test('addresses survive text and back', () => {
  fc.assert(fc.property(octets(4), (b) => assert.deepEqual(parseIpv4(ipv4Text(b, 0)), b)));
  fc.assert(fc.property(octets(6), (b) => assert.deepEqual(parseMac(macText(b, 0)), b)));
  fc.assert(fc.property(ipv6, (text) => assert.equal(ipv6Text(parseIpv6(text), 0), text)));
  for (const [text, canonical] of [
    ['::', '::'], ['::1', '::1'], ['1::', '1::'], ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'], ['1:0:3:4:5:6:7:8', '1:0:3:4:5:6:7:8'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'], ['64:ff9b::10.0.0.1', '64:ff9b::a00:1'],
  ] as const) assert.equal(ipv6Text(parseIpv6(text), 0), canonical);
  for (const bad of ['', ':', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '12345::', 'g::', '1:2:3:4:5:6:7::8', '::1.2.3']) {
    assert.throws(() => parseIpv6(bad), RangeError, bad);
  }
});

test('any bytes as a capture file, and any damage to a sound one', () => {
  const read = (bytes: Uint8Array): void => {
    const capture = readCapture(bytes);
    let count = 0;
    for (const record of capture) {
      assert.ok(record.bytes.length <= bytes.length);
      if (++count > bytes.length) assert.fail('more records than bytes');
    }
  };
  const parts: Uint8Array[] = [];
  const writer = new PcapngWriter((b) => parts.push(b), { comment: 'x' });
  writer.addInterface({ name: 'a', description: 'b', filter: 'icmp' });
  for (const s of SAMPLES.slice(0, 3)) writer.packet({ interfaceId: 0, timeNs: 5n, bytes: s.bytes, comments: ['c'], direction: 'inbound' });
  const sound = [Uint8Array.from(Buffer.concat(parts)), Uint8Array.from(Buffer.concat([pcapHeader(), ...SAMPLES.slice(0, 3).map((s) => pcapRecord(s.bytes, 1n))]))];
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), read), { numRuns: 500 });
  for (const file of sound) {
    for (let length = 0; length <= file.length; length++) read(file.subarray(0, length));
    for (let bit = 0; bit < file.length * 8; bit++) {
      const damaged = file.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      read(damaged);
    }
  }
});
