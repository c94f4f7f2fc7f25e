/** Random desired states that a kernel with one uplink `up0` (172.18.0.2/16) can be brought to. */
import fc from 'fast-check';
import { emptyState, SHAPER_HANDLE, type Address, type FdbEntry, type Link, type Neighbour, type NetnsState, type NftObject, type Qdisc, type Route, type Rule } from '../src/index.js';

const defined = <T extends object>(o: T): T => Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined)) as T;
const maybe = <T>(a: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(a, { nil: undefined });
const octet = fc.integer({ min: 0, max: 255 });
const hex = (n: number) => n.toString(16).padStart(2, '0');
const mac = fc.tuple(octet, octet, octet).map(([a, b, c]) => `0e:70:77:${hex(a)}:${hex(b)}:${hex(c)}`);
const underlay = fc.integer({ min: 3, max: 250 }).map((n) => `172.18.1.${n}`);
const unique = <T>(item: fc.Arbitrary<T>, key: (o: T) => string, maxLength: number) => fc.uniqueArray(item, { selector: key, maxLength });

const bridge = (name: string): fc.Arbitrary<Link> =>
  fc.record({
    name: fc.constant(name), kind: fc.constant('bridge'), up: fc.constant(true), alias: fc.constantFrom('podway: a bridge', 'podway: bridge of pods'),
    mtu: maybe(fc.integer({ min: 1280, max: 1500 })), address: maybe(mac),
    bridge: maybe(fc.record({
      stp: maybe(fc.boolean()), vlanFiltering: maybe(fc.constant(false)), ageingTime: maybe(fc.integer({ min: 1, max: 600 })), nfCallIptables: maybe(fc.boolean()), nfCallIp6tables: maybe(fc.boolean()),
      mcastSnooping: maybe(fc.boolean()),
    }).map(defined)),
  }).map((l) => defined(l) as Link);

const vxlan = (name: string, port: number): fc.Arbitrary<Link> =>
  fc.record({
    name: fc.constant(name), kind: fc.constant('vxlan'), up: fc.constant(true), alias: fc.constant(`podway: VTEP ${name}`),
    mtu: maybe(fc.integer({ min: 1280, max: 1450 })), address: maybe(mac),
    vxlan: fc.record({
      vni: fc.constantFrom(1, 2), port: fc.constant(port), learning: fc.boolean(), local: fc.constant('172.18.0.2'), dev: fc.constant('up0'),
      udpCsum: maybe(fc.boolean()), ttl: maybe(fc.constantFrom(16, 64)), df: maybe(fc.constantFrom(0, 1)),
    }).map(defined),
  }).map((l) => defined(l) as Link);

const address = (dev: string): fc.Arbitrary<Address> =>
  fc.oneof(
    fc.record({ n: octet, prefix: fc.constantFrom(24, 32), broadcast: fc.boolean() }).map(({ n, prefix, broadcast }): Address => ({
      dev, family: 'inet', address: `10.77.${n}.1`, prefix, ...(broadcast && prefix === 24 ? { broadcast: `10.77.${n}.255` } : {}),
    })),
    fc.record({ n: fc.integer({ min: 1, max: 255 }), prefix: fc.constantFrom(64, 128) }).map(({ n, prefix }): Address => ({ dev, family: 'inet6', address: `fd00:77:${n.toString(16)}::1`, prefix })),
  );

const TABLES = [254, 100, 1000] as const;

const route = (vteps: readonly string[]): fc.Arbitrary<Route> => {
  const base = fc.record({ n: octet, table: fc.constantFrom(...TABLES), metric: fc.constantFrom(0, 10, 1024) });
  const none = base.chain(({ n, table, metric }) => fc.constantFrom('blackhole', 'unreachable', 'prohibit').chain((type) => fc.constantFrom(
    { family: 'inet', dst: `10.${n}.0.0/16`, type, table, metric, protocol: 112 } as const,
    { family: 'inet6', dst: `fd00:${(n + 256).toString(16)}::/48`, type, table, metric, protocol: 112 } as const,
  )));
  if (vteps.length === 0) return none;
  const dev = fc.constantFrom(...vteps);
  const v4 = fc.tuple(base, dev, maybe(fc.constantFrom(1300, 1400))).map(([{ n, table, metric }, d, mtu]): Route => ({
    family: 'inet' as const, dst: `10.100.${n}.0/24`, gateway: `10.100.${n}.0`, dev: d, type: 'unicast' as const, table, metric, protocol: 112, onlink: true, ...(mtu === undefined ? {} : { mtu }),
  }));
  const flannel = fc.tuple(octet, dev).map(([n, d]): Route => ({
    family: 'inet', dst: `10.101.${n}.0/24`, gateway: `10.101.${n}.0`, dev: d, type: 'unicast', table: 254, metric: 0, protocol: 3, onlink: true,
  }));
  const v6 = fc.tuple(base, dev).map(([{ n, table, metric }, d]): Route => ({
    family: 'inet6', dst: `fd00:${(n + 0x1000).toString(16)}::/64`, gateway: `fd00:${(n + 0x1000).toString(16)}::1`, dev: d, type: 'unicast', table, metric, protocol: 112, onlink: true,
  }));
  const direct = fc.tuple(base, dev).map(([{ n, table, metric }, d]): Route => ({
    family: 'inet', dst: `10.102.${n}.0/24`, dev: d, type: 'unicast', table, metric, protocol: 112, scope: 'link',
  }));
  const several = fc.tuple(base, fc.integer({ min: 1, max: 5 }), fc.boolean()).map(([{ n, table, metric }, weight, six]): Route => ({
    family: six ? 'inet6' : 'inet', dst: six ? `fd00:${(n + 0x2000).toString(16)}::/64` : `10.103.${n}.0/24`, type: 'unicast', table, metric, protocol: 112,
    nexthops: [1, 2].map((hop) => ({
      gateway: six ? `fd00:ff::${hop}` : `10.255.0.${hop}`, dev: vteps[hop % vteps.length]!, weight: hop === 1 ? weight : 1, onlink: true,
    })),
  }));
  return fc.oneof(none, v4, flannel, v6, direct, several);
};

const neighbour = (dev: string): fc.Arbitrary<Neighbour> =>
  fc.oneof(
    fc.tuple(octet, mac).map(([n, lladdr]): Neighbour => ({ dev, family: 'inet', dst: `10.100.${n}.0`, lladdr, state: 'permanent' })),
    fc.tuple(octet, mac).map(([n, lladdr]): Neighbour => ({ dev, family: 'inet6', dst: `fd00:${(n + 0x1000).toString(16)}::1`, lladdr, state: 'permanent' })),
  );

const fdb = (dev: string): fc.Arbitrary<FdbEntry> => fc.tuple(mac, underlay).map(([lladdr, dst]) => ({ dev, lladdr, dst, state: 'permanent', self: true }));

const rule: fc.Arbitrary<Rule> = fc.record({
  priority: fc.integer({ min: 1000, max: 1010 }), table: fc.constantFrom(...TABLES), six: fc.boolean(), n: octet, mark: maybe(fc.integer({ min: 1, max: 255 })),
  iif: maybe(fc.constantFrom('br0', 'none0')), ipProto: maybe(fc.constantFrom(6, 17)), invert: maybe(fc.constant(true)), fwmask: fc.boolean(),
}).map(({ priority, table, six, n, mark, iif, ipProto, invert, fwmask }) => defined({
  family: six ? 'inet6' as const : 'inet' as const, priority, action: 'lookup', table, protocol: 112, src: six ? `fd00:${n.toString(16)}::/48`.replace('fd00:0:', 'fd00:1:') : `10.${n}.0.0/16`,
  iif, fwmark: mark, fwmask: mark !== undefined && fwmask ? 0xff : undefined, ipProto, invert,
}) as Rule);

const nft: fc.Arbitrary<readonly NftObject[]> = fc.tuple(fc.uniqueArray(octet, { maxLength: 6 }), fc.uniqueArray(fc.integer({ min: 1, max: 65535 }), { maxLength: 4 }), fc.boolean())
  .map(([hosts, ports, masquerade]) => {
    const where = { family: 'inet', table: 'podway' };
    return [
      { table: { family: 'inet', name: 'podway' } },
      { set: { ...where, name: 'hosts', type: 'ipv4_addr', ...(hosts.length ? { elem: hosts.map((n) => `10.244.0.${n}`) } : {}) } },
      { counter: { ...where, name: 'seen', packets: 0, bytes: 0 } },
      { chain: { ...where, name: 'post', type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } },
      ...ports.map((port): NftObject => ({ rule: { ...where, chain: 'post', comment: `port ${port}`, expr: [
        { match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: port } }, { counter: { packets: 0, bytes: 0 } }, { accept: null } ] } })),
      ...(masquerade ? [{ rule: { ...where, chain: 'post', expr: [
        { match: { op: '==', left: { payload: { protocol: 'ip', field: 'saddr' } }, right: '@hosts' } }, { masquerade: { flags: 'fully-random' } } ] } } as NftObject] : []),
    ];
  });

