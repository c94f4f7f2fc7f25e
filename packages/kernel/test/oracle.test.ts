/** What we read against what `ip -j` and `bridge -j` read of the same objects, made by them and by us. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addFdbRequest as fdbAdd, addNeighRequest as neigh, deleteFdbRequest as fdbDelete, RtNetlink, type LinkSpec, type Netns, type RouteSpec, writeSysctl } from '../src/index.js';
import { bridgeJson, inScratch, ip, bridge, ipJson, untilNow, type Json } from './scratch.js';

const name = (list: readonly Json[]): string[] => list.map((o) => String(o['ifname']));
const sub = (o: Json, ...path: string[]): Json => path.reduce<Json>((at, key) => (at[key] ?? {}) as Json, o);
const byIndex = (links: readonly Json[]): Map<number, Json> => new Map(links.map((l) => [Number(l['ifindex']), l]));

/** Ours and theirs of one and the same moment: the kernel's own packets and timers change counters and states in between. */
function readBoth<A, B>(ours: () => A, theirs: () => B): [A, B] {
  const text = (v: A): string => JSON.stringify(v, (_, x: unknown) => (typeof x === 'bigint' ? String(x) : x));
  for (;;) {
    const before = ours();
    const between = theirs();
    if (text(before) === text(ours())) return [before, between];
  }
}

/** Compares every link of the namespace, field by field, with `ip -d -s -j link`. */
function compareLinks(ns: Netns): void {
  const [ours, list] = readBoth(() => RtNetlink.with(ns, (nl) => nl.links()), () => ipJson(ns, '-d', '-s', 'link'));
  const theirs = byIndex(list);
  assert.deepEqual(ours.map((l) => l.index), [...theirs.keys()]);
  const names = new Map(ours.map((l) => [l.index, l.name]));
  for (const l of ours) {
    const t = theirs.get(l.index)!;
    const data = sub(t, 'linkinfo', 'info_data');
    const port = sub(t, 'linkinfo', 'info_slave_data');
    // M-DOWN is no flag of the device: ip concludes it from the other end.
    const flags = (t['flags'] as string[]).filter((f) => f !== 'M-DOWN');
    assert.deepEqual(
      {
        name: l.name, mtu: l.mtu, kind: l.kind, address: l.address, broadcast: l.broadcast, operstate: l.operstate, qdisc: l.qdisc, txqlen: l.txqlen, alias: l.alias,
        altNames: l.altNames, flags: l.up && !l.running ? ['NO-CARRIER', ...l.flags] : l.flags, master: l.master && names.get(l.master),
        rx: l.stats && Number(l.stats.rxPackets), tx: l.stats && Number(l.stats.txBytes),
      },
      {
        name: t['ifname'], mtu: t['mtu'], kind: sub(t, 'linkinfo')['info_kind'], address: t['address'], broadcast: t['broadcast'], operstate: t['operstate'], qdisc: t['qdisc'],
        txqlen: t['txqlen'], alias: t['ifalias'], altNames: t['altnames'] ?? [], flags, master: t['master'],
        rx: sub(t, 'stats64', 'rx')['packets'] ?? sub(t, 'stats', 'rx')['packets'], tx: sub(t, 'stats64', 'tx')['bytes'] ?? sub(t, 'stats', 'tx')['bytes'],
      },
    );
    if (l.vxlan) {
      assert.deepEqual(
        { id: l.vxlan.id, port: l.vxlan.port, local: l.vxlan.local ?? l.vxlan.local6, learning: l.vxlan.learning, csum: l.vxlan.udpCsum, link: l.vxlan.link ? names.get(l.vxlan.link) : undefined, ageing: l.vxlan.ageing },
        { id: data['id'], port: data['port'], local: data['local'] ?? data['local6'], learning: data['learning'], csum: data['udp_csum'], link: data['link'], ageing: data['ageing'] },
      );
    }
    if (l.bridge) {
      assert.deepEqual(
        { ageing: l.bridge.ageingTime, stp: l.bridge.stpState, snooping: Number(l.bridge.mcastSnooping ?? 0), delay: l.bridge.forwardDelay, priority: l.bridge.priority },
        { ageing: data['ageing_time'], stp: data['stp_state'], snooping: data['mcast_snooping'] ?? 0, delay: data['forward_delay'], priority: data['priority'] },
      );
    }
    if (l.port) {
      assert.deepEqual(
        { state: l.port.state, hairpin: l.port.hairpin, isolated: l.port.isolated, learning: l.port.learning, flood: l.port.unicastFlood, cost: l.port.cost, proxy: l.port.proxyArp, suppress: l.port.neighSuppress },
        { state: port['state'], hairpin: port['hairpin'], isolated: port['isolated'], learning: port['learning'], flood: port['flood'], cost: port['cost'], proxy: port['proxy_arp'], suppress: port['neigh_suppress'] },
      );
    }
  }
}

