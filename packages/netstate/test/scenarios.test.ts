/** Single situations on a real kernel: refusals, conflicts, links made anew, order, objects that vanish in between. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { NetlinkSocket, PROTOCOL, readSysctl } from '@podway/kernel';
import { apply, diff, emptyState, observe, type Applied, type Change, type FdbEntry, type Link, type Neighbour, type NetnsState, type Route } from '../src/index.js';
import { addForeign, needsRoot, ownership, snapshot, state, withScratch, type Scratch } from './scratch.js';

const vtep = (name: string, vni: number, more: Partial<Link> = {}): Link => ({
  name, kind: 'vxlan', up: true, mtu: 1450, address: '0e:70:77:00:00:01', alias: `podway: VTEP ${name}`,
  vxlan: { vni, port: 8472, local: '172.18.0.2', dev: 'up0', learning: false }, ...more,
});
const route = (n: number, dev = 'vx0', more: Partial<Route> = {}): Route => ({
  family: 'inet', dst: `10.244.${n}.0/24`, gateway: `10.244.${n}.0`, dev, type: 'unicast', table: 254, metric: 0, protocol: PROTOCOL.boot, onlink: true, ...more,
});
const neighbour = (n: number, dev = 'vx0'): Neighbour => ({ dev, family: 'inet', dst: `10.244.${n}.0`, lladdr: `0e:70:77:f4:0${n}:00`, state: 'permanent' });
const entry = (n: number, dev = 'vx0'): FdbEntry => ({ dev, lladdr: `0e:70:77:f4:0${n}:00`, dst: `172.18.1.${n}`, state: 'permanent', self: true });
const peers = (...numbers: number[]): Partial<NetnsState> => ({
  neighbours: numbers.map((n) => neighbour(n)), fdb: numbers.map((n) => entry(n)), routes: numbers.map((n) => route(n)),
});
const address = (dev: string, text: string, broadcast?: string) => {
  const [a = '', prefix] = text.split('/');
  return { dev, family: 'inet' as const, address: a, prefix: Number(prefix), ...(broadcast === undefined ? {} : { broadcast }) };
};

const changesFor = (s: Scratch, desired: NetnsState): Change[] => diff(desired, observe(s.ns), ownership);
const bring = (s: Scratch, desired: NetnsState): Applied => apply(s.ns, changesFor(s, desired));
const words = (changes: readonly Change[]): string[] => changes.map((c) => `${c.op} ${c.kind} ${c.key}: ${c.reason}`);
const failures = (a: Applied): string[] => a.failed.map((f) => `${f.change.kind} ${f.change.key}: ${f.error.message}`);
const must = (a: Applied): void => assert.deepEqual(failures(a), []);

const scenario = (name: string, work: (s: Scratch) => void): void => {
  test(name, { skip: needsRoot }, () => withScratch((s) => {
    addForeign(s);
    work(s);
  }));
};

scenario('neighbour and FDB entry come before the route, and go after it: told by the kernel’s own notifications', (s) => {
  must(bring(s, state({ links: [vtep('vx0', 1)] })));
  const [RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWNEIGH, RTM_DELNEIGH] = [3, 7, 24, 25, 28, 29];
  const listener = NetlinkSocket.open(s.ns, 0, [RTNLGRP_NEIGH!, RTNLGRP_IPV4_ROUTE!]);
  try {
    must(bring(s, state({ links: [vtep('vx0', 1)] }, peers(1, 2, 3))));
    const up = listener.drain();
    must(bring(s, state({ links: [vtep('vx0', 1)] })));
    const down = listener.drain();
    assert.equal(up.lost || down.lost, false);
    assert.deepEqual(up.answers.map((a) => a.type), [...Array<number>(6).fill(RTM_NEWNEIGH!), ...Array<number>(3).fill(RTM_NEWROUTE!)]);
    // A neighbour is told of once more, as failed, before it is told to be gone.
    assert.deepEqual(down.answers.map((a) => a.type).filter((t) => t !== RTM_NEWNEIGH), [...Array<number>(3).fill(RTM_DELROUTE!), ...Array<number>(6).fill(RTM_DELNEIGH!)]);
    const AF_BRIDGE = 7;
    const isFdb = up.answers.slice(0, 6).map((a) => a.buffer.readUInt8(a.start) === AF_BRIDGE);
    assert.deepEqual(isFdb, [false, false, false, true, true, true]);
  } finally {
    listener.close();
  }
});

scenario('one refusal does not stop the others, and carries its change and the kernel’s words', (s) => {
  const desired = state(
    { links: [vtep('vx0', 1), vtep('vx1', 1, { address: '0e:70:77:00:00:02' })], addresses: [address('vx0', '10.244.0.0/32'), address('none0', '10.244.9.9/32')] },
    peers(1, 2),
    {
      neighbours: [neighbour(3, 'none0'), { ...neighbour(4), lladdr: 'not a MAC' }], fdb: [entry(3, 'none0')],
      routes: [route(3, 'none0'), route(4, 'vx0', { gateway: '300.1.1.1' }), route(5, 'vx0', { prefsrc: '9.9.9.9' }), { ...route(6), dst: '10.244.6.1/24' }],
      rules: [{ family: 'inet', priority: 900, action: 'lookup', table: 100, src: '10.244.0.0/16', protocol: PROTOCOL.podway }],
      sysctls: { 'net.ipv4.no_such_thing': '1' },
    },
  );
  const result = bring(s, desired);
  assert.deepEqual(failures(result), [
    'link vx1: cannot create vxlan link vx1: A VXLAN device with the specified VNI already exists (EEXIST)',
    'sysctl net.ipv4.no_such_thing: cannot set sysctl net.ipv4.no_such_thing to 1: ENOENT',
    'address 10.244.9.9/32 dev none0: there is no link none0: ENODEV',
    'neighbour 10.244.3.0 dev none0: there is no link none0: ENODEV',
    'neighbour 10.244.4.0 dev vx0: "not a MAC" is not a link-layer address',
    'fdb 0e:70:77:f4:03:00 dev none0: there is no link none0: ENODEV',
    'route 10.244.3.0/24 table 254 metric 0: there is no link none0: ENODEV',
    'route 10.244.4.0/24 table 254 metric 0: "300.1.1.1" is not an IP address',
    'route 10.244.5.0/24 table 254 metric 0: cannot add route 10.244.5.0/24 via 10.244.5.0 dev #4: Invalid prefsrc address (EINVAL)',
    'route 10.244.6.1/24 table 254 metric 0: cannot add route 10.244.6.1/24 via 10.244.6.0 dev #4: Invalid prefix for given prefix length (EINVAL)',
  ]);
  assert.equal(result.done.length, 1 + 1 + 2 + 2 + 2 + 1);
  const again = diff(desired, observe(s.ns), ownership);
  assert.deepEqual(again.map((c) => c.key).sort(), result.failed.map((f) => f.change.key).sort());
});

scenario('what is on a link that is made anew is put back: ours, its sysctls, and what somebody else put there', (s) => {
  const v = vtep('vx0', 1);
  const sysctls = { 'net.ipv4.conf.vx0.rp_filter': '2', 'net.ipv4.conf.vx0.forwarding': '0' };
  const desired = state({ links: [v], addresses: [address('vx0', '10.244.0.0/32')], sysctls }, peers(1, 2));
  must(bring(s, desired));
  s.ip('addr', 'add', '192.168.5.1/24', 'dev', 'vx0');
  s.ip('route', 'add', '192.168.9.0/24', 'via', '192.168.5.9', 'dev', 'vx0', 'proto', 'static');
  s.ip('neigh', 'add', '192.168.5.9', 'lladdr', '02:00:00:00:00:77', 'dev', 'vx0', 'nud', 'permanent');
  s.bridge('fdb', 'append', '00:00:00:00:00:00', 'dev', 'vx0', 'dst', '172.18.3.1', 'self', 'permanent');
  s.bridge('fdb', 'append', '00:00:00:00:00:00', 'dev', 'vx0', 'dst', '172.18.3.2', 'self', 'permanent');
  const before = observe(s.ns);
  const on = (o: NetnsState) => JSON.stringify([
    o.addresses.filter((a) => a.dev === 'vx0'), o.routes.filter((r) => r.dev === 'vx0').map((r) => JSON.stringify(r)).sort(),
    o.neighbours.filter((n) => n.dev === 'vx0').map((n) => n.dst).sort(), o.fdb.filter((f) => f.dev === 'vx0').map((f) => `${f.lladdr} ${f.dst}`).sort(),
  ]);

  const moved = { ...desired, links: [{ ...v, vxlan: { ...v.vxlan!, vni: 7 } }] };
  const changes = changesFor(s, moved);
  assert.deepEqual(words(changes).filter((w) => /link|sysctl|192\.168/.test(w) && !/^create (route|neighbour|fdb) .*10\.244/.test(w) && !/0e:70/.test(w)), [
    'recreate link vx0: vni 1 instead of 7',
    'create address 10.244.0.0/32 dev vx0: link vx0 is made anew',
    'create address 192.168.5.1/24 dev vx0: was on link vx0, which is made anew',
    'create route 192.168.9.0/24 table 254 metric 0: was on link vx0, which is made anew',
    'create neighbour 192.168.5.9 dev vx0: was on link vx0, which is made anew',
    'create fdb 00:00:00:00:00:00 dev vx0 dst 172.18.3.1: was on link vx0, which is made anew',
    'create fdb 00:00:00:00:00:00 dev vx0 dst 172.18.3.2: was on link vx0, which is made anew',
    'change sysctl net.ipv4.conf.vx0.rp_filter: link vx0 is made anew, must be 2',
    'change sysctl net.ipv4.conf.vx0.forwarding: link vx0 is made anew, must be 0',
  ]);
  must(apply(s.ns, changes));
  assert.deepEqual(words(changesFor(s, moved)), []);
  assert.equal(on(observe(s.ns)), on(before));
  assert.equal(readSysctl(s.ns, 'net.ipv4.conf.vx0.rp_filter'), '2');
});

scenario('a link made anew in a difference of two desired states gets its sysctls again', (s) => {
  const v = vtep('vx0', 1);
  const one = state({ links: [v], sysctls: { 'net.ipv4.conf.vx0.rp_filter': '2' } });
  const two = state({ links: [{ ...v, vxlan: { ...v.vxlan!, vni: 7 } }], sysctls: { 'net.ipv4.conf.vx0.rp_filter': '2' } });
  must(bring(s, one));
  must(apply(s.ns, diff(two, { ...one, links: one.links }, ownership)));
  assert.equal(readSysctl(s.ns, 'net.ipv4.conf.vx0.rp_filter'), '2');
});

scenario('a VXLAN device on a lower device of ours: made in order, made anew together', (s) => {
  const lower: Link = { name: 'low0', kind: 'bridge', up: true, alias: 'podway: lower' };
  const upper = vtep('vx0', 1, { mtu: 1300, vxlan: { vni: 1, port: 8472, local: '172.18.0.2', dev: 'low0', learning: false } });
  // Given in the wrong order on purpose.
  const desired = state({ links: [upper, lower] }, peers(1));
  must(bring(s, desired));
  assert.deepEqual(words(changesFor(s, desired)), []);
  const anew = { ...desired, links: [upper, vtep('low0', 55, { alias: 'podway: lower' })] };
  assert.deepEqual(words(changesFor(s, anew)).filter((w) => w.includes(' link ') && w.startsWith('recreate')), [
    'recreate link low0: kind bridge instead of vxlan', 'recreate link vx0: low0 below it is made anew',
  ]);
  must(bring(s, anew));
  assert.deepEqual(words(changesFor(s, anew)), []);
});

scenario('ports come back to a bridge that is made anew, those of others too', (s) => {
  const v = vtep('br0', 3, { mtu: 1450 });
  s.ip('link', 'add', 'p0', 'type', 'veth', 'peer', 'name', 'p1');
  s.ip('link', 'add', 'q0', 'type', 'veth', 'peer', 'name', 'q1');
  must(bring(s, state({ links: [v] })));
  const bridge: Link = { name: 'br0', kind: 'bridge', up: true, alias: v.alias! };
  const port: Link = { name: 'p0', kind: 'veth', up: true, master: 'br0', port: { hairpin: true, isolated: true, learning: false, flood: false, neighSuppress: true, proxyArp: true } };
  must(bring(s, state({ links: [bridge, port] })));
  assert.deepEqual(words(changesFor(s, state({ links: [bridge, port] }))), []);
  const seen = observe(s.ns).links.find((l) => l.name === 'p0')!;
  assert.deepEqual({ ...seen.port, state: undefined }, { ...port.port, state: undefined });
  s.ip('link', 'set', 'q0', 'master', 'br0', 'up');
  // From VXLAN and back, as when a name is given another meaning.
  const now = observe(s.ns);
  const asVxlan = { ...now, links: now.links.map((l) => (l.name === 'br0' ? { ...l, kind: 'vxlan' } : l)) };
  const changes = diff(state({ links: [bridge, port] }), asVxlan, ownership);
  assert.deepEqual(words(changes).filter((w) => w.includes(' link ')), [
    'recreate link br0: kind vxlan instead of bridge', 'change link p0: its bridge br0 is made anew', 'change link q0: its bridge br0 is made anew',
  ]);
  must(apply(s.ns, changes));
  const after = observe(s.ns).links;
  assert.deepEqual(after.filter((l) => l.master === 'br0').map((l) => l.name), ['p0', 'q0']);
  assert.deepEqual(words(changesFor(s, state({ links: [bridge, port] }))), []);
});

scenario('a link of our name that is somebody else’s is left alone, with all that should be on it', (s) => {
  const before = snapshot(s);
  const desired = state({ links: [vtep('fvx', 900)], addresses: [address('fvx', '10.244.0.0/32')], neighbours: [neighbour(1, 'fvx')], fdb: [entry(1, 'fvx')], routes: [route(1, 'fvx')] });
  const result = bring(s, desired);
  assert.equal(result.done.length, 0);
  assert.deepEqual(result.failed.map((f) => f.error.code), Array<string>(5).fill('OBJECT_NOT_OURS'));
  assert.match(result.failed[0]!.error.message, /a link of that name exists and is not Podway's \(port 4999 instead of 8472\)/);
  assert.match(result.failed[1]!.error.message, /address 10\.244\.0\.0\/32 dev fvx link fvx is not Podway's/);
  assert.equal(snapshot(s), before);
});

scenario('a device without alias in the desired state may be set, never made anew', (s) => {
  const uplink: Link = { name: 'up0', kind: 'bridge', up: true, mtu: 1400 };
  must(bring(s, state({ links: [uplink] })));
  assert.equal(observe(s.ns).links.find((l) => l.name === 'up0')!.mtu, 1400);
  assert.deepEqual(words(changesFor(s, state({ links: [{ ...uplink, kind: 'device' }] }))), [
    "conflict link up0: a link of that name exists and is not Podway's (kind bridge instead of device)",
  ]);
});

scenario('an alias that was taken off makes a link a stranger: said, not overwritten', (s) => {
  const v = vtep('vx0', 1);
  must(bring(s, state({ links: [v] })));
  s.ip('link', 'set', 'vx0', 'alias', '');
  assert.deepEqual(words(changesFor(s, state({ links: [v] }))), [
    "conflict link vx0: a link of that name exists and is not Podway's (alias none instead of podway: VTEP vx0)",
  ]);
});

scenario('what vanished between observing and applying counts as removed', (s) => {
  const v = vtep('vx0', 1);
  const desired = state({ links: [v, { name: 'br0', kind: 'bridge', up: true, alias: 'podway: b' }], addresses: [address('br0', '10.244.0.1/24')] }, peers(1, 2), {
    rules: [{ family: 'inet', priority: 900, action: 'lookup', table: 100, src: '10.244.0.0/16', protocol: PROTOCOL.podway }],
  });
  must(bring(s, desired));
  const none = changesFor(s, emptyState());
  assert.equal(none.length, 2 + 1 + 6 + 1);
  s.ip('link', 'del', 'vx0');
  s.ip('addr', 'del', '10.244.0.1/24', 'dev', 'br0');
  s.ip('rule', 'del', 'priority', '900');
  const result = apply(s.ns, none);
  must(result);
  assert.equal(result.done.length, none.length);
  assert.deepEqual(words(changesFor(s, emptyState())), []);
});

scenario('an object somebody made in between is not overwritten', (s) => {
  const desired = state({ routes: [{ family: 'inet', dst: '10.244.0.0/16', type: 'blackhole', table: 254, metric: 0, protocol: PROTOCOL.podway }] });
  const changes = changesFor(s, desired);
  s.ip('route', 'add', 'unreachable', '10.244.0.0/16', 'proto', 'static');
  assert.deepEqual(failures(apply(s.ns, changes)), ['route 10.244.0.0/16 table 254 metric 0: cannot add route blackhole 10.244.0.0/16: file already exists (EEXIST)']);
  assert.deepEqual(words(changesFor(s, desired)), [
    "conflict route 10.244.0.0/16 table 254 metric 0: exists and is not Podway's (type unreachable instead of blackhole, protocol 4 instead of 112)",
  ]);
});

scenario('several routes with one key: the right one is found, the others of ours go, foreign ones stay', (s) => {
  must(bring(s, state({ links: [vtep('vx0', 1)] })));
  const six = (gateway: string, proto: string) => s.ip('-6', 'route', 'append', 'fd00:5::/64', 'via', gateway, 'dev', 'vx0', 'onlink', 'proto', proto, 'metric', '50');
  const v6: Route = { family: 'inet6', dst: 'fd00:5::/64', dev: 'vx0', type: 'unicast', table: 254, metric: 50, protocol: PROTOCOL.podway, onlink: true };
  const links = [vtep('vx0', 1)];
  six('fd00:5::1', '112');
  six('fd00:5::2', '112');
  const both = state({ links, routes: [{ family: 'inet6', dst: 'fd00:5::/64', type: 'unicast', table: 254, metric: 50, protocol: PROTOCOL.podway, nexthops: [
    { gateway: 'fd00:5::2', dev: 'vx0', weight: 1, onlink: true }, { gateway: 'fd00:5::1', dev: 'vx0', weight: 1, onlink: true }] }] });
  assert.deepEqual(words(changesFor(s, both)), []);
  // From two next hops to one.
  must(bring(s, state({ links, routes: [{ ...v6, gateway: 'fd00:5::2' }] })));
  assert.deepEqual(words(changesFor(s, state({ links, routes: [{ ...v6, gateway: 'fd00:5::2' }] }))), []);
  must(bring(s, both));
  assert.deepEqual(words(changesFor(s, both)), []);
  // IPv4 takes a second route with the same key when it is appended.
  must(bring(s, state({ links, routes: [route(1, 'vx0', { protocol: PROTOCOL.podway })] })));
  s.ip('route', 'append', '10.244.1.0/24', 'via', '10.244.1.9', 'dev', 'vx0', 'onlink', 'proto', '112');
  s.ip('route', 'append', '10.244.1.0/24', 'via', '10.244.1.7', 'dev', 'vx0', 'onlink', 'proto', 'static');
  const want = state({ links, routes: [route(1, 'vx0', { protocol: PROTOCOL.podway })] });
  assert.deepEqual(words(changesFor(s, want)), ['delete route 10.244.1.0/24 table 254 metric 0: no longer wanted']);
  must(bring(s, want));
  assert.deepEqual(observe(s.ns).routes.filter((r) => r.dst === '10.244.1.0/24').map((r) => `${r.gateway} ${r.protocol}`), ['10.244.1.0 112', '10.244.1.7 4']);
});

scenario('a broadcast address that differs is mended, which the kernel itself cannot', (s) => {
  const bridge: Link = { name: 'br0', kind: 'bridge', up: true, alias: 'podway: b' };
  must(bring(s, state({ links: [bridge], addresses: [address('br0', '10.244.0.1/24', '10.244.0.255')] })));
  s.ip('addr', 'del', '10.244.0.1/24', 'dev', 'br0');
  s.ip('addr', 'add', '10.244.0.1/24', 'dev', 'br0');
  const want = state({ links: [bridge], addresses: [address('br0', '10.244.0.1/24', '10.244.0.255')] });
  assert.deepEqual(words(changesFor(s, want)), ['change address 10.244.0.1/24 dev br0: broadcast none instead of 10.244.0.255']);
  must(bring(s, want));
  assert.deepEqual(words(changesFor(s, want)), []);
});

scenario('a proxy neighbour, flood entries and a sysctl written with blanks converge', (s) => {
  const desired = state({
    links: [vtep('vx0', 1)], neighbours: [{ dev: 'vx0', family: 'inet', dst: '10.244.8.8', state: 'permanent', proxy: true }],
    fdb: [1, 2].map((n) => ({ dev: 'vx0', lladdr: '00:00:00:00:00:00', dst: `172.18.1.${n}`, state: 'permanent', self: true })),
    sysctls: { 'net.ipv4.ip_local_port_range': '20000 60000' },
  });
  must(bring(s, desired));
  assert.deepEqual(words(changesFor(s, desired)), []);
  // Entries made by `bridge fdb … permanent` carry NOARP as well; they are permanent all the same.
  s.bridge('fdb', 'add', '0e:70:77:09:09:09', 'dev', 'vx0', 'dst', '172.18.1.9', 'self', 'permanent');
  assert.equal(observe(s.ns).fdb.find((f) => f.lladdr === '0e:70:77:09:09:09')?.state, 'permanent');
});

scenario('a table is replaced in one transaction: counters of others go on, a refused table changes nothing', (s) => {
  const where = { family: 'inet', table: 'podway' };
  const table = (elem: string[], expr: unknown) => [
    { table: { family: 'inet', name: 'podway' } }, { set: { ...where, name: 'pods', type: 'ipv4_addr', elem } },
    { chain: { ...where, name: 'c', type: 'filter', hook: 'forward', prio: 0, policy: 'accept' } }, { rule: { ...where, chain: 'c', expr: [expr, { counter: { packets: 0, bytes: 0 } }] } },
  ];
  const saddr = { match: { op: '==', left: { payload: { protocol: 'ip', field: 'saddr' } }, right: '@pods' } };
  const one = state({ nft: table(['10.0.0.1', '10.0.0.2'], saddr) });
  must(bring(s, one));
  assert.deepEqual(words(changesFor(s, state({ nft: table(['10.0.0.2', '10.0.0.1'], saddr) }))), [], 'elements in another order');
  const handles = observe(s.ns).nft;
  const broken = state({ nft: table(['10.0.0.1'], { match: { op: '==', left: { payload: { protocol: 'ip', field: 'saddr' } }, right: '@no_such_set' } }) });
  const refused = bring(s, broken);
  assert.equal(refused.failed[0]?.error.code === 'NFT_REFUSED' || refused.failed[0]?.error.code === 'NFT_NOT_FOUND', true);
  assert.deepEqual(observe(s.ns).nft, handles, 'nothing was changed');
  must(bring(s, state({ nft: table(['10.0.0.9'], saddr) })));
  assert.match(s.nft('list table inet podway'), /elements = \{ 10\.0\.0\.9 \}/);
  // A table of a name that is not ours is nobody's business, even when it is wanted.
  const other = bring(s, state({ nft: [{ table: { family: 'inet', name: 'other' } }] }, { nft: table(['10.0.0.9'], saddr) }));
  assert.deepEqual(other.failed.map((f) => f.error.code), ['OBJECT_NOT_OURS']);
});

scenario('IPv6: a way by a tunnel takes the place of one by the uplink that covers its gateway, and back, without a moment without a way', (s) => {
  const tunnel = vtep('vx6', 1, { mtu: 1430, vxlan: { vni: 1, port: 8472, local: 'fd18::2', dev: 'up0', learning: false } });
  const common = { family: 'inet6', dst: 'fd00:10:244:1::/64', type: 'unicast', table: 254, metric: 1024 } as const;
  const direct: Route = { ...common, gateway: 'fd18::3', dev: 'up0', protocol: PROTOCOL.podway };
  const encapsulated: Route = { ...common, gateway: 'fd00:10:244:1::', dev: 'vx6', protocol: PROTOCOL.boot, onlink: true };
  must(bring(s, state({ links: [tunnel], routes: [direct] })));
  const [RTNLGRP_IPV6_ROUTE, RTM_NEWROUTE, RTM_DELROUTE] = [11, 24, 25];
  const listener = NetlinkSocket.open(s.ns, 0, [RTNLGRP_IPV6_ROUTE]);
  try {
    must(bring(s, state({ links: [tunnel], routes: [encapsulated] })));
    // To the gateway, in place of the old way, and the first is gone again: the way to the pods itself is never deleted.
    assert.deepEqual(listener.drain().answers.map((a) => a.type), [RTM_NEWROUTE, RTM_NEWROUTE, RTM_DELROUTE]);
  } finally {
    listener.close();
  }
  assert.deepEqual(changesFor(s, state({ links: [tunnel], routes: [encapsulated] })), []);
  assert.match(s.ip('-6', 'route', 'show', 'fd00:10:244:1::/64'), /^fd00:10:244:1::\/64 via fd00:10:244:1:: dev vx6 metric 1024 onlink/);
  assert.equal(s.ip('-6', 'route', 'show', 'fd00:10:244:1::/128'), '', 'what stood there for the time of the request is gone');
  // Beside a learnt way that is better and covers the gateway too.
  must(bring(s, state({ links: [tunnel] })));
  s.ip('-6', 'route', 'add', 'fd00:10:244:1::/64', 'via', 'fd18::3', 'dev', 'up0', 'metric', '32', 'proto', 'bird');
  must(bring(s, state({ links: [tunnel], routes: [encapsulated] })));
  must(bring(s, state({ links: [tunnel], routes: [direct] })));
});
