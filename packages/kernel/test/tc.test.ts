/** Traffic control: requests against what tc sends, what we read against what tc shows, and a rate that holds. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { addQdiscRequest, addRedirectRequest, deleteFiltersRequest, deleteQdiscRequest, replaceQdiscRequest, RtNetlink, tbfSettings, type Netns, type Request } from '../src/index.js';
import { Writer } from '../src/netlink/codec.js';
import { decodeFilter } from '../src/netlink/filter.js';
import { decodeClass, decodeQdisc } from '../src/netlink/qdisc.js';
import { NLM_F_ACK, NLM_F_REQUEST } from '../src/netlink/socket.js';
import { handleNumber, handleText } from '../src/netlink/tc.js';
import { attribute, tree } from './attributes.js';
import { inTwo } from './two.js';
import { inScratch, inside, type Json } from './scratch.js';

const ETH9 = 3;
const IFB9 = 4;
/** Recorded from iproute2 6.1 with `strace -e trace=sendmsg -e write=all`: command, type and flags, body, ours. */
const GOLDEN: readonly (readonly [command: string, head: string, body: string, ours: Request])[] = [
  ['tc qdisc del dev eth9 root', '25000500', '000000000300000000000000ffffffff00000000', deleteQdiscRequest({ index: ETH9 })],
  ['tc qdisc add dev eth9 ingress', '24000506', '00000000030000000000fffff1ffffff000000000c000100696e677265737300', addQdiscRequest({ index: ETH9, kind: 'ingress' })],
  ['tc qdisc add dev eth9 clsact', '24000506', '00000000030000000000fffff1ffffff000000000b000100636c736163740000', addQdiscRequest({ index: ETH9, kind: 'clsact' })],
  ['tc filter add dev eth9 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb9', '2c000506',
    '0000000003000000000000000000ffff0003010008000100753332006000020038000700340001000b0001006d69727265640000240002802000020000000000000000000400000000000000000000000100000004000000240005000100010000000000000000000000000000000000000000000000000000000000',
    addRedirectRequest({ index: ETH9, to: IFB9 })],
  ['tc filter add dev eth9 parent ffff: protocol all prio 2 matchall action mirred egress redirect dev ifb9', '2c000506',
    '0000000003000000000000000000ffff000302000d0001006d61746368616c6c000000003c00020038000200340001000b0001006d69727265640000240002802000020000000000000000000400000000000000000000000100000004000000',
    addRedirectRequest({ index: ETH9, to: IFB9, priority: 2, kind: 'matchall' })],
  ['tc filter del dev eth9 parent ffff: prio 1', '2d000500', '0000000003000000000000000000ffff00000100', deleteFiltersRequest({ index: ETH9, priority: 1 })],
  ['tc filter del dev eth9 parent ffff:', '2d000500', '0000000003000000000000000000ffff00000000', deleteFiltersRequest({ index: ETH9 })],
  ['tc qdisc replace dev eth9 root pfifo limit 100', '24000505', '000000000300000000000000ffffffff000000000a000100706669666f0000000800020064000000', replaceQdiscRequest({ index: ETH9, kind: 'pfifo', limit: 100 })],
  ['tc qdisc add dev eth9 root handle 1: htb default 10', '24000506', '000000000300000000000100ffffffff0000000008000100687462001c00020018000200030000000a000000100000000000000000000000',
    addQdiscRequest({ index: ETH9, kind: 'htb', handle: '1:', defaultClass: 0x10 })],
];
/** Options and, below, the selector's companions: actions and their options. */
const NESTED = { 36: new Set<string>(), 37: new Set<string>(), 44: new Set(['2', '2.7', '2.7.1', '2.7.1.2', '2.2', '2.2.1', '2.2.1.2']), 45: new Set<string>() } as const;

for (const [command, head, body, ours] of GOLDEN) {
  test(command, () => {
    const w = new Writer();
    ours.body(w);
    const h = Buffer.from(head, 'hex');
    const type = h.readUInt16LE(0) as keyof typeof NESTED;
    assert.deepEqual([ours.type, (ours.flags | NLM_F_REQUEST | NLM_F_ACK).toString(16)], [type, h.readUInt16LE(2).toString(16)]);
    const theirs = Buffer.from(body, 'hex');
    assert.equal(w.bytes().toString('hex', 0, 20), theirs.toString('hex', 0, 20), 'tcmsg');
    assert.deepEqual(tree(w.bytes(), 20, w.length, NESTED[type]), tree(theirs, 20, theirs.length, NESTED[type]));
  });
}

