/**
 * Reads the state of a namespace. About ten netlink dumps, one nftables listing and a few dozen
 * files: 2 to 5 ms for an ordinary node.
 */
import {
  listSysctlKeys, Nftables, readSysctls, RtNetlink, type AddrInfo, type FdbInfo, type LinkInfo, type NeighInfo, type Netns, type QdiscInfo, type RouteInfo, type RuleInfo,
} from '@podway/kernel';
import { isPodwayError, messageOf } from '@podway/errors';
import type { Address, FdbEntry, Link, NetnsState, Neighbour, NftRuleset, Qdisc, Route, Rule } from './types.js';
import { readWireguard } from './wireguard.js';

export interface ObserveOptions {
  /** Leave out nftables (for namespaces where only links and routes matter). Default: read. */
  readonly nft?: boolean;
  /** Leave out set elements, which can be many. */
  readonly terse?: boolean;
  /** Of nftables, only the tables with these names (of family inet). */
  readonly tables?: readonly string[];
  /**
   * Where the sockets of WireGuard programs are, of the namespace's own machine: TUN devices of that name are read as
   * WireGuard devices. They belong to a mount namespace, so there is no default. Those of the kernel are always read.
   */
  readonly wireguardDir?: string | undefined;
  /** Further sysctls to read, besides those that decide what happens to a packet: what a desired state names. */
  readonly sysctls?: readonly string[];
}

export function observe(ns: Netns, options: ObserveOptions = {}): NetnsState {
  return RtNetlink.with(ns, (nl) => {
    const links = nl.links();
    const name = namer(links);
    const unread: string[] = [];
    const wireguard = readWireguard(ns, links, options.wireguardDir, unread);
    return {
      schema: 1,
      netns: { id: ns.id, name: ns.label.replace(/^netns /, '') },
      links: links.map((l) => compact<Link>({ ...linkState(l, name), wireguard: wireguard.links.get(l.name) })),
      addresses: nl.addrs().map((a) => addressState(a, name)),
      routes: nl.routes().map((r) => routeState(r, name)),
      rules: nl.rules().map(ruleState),
      neighbours: nl.neighs().map((n) => neighState(n, name)),
      fdb: nl.fdb().map((f) => fdbState(f, name)),
      ...(wireguard.peers.length ? { wireguardPeers: wireguard.peers } : {}),
      qdiscs: nl.qdiscs().map((q) => qdiscState(q, name, nl)),
      sysctls: readSysctls(ns, [...new Set([...listSysctlKeys(links.map((l) => l.name)), ...(options.sysctls ?? [])])]),
      nft: options.nft === false ? [] : readNft(ns, options, unread),
      unread,
    };
  });
}

/** Devices alone, with their counters: a fraction of a millisecond. Equivalent: `ip -s link`. */
export function observeLinks(ns: Netns): Link[] {
  return RtNetlink.with(ns, (nl) => {
    const links = nl.links();
    const name = namer(links);
    return links.map((l) => linkState(l, name));
  });
}

function readNft(ns: Netns, { terse = false, tables }: ObserveOptions, unread: string[]): NftRuleset {
  try {
    return Nftables.with(ns, (nft) => (tables ? tables.flatMap((name) => readTable(nft, name, terse)) : nft.list(undefined, terse)));
  } catch (e) {
    unread.push(`nftables: ${messageOf(e)}`);
    return [];
  }
}

/** Filters are asked for only where an ingress qdisc says that there may be some. */
function qdiscState(q: QdiscInfo, name: Namer, nl: RtNetlink): Qdisc {
  const to = q.kind === 'ingress' ? redirectTarget(nl, q.index) : undefined;
  return compact<Qdisc>({
    dev: name(q.index), kind: q.kind, handle: q.handle, parent: q.parent,
    tbf: q.tbf && { rate: q.tbf.rate, burst: q.tbf.burst, limit: q.tbf.limit },
    redirect: to === undefined ? undefined : name(to),
  });
}

/** Where everything that comes in is sent: the first filter of lowest priority number, if it is a redirect. */
function redirectTarget(nl: RtNetlink, index: number): number | undefined {
  const [first] = nl.filters(index).filter((f) => f.actions.length > 0);
  const [action] = first?.actions ?? [];
  return action?.mirred?.what === 'egress redirect' && action.mirred.to !== 0 ? action.mirred.to : undefined;
}

/** A table that is not there is an empty one. */
function readTable(nft: Nftables, name: string, terse: boolean): NftRuleset {
  try {
    return nft.list({ family: 'inet', name }, terse);
  } catch (e) {
    if (isPodwayError(e, 'NFT_NOT_FOUND')) return [];
    throw e;
  }
}

type Namer = (index: number) => string;

/** A device that went between two dumps is shown by its number, as `ip` does. */
function namer(links: readonly LinkInfo[]): Namer {
  const names = new Map(links.map((l) => [l.index, l.name]));
  return (index) => names.get(index) ?? `if${index}`;
}

