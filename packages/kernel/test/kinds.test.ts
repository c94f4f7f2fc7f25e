/** Kinds of links: requests against iproute2's, what the kernel made of them against `ip -d`, and what it lacks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createRequests, explainRefusal, kernelHas, kernelLacks, macvlanModeName, MACVLAN_MODE, RtNetlink, type LinkSpec, type MacvlanMode } from '../src/index.js';
import { readAttributes, Writer, writeAttributes } from '../src/netlink/codec.js';
import { decodeLink } from '../src/netlink/link.js';
import { IPTUN, LINK } from '../src/netlink/link-tables.js';
import { PodwayError } from '@podway/errors';
import { attribute, tree } from './attributes.js';
import { inScratch, ipJson, type Json } from './scratch.js';

const ETH9 = 3;
/** Recorded from iproute2 6.1; eth9 has index 3. */
const GOLDEN: readonly (readonly [command: string, body: string, ours: LinkSpec])[] = [
  ['ip link add ifb1 type ifb', '000000000000000000000000000000000900030069666231000000000c0012000700010069666200', { name: 'ifb1', kind: 'ifb' }],
  ['ip link add d1 type dummy', '000000000000000000000000000000000700030064310000100012000900010064756d6d79000000', { name: 'd1', kind: 'dummy' }],
  ['ip link add wg0 mtu 1420 type wireguard', '00000000000000000000000000000000080004008c0500000800030077673000140012000d000100776972656775617264000000', { name: 'wg0', kind: 'wireguard', mtu: 1420 }],
  ['ip link add link eth9 name v10 type vlan id 10', '00000000000000000000000000000000080005000300000008000300763130001800120008000100766c616e0c000200060001000a000000', { name: 'v10', kind: 'vlan', link: ETH9, id: 10 }],
  ['ip link add link eth9 name q1 type vlan id 10 protocol 802.1ad', '00000000000000000000000000000000080005000300000007000300713100002000120008000100766c616e14000200060001000a0000000600050088a80000',
    { name: 'q1', kind: 'vlan', link: ETH9, id: 10, protocol: 0x88a8 }],
  ['ip link add link eth9 name mv0 type macvlan mode bridge', '000000000000000000000000000000000800050003000000080003006d7630001c0012000b0001006d6163766c616e000c0002000800010004000000', { name: 'mv0', kind: 'macvlan', link: ETH9, mode: 'bridge' }],
];
const NESTED = new Set(['18', '18.2']);
/** iproute2 sends kind names without their closing NUL; the kernel takes both. */
const text = (b: Buffer): string[] => tree(b, 16, b.length, NESTED).map((t) => t.replace(/(18\.1=(?:[0-9a-f]{2})+?)(?:00)?(?= |$)/, '$1'));

for (const [command, body, spec] of GOLDEN) {
  test(command, () => {
    const w = new Writer();
    createRequests(spec)[0]!.body(w);
    assert.deepEqual(text(w.bytes()), text(Buffer.from(body, 'hex')));
  });
}

test('ip link add tun1 mtu 1480 type ipip local 10.0.0.1 remote 10.0.0.2 ttl 64 pmtudisc dev eth9', () => {
  const theirs = Buffer.from('0000000000000000000000000000000008000400c80500000900030074756e3100000000700012000800010069706970640002000500090000000000080002000a000001080003000a00000205000a0001000000050005000000000005000400400000000800010003000000080014000000000006000f0000000000060010000000000006001100000000000600120000000000', 'hex');
  const w = new Writer();
  createRequests({ name: 'tun1', mtu: 1480, kind: 'ipip', tunnel: { local: '10.0.0.1', remote: '10.0.0.2', ttl: 64, link: ETH9 } })[0]!.body(w);
  // ip also sends zeroes that say nothing: tos (5), fwmark (20), encapsulation (15 to 18); and it lets in MPLS (proto 0), where we say IPv4 (4).
  const said = (b: Buffer): string[] => tree(b, 16, b.length, NESTED).map((t) => t.replace(/18\.2\.(5|20|15|16|17|18)=0+(?= |$)/g, '').replace(/18\.2\.9=0[04]/, 'proto').replace(/\s+/g, ' ')
    .replace(/(18\.1=(?:[0-9a-f]{2})+?)(?:00)?(?= |$)/, '$1'));
  assert.deepEqual(said(w.bytes()), said(theirs));
});

