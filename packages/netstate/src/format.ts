/**
 * Objects of a NetnsState as `ip` and `bridge` print them, so that a trace or a finding shows the
 * line the reader knows, and can compare it with his own terminal. Pure.
 *
 * Held against iproute2 itself by tests, over a grid of objects. Differences: no trailing blanks;
 * numbers for which iproute2 has names in files of the distribution (tables, groups, protocols
 * beyond the common ones) stay numbers; of `ip -d link` the details are printed that a state has.
 */
import { isIPv6 } from 'node:net';
import type { Address, FdbEntry, Link, Neighbour, NetnsState, Route, RouteHop, Rule } from './types.js';

type Words = readonly (string | number | false | undefined)[];
const join = (words: Words): string => words.filter((w) => w !== false && w !== undefined && w !== '').join(' ');
const when = (condition: unknown, ...words: Words): string | false => (condition ? join(words) : false);

/** /etc/iproute2/rt_protos, the ones that all versions have. */
const PROTOCOLS: Readonly<Record<number, string>> = {
  0: 'unspec', 1: 'redirect', 2: 'kernel', 3: 'boot', 4: 'static', 8: 'gated', 9: 'ra', 10: 'mrt', 11: 'zebra', 12: 'bird', 13: 'dnrouted', 14: 'xorp',
  15: 'ntk', 16: 'dhcp', 18: 'keepalived', 42: 'babel', 186: 'bgp', 187: 'isis', 188: 'ospf', 189: 'rip', 192: 'eigrp',
};
const PROTOCOL_KERNEL = 2;
const PROTOCOL_BOOT = 3;
const TABLES: Readonly<Record<number, string>> = { 253: 'default', 254: 'main', 255: 'local' };
const TABLE_MAIN = 254;
/** IPPROTO_*, as getprotobynumber names them. */
const IP_PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'ipv6-icmp', 132: 'sctp' };

export const protocolName = (n: number): string => PROTOCOLS[n] ?? String(n);
export const tableName = (n: number): string => TABLES[n] ?? String(n);

/** `default`, a host without its prefix length, or the CIDR. */
function shortPrefix(cidr: string): string {
  const [address = '', length] = cidr.split('/');
  if (length === '0') return 'default';
  return length === (isIPv6(address) ? '128' : '32') ? address : cidr;
}

const gatewayWords = (gateway: string | undefined, family: Route['family']): string | false =>
  gateway !== undefined && (isIPv6(gateway) === (family === 'inet6') ? `via ${gateway}` : `via ${isIPv6(gateway) ? 'inet6' : 'inet'} ${gateway}`);

const routeFlags = (r: Pick<RouteHop, 'dead' | 'onlink' | 'linkdown'>): string => join([r.dead && 'dead', r.onlink && 'onlink', r.linkdown && 'linkdown']);

/** One line, as `ip route show table all`; routes with several next hops have a line for each. */
export function formatRoute(r: Route): string {
  const head = join([
    r.type !== 'unicast' && r.type,
    shortPrefix(r.dst),
    when(r.tos, `tos 0x${(r.tos ?? 0).toString(16).padStart(2, '0')}`),
    gatewayWords(r.gateway, r.family),
    when(r.dev, 'dev', r.dev),
    when(r.table !== TABLE_MAIN, 'table', tableName(r.table)),
    when(r.protocol !== PROTOCOL_BOOT, 'proto', protocolName(r.protocol)),
    when(r.scope !== undefined && r.scope !== 'global', 'scope', r.scope),
    when(r.prefsrc, 'src', r.prefsrc),
    // The kernel always names the metric of an IPv6 route, that of an IPv4 route when it has one.
    when(r.metric !== 0 || r.family === 'inet6', 'metric', r.metric),
    routeFlags(r),
    when(r.mtu !== undefined, 'mtu', r.mtu),
    when(r.pref, 'pref', r.pref),
  ]);
  const hops = (r.nexthops ?? []).map((h) =>
    `\tnexthop ${join([gatewayWords(h.gateway, r.family), `dev ${h.dev}`, `weight ${h.weight}`, routeFlags(h)])}`);
  return [head, ...hops].join('\n');
}