/** Where we differ knowingly: tc sends rate tables and the cell size they were made with; we ask for none. */
test('tc qdisc add dev eth9 root handle 8001: tbf rate 10mbit burst 32000b limit 63250', () => {
  const w = new Writer();
  addQdiscRequest({ index: ETH9, kind: 'tbf', handle: '8001:', tbf: { rate: 1_250_000, burst: 32_000, limit: 63_250 } }).body(w);
  const theirs = Buffer.from('000000000300000000000180ffffffff000000000800010074626600380402002800010003010000ffff0000d012130000000000000000000000000012f70000801a06000000000008000600007d0000', 'hex');
  theirs.writeUInt8(0, 20 + 8 + 4 + 4); // cell_log
  theirs.writeUInt16LE(0, 20 + 8 + 4 + 4 + 4); // cell_align
  theirs.writeUInt16LE(w.length - 20 - 8, 20 + 8); // without the table
  assert.equal(w.bytes().toString('hex'), theirs.toString('hex'));
});

const tcJson = (ns: Netns, ...args: string[]): Json[] => JSON.parse(inside(ns, 'tc', '-j', '-s', ...args) || '[]') as Json[];

function withPair<T>(work: (ns: Netns, nl: RtNetlink, index: number, ifb: number) => T): T {
  return inScratch((ns) => RtNetlink.with(ns, (nl) => {
    const index = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
    const ifb = nl.createLink({ name: 'ifb0', kind: 'ifb' }).index;
    for (const l of ['far', 'eth0', 'ifb0']) nl.setLink(l, { up: true });
    return work(ns, nl, index, ifb);
  }));
}

const RATES = [{ rate: 1000, burst: 1600, limit: 3000 }, { rate: 125_000, burst: 10_000, limit: 13_125 }, { rate: 1_250_000, burst: 32_000, limit: 63_250 }, { rate: 125_000_000, burst: 500_000, limit: 3_625_000 }, { rate: 12_500_000_000, burst: 50_000_000, limit: 362_500_000 }] as const;
for (const tbf of RATES) {
  test(`tbf of ${tbf.rate} bytes/s is what tc shows, and can be changed and removed`, () => {
    withPair((ns, nl, index) => {
      nl.send(addQdiscRequest({ index, kind: 'tbf', tbf: { rate: 5000, burst: 2000, limit: 4000 } }));
      assert.throws(() => nl.send(addQdiscRequest({ index, kind: 'tbf', tbf })), { code: 'NETLINK_REFUSED', errno: 'EEXIST' });
      nl.send(replaceQdiscRequest({ index, kind: 'tbf', tbf }));
      const ours = nl.qdiscs().find((q) => q.index === index && q.kind === 'tbf');
      const [theirs] = tcJson(ns, 'qdisc', 'show', 'dev', 'eth0') as [{ kind: string; handle: string; root: boolean; options: { rate: number; burst: number; lat: number }; bytes: number; packets: number; drops: number; overlimits: number }];
      assert.ok(ours?.tbf && ours.stats);
      assert.equal(ours.handle, theirs.handle);
      assert.equal(ours.parent, 'root');
      assert.deepEqual({ rate: ours.tbf.rate, limit: ours.tbf.limit }, { rate: tbf.rate, limit: tbf.limit });
      // A tick is 64 ns: the burst comes back rounded to what passes in one.
      assert.ok(Math.abs(ours.tbf.burst - tbf.burst) <= 1 + tbf.rate * 64e-9, `${ours.tbf.burst} for ${tbf.burst}`);
      // tc rounds the ticks to whole microseconds.
      assert.ok(Math.abs(ours.tbf.burst - theirs.options.burst) <= 1 + tbf.rate * 1e-6, `${ours.tbf.burst}, tc ${theirs.options.burst}`);
      assert.equal(ours.tbf.rate, theirs.options.rate);
      assert.ok(Math.abs(ours.tbf.latencyMs - theirs.options.lat / 1000) <= 1 + ours.tbf.latencyMs * 0.001, `${ours.tbf.latencyMs} ms, tc ${theirs.options.lat} µs`);
      nl.send(deleteQdiscRequest({ index }));
      assert.ok(!nl.qdiscs().some((q) => q.kind === 'tbf'));
      assert.throws(() => nl.send(deleteQdiscRequest({ index })), { code: 'NETLINK_REFUSED' });
    });
  });
}