const KINDS: readonly LinkSpec[] = [
  { name: 'v0', kind: 'veth', peer: { name: 'v1' } },
  { name: 'v2', kind: 'veth', peer: { name: 'v3', mtu: 1400, address: '02:00:00:00:00:03' } },
  { name: 'br0', kind: 'bridge' },
  { name: 'br1', kind: 'bridge', bridge: { ageingTime: 1000, forwardDelay: 400, mcastSnooping: false } },
  { name: 'vx4', kind: 'vxlan', vxlan: { id: 4, local: '127.0.0.1', port: 8472, learning: false } },
  { name: 'vx6', kind: 'vxlan', vxlan: { id: 6, local6: '::1', port: 4789, learning: true } },
  { name: 'vxlink', kind: 'vxlan', vxlan: { id: 7, link: 1, port: 8472, learning: false, udpCsum: false } },
];
const SETTINGS = [{}, { mtu: 1400 }, { address: '02:11:22:33:44:55' }, { alias: 'podway:default/m1 uplink' }, { txqlen: 77 }, { mtu: 1300, address: '02:aa:00:00:00:01', alias: 'both', txqlen: 5 }] as const;

for (const kind of KINDS) {
  for (const settings of SETTINGS) {
    test(`link ${kind.kind} ${kind.name} with ${JSON.stringify(settings)} is what ip shows`, () => {
      inScratch((ns) => {
        RtNetlink.with(ns, (nl) => {
          const link = nl.createLink({ ...kind, ...settings } as LinkSpec);
          for (const [key, value] of Object.entries(settings)) assert.equal(link[key as keyof typeof link], value, key);
          compareLinks(ns);
          nl.setLink(kind.name, { up: true });
          compareLinks(ns);
          assert.equal(nl.deleteLink(kind.name), true);
          assert.equal(nl.deleteLink(kind.name), false, 'absent now');
          assert.deepEqual(name(ipJson(ns, 'link')), ['lo']);
        });
      });
    });
  }
}

test('links made and changed by ip are read alike: ports, names, flags, groups', () => {
  inScratch((ns) => {
    for (const line of ['link add br0 type bridge', 'link add v0 type veth peer name v1', 'link set v0 master br0 up', 'link set v1 up', 'link set br0 up promisc on',
      'link property add dev v1 altname a-name-that-is-longer-than-fifteen altname second', 'link set v1 alias Büro', 'link set v1 arp off', 'link set v0 type bridge_slave hairpin on isolated on learning off']) ip(ns, ...line.split(' '));
    compareLinks(ns);
    assert.equal(RtNetlink.with(ns, (nl) => nl.mustLink('v1')).alias, 'Büro');
  });
});

test('a veth with its other end in another namespace: index and netnsid', () => {
  inScratch((a) => inScratch((b) => {
    RtNetlink.with(a, (nl) => nl.createLink({ name: 'here', kind: 'veth', peer: { name: 'there', netnsFd: b.fd, mtu: 1400 } }));
    const here = RtNetlink.with(a, (nl) => nl.mustLink('here'));
    const there = RtNetlink.with(b, (nl) => nl.mustLink('there'));
    assert.equal(here.link, there.index);
    assert.equal(there.link, here.index);
    assert.equal(here.linkNetnsid, ipJson(a, 'link', 'show', 'here')[0]?.['link_netnsid']);
    assert.equal(there.mtu, 1400);
    compareLinks(a);
    compareLinks(b);
    RtNetlink.with(a, (nl) => nl.deleteLink('here'));
    assert.equal(RtNetlink.with(b, (nl) => nl.link('there')), undefined, 'the other end goes with it');
  }));
});