/** As `ip rule`: `32766:  from all lookup main` (a tab behind the colon). */
export function formatRule(r: Rule): string {
  const mark = r.fwmark === undefined ? undefined : `0x${r.fwmark.toString(16)}${r.fwmask === undefined || r.fwmask === 0xffffffff ? '' : `/0x${r.fwmask.toString(16)}`}`;
  return `${r.priority}:\t${join([
    r.invert && 'not',
    `from ${r.src === undefined ? 'all' : shortHost(r.src)}`,
    when(r.dst, `to ${shortHost(r.dst ?? '')}`),
    when(mark, 'fwmark', mark),
    when(r.iif, 'iif', r.iif),
    when(r.oif, 'oif', r.oif),
    when(r.ipProto, 'ipproto', IP_PROTOCOLS[r.ipProto ?? 0] ?? `ipproto-${r.ipProto}`),
    when(r.action === 'lookup', 'lookup', tableName(r.table)),
    when(r.suppressPrefixLength !== undefined, 'suppress_prefixlength', r.suppressPrefixLength),
    when(r.action === 'goto', 'goto', r.goto),
    r.action !== 'lookup' && r.action !== 'goto' && r.action,
    when(r.protocol !== undefined && r.protocol !== 0 && r.protocol !== PROTOCOL_KERNEL, 'proto', protocolName(r.protocol ?? 0)),
  ])}`;
}

const shortHost = (cidr: string): string => (cidr.startsWith('0.0.0.0/0') || cidr === '::/0' ? 'all' : shortPrefix(cidr));

/** As `ip neigh`: `10.0.0.2 dev eth0 lladdr 0a:58:… PERMANENT`. */
export const formatNeighbour = (n: Neighbour): string =>
  join([
    n.dst, 'dev', n.dev, when(n.lladdr, 'lladdr', n.lladdr), n.router && 'router', n.proxy && 'proxy', n.extLearned && 'extern_learn',
    n.state !== 'none' && !n.proxy && n.state.toUpperCase(),
  ]);

/** As `bridge fdb`: `0a:58:… dev flannel.1 dst 172.18.0.3 self permanent`. */
export const formatFdb = (f: FdbEntry): string =>
  join([
    f.lladdr, 'dev', f.dev, when(f.dst, 'dst', f.dst), when(f.vlan !== undefined, 'vlan', f.vlan), when(f.port !== undefined, 'port', f.port),
    when(f.vni !== undefined, 'vni', f.vni), when(f.via, 'via', f.via), f.self && 'self', f.extLearned && 'extern_learn',
    when(f.master, 'master', f.master), FDB_STATE[f.state] ?? f.state,
  ]);
/** A dynamic entry is one that says nothing. */
const FDB_STATE: Partial<Record<FdbEntry['state'], string>> = { permanent: 'permanent', noarp: 'static', stale: 'stale', reachable: '' };

/** As the first line of an address in `ip addr`, without its indent: `inet 10.244.0.5/24 brd 10.244.0.255 scope global eth0`. */
export const formatAddress = (a: Address): string =>
  join([
    a.family, a.peer === undefined ? `${a.address}/${a.prefix}` : `${a.address} peer ${a.peer}/${a.prefix}`, when(a.broadcast, 'brd', a.broadcast),
    'scope', a.scope ?? 'global', ...(a.flags ?? []), a.label ?? (a.family === 'inet' && a.dev),
  ]);

const HARDWARE: Readonly<Record<string, string>> = { loopback: 'loopback', ipip: 'ipip', tun: 'none', wireguard: 'none' };

/**
 * As `ip link`: the line of the device, the line of its link-layer address, alias and alternative
 * names, and one line of details as in `ip -d link` for a bridge, a port or a VTEP.
 * @param linkAt a device of the same namespace by its index, for `veth0@veth1` and `M-DOWN`.
 */