test('filters, their actions and counters are what tc shows', () => {
  withPair((ns, nl, index, ifb) => {
    nl.send(addQdiscRequest({ index, kind: 'clsact' }));
    nl.send(addRedirectRequest({ index, to: ifb, parent: 'clsact/ingress' }));
    nl.send(addRedirectRequest({ index, to: ifb, parent: 'clsact/egress', priority: 7 }));
    inside(ns, 'tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'prio', '5', 'protocol', 'ip', 'u32', 'match', 'ip', 'dst', '10.1.2.0/24', 'action', 'mirred', 'egress', 'mirror', 'dev', 'ifb0');
    inside(ns, 'tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'prio', '9', 'protocol', 'ip', 'u32', 'match', 'ip', 'src', '10.9.0.1/32', 'classid', '1:10');
    const theirs = tcJson(ns, 'filter', 'show', 'dev', 'eth0', 'ingress') as unknown as { kind: string; pref: number; protocol: string; options?: { fh?: string; flowid?: string; actions?: { kind: string; mirred_action: string; direction: string; to_dev: string; control_action: { type: string } }[] } }[];
    const ours = nl.filters(index, 'clsact/ingress');
    assert.deepEqual(
      ours.map((f) => ({ kind: f.kind, pref: f.priority, protocol: f.protocol === '0x800' ? 'ip' : f.protocol, handle: f.handle, classid: f.classid, actions: f.actions.map((a) => [a.kind, a.mirred?.what, a.mirred?.to, a.verdict]) })),
      theirs.map((f) => ({ kind: f.kind, pref: f.pref, protocol: f.protocol, handle: f.options?.fh, classid: f.options?.flowid, actions: (f.options?.actions ?? []).map((a) => [a.kind, `${a.direction} ${a.mirred_action}`, a.to_dev === 'ifb0' ? ifb : 0, a.control_action.type]) })),
    );
    const subnet = ours.find((f) => f.actions[0]?.mirred?.what === 'egress mirror');
    assert.deepEqual(subnet?.selector?.keys.map((k) => [k.value.toString('hex'), k.mask.toString('hex'), k.offset]), [['0a010200', 'ffffff00', 16]]);
    assert.equal(nl.filters(index, 'clsact/egress').find((f) => f.actions.length)?.priority, 7);
    nl.send(deleteFiltersRequest({ index, parent: 'clsact/ingress', priority: 5 }));
    assert.ok(!nl.filters(index, 'clsact/ingress').some((f) => f.priority === 5));
    nl.send(deleteFiltersRequest({ index, parent: 'clsact/ingress' }));
    assert.deepEqual(nl.filters(index, 'clsact/ingress'), []);
    assert.deepEqual(nl.filters(ifb), [], 'a device without that parent');
    nl.send(deleteQdiscRequest({ index, parent: 'ingress' }));
    assert.ok(!nl.qdiscs().some((q) => q.kind === 'clsact'));
  });
});

test('htb and its classes are what tc shows', () => {
  withPair((ns, nl, index) => {
    nl.send(addQdiscRequest({ index, kind: 'htb', handle: '1:', defaultClass: 0x20 }));
    inside(ns, 'tc', 'class', 'add', 'dev', 'eth0', 'parent', '1:', 'classid', '1:1', 'htb', 'rate', '10mbit', 'ceil', '20mbit', 'burst', '32k', 'prio', '3');
    inside(ns, 'tc', 'class', 'add', 'dev', 'eth0', 'parent', '1:1', 'classid', '1:20', 'htb', 'rate', '5mbit', 'quantum', '3000');
    assert.equal(nl.qdiscs().find((q) => q.index === index)?.htb?.defaultClass, 0x20);
    // This tc has no JSON for classes.
    const theirs = inside(ns, 'tc', '-d', 'class', 'show', 'dev', 'eth0').split('\n').filter(Boolean).map((line) => {
      const m = /class htb (\S+) .*rate (\d+)Mbit ceil (\d+)Mbit/.exec(line);
      return [m?.[1], Number(m?.[2]) * 125_000, Number(m?.[3]) * 125_000];
    });
    const ours = nl.classes(index);
    assert.equal(ours.length, 2);
    assert.deepEqual(ours.map((c) => [c.handle, c.htb?.rate, c.htb?.ceil]).sort(), theirs.sort());
    assert.deepEqual(ours.map((c) => [c.handle, c.parent, c.htb?.quantum]).sort(), [['1:1', 'root', 125000], ['1:20', '1:1', 3000]]);
    const big = ours.find((c) => c.handle === '1:1');
    assert.ok(Math.abs((big?.htb?.burst ?? 0) - 32 * 1024) < 64, String(big?.htb?.burst));
  });
});

test('the reference plugin computes the same limit', () => {
  // limit = rate × 25 ms + burst, in bytes (containernetworking/plugins, bandwidth).
  assert.deepEqual(tbfSettings({ rateBits: 8e6, burstBits: 800_000 }), { rate: 1_000_000, burst: 100_000, limit: 125_000 });
  assert.deepEqual(tbfSettings({ rateBits: 1e9, burstBits: 2_147_483_647 }), { rate: 125_000_000, burst: 268_435_455, limit: 271_560_455 }, 'the burst that runtimes send for "any"');
  assert.throws(() => tbfSettings({ rateBits: 1e6, burstBits: 8000 }), { code: 'BAD_RATE' });
  assert.throws(() => tbfSettings({ rateBits: 0, burstBits: 80_000 }), { code: 'BAD_RATE' });
  assert.ok(tbfSettings({ rateBits: 1e6, mtu: 9000 }).burst >= 9014, 'a jumbo packet fits');
});

/** Runs iperf3 and returns bits per second as the receiver counted them. */
async function measure(server: Netns, client: Netns, address: string): Promise<number> {
  const listen = server.run(() => spawn('iperf3', ['-s', '-1', '--forceflush'], { stdio: ['ignore', 'pipe', 'inherit'] }));
  await once(listen.stdout, 'data');
  const send = client.run(() => spawn('iperf3', ['-c', address, '-t', '3', '-O', '1', '-J'], { stdio: ['ignore', 'pipe', 'inherit'] }));
  let text = '';
  send.stdout.on('data', (d: Buffer) => (text += d.toString()));
  await Promise.all([once(send, 'close'), once(listen, 'close')]);
  return (JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } }).end.sum_received.bits_per_second;
}