/** lo, and eth0 with a carrier, 10.1.1.1/24 and 2001:db8::1/64. */
function withNic<T>(work: (ns: Netns, index: number) => T): T {
  return inScratch((ns) => {
    // No link-local addresses: they come some time after the carrier, in the midst of a comparison.
    writeSysctl(ns, 'net.ipv6.conf.default.addr_gen_mode', '1');
    const index = RtNetlink.with(ns, (nl) => {
      nl.setLink('lo', { up: true });
      const eth0 = nl.createLink({ name: 'eth0', kind: 'veth', peer: { name: 'far' } }).index;
      nl.setLink('far', { up: true });
      nl.setLink(eth0, { up: true });
      nl.addAddr({ index: eth0, address: '10.1.1.1', prefix: 24, broadcast: '10.1.1.255' });
      nl.addAddr({ index: eth0, address: '2001:db8::1', prefix: 64 });
      // The kernel's own routes for the new addresses are made by its worker; three looks alike are calm.
      untilNow('the carrier is up and the routes of the addresses are there', () => {
        const routes = nl.routes();
        return nl.links().every((l) => l.name === 'lo' || l.operstate === 'UP') && routes.some((r) => r.dst === '2001:db8::1/128' && r.type === 'local')
          && routes.filter((r) => r.dst === 'ff00::/8').length === 2;
      });
      return eth0;
    });
    return work(ns, index);
  });
}

test('addresses are what ip shows', () => {
  withNic((ns, index) => {
    RtNetlink.with(ns, (nl) => {
      nl.addAddr({ index, address: '10.9.0.7', prefix: 32 });
      nl.addAddr({ index, address: '169.254.1.1', prefix: 32, scope: 'link' });
      nl.addAddr({ index: 1, address: '10.8.0.1', prefix: 8, scope: 'host' });
      nl.addAddr({ index, address: '2001:db8:1::7', prefix: 128 });
      ip(ns, 'addr', 'add', '10.7.0.1', 'peer', '10.7.0.2/32', 'dev', 'eth0', 'noprefixroute');
      const theirs = ipJson(ns, 'addr').flatMap((l) => (l['addr_info'] as Json[]).map((a) => ({
        index: l['ifindex'], family: a['family'], address: a['local'], prefix: a['prefixlen'], broadcast: a['broadcast'], scope: a['scope'], peer: a['address'],
        label: a['label'], nodad: a['nodad'] ?? false, noprefixroute: a['noprefixroute'] ?? false, tentative: a['tentative'] ?? false,
      })));
      const ours = nl.addrs().map((a) => ({
        index: a.index, family: a.family, address: a.address, prefix: a.prefix, broadcast: a.broadcast, scope: a.scope, peer: a.peer,
        label: a.label, nodad: a.flags.includes('nodad'), noprefixroute: a.flags.includes('noprefixroute'), tentative: a.tentative,
      }));
      const order = (l: readonly object[]): string[] => l.map((o) => JSON.stringify(o)).sort();
      assert.deepEqual(order(ours), order(theirs));
      nl.deleteAddr({ index, address: '10.9.0.7', prefix: 32 });
      assert.ok(!ip(ns, 'addr').includes('10.9.0.7'));
      assert.throws(() => nl.deleteAddr({ index, address: '10.9.0.7', prefix: 32 }), { code: 'NETLINK_REFUSED', errno: 'EADDRNOTAVAIL' });
    });
  });
});

const ROUTES: readonly RouteSpec[] = [
  { dst: '0.0.0.0/0', gateway: '10.1.1.2' },
  { dst: '10.20.0.0/16', gateway: '10.20.0.1', onlink: true },
  { dst: '10.21.0.0/24', prefsrc: '10.1.1.1', metric: 77 },
  { dst: '10.22.0.5/32', gateway: '10.1.1.2', mtu: 1350, protocol: 112 },
  { dst: '10.23.0.0/24', gateway: '10.1.1.2', table: 100 },
  { dst: '10.24.0.0/24', gateway: '10.1.1.2', table: 70000, metric: 5 },
  { dst: '10.25.0.0/24', type: 'blackhole' },
  { dst: '10.26.0.0/24', type: 'unreachable', metric: 4096 },
  { dst: '10.27.0.0/24', type: 'prohibit' },
  { dst: '10.28.0.0/24', type: 'throw', table: 100 },
  { dst: '10.29.0.0/24', gateway: 'fe80::2' },
  { dst: '10.30.0.1/32', type: 'local', table: 255 },
  { dst: '2001:db8:1::/48', gateway: '2001:db8::2' },
  { dst: '::/0', gateway: 'fe80::1', metric: 512 },
  { dst: '2001:db8:2::/64', metric: 10, mtu: 1400, protocol: 112 },
  { dst: '2001:db8:3::/64', type: 'blackhole' },
  { dst: '2001:db8:4::/64', gateway: '2001:db8::3', table: 1000 },
];
const NO_DEVICE = new Set(['blackhole', 'unreachable', 'prohibit', 'throw']);