export function formatLink(l: Link, linkAt: (index: number) => Link | undefined = () => undefined): string {
  const { shown } = l;
  const here = l.peer && l.peer.netnsid === undefined ? linkAt(l.peer.index) : undefined;
  const flags = shown ? [...(l.up && !shown.running ? ['NO-CARRIER'] : []), ...shown.flags, ...(here && !here.up ? ['M-DOWN'] : [])] : [l.noArp && 'NOARP', l.up && 'UP', l.lowerUp && 'LOWER_UP'].filter(Boolean);
  const other = l.peer && (here?.name ?? `if${l.peer.index}`);
  const first = join([
    l.index !== undefined && `${l.index}:`,
    `${l.name}${other === undefined ? '' : `@${other}`}:`,
    `<${flags.join(',')}>`,
    when(l.mtu !== undefined, 'mtu', l.mtu),
    when(shown?.qdisc, 'qdisc', shown?.qdisc),
    when(l.master, 'master', l.master),
    when(l.operstate, 'state', l.operstate),
    shown && `mode ${shown.mode === 1 ? 'DORMANT' : 'DEFAULT'}`,
    shown && `group ${shown.group === 0 ? 'default' : shown.group}`,
    when(shown?.txqlen, 'qlen', shown?.txqlen),
  ]);
  const second = join([
    `link/${HARDWARE[l.kind] ?? 'ether'}`, l.address, when(shown?.broadcast, 'brd', shown?.broadcast),
    when(l.peer?.netnsid !== undefined && l.peer.netnsid >= 0, 'link-netnsid', l.peer?.netnsid),
  ]);
  return [
    first,
    `    ${second}`,
    ...linkDetails(l).map((d) => `    ${d}`),
    ...(l.alias === undefined ? [] : [`    alias ${l.alias}`]),
    ...(shown?.altNames ?? []).map((n) => `    altname ${n}`),
  ].join('\n');
}

const onOff = (name: string, value: boolean | undefined): string | false => value !== undefined && `${name} ${value ? 'on' : 'off'}`;
const oneZero = (name: string, value: boolean | undefined): string | false => value !== undefined && `${name} ${value ? 1 : 0}`;

/** What `ip -d link` says of the kind and of the port, as far as a state has it, in its words and order. */
function linkDetails(l: Link): string[] {
  const { vxlan, bridge, port } = l;
  const lines: string[] = [];
  if (vxlan) {
    lines.push(join([
      'vxlan id', vxlan.vni, when(vxlan.local, 'local', vxlan.local), when(vxlan.dev, 'dev', vxlan.dev), `dstport ${vxlan.port}`,
      !vxlan.learning && 'nolearning', when(vxlan.ttl !== undefined, 'ttl', vxlan.ttl || 'auto'),
      when(vxlan.df, 'df', ['unset', 'set', 'inherit'][vxlan.df ?? 0]),
      vxlan.udpCsum !== undefined && (vxlan.udpCsum ? 'udpcsum' : 'noudpcsum'),
    ]));
  }
  if (bridge) {
    lines.push(join([
      'bridge', when(bridge.ageingTime !== undefined, 'ageing_time', Math.round((bridge.ageingTime ?? 0) * 100)), oneZero('stp_state', bridge.stp),
      oneZero('vlan_filtering', bridge.vlanFiltering), oneZero('mcast_snooping', bridge.mcastSnooping), oneZero('nf_call_iptables', bridge.nfCallIptables),
      oneZero('nf_call_ip6tables', bridge.nfCallIp6tables),
    ]));
  }
  if (port) {
    lines.push(join([
      'bridge_slave', when(port.state, 'state', port.state), onOff('hairpin', port.hairpin), onOff('learning', port.learning), onOff('flood', port.flood),
      onOff('proxy_arp', port.proxyArp), onOff('neigh_suppress', port.neighSuppress), onOff('isolated', port.isolated),
    ]));
  }
  return lines;
}

/** A whole state in sections, each with the command that shows the same. */
export function formatState(s: NetnsState): { readonly command: string; readonly lines: readonly string[] }[] {
  const links = new Map(s.links.map((l) => [l.index, l]));
  return [
    { command: 'ip -d link', lines: s.links.map((l) => formatLink(l, (index) => links.get(index))) },
    { command: 'ip addr', lines: s.addresses.map((a) => `${a.dev}: ${formatAddress(a)}`) },
    { command: 'ip route show table all', lines: s.routes.map(formatRoute) },
    { command: 'ip rule', lines: s.rules.filter((r) => r.family === 'inet').map(formatRule) },
    { command: 'ip -6 rule', lines: s.rules.filter((r) => r.family === 'inet6').map(formatRule) },
    { command: 'ip neigh show nud all', lines: s.neighbours.map(formatNeighbour) },
    { command: 'bridge fdb', lines: s.fdb.map(formatFdb) },
  ];
}
