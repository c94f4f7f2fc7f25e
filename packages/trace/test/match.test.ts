/** Finding one packet in a crowd, on made-up captures. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { encode, TCP_FLAGS, type LayerSpec } from '@podway/packet';
import { isPodwayError } from '@podway/errors';
import { flowFor, matchProbe, parseSnmp, risen, type Captured, type ProbeFacts, type World } from '../src/index.js';
import type { Reading } from '../src/observe/match.js';
import { filterFor } from '../src/observe/index.js';
import { checkFilter } from '@podway/kernel';
import { parseProcNet, receiver } from '../src/sockets.js';
import { ruleWords } from '../src/simulate/nft-text.js';
import { wrap, textWidth } from '../src/index.js';

const MAC = { a: '0a:58:0a:f4:00:02', b: '0a:58:0a:f4:00:01' };
const mark = Buffer.from('0123456789abcdef');
const frame = (point: string, ts: number, stack: readonly LayerSpec[], data: Uint8Array = new Uint8Array()): Captured => {
  const bytes = Buffer.from(encode([{ type: 'ethernet', src: MAC.a, dst: MAC.b }, ...stack], data));
  return { point, tsNs: BigInt(ts) * 1000n, length: bytes.length, bytes, linkType: 1 };
};
const ip = (src: string, dst: string, id: number, ttl = 64): LayerSpec => ({ type: 'ipv4', src, dst, id, ttl, dontFragment: true });
const vxlan = (inner: readonly LayerSpec[]): LayerSpec[] => [
  ip('172.18.0.2', '172.18.0.3', 999), { type: 'udp', srcPort: 5555, dstPort: 8472, checksum: 0 }, { type: 'vxlan', vni: 1 }, { type: 'ethernet', src: MAC.a, dst: MAC.b }, ...inner,
];
const PORTS: Reading = { ports: { vxlan: [8472], wireguard: [] }, tunnels: [] };

describe('one and the same packet', () => {
  it('is found through TTL, encapsulation and address translation; neither twins nor answers are taken for it', () => {
    const echo = (seq: number, kind: 'echo-request' | 'echo-reply' = 'echo-request'): LayerSpec => ({ type: 'icmp', message: { kind, id: 7, sequence: seq } });
    const facts: ProbeFacts = { proto: 'icmp', mark, port: 7, dstPort: 0, origin: 'a' };
    const m = matchProbe([
      frame('a', 10, [ip('10.0.0.2', '10.0.1.2', 1), echo(1)], mark),
      frame('a', 11, [ip('10.0.0.2', '10.0.1.2', 2), echo(1)], Buffer.from('another mark here')),
      frame('v', 12, vxlan([ip('10.0.0.2', '10.0.1.2', 1, 63), echo(1)]), mark),
      frame('n', 13, [ip('172.18.0.2', '10.0.1.2', 1, 62), echo(1)], mark),
      frame('n', 14, [ip('172.18.0.2', '10.0.1.2', 77, 62), echo(1)], mark),
      frame('a', 20, [ip('10.0.1.2', '10.0.0.2', 3), echo(1, 'echo-reply')], mark),
    ], facts, PORTS);
    assert.deepEqual(m.request.map((s) => [s.point, s.offsetUs, s.ttl, s.src, s.outer?.vni, s.overhead]), [
      ['a', 0, 64, '10.0.0.2', undefined, 0], ['v', 2, 63, '10.0.0.2', 1, 50], ['n', 3, 62, '172.18.0.2', undefined, 0],
    ]);
    assert.deepEqual(m.reply.map((s) => s.point), ['a']);
    assert.equal(m.packets.length, 4);
  });

  it('TCP: the SYN by its numbers, the answer by what it acknowledges', () => {
    const tcp = (srcPort: number, dstPort: number, flags: number, sequence: number, acknowledgement = 0): LayerSpec => ({ type: 'tcp', srcPort, dstPort, flags, sequence, acknowledgement });
    const facts: ProbeFacts = { proto: 'tcp', mark, port: 40000, dstPort: 80, origin: 'a' };
    const m = matchProbe([
      frame('a', 1, [ip('10.0.0.2', '10.0.1.2', 5), tcp(40001, 80, TCP_FLAGS.syn, 1000)]),
      frame('a', 2, [ip('10.0.0.2', '10.0.1.2', 6), tcp(40000, 80, TCP_FLAGS.syn, 0xffffffff)]),
      frame('b', 3, [ip('172.18.0.2', '10.0.1.2', 6), tcp(61000, 80, TCP_FLAGS.syn, 0xffffffff)]),
      frame('b', 4, [ip('10.0.1.2', '172.18.0.2', 0), tcp(80, 61000, TCP_FLAGS.syn | TCP_FLAGS.ack, 9, 0)]),
      frame('b', 5, [ip('10.0.1.2', '172.18.0.2', 0), tcp(80, 61000, TCP_FLAGS.ack, 10, 0)]),
    ], facts, PORTS);
    assert.deepEqual(m.request.map((s) => [s.point, s.srcPort]), [['a', 40000], ['b', 61000]]);
    assert.deepEqual(m.reply.map((s) => s.offsetUs), [2]);
  });

  it('UDP: an answer with the same data is an answer', () => {
    const udp = (srcPort: number, dstPort: number): LayerSpec => ({ type: 'udp', srcPort, dstPort });
    const m = matchProbe([
      frame('a', 1, [ip('10.0.0.2', '10.0.1.2', 5), udp(40000, 53)], mark),
      frame('a', 2, [ip('10.0.1.2', '10.0.0.2', 5), udp(53, 40000)], mark),
    ], { proto: 'udp', mark, port: 40000, dstPort: 53, origin: 'a' }, PORTS);
    assert.deepEqual([m.request.length, m.reply.length, m.reply[0]?.src], [1, 1, '10.0.1.2']);
  });

  it('an ICMP error about it is known by the packet it quotes', () => {
    const quoted = encode([ip('10.0.0.2', '10.0.1.2', 5), { type: 'udp', srcPort: 40000, dstPort: 53 }], mark);
    const m = matchProbe([
      frame('a', 1, [ip('10.0.0.2', '10.0.1.2', 5), { type: 'udp', srcPort: 40000, dstPort: 53 }], mark),
      frame('a', 2, [ip('10.0.0.1', '10.0.0.2', 8), { type: 'icmp', message: { kind: 'unreachable', code: 4, mtu: 1400 } }], quoted),
    ], { proto: 'udp', mark, port: 40000, dstPort: 53, origin: 'a' }, PORTS);
    assert.deepEqual(m.errors.map((e) => [e.from, e.type, e.code, e.mtu]), [['10.0.0.1', 3, 4, 1400]]);
  });

  describe('encrypted between nodes', () => {
    const facts: ProbeFacts = { proto: 'icmp', mark, port: 77, dstPort: 0, origin: 'a' };
    const reading: Reading = { ports: { vxlan: [8472], wireguard: [51820] }, tunnels: [{ label: 'm1/wg', mtu: 1440 }, { label: 'm2/wg', mtu: 1440 }] };
    const plain = (point: string, us: number): Captured => frame(point, us, [ip('10.0.0.2', '10.0.1.2', 1, 63), { type: 'icmp', message: { kind: 'echo-request', id: 77, sequence: 1 } }], mark);
    const size = plain('x', 0).length - 14;
    const sealed = (point: string, us: number, counter: number, padded = Math.ceil(size / 16) * 16): Captured =>
      frame(point, us, [ip('172.18.0.2', '172.18.0.3', 9), { type: 'udp', srcPort: 51820, dstPort: 51820 }, { type: 'wireguard', message: 'data', receiverIndex: 5, counter }], Buffer.alloc(padded + 16, 7));
    const found = (...between: Captured[]) => {
      const m = matchProbe([plain('a', 1), plain('m1/wg', 10), ...between, plain('m2/wg', 40), plain('b', 50)], facts, reading);
      return { points: m.request.map((s) => [s.point, s.sealed?.counter]), unknown: m.sealedUnknown.request };
    };
    const without = [['a', undefined], ['m1/wg', undefined], ['m2/wg', undefined], ['b', undefined]];
    it('the one message of the right size between the two ends is it, at every point', () => {
      assert.deepEqual(found(sealed('m1/eth0', 20, 7), sealed('m2/eth0', 30, 7)), { points: [...without.slice(0, 2), ['m1/eth0', 7], ['m2/eth0', 7], ...without.slice(2)], unknown: false });
    });
    it('others are not: another size, a keepalive, before, after', () => {
      assert.deepEqual(found(sealed('m1/eth0', 20, 7, 128), sealed('m1/eth0', 21, 8, 0), sealed('m1/eth0', 5, 9), sealed('m1/eth0', 60, 10)), { points: without, unknown: false });
      assert.deepEqual(found(sealed('m1/eth0', 20, 7), sealed('m1/eth0', 22, 8, 160)).points[2], ['m1/eth0', 7]);
    });
    it('the same over IPv6, and one message within another tunnel on a part of its way', () => {
      const message = (counter: number): LayerSpec[] => [{ type: 'udp', srcPort: 51820, dstPort: 51820 }, { type: 'wireguard', message: 'data', receiverIndex: 5, counter }];
      const data = Buffer.alloc(Math.ceil(size / 16) * 16 + 16, 7);
      const six = frame('m1/eth0', 20, [{ type: 'ipv6', src: 'fc00:18::2', dst: 'fc00:18::3', hopLimit: 64 }, ...message(7)], data);
      assert.deepEqual(found(six), { points: [...without.slice(0, 2), ['m1/eth0', 7], ...without.slice(2)], unknown: false });
      const within = frame('r/core0', 25, vxlan([ip('172.18.0.2', '172.18.0.3', 9), ...message(7)]), data);
      assert.deepEqual(found(sealed('m1/eth0', 20, 7), within), { points: [...without.slice(0, 2), ['m1/eth0', 7], ['r/core0', 7], ...without.slice(2)], unknown: false });
    });
    it('two of the same size: nobody can tell, and none is taken', () => {
      assert.deepEqual(found(sealed('m1/eth0', 20, 7), sealed('m1/eth0', 21, 8)), { points: without, unknown: true });
    });
  });

  it('never throws, whatever was captured', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 200 })), fc.constantFrom('icmp', 'tcp', 'udp'), (frames, proto) => {
      const captured = frames.map((b, i): Captured => ({ point: 'a', tsNs: BigInt(i), length: b.length, bytes: Buffer.from(b), linkType: 1 }));
      matchProbe(captured, { proto: proto as 'icmp', mark, port: 1, dstPort: 2 }, PORTS);
    }));
  });
});

describe('small parts', () => {
  it('the filter is one that libpcap takes', () => {
    const PORTS_OF = { vxlan: [8472, 4789], wireguard: [51820] };
    for (const proto of ['icmp', 'tcp', 'udp'] as const) for (const ends of [['10.0.0.2', '10.0.1.2'], ['fd00::2', 'fd00:1::2']]) checkFilter(filterFor(proto, ends, PORTS_OF));
    const plain = filterFor('icmp', ['10.0.0.2'], { vxlan: [8472], wireguard: [] });
    assert.equal(plain, '((icmp) and (ip host 10.0.0.2)) or ((udp dst port 8472) and (udp[39] = 1) and (udp[42:4] = 0xa000002 or udp[46:4] = 0xa000002))'
      + ' or ((ip6[6] = 17 and (ip6[42:2] = 8472)) and (ip6[79] = 1) and (ip6[82:4] = 0xa000002 or ip6[86:4] = 0xa000002))');
    assert.equal(filterFor('icmp', ['10.0.0.2'], { vxlan: [8472], wireguard: [51820, 4500] }), `${plain} or ((udp dst port 51820 or udp dst port 4500) and udp[8] = 4)`
      + ' or (ip6[6] = 17 and (ip6[42:2] = 51820 or ip6[42:2] = 4500) and ip6[48] = 4) or ((udp dst port 8472) and (udp[52:2] = 51820 or udp[52:2] = 4500) and udp[58] = 4)');
  });

  it('reads counters by name, whatever their order', () => {
    const text = 'Ip: Forwarding InHdrErrors OutNoRoutes\nIp: 1 5 7\nIcmp: InMsgs\nIcmp: 9\n';
    assert.deepEqual([...parseSnmp(text)], [['Ip InHdrErrors', 5], ['Ip OutNoRoutes', 7]]);
    assert.deepEqual(risen('m1', new Map([['a', 1], ['b', 2]]), new Map([['a', 4], ['b', 2], ['new', 3]])), [{ netns: 'm1', counter: 'a', by: 3 }]);
  });

  it('prints rules as nft does', () => {
    const payload = (protocol: string, field: string) => ({ payload: { protocol, field } });
    assert.equal(ruleWords([
      { match: { op: '==', left: payload('ip', 'saddr'), right: { prefix: { addr: '10.244.0.0', len: 16 } } } },
      { match: { op: '!=', left: payload('ip', 'daddr'), right: { set: ['10.0.0.1', { range: ['10.0.0.5', '10.0.0.9'] }] } } },
      { match: { op: 'in', left: { ct: { key: 'state' } }, right: ['established', 'related'] } }, { counter: { packets: 1, bytes: 2 } }, { jump: { target: 'x' } },
    ]), 'ip saddr 10.244.0.0/16 ip daddr != { 10.0.0.1, 10.0.0.5-10.0.0.9 } ct state established,related counter jump x');
    assert.equal(ruleWords([{ vmap: { key: { meta: { key: 'iifname' } }, data: { set: [['a', { drop: null }], ['b', { goto: { target: 'y' } }]] } } }]), 'iifname vmap { a : drop, b : goto y }');
    assert.equal(ruleWords([{ dnat: { addr: '10.1.1.1', port: 80 } }]), 'dnat to 10.1.1.1:80');
  });

  it('makes a flow of what people write', () => {
    const state = { schema: 1 as const, netns: { id: '', name: '' }, links: [], addresses: [], routes: [], rules: [], neighbours: [], fdb: [], qdiscs: [], sysctls: {}, nft: [], unread: [] };
    const world: World = {
      schema: 1, taken: '', links: [], unread: [],
      namespaces: [{ key: 'outside', role: 'outside', state: { ...state, addresses: [{ dev: 'eth0', family: 'inet', address: '203.0.113.10', prefix: 24, scope: 'global' }] }, legacyTables: [] }],
      nodes: [{ name: 'm1', netns: 'm1', addresses: ['172.18.0.2'], podCIDRs: [] }],
      pods: ['default/web-a', 'other/web-a', 'other/new'].map((n, i) => ({ namespace: n.split('/')[0]!, name: n.split('/')[1]!, node: 'm1', ips: i < 2 ? [`10.244.0.${i + 2}`] : [], netns: n, containers: [] })),
    };
    assert.deepEqual(flowFor(world, { from: 'm1', to: 'web-a' }), { from: 'm1', dst: '10.244.0.2', proto: 'icmp' });
    assert.deepEqual(flowFor(world, { from: 'web-a', to: 'other/web-a:8080' }), { from: 'default/web-a', dst: '10.244.0.3', proto: 'tcp', dstPort: 8080 });
    assert.deepEqual(flowFor(world, { from: 'web-a', to: '10.9.9.9:53', proto: 'udp' }), { from: 'default/web-a', dst: '10.9.9.9', proto: 'udp', dstPort: 53 });
    assert.deepEqual(flowFor(world, { from: 'outside', to: 'node/m1' }), { from: 'outside', dst: '172.18.0.2', proto: 'icmp' });
    assert.deepEqual(flowFor(world, { from: 'web-a', to: 'outside' }).dst, '203.0.113.10');
    const fails = (to: string, code: string) => assert.throws(() => flowFor(world, { from: 'm1', to }), (e) => isPodwayError(e, code));
    fails('web-x', 'TRACE_UNKNOWN_TARGET');
    fails('other/new', 'TRACE_NO_ADDRESS');
    fails('web-a:99999', 'TRACE_BAD_PORT');
    assert.equal(flowFor(world, { from: 'm1', to: 'FD00::1' }).dst, 'fd00::1');
  });

  it('reads listening sockets', () => {
    const head = '  sl  local_address rem_address   st tx_queue\n';
    const tcp = parseProcNet(`${head}   0: 0100007F:1F90 00000000:0000 0A 0:0\n   1: 0200F40A:0050 0300F40A:9C40 01 0:0\n`, 'tcp');
    assert.deepEqual(tcp, [{ proto: 'tcp', address: '127.0.0.1', port: 8080 }]);
    const six = parseProcNet(`${head}   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A\n`, 'tcp');
    assert.deepEqual(six, [{ proto: 'tcp', address: '::', port: 80 }]);
    assert.equal(receiver([...tcp, ...six], 'tcp', { address: '10.0.0.1', port: 80 })?.address, '::');
    assert.equal(receiver(tcp, 'tcp', { address: '10.0.0.1', port: 8080 }), undefined);
  });

  it('wraps text to a width, wide characters included', () => {
    fc.assert(fc.property(fc.array(fc.constantFrom('a', ' ', '一', '→', 'É', '가'), { maxLength: 300 }).map((c) => c.join('')), fc.integer({ min: 10, max: 60 }), (text, width) => {
      for (const line of wrap(text, width)) assert.ok(textWidth(line) <= width, line);
    }));
    assert.deepEqual(wrap('一二三 四五', 6), ['一二三', '四五']);
  });
});