/** The routes that `ip -j route` shows, in our words. */
function theirRoutes(ns: Netns): object[] {
  return (['inet', 'inet6'] as const).flatMap((family) =>
    ipJson(ns, '-N', '-d', family === 'inet' ? '-4' : '-6', 'route', 'show', 'table', 'all').map((r) => {
      const all = family === 'inet' ? '0.0.0.0/0' : '::/0';
      const dst = String(r['dst']);
      const via = r['via'] as Json | undefined;
      return {
        family, dst: dst === 'default' ? all : dst.includes('/') ? dst : `${dst}/${family === 'inet' ? 32 : 128}`,
        type: Number(r['type'] ?? 1), gateway: r['gateway'] ?? via?.['host'], dev: r['dev'], table: Number(r['table'] ?? 254), protocol: Number(r['protocol']),
        metric: r['metric'] ?? 0, prefsrc: r['prefsrc'], onlink: (r['flags'] as string[]).includes('onlink'), mtu: (r['metrics'] as Json[] | undefined)?.[0]?.['mtu'], pref: r['pref'],
        hops: (r['nexthops'] as Json[] | undefined)?.map((h) => ({ gateway: h['gateway'] ?? (h['via'] as Json | undefined)?.['host'], dev: h['dev'], weight: h['weight'] })) ?? [],
      };
    }));
}
const TYPES = ['unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast', 'blackhole', 'unreachable', 'prohibit', 'throw'];

function compareRoutes(ns: Netns): void {
  const ours = RtNetlink.with(ns, (nl) => {
    const names = new Map(nl.links().map((l) => [l.index, l.name]));
    return nl.routes().map((r) => ({
      family: r.family, dst: r.dst, type: TYPES.indexOf(r.type), gateway: r.gateway, dev: r.index === undefined ? undefined : names.get(r.index), table: r.table, protocol: r.protocol,
      metric: r.metric, prefsrc: r.prefsrc, onlink: r.onlink, mtu: r.mtu, pref: r.pref, hops: r.nexthops.map((h) => ({ gateway: h.gateway, dev: names.get(h.index), weight: h.weight })),
    }));
  });
  const order = (l: readonly object[]): string[] => l.map((o) => JSON.stringify(o)).sort();
  assert.deepEqual(order(ours), order(theirRoutes(ns)));
}

for (const spec of ROUTES) {
  test(`route ${JSON.stringify(spec)} is what ip shows, and can be deleted`, () => {
    withNic((ns, index) => {
      const full = NO_DEVICE.has(spec.type ?? '') ? spec : { ...spec, index: spec.type === 'local' ? 1 : index };
      RtNetlink.with(ns, (nl) => {
        const before = nl.routes().length;
        nl.addRoute(full);
        assert.equal(nl.routes().length, before + 1);
        compareRoutes(ns);
        const made = nl.routes().find((r) => r.dst === spec.dst && r.table === (spec.table ?? 254) && r.type === (spec.type ?? 'unicast'));
        assert.ok(made, 'found again');
        for (const key of ['gateway', 'onlink', 'mtu', 'prefsrc', 'protocol'] as const) if (spec[key] !== undefined) assert.equal(made[key], spec[key], key);
        if (spec.metric !== undefined) assert.equal(made.metric, spec.metric);
        assert.throws(() => nl.addRoute(full), { code: 'NETLINK_REFUSED', errno: 'EEXIST' });
        nl.addRoute(full, 'replace');
        nl.deleteRoute(full);
        assert.equal(nl.routes().length, before);
        assert.throws(() => nl.deleteRoute(full), { code: 'NETLINK_REFUSED', errno: 'ESRCH' });
      });
    });
  });
}