/** Leaves out what is undefined, so that JSON and comparisons see the same object. */
function compact<T extends object>(o: { [K in keyof T]: T[K] | undefined }): T {
  const out: Record<string, unknown> = {};
  for (const key in o) if (o[key] !== undefined) out[key] = o[key];
  return out as T;
}

const HARDWARE_LOOPBACK = 772;

function linkState(l: LinkInfo, name: Namer): Link {
  const { vxlan, bridge, port, stats } = l;
  return compact<Link>({
    name: l.name,
    index: l.index,
    kind: l.kind ?? (l.hardwareType === HARDWARE_LOOPBACK ? 'loopback' : 'device'),
    address: l.address,
    mtu: l.mtu,
    up: l.up,
    lowerUp: l.lowerUp,
    operstate: l.operstate,
    noArp: l.noArp || undefined,
    master: l.master === undefined ? undefined : name(l.master),
    peer: l.link === undefined ? undefined : compact<{ index: number; netnsid?: number }>({ index: l.link, netnsid: l.linkNetnsid }),
    alias: l.alias,
    vxlan: vxlan && compact({
      vni: vxlan.id ?? 0, port: vxlan.port ?? 0, local: vxlan.local ?? vxlan.local6, dev: vxlan.link ? name(vxlan.link) : undefined,
      learning: vxlan.learning ?? false, udpCsum: vxlan.udpCsum, ttl: vxlan.ttl, df: vxlan.df,
    }),
    tunnel: l.tunnel && compact({ local: l.tunnel.local, remote: l.tunnel.remote, ttl: l.tunnel.ttl || undefined }),
    bridge: bridge && compact({
      stp: bridge.stpState === undefined ? undefined : bridge.stpState !== 0,
      vlanFiltering: bridge.vlanFiltering,
      // The kernel counts in hundredths of a second (USER_HZ).
      ageingTime: bridge.ageingTime === undefined ? undefined : bridge.ageingTime / 100,
      nfCallIptables: bridge.nfCallIptables, nfCallIp6tables: bridge.nfCallIp6tables, mcastSnooping: bridge.mcastSnooping,
    }),
    port: port && compact({
      state: port.state, hairpin: port.hairpin, isolated: port.isolated, learning: port.learning, flood: port.unicastFlood,
      proxyArp: port.proxyArp, neighSuppress: port.neighSuppress,
    }),
    shown: compact({
      flags: l.flags, running: l.running, broadcast: l.broadcast, qdisc: l.qdisc, txqlen: l.txqlen, group: l.group, mode: l.linkMode,
      altNames: l.altNames.length ? l.altNames : undefined,
    }),
    counters: stats && {
      rxPackets: Number(stats.rxPackets), txPackets: Number(stats.txPackets), rxBytes: Number(stats.rxBytes), txBytes: Number(stats.txBytes),
      rxErrors: Number(stats.rxErrors), txErrors: Number(stats.txErrors), rxDropped: Number(stats.rxDropped), txDropped: Number(stats.txDropped),
    },
  });
}

const addressState = (a: AddrInfo, name: Namer): Address =>
  compact<Address>({
    dev: name(a.index), family: a.family, address: a.address, prefix: a.prefix, broadcast: a.broadcast, scope: a.scope,
    dadFailed: a.dadFailed || undefined, peer: a.peer, label: a.label, flags: a.flags.length ? a.flags : undefined,
  });

const routeState = (r: RouteInfo, name: Namer): Route =>
  compact<Route>({
    family: r.family, dst: r.dst, type: r.type, table: r.table, protocol: r.protocol, scope: r.scope, tos: r.tos || undefined,
    gateway: r.gateway, dev: r.index === undefined ? undefined : name(r.index), prefsrc: r.prefsrc, metric: r.metric,
    onlink: r.onlink || undefined, linkdown: r.linkdown || undefined, dead: r.dead || undefined, mtu: r.mtu, pref: r.pref,
    nexthops: r.nexthops.length
      ? r.nexthops.map((h) => compact({
          gateway: h.gateway, dev: name(h.index), weight: h.weight, onlink: h.onlink || undefined, dead: h.dead || undefined, linkdown: h.linkdown || undefined,
        }))
      : undefined,
  });

const ruleState = (r: RuleInfo): Rule => compact<Rule>({ ...r, invert: r.invert || undefined });

const neighState = (n: NeighInfo, name: Namer): Neighbour =>
  compact<Neighbour>({
    dev: name(n.index), family: n.family, dst: n.dst, lladdr: n.lladdr, state: n.state, proxy: n.proxy || undefined,
    router: n.router || undefined, extLearned: n.extLearned || undefined,
  });

const fdbState = (f: FdbInfo, name: Namer): FdbEntry =>
  compact<FdbEntry>({
    dev: name(f.index), lladdr: f.lladdr, dst: f.dst, vlan: f.vlan, master: f.master === undefined ? undefined : name(f.master),
    state: f.state, self: f.self, port: f.port, vni: f.vni, via: f.via === undefined ? undefined : name(f.via), extLearned: f.extLearned || undefined,
  });