for (const mbit of [10, 100]) {
  test(`a rate of ${mbit} Mbit/s holds within 10 % in both directions`, async (t) => {
    await inTwo(async (h, p) => {
      const { rate, burst, limit } = tbfSettings({ rateBits: mbit * 1e6 });
      RtNetlink.with(h, (nl) => {
        const veth = nl.createLink({ name: 'host', kind: 'veth', peer: { name: 'eth0', netnsFd: p.fd } }).index;
        const ifb = nl.createLink({ name: 'ifb0', kind: 'ifb' }).index;
        nl.addAddr({ index: veth, address: '10.0.0.1', prefix: 24 });
        for (const l of [veth, ifb]) nl.setLink(l, { up: true });
        const tbf = { rate, burst, limit };
        nl.send(addQdiscRequest({ index: veth, kind: 'tbf', tbf }));
        nl.send(addQdiscRequest({ index: veth, kind: 'ingress' }));
        nl.send(addRedirectRequest({ index: veth, to: ifb }));
        nl.send(addQdiscRequest({ index: ifb, kind: 'tbf', tbf }));
      });
      RtNetlink.with(p, (nl) => {
        nl.addAddr({ index: nl.mustLink('eth0').index, address: '10.0.0.2', prefix: 24 });
        nl.setLink('eth0', { up: true });
      });
      const toPod = await measure(p, h, '10.0.0.2');
      const fromPod = await measure(h, p, '10.0.0.1');
      t.diagnostic(`to the pod ${(toPod / 1e6).toFixed(2)} Mbit/s, from the pod ${(fromPod / 1e6).toFixed(2)} Mbit/s; burst ${burst} limit ${limit}`);
      for (const measured of [toPod, fromPod]) assert.ok(Math.abs(measured - mbit * 1e6) < mbit * 1e5, `${(measured / 1e6).toFixed(2)} Mbit/s`);
      const stats = RtNetlink.with(h, (nl) => nl.qdiscs().filter((q) => q.kind === 'tbf').map((q) => q.stats));
      for (const s of stats) assert.ok(s && s.bytes > BigInt(Math.round(rate)) && s.overlimits > 0 && s.packets > 0n, 'counted at both');
    });
  });
}

test('no bytes make the readers throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom('tbf', 'htb', 'fq_codel', 'u32', 'matchall', 'bpf'), fc.boolean(), (bytes, kind, framed) => {
    const b = framed ? Buffer.concat([Buffer.alloc(20), attribute(1, Buffer.from(`${kind}\0`)), attribute(2, attribute(bytes[0] ?? 0, bytes)), attribute(7, bytes)]) : Buffer.from(bytes);
    for (const [type, decode] of [[36, decodeQdisc], [40, decodeClass], [44, decodeFilter]] as const) decode({ type, buffer: b, start: 0, end: b.length });
  }), { numRuns: 2000 });
});

test('handles read back as written', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 0xfffeffff }), (n) => assert.equal(handleNumber(handleText(n)), n)));
  assert.throws(() => handleNumber('x'), RangeError);
});