test('routes with several next hops, made by ip, are read alike', () => {
  withNic((ns) => {
    ip(ns, 'route', 'add', '10.50.0.0/16', 'nexthop', 'via', '10.1.1.2', 'weight', '1', 'nexthop', 'via', '10.1.1.3', 'weight', '5');
    ip(ns, '-6', 'route', 'add', '2001:db8:50::/48', 'nexthop', 'via', '2001:db8::2', 'nexthop', 'via', '2001:db8::3', 'weight', '2');
    ip(ns, 'route', 'add', '10.51.0.0/16', 'nexthop', 'via', 'inet6', 'fe80::5', 'dev', 'eth0', 'nexthop', 'via', '10.1.1.3');
    compareRoutes(ns);
    const [ecmp] = RtNetlink.with(ns, (nl) => nl.routes()).filter((r) => r.dst === '10.50.0.0/16');
    assert.deepEqual(ecmp?.nexthops.map((h) => [h.gateway, h.weight]), [['10.1.1.2', 1], ['10.1.1.3', 5]]);
  });
});

test('a lookup answers as ip route get', () => {
  withNic((ns, index) => {
    RtNetlink.with(ns, (nl) => {
      nl.addRoute({ dst: '10.60.0.0/16', gateway: '10.1.1.2', index });
      for (const dst of ['10.60.1.1', '10.1.1.77', '127.0.0.1', '2001:db8::9']) {
        const [theirs] = ipJson(ns, 'route', 'get', dst);
        const ours = nl.lookup({ dst });
        assert.deepEqual([ours?.gateway, ours?.prefsrc], [theirs?.['gateway'], theirs?.['prefsrc']], dst);
      }
      assert.equal(nl.lookup({ dst: '10.60.1.1' }, true)?.dst, '10.60.0.0/16', 'the entry of the table');
      assert.equal(nl.lookup({ dst: '10.99.0.1' }), undefined, 'no route');
    });
  });
});

test('rules are what ip shows', () => {
  withNic((ns) => {
    RtNetlink.with(ns, (nl) => {
      const names: Readonly<Record<string, number>> = { local: 255, main: 254, default: 253 };
      for (const line of ['rule add priority 100 from 10.0.0.0/8 to 10.9.0.0/16 iif eth0 fwmark 1/255 lookup 100', 'rule add priority 101 oif eth0 not from 10.5.0.1 lookup 70000',
        '-6 rule add priority 102 to 2001:db8::/32 lookup 5', 'rule add priority 103 from 10.3.0.0/16 blackhole', 'rule add priority 104 lookup main suppress_prefixlength 0',
        'rule add priority 105 ipproto tcp lookup 9', 'rule add priority 106 goto 32766']) ip(ns, ...line.split(' '));
      const theirs = (['-4', '-6'] as const).flatMap((f) => ipJson(ns, '-d', f, 'rule').map((r) => ({
        priority: r['priority'], table: names[String(r['table'])] ?? Number(r['table'] ?? 0),
        src: r['src'] === 'all' ? undefined : `${String(r['src'])}/${Number(r['srclen'] ?? (f === '-4' ? 32 : 128))}`,
        dst: r['dst'] === undefined ? undefined : `${String(r['dst'])}/${Number(r['dstlen'] ?? (f === '-4' ? 32 : 128))}`,
        iif: r['iif'], oif: r['oif'], invert: 'not' in r, mark: r['fwmark'] === undefined ? undefined : Number(r['fwmark']), suppress: r['suppress_prefixlen'], goto: r['goto'],
      })));
      const ours = nl.rules().map((r) => ({
        priority: r.priority, table: r.table, src: r.src, dst: r.dst, iif: r.iif, oif: r.oif, invert: r.invert, mark: r.fwmark || undefined, suppress: r.suppressPrefixLength, goto: r.goto,
      }));
      assert.deepEqual(ours.map((r) => JSON.stringify(r)), theirs.map((r) => JSON.stringify(r)));
    });
  });
});