const qdisc = (dev: string): fc.Arbitrary<Qdisc> =>
  fc.record({ mbit: fc.constantFrom(1, 10, 1000), burst: fc.integer({ min: 20_000, max: 10_000_000 }), wait: fc.integer({ min: 0, max: 1_000_000 }) }).map(({ mbit, burst, wait }) => ({
    dev, kind: 'tbf', handle: SHAPER_HANDLE, parent: 'root', tbf: { rate: mbit * 125_000, burst, limit: burst + wait },
  }));

const keyed = <T>(items: fc.Arbitrary<T> | undefined, key: (o: T) => string, max: number): fc.Arbitrary<T[]> => (items ? unique(items, key, max) : fc.constant([]));
const onAny = <T>(devs: readonly string[], make: (dev: string) => fc.Arbitrary<T>): fc.Arbitrary<T> | undefined => (devs.length ? fc.oneof(...devs.map(make)) : undefined);

export const desiredState: fc.Arbitrary<NetnsState> = fc
  .tuple(maybe(bridge('br0')), maybe(bridge('br1')), maybe(vxlan('vx0', 8472)), maybe(vxlan('vx1', 4789)))
  .chain((made) => {
    const links = made.filter((l): l is Link => l !== undefined);
    const names = links.map((l) => l.name);
    const vteps = links.filter((l) => l.kind === 'vxlan').map((l) => l.name);
    return fc.record({
      addresses: keyed(onAny(names, address), (a) => `${a.address}`, 5),
      routes: keyed(route(vteps), (r) => `${r.dst} ${r.table} ${r.metric === 0 && r.family === 'inet6' ? 1024 : r.metric}`, 12),
      neighbours: keyed(onAny(vteps, neighbour), (n) => `${n.dev} ${n.dst}`, 8),
      fdb: keyed(onAny(vteps, fdb), (f) => `${f.dev} ${f.lladdr}`, 8),
      qdiscs: keyed(onAny(names, qdisc), (q) => q.dev, 3),
      // The kernel takes a rule twice when priority and selector differ in nothing: one of each.
      rules: keyed(rule, (r) => `${r.family} ${r.priority} ${r.src} ${r.iif} ${r.fwmark} ${r.table}`, 5),
      sysctls: fc.record(Object.fromEntries([
        ['net.ipv4.ip_forward', fc.constantFrom('0', '1')],
        ...names.flatMap((n): [string, fc.Arbitrary<string>][] => [
          [`net.ipv4.conf.${n}.rp_filter`, fc.constantFrom('0', '1', '2')], [`net.ipv4.conf.${n}.route_localnet`, fc.constantFrom('0', '1')],
        ]),
      ]), { requiredKeys: [] }) as fc.Arbitrary<Record<string, string>>,
      nft: fc.oneof(fc.constant([]), nft),
    }).map((rest): NetnsState => ({ ...emptyState('random'), links, ...rest, nft: rest.nft }));
  });
