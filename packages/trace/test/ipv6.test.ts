/** IPv6: what the model claims of the kernel, each as an experiment, as in kernel.test.ts; and the choice of sources against the kernel's own. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { addNeighRequest, addFdbRequest, Netns, Nftables, ProbeSocket, RtNetlink, writeSysctl } from '@podway/kernel';
import { observe as observeState } from '@podway/netstate';
import { buildReport, observeFlow, readWorld, type Flow, type Report, type WorldSource } from '../src/index.js';
import { filterFor } from '../src/observe/filter.js';
import { lookupRoute } from '../src/simulate/route.js';
import { selectSource6 } from '../src/simulate/ipv6.js';
import { assertAsPredicted, needsRoot } from './support.js';

type Spaces = Record<string, Netns>;

async function within(names: readonly string[], work: (n: Spaces) => Promise<void>): Promise<void> {
  const spaces = Object.fromEntries(names.map((n) => [n, Netns.createNameless(n)]));
  for (const ns of Object.values(spaces)) {
    writeSysctl(ns, 'net.ipv6.conf.default.accept_dad', '0');
    RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
  }
  try {
    await work(spaces);
  } finally {
    for (const ns of Object.values(spaces)) ns.close();
  }
}

/** A veth pair with an address at each end. */
function wire(n: Spaces, a: readonly [string, string, string], b: readonly [string, string, string], mtu = 1500): void {
  RtNetlink.with(n[a[0]]!, (nl) => nl.createLink({ name: a[1], kind: 'veth', mtu, peer: { name: b[1], netnsFd: n[b[0]]!.fd, mtu } }));
  for (const [where, dev, address] of [a, b]) {
    RtNetlink.with(n[where]!, (nl) => {
      nl.setLink(dev, { up: true });
      const [text = '', prefix] = address.split('/');
      nl.addAddr({ index: nl.mustLink(dev).index, address: text, prefix: Number(prefix) });
    });
  }
}
const route = (n: Spaces, where: string, dst: string, gateway: string, dev: string, onlink = false): void =>
  RtNetlink.with(n[where]!, (nl) => nl.addRoute({ dst, gateway, index: nl.mustLink(dev).index, onlink }));
const forwards = (n: Spaces, ...names: string[]): void => names.forEach((x) => writeSysctl(n[x]!, 'net.ipv6.conf.all.forwarding', '1'));

async function run(n: Spaces, flow: Flow, timeoutMs = 1500): Promise<Report> {
  const source: WorldSource = {
    nodes: Object.keys(n).filter((k) => k.startsWith('n')).map((name) => ({ name, addresses: [], podCIDRs: [], netns: n[name]! })),
    pods: [], underlay: Object.keys(n).filter((k) => k.startsWith('r')).map((name) => ({ name, role: 'router' as const, netns: n[name]! })),
  };
  const { world, live } = readWorld(source);
  const o = await observeFlow(world, live, flow, { count: 1, timeoutMs });
  return buildReport(world, o.prediction, o.observation);
}

/** n1 ── r ── n2, two subnets. */
function routed(n: Spaces, farMtu = 1500): void {
  wire(n, ['n1', 'eth0', 'fd01::2/64'], ['r', 'left', 'fd01::1/64']);
  wire(n, ['n2', 'eth0', 'fd02::2/64'], ['r', 'right', 'fd02::1/64'], farMtu);
  route(n, 'n1', '::/0', 'fd01::1', 'eth0');
  route(n, 'n2', '::/0', 'fd02::1', 'eth0');
}