test('neighbours in every state are what ip shows', () => {
  withNic((ns, index) => {
    RtNetlink.with(ns, (nl) => {
      const states = ['permanent', 'noarp', 'reachable', 'stale'] as const;
      states.forEach((state, i) => {
        nl.socket.request(addNeigh(index, `10.1.1.${10 + i}`, `02:00:00:00:01:0${i}`, state));
        nl.socket.request(addNeigh(index, `2001:db8::${10 + i}`, `02:00:00:00:02:0${i}`, state));
      });
      ip(ns, 'neigh', 'add', 'proxy', '10.1.1.50', 'dev', 'eth0');
      ip(ns, '-6', 'neigh', 'add', '2001:db8::77', 'lladdr', '02:00:00:00:03:00', 'dev', 'eth0', 'router', 'nud', 'permanent');
      const ours = nl.neighs().filter((n) => n.index === index && !n.dst.startsWith('ff02') && !n.dst.startsWith('224.'))
        .map((n) => [n.dst, n.lladdr, n.proxy ? undefined : n.state.toUpperCase(), n.proxy, n.router]);
      const theirs = ['-4', '-6'].flatMap((f) => [...ipJson(ns, f, 'neigh', 'show', 'nud', 'all', 'dev', 'eth0'), ...ipJson(ns, f, 'neigh', 'show', 'proxy', 'dev', 'eth0')])
        .filter((n) => !String(n['dst']).startsWith('ff02') && !String(n['dst']).startsWith('224.'))
        .map((n) => [n['dst'], n['lladdr'], (n['state'] as string[] | undefined)?.[0], 'proxy' in n, 'router' in n]);
      const order = (l: readonly unknown[]): string[] => l.map((o) => JSON.stringify(o)).sort();
      assert.deepEqual(order(ours), order(theirs));
    });
  });
});

const addNeigh = (index: number, dst: string, lladdr: string, state: 'permanent' | 'noarp' | 'reachable' | 'stale') => neigh({ index, dst, lladdr, state });

test('FDB entries of bridge and VTEP are what bridge shows', () => {
  withNic((ns, index) => {
    RtNetlink.with(ns, (nl) => {
      const br = nl.createLink({ name: 'br0', kind: 'bridge' }).index;
      nl.setLink('far', { master: br });
      const vx = nl.createLink({ name: 'vx', kind: 'vxlan', vxlan: { id: 1, local: '10.1.1.1', link: index, port: 8472, learning: false } }).index;
      nl.send(fdbAdd({ index: vx, lladdr: '02:00:00:00:00:0b', dst: '172.18.0.3' }));
      nl.send(fdbAdd({ index: vx, lladdr: '00:00:00:00:00:00', dst: '172.18.0.3' }, 'append'));
      nl.send(fdbAdd({ index: vx, lladdr: '00:00:00:00:00:00', dst: '172.18.0.4' }, 'append'));
      bridge(ns, 'fdb', 'add', '02:00:00:00:00:0c', 'dev', 'vx', 'dst', '172.18.0.5', 'port', '9999', 'vni', '44', 'via', 'eth0');
      bridge(ns, 'fdb', 'add', '02:00:00:00:00:0d', 'dev', 'far', 'master', 'static');
      bridge(ns, 'fdb', 'add', '02:00:00:00:00:0e', 'dev', 'far', 'master', 'permanent');
      const names = new Map(nl.links().map((l) => [l.index, l.name]));
      const STATE: Readonly<Record<string, string>> = { noarp: 'static', permanent: 'permanent', reachable: '', stale: 'stale' };
      const ours = nl.fdb().map((f) => ({
        mac: f.lladdr, dev: names.get(f.index), dst: f.dst, port: f.port, vni: f.vni, via: f.via === undefined ? undefined : names.get(f.via),
        master: f.master === undefined ? undefined : names.get(f.master), state: STATE[f.state] ?? f.state, self: f.self,
      }));
      const theirs = bridgeJson(ns, '-d', 'fdb').map((f) => ({
        mac: f['mac'], dev: f['ifname'], dst: f['dst'], port: f['port'], vni: f['vni'], via: f['viaIf'] ?? f['via'] ?? f['viaIfIndex'], master: f['master'], state: f['state'],
        self: (f['flags'] as string[]).includes('self'),
      }));
      const order = (l: readonly object[]): string[] => l.map((o) => JSON.stringify(o)).sort();
      assert.deepEqual(order(ours), order(theirs));
      nl.send(fdbDelete({ index: vx, lladdr: '02:00:00:00:00:0b', dst: '172.18.0.3' }));
      assert.ok(!bridge(ns, 'fdb').includes('02:00:00:00:00:0b'));
      assert.throws(() => nl.send(fdbDelete({ index: vx, lladdr: '02:00:00:00:00:0b', dst: '172.18.0.3' })), { errno: 'ENOENT' });
    });
  });
});