const DETAIL = (ns: Parameters<typeof ipJson>[0], name: string): Json => {
  const [l] = ipJson(ns, '-d', 'link', 'show', name);
  const info = l?.['linkinfo'] as Json | undefined;
  return { kind: info?.['info_kind'], ...(info?.['info_data'] as Json | undefined) };
};
const needs = (kind: string): { skip: string | false } => ({ skip: kernelHas('link', kind) ? false : `this kernel lacks ${kind}` });

for (const mode of Object.keys(MACVLAN_MODE) as MacvlanMode[]) {
  test(`macvlan in mode ${mode} is what ip shows`, needs('macvlan'), () => {
    inScratch((ns) => inScratch((other) => RtNetlink.with(ns, (nl) => {
      const link = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
      const made = nl.createLink({ name: 'mv0', kind: 'macvlan', link, mode, mtu: 1400 });
      assert.equal(macvlanModeName(made.macvlanMode ?? 0), mode);
      assert.equal(DETAIL(ns, 'mv0')['mode'], mode);
      if (mode === 'passthru') return;
      nl.createLink({ name: 'mv9', kind: 'macvlan', link, mode });
      nl.setLink('mv9', { netnsFd: other.fd });
      assert.equal(RtNetlink.with(other, (o) => o.mustLink('mv9')).kind, 'macvlan');
    })));
  });
}
test('a macvlan is made right in another namespace', needs('macvlan'), () => {
  inScratch((ns) => inScratch((pod) => {
    RtNetlink.with(ns, (nl) => {
      const link = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
      const [refusal] = nl.batch(createRequests({ name: 'net1', kind: 'macvlan', link, mode: 'bridge', netnsFd: pod.fd }));
      assert.equal(refusal, undefined);
    });
    const net1 = RtNetlink.with(pod, (nl) => nl.mustLink('net1'));
    assert.deepEqual([net1.kind, macvlanModeName(net1.macvlanMode ?? 0)], ['macvlan', 'bridge']);
  }));
});

test('ifb is what ip shows', needs('ifb'), () => {
  inScratch((ns) => RtNetlink.with(ns, (nl) => {
    assert.equal(nl.createLink({ name: 'ifb7', kind: 'ifb', alias: 'podway:x' }).alias, 'podway:x');
    assert.equal(DETAIL(ns, 'ifb7')['kind'], 'ifb');
  }));
});

test('ipip is what ip shows', needs('ipip'), () => {
  inScratch((ns) => RtNetlink.with(ns, (nl) => {
    const link = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
    const t = nl.createLink({ name: 'tun1', kind: 'ipip', mtu: 1400, tunnel: { local: '10.0.0.1', remote: '10.0.0.2', ttl: 64, link } });
    assert.deepEqual([t.mtu, t.tunnel?.local, t.tunnel?.remote, t.tunnel?.ttl, t.tunnel?.pmtudisc, t.tunnel?.link, t.hardwareType], [1400, '10.0.0.1', '10.0.0.2', 64, true, link, 768]);
    const d = DETAIL(ns, 'tun1');
    assert.deepEqual([d['kind'], d['local'], d['remote'], d['ttl'], d['pmtudisc'], d['link']], ['ipip', '10.0.0.1', '10.0.0.2', 64, true, 'eth0']);
    const any = nl.createLink({ name: 'tun2', kind: 'ipip', tunnel: { local: '10.0.0.1' } });
    assert.deepEqual([any.tunnel?.remote, any.tunnel?.ttl], ['0.0.0.0', 0], 'to whom the route says');
  }));
});

test('vlan is what ip shows', needs('vlan'), () => {
  inScratch((ns) => RtNetlink.with(ns, (nl) => {
    const link = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
    const v = nl.createLink({ name: 'eth0.10', kind: 'vlan', link, id: 10, protocol: 0x88a8 });
    assert.deepEqual([v.vlan?.id, v.vlan?.protocol, v.link], [10, 0x88a8, link]);
    assert.deepEqual([DETAIL(ns, 'eth0.10')['id'], DETAIL(ns, 'eth0.10')['protocol']], [10, '802.1ad']);
  }));
});