describe('IPv6', needsRoot, () => {
  for (const proto of ['icmp', 'udp', 'tcp'] as const) {
    it(`${proto} through a router: neighbours are solicited, the hop limit falls by one`, () =>
      within(['n1', 'r', 'n2'], async (n) => {
        routed(n);
        forwards(n, 'r');
        writeSysctl(n['n1']!, 'net.ipv6.conf.eth0.hop_limit', '33');
        const s = ProbeSocket.open(n['n2']!, proto === 'icmp' ? 'udp' : proto, { family: 'inet6', sourcePort: 80 });
        if (proto === 'tcp') s.listen();
        const r = await run(n, { from: 'n1', dst: 'fd02::2', proto, ...(proto === 'icmp' ? {} : { dstPort: 80 }) });
        s.close();
        assert.equal(r.verdict, 'delivered', r.headline);
        // The socket that takes the datagram answers nothing.
        assertAsPredicted(proto === 'udp' ? { ...r, reply: undefined as never } : r);
        assert.deepEqual(r.request.rows.map((x) => x.observed?.ttl), [33, 33, 32, 32]);
        assert.ok(r.request.steps.some((x) => x.kind === 'resolve' && /n2 answers from eth0/.test(x.why)));
      }));
  }

  it('a router that does not forward, and one that has nobody to hand it to', () =>
    within(['n1', 'r', 'n2'], async (n) => {
      routed(n);
      const off = await run(n, { from: 'n1', dst: 'fd02::2', proto: 'icmp' }, 300);
      assert.match(off.headline, /sysctl net\.ipv6\.conf\.all\.forwarding in r/);
      assertAsPredicted(off);
      forwards(n, 'r');
      const nobody = await run(n, { from: 'n1', dst: 'fd02::77', proto: 'icmp' }, 300);
      assert.match(nobody.headline, /NEIGH_FAILED.*no entry for fd02::77.*nobody on the segment answers/);
      assertAsPredicted(nobody);
    }));

  it('a packet that does not fit behind the router: nobody splits it, the sender is told the MTU', () =>
    within(['n1', 'r', 'n2'], async (n) => {
      routed(n, 1400);
      forwards(n, 'r');
      const r = await run(n, { from: 'n1', dst: 'fd02::2', proto: 'icmp', length: 1450 }, 500);
      assert.match(r.headline, /dropped in r at right \(PKT_TOO_BIG\).*ICMPv6 packet too big/);
      assertAsPredicted(r);
      assert.equal(r.errors[0]?.mtu, 1400);
    }));

  it('the hop limit used up; a firewall that drops by address; NAT of what leaves', () =>
    within(['n1', 'r', 'n2'], async (n) => {
      routed(n);
      forwards(n, 'r');
      const spent = await run(n, { from: 'n1', dst: 'fd02::2', proto: 'icmp', ttl: 1 }, 300);
      assert.match(spent.headline, /IP_INHDR.*TTL 1/);
      assert.match(spent.errors[0]?.summary ?? '', /time exceeded/);
      Nftables.with(n['r']!, (nft) => nft.text(
        'table inet t { chain f { type filter hook forward priority 0; icmpv6 type echo-reply accept; ip6 daddr fd02::/64 meta l4proto udp drop; };'
        + ' chain p { type nat hook postrouting priority 100; ip6 saddr fd01::/64 oifname "right" masquerade; }; }'));
      const dropped = await run(n, { from: 'n1', dst: 'fd02::2', proto: 'udp', dstPort: 53 }, 300);
      assert.match(dropped.headline, /NETFILTER_DROP/);
      assertAsPredicted(dropped);
      const translated = await run(n, { from: 'n1', dst: 'fd02::2', proto: 'icmp' });
      assert.equal(translated.verdict, 'delivered', translated.headline);
      assertAsPredicted(translated);
      assert.equal(translated.request.rows.at(-1)?.observed?.src, 'fd02::1');
    }));

  for (const [what, inner] of [['IPv6', 'fd09::2'], ['IPv4', '10.9.0.2']] as const) {
    it(`${what} in VXLAN over IPv6: 70 bytes more, told apart from a VTEP with the same VNI and port over IPv4`, () =>
      within(['n1', 'n2'], async (n) => {
        wire(n, ['n1', 'eth0', 'fd01::1/64'], ['n2', 'eth0', 'fd01::2/64']);
        for (const [i, name] of ['n1', 'n2'].entries()) {
          const [own, peer] = [`fd01::${i + 1}`, `fd01::${2 - i}`];
          RtNetlink.with(n[name]!, (nl) => {
            const { index } = nl.mustLink('eth0');
            nl.addAddr({ index, address: `172.18.0.${i + 1}`, prefix: 16 });
            nl.createLink({ name: 'vx4', kind: 'vxlan', address: `0e:50:57:00:04:0${i + 1}`, vxlan: { id: 1, port: 8472, local: `172.18.0.${i + 1}`, link: index, learning: false } });
            const vtep = nl.createLink({ name: 'vx6', kind: 'vxlan', mtu: 1430, address: `0e:50:57:00:06:0${i + 1}`, vxlan: { id: 1, port: 8472, local6: own, link: index, learning: false } });
            for (const dev of ['vx4', 'vx6']) nl.setLink(dev, { up: true });
            nl.addAddr({ index: vtep.index, address: `fd09::${i + 1}`, prefix: 64 });
            nl.addAddr({ index: vtep.index, address: `10.9.0.${i + 1}`, prefix: 24 });
            const lladdr = `0e:50:57:00:06:0${2 - i}`;
            const [refused] = nl.batch([
              addFdbRequest({ index: vtep.index, lladdr, dst: peer }), addNeighRequest({ index: vtep.index, dst: `fd09::${2 - i}`, lladdr }),
              addNeighRequest({ index: vtep.index, dst: `10.9.0.${2 - i}`, lladdr }),
            ]);
            if (refused) throw refused.error;
          });
        }
        const r = await run(n, { from: 'n1', dst: inner, proto: 'icmp', length: 1430, dontFragment: true });
        assert.equal(r.verdict, 'delivered', r.headline);
        assertAsPredicted(r);
        const outer = r.request.rows.find((x) => x.observed?.outer)?.observed;
        assert.deepEqual([outer?.overhead, outer?.outer?.ipLength, outer?.outer?.dst], [70, 1500, 'fd01::2']);
        assert.ok(r.request.steps.some((s) => /are vx6's/.test(s.why)));
      }));
  }

  it('the source address of a packet is the one the kernel takes, whatever addresses and destination there are', () => {
    const group = fc.constantFrom('0', '1', '2', '10', 'ff');
    const address = fc.tuple(fc.constantFrom('fd00', 'fd01', '2001:db8', '2002:a00', '2001:0'), group, fc.integer({ min: 1, max: 0xffff }))
      .map(([a, b, c]) => `${a}:${b}::${c.toString(16)}`);
    const own = fc.array(fc.tuple(address, fc.constantFrom(48, 64, 128), fc.constantFrom('a0', 'b0')), { minLength: 1, maxLength: 5 });
    fc.assert(fc.property(own, address, (addresses, dst) => {
      const ns = Netns.createNameless('sources');
      try {
        writeSysctl(ns, 'net.ipv6.conf.default.accept_dad', '0');
        RtNetlink.with(ns, (nl) => {
          nl.setLink(1, { up: true });
          for (const dev of ['a0', 'b0']) {
            nl.createLink({ name: dev, kind: 'veth', peer: { name: `${dev}x` } });
            for (const d of [dev, `${dev}x`]) nl.setLink(d, { up: true });
          }
          const seen = new Set<string>();
          for (const [text, prefix, dev] of addresses) {
            if (seen.has(text) || text === dst) continue;
            seen.add(text);
            nl.addAddr({ index: nl.mustLink(dev).index, address: text, prefix });
          }
          nl.addRoute({ dst: '::/0', index: nl.mustLink('a0').index });
        });
        const state = observeState(ns, { nft: false });
        const s = ProbeSocket.open(ns, 'udp', { family: 'inet6' });
        const refused = s.connect(dst, 9);
        const kernels = s.local().address;
        s.close();
        const decision = lookupRoute(state, { dst, mark: 0 });
        const mine = selectSource6(state, { dst, dev: decision.nexthops[0]?.dev ?? '' })?.address;
        assert.equal(mine, refused === undefined ? kernels : undefined, `${JSON.stringify(addresses)} to ${dst}`);
      } finally {
        ns.close();
      }
    }), { numRuns: 60 });
  });
});

it('the capture filter of a flow: the words of a family only, and the inner packet over both underlays', () => {
  const text = filterFor('tcp', ['fd00::1', 'fd00::2', '10.0.0.1'], { vxlan: [8472], wireguard: [] });
  assert.match(text, /\(icmp6 or tcp\) and \(ip6 host fd00::1 or ip6 host fd00::2\)/);
  assert.doesNotMatch(text, /10\.0\.0\.1/);
  assert.match(text, /udp\[36\] = 58 or udp\[36\] = 6/);
  assert.match(text, /ip6\[42:2\] = 8472\)\) and \(ip6\[76\] = 58/);
});