for (const kind of ['dummy', 'wireguard'] as const) {
  test(`${kind} is what ip shows`, needs(kind), () => {
    inScratch((ns) => RtNetlink.with(ns, (nl) => {
      nl.createLink({ name: 'x0', kind });
      assert.equal(DETAIL(ns, 'x0')['kind'], kind);
    }));
  });
}

test('the probe tells what a creation would', () => {
  inScratch((ns) => RtNetlink.with(ns, (nl) => {
    const link = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
    const SPECS: readonly LinkSpec[] = [
      { name: 'x0', kind: 'ifb' }, { name: 'x1', kind: 'dummy' }, { name: 'x2', kind: 'wireguard' }, { name: 'x3', kind: 'bridge' }, { name: 'x4', kind: 'vlan', link, id: 3 },
      { name: 'x5', kind: 'macvlan', link, mode: 'bridge' }, { name: 'x6', kind: 'ipip', tunnel: { local: '10.0.0.1' } }, { name: 'x7', kind: 'vxlan', vxlan: { id: 1, port: 8472 } },
    ];
    for (const spec of SPECS) {
      if (kernelHas('link', spec.kind)) assert.equal(nl.createLink(spec).kind, spec.kind);
      else assert.throws(() => nl.createLink(spec), (e: PodwayError) => e.code === 'KERNEL_LACKS' && e.errno === 'EOPNOTSUPP' && (e.hint ?? '').includes('modprobe'), spec.kind);
    }
    assert.equal(kernelHas('link', 'no-such-kind'), false);
    assert.equal(kernelHas('qdisc', 'no-such-qdisc'), false);
    assert.equal(kernelHas('filter', 'no-such'), false);
    for (const q of ['tbf', 'htb', 'ingress', 'clsact']) assert.equal(kernelHas('qdisc', q), true, q);
    assert.equal(kernelHas('filter', 'u32'), true);
  }));
});

test('the module is named', () => {
  const named = (part: Parameters<typeof kernelLacks>[0], kind: string): string | undefined => kernelLacks(part, kind).object;
  assert.deepEqual([named('link', 'ipip'), named('link', 'vlan'), named('link', 'wireguard'), named('qdisc', 'netem'), named('filter', 'matchall')],
    ['ipip', '8021q', 'wireguard', 'sch_netem', 'cls_matchall'].map((m) => `kernel module ${m}`));
  const other = new PodwayError('NETLINK_REFUSED', 'x', { errno: 'EEXIST' });
  assert.equal(explainRefusal(other, 'link', 'ipip'), other, 'any other refusal stays what it is');
});

test('sit and ip6tnl are read, from bytes', () => {
  const inner = (values: Parameters<typeof writeAttributes<typeof IPTUN>>[2]): Buffer => {
    const w = new Writer();
    writeAttributes(w, IPTUN, values);
    return Buffer.from(w.bytes());
  };
  for (const [kind, values] of [['sit', { local: '10.0.0.1', remote: '10.0.0.2', ttl: 64, proto: 41 }], ['ip6tnl', { local: 'fd00::1', remote: 'fd00::2', encapLimit: 4, proto: 0 }]] as const) {
    const body = Buffer.concat([Buffer.alloc(16), attribute(3, Buffer.from('t0\0')), attribute(18, Buffer.concat([attribute(1, Buffer.from(`${kind}\0`)), attribute(2, inner(values))]))]);
    const l = decodeLink({ type: 16, buffer: body, start: 0, end: body.length });
    assert.deepEqual([l?.kind, l?.tunnel], [kind, values]);
  }
});

test('no info data makes the reader throw', () => {
  fc.assert(fc.property(fc.constantFrom('ipip', 'sit', 'ip6tnl', 'vlan', 'macvlan', 'wireguard'), fc.uint8Array({ maxLength: 80 }), (kind, bytes) => {
    const b = Buffer.concat([Buffer.alloc(16), attribute(18, Buffer.concat([attribute(1, Buffer.from(kind)), attribute(2, bytes)]))]);
    decodeLink({ type: 16, buffer: b, start: 0, end: b.length });
    readAttributes(LINK, b, 16, b.length);
  }));
});
