/**
 * Brings the kernel to a state by a list of changes. The order is declared here and nowhere else.
 *
 * Adding goes from the ground up, so that nothing is announced before what it rests on works:
 * firewall tables first (no packet slips through before its rule), links, sysctls (they need the
 * device), addresses, WireGuard peers, neighbours and FDB entries, and the route last, because with a route but no
 * neighbour the kernel would begin to ARP for the gateway. Routes that go, go first; what they rested
 * on goes last, when every route that stays has been moved elsewhere: a change loses no packet.
 * All requests of one phase travel in one batch. A refusal does not stop the rest; every one is
 * returned with its change.
 */
import {
  addAddrRequest, addFdbRequest, addNeighRequest, addQdiscRequest, addRedirectRequest, addRouteRequest, addRuleRequest, createRequests, createTun, deleteAddrRequest, deleteFdbRequest,
  deleteNeighRequest, deleteQdiscRequest, deleteRequest, deleteRouteRequest, deleteRuleRequest, Nftables, PROTOCOL, replaceQdiscRequest, RtNetlink, setBridgeRequest, setPortRequest, setRequest,
  writeSysctl, type AddrSpec, type BridgeAttributes, type FdbSpec, type LinkSpec, type NeighSpec, type Netns, type Request, type RouteSpec, type RuleSpec,
} from '@podway/kernel';
import { PodwayError, isPodwayError } from '@podway/errors';
import { describe, type Change } from './diff.js';
import { setWireguardLink, setWireguardPeers, type Secrets, type WireguardAccess } from './wireguard.js';
import { floods, type NftTable } from './keys.js';
import { withoutHandles } from './nft-compare.js';
import type { Address, BridgeState, FdbEntry, Link, Neighbour, Qdisc, Route, Rule } from './types.js';

export interface Failure {
  readonly change: Change;
  readonly error: PodwayError;
}

export interface Applied {
  readonly done: readonly Change[];
  readonly failed: readonly Failure[];
}

/** Phases, in order. Within one, changes keep the order of the list. */
const WITHDRAW = ['route', 'rule'] as const;
/** Before links are made: a new one may need the name, VNI or address of one that goes. */
const MAKE_ROOM = ['address', 'link'] as const;
const CLEAR = ['qdisc', 'peer', 'fdb', 'neighbour', 'address', 'link', 'nft'] as const;
const ADD = ['nft', 'link', 'qdisc', 'sysctl', 'address', 'peer', 'neighbour', 'fdb', 'rule', 'route'] as const;

export interface ApplyOptions {
  /** A socket to use; otherwise one is opened for the occasion. */
  readonly netlink?: RtNetlink;
  /** Where the sockets of WireGuard programs are, as `observe` takes it. */
  readonly wireguardDir?: string | undefined;
  /** For WireGuard devices: states name keys, and hold none. */
  readonly secrets?: Secrets;
}

export function apply(ns: Netns, changes: readonly Change[], options: ApplyOptions = {}): Applied {
  const nl = options.netlink ?? RtNetlink.open(ns);
  const run = new Run(ns, nl, changes, { ns, directory: options.wireguardDir, secrets: options.secrets ?? (() => undefined) });
  try {
    for (const c of changes) if (c.op === 'conflict') run.fail(c, notOurs(c, ns));
    const making = changes.some((c) => c.kind === 'link' && (c.op === 'create' || c.op === 'recreate'));
    const remove = (kinds: readonly Change['kind'][]): void => {
      for (const kind of kinds) run.phase(changes.filter((c) => c.kind === kind && c.op === 'delete'));
    };
    remove([...WITHDRAW, ...(making ? MAKE_ROOM : [])]);
    for (const kind of ADD) run.phase(changes.filter((c) => c.kind === kind && c.op !== 'delete' && c.op !== 'conflict'));
    remove(making ? CLEAR.filter((k) => !(MAKE_ROOM as readonly string[]).includes(k)) : CLEAR);
    return { done: run.done, failed: run.failed };
  } finally {
    if (!options.netlink) nl.close();
  }
}

const notOurs = (c: Change, ns: Netns): PodwayError =>
  new PodwayError('OBJECT_NOT_OURS', `${c.kind} ${c.key} ${c.reason}`, {
    object: `${c.kind} ${c.key} in ${ns.label}`,
    hint: 'Podway changes only what it made. Remove or rename that object, or configure Podway around it.',
  });

class Run {
  readonly done: Change[] = [];
  readonly failed: Failure[] = [];
  private indexes: Map<string, number> | undefined;
  private readonly recreated: ReadonlySet<string>;

  constructor(
    private readonly ns: Netns,
    private readonly nl: RtNetlink,
    changes: readonly Change[],
    private readonly wireguard: WireguardAccess,
  ) {
    this.recreated = new Set(changes.filter((c) => c.kind === 'link' && c.op === 'recreate').map((c) => c.key));
  }

  fail(change: Change, error: unknown): void {
    const e = isPodwayError(error) ? error : new PodwayError('APPLY_FAILED', describe(change), { cause: error });
    this.failed.push({ change, error: e });
  }

  phase(changes: readonly Change[]): void {
    const [first] = changes;
    if (!first) return;
    if (first.kind === 'nft') this.nftPhase(changes);
    else if (first.kind === 'sysctl') this.each(changes, (c) => this.sysctl(c));
    else if (first.kind === 'peer') this.peerPhase(changes as readonly (Change & { kind: 'peer' })[]);
    else if (first.kind === 'link') this.linkPhase(changes);
    else if (first.kind === 'route') this.finish(this.routes(changes));
    else this.finish(this.send(changes, (c) => this.request(c)));
  }

  private finish(changes: readonly Change[]): void {
    for (const c of changes) this.done.push(c);
  }

  private each(changes: readonly Change[], act: (c: Change) => void): void {
    for (const c of changes) {
      try {
        act(c);
        this.done.push(c);
      } catch (e) {
        this.fail(c, e);
      }
    }
  }

  /**
   * All requests of these changes in one batch. Several may belong to one change; the first refusal of
   * them is the change's. What is to be removed and is not there, or has no device any more, is removed.
   * @returns the changes of which nothing was refused.
   */
  private send(changes: readonly Change[], requestsOf: (c: Change) => readonly Request[], removes = (c: Change) => c.op === 'delete'): readonly Change[] {
    const requests: Request[] = [];
    const owner: Change[] = [];
    const refused = new Map<Change, PodwayError>();
    const refuse = (c: Change, e: unknown): void => {
      const error = isPodwayError(e) ? e : new PodwayError('APPLY_FAILED', describe(c), { cause: e });
      if (!refused.has(c) && !(removes(c) && GONE.has(error.errno ?? ''))) refused.set(c, error);
    };
    for (const c of changes) {
      try {
        for (const r of requestsOf(c)) {
          requests.push(r);
          owner.push(c);
        }
      } catch (e) {
        refuse(c, e);
      }
    }
    for (const r of this.nl.batch(requests)) refuse(owner[r.index]!, r.error);
    if (refused.size === 0) return changes;
    for (const [c, error] of refused) this.fail(c, error);
    return changes.filter((c) => !refused.has(c));
  }

  /**
   * IPv6 refuses an onlink gateway that another route leads to by another device (ip6_route_check_nh_onlink), and the way
   * that is to be replaced, or one beside it, often does: it covers the gateway. A route to the gateway alone stands there
   * for the time of the request, so that the new way takes the old one's place without a moment without any.
   */
  private routes(changes: readonly Change[]): readonly Change[] {
    const before = this.failed.length;
    const done = this.send(changes, (c) => this.request(c));
    const again = this.failed.slice(before).filter((f) => f.error.errno === 'EINVAL' && this.passing(f.change) !== undefined);
    if (again.length === 0) return done;
    this.failed.splice(before, Infinity, ...this.failed.slice(before).filter((f) => !again.includes(f)));
    return [...done, ...this.send(again.map((f) => f.change), (c) => {
      const way = this.passing(c)!;
      return [addRouteRequest(way, 'replace'), ...this.request(c), deleteRouteRequest(way)];
    })];
  }

  /** The route to the gateway of an onlink IPv6 route; undefined for others. */
  private passing(c: Change): RouteSpec | undefined {
    if (c.kind !== 'route' || c.op === 'delete' || c.op === 'conflict') return undefined;
    const { family, onlink, gateway, dev, table } = c.desired!;
    if (family !== 'inet6' || !onlink || gateway === undefined || dev === undefined) return undefined;
    return { dst: `${gateway}/128`, index: this.index(dev), table, protocol: PROTOCOL.podway, metric: PASSING_METRIC };
  }

  private linkPhase(changes: readonly Change[]): void {
    const gone = changes.filter((c) => c.op === 'recreate' || c.op === 'delete');
    const removed = new Set(this.send(gone, (c) => {
      const index = this.indexOf(c.key);
      return index === undefined ? [] : [deleteRequest(index, c.key)];
    }, () => true));
    this.finish(gone.filter((c) => c.op === 'delete' && removed.has(c)));
    this.indexes = undefined;
    const made = this.create(changes.filter((c) => c.op === 'create' || (c.op === 'recreate' && removed.has(c))));
    // Done only once they are set as well.
    this.indexes = undefined;
    const changed = changes.filter((c) => c.op === 'change');
    this.each(this.send([...made, ...changed], (c) => this.linkSettings(c)), (c) => {
      if ((c.desired as Link).wireguard) setWireguardLink(this.wireguard, c.desired as Link);
    });
  }

  /** All of one device together; what is refused is refused for all of them. */
  private peerPhase(changes: readonly (Change & { kind: 'peer' })[]): void {
    const kinds = new Map(this.nl.links().map((l) => [l.name, l.kind]));
    for (const dev of new Set(changes.map((c) => (c.desired ?? c.observed)!.dev))) {
      const mine = changes.filter((c) => (c.desired ?? c.observed)!.dev === dev);
      try {
        // Peers that are to go are gone with their device.
        if (kinds.has(dev) || mine.some((c) => c.op !== 'delete')) setWireguardPeers(this.wireguard, dev, kinds.get(dev), mine);
        this.finish(mine);
      } catch (e) {
        for (const c of mine) this.fail(c, e);
      }
    }
  }

  /** In waves: a VXLAN device names its lower device by index, so that one must be there first. */
  private create(changes: readonly Change[]): Change[] {
    const made: Change[] = [];
    const tuns = changes.filter((c) => (c.desired as Link).kind === 'tun');
    for (const c of tuns) {
      try {
        createTun(this.ns, c.key);
        made.push(c);
      } catch (e) {
        this.fail(c, e);
      }
    }
    for (let rest = changes.filter((c) => !tuns.includes(c)); rest.length; ) {
      const pending = new Set(rest.map((c) => c.key));
      const ready = rest.filter((c) => !pending.has((c.desired as Link).vxlan?.dev ?? ''));
      // A ring of lower devices cannot be: tried as it stands, it is refused with what is missing.
      const wave = ready.length ? ready : rest;
      this.indexes = undefined;
      made.push(...this.send(wave, (c) => createRequests(linkSpec(c.desired as Link, (dev) => this.index(dev)))));
      rest = rest.filter((c) => !wave.includes(c));
    }
    return made;
  }

  private linkSettings(c: Change): Request[] {
    const want = c.desired as Link;
    const is = c.op === 'change' ? (c.observed as Link) : undefined;
    const index = this.index(want.name);
    const changed = <T>(now: T | undefined, before: T | undefined): T | undefined => (is && now === before ? undefined : now);
    const { master, port, bridge } = want;
    const joins = master !== undefined && (master !== is?.master || this.recreated.has(master));
    const requests = [setRequest(index, compact({
      up: want.up, mtu: changed(want.mtu, is?.mtu), address: changed(want.address, is?.address), alias: changed(want.alias, is?.alias),
      master: joins ? this.index(master) : undefined,
    }), want.name)];
    if (port) {
      requests.push(setPortRequest(index, compact({
        hairpin: port.hairpin, isolated: port.isolated, learning: port.learning, unicastFlood: port.flood, proxyArp: port.proxyArp, neighSuppress: port.neighSuppress,
      }), want.name));
    }
    // Only what differs: a kernel without VLAN filtering refuses even to be told that it is off.
    if (bridge && is) {
      const attributes = bridgeAttributes(Object.fromEntries(Object.entries(bridge).filter(([k, v]) => (is.bridge?.[k as keyof BridgeState] ?? false) !== v)));
      if (Object.keys(attributes).length) requests.push(setBridgeRequest(index, attributes, want.name));
    }
    return requests;
  }

  private request(c: Change): Request[] {
    if (c.op === 'delete') {
      switch (c.kind) {
        case 'address': return [deleteAddrRequest(addrSpec(c.observed!, this.index(c.observed!.dev)))];
        case 'route': return [deleteRouteRequest(this.routeSpec(c.observed!))];
        case 'rule': return [deleteRuleRequest(ruleSpec(c.observed!))];
        case 'neighbour': return [deleteNeighRequest(neighSpec(c.observed!, this.index(c.observed!.dev)))];
        case 'qdisc': return [deleteQdiscRequest({ index: this.index(c.observed!.dev), parent: c.observed!.parent })];
        case 'fdb': return [deleteFdbRequest(fdbSpec(c.observed!, this.index(c.observed!.dev)))];
        default: return [];
      }
    }
    const fresh = c.op === 'create';
    switch (c.kind) {
      case 'address': {
        const add = addAddrRequest(addrSpec(c.desired!, this.index(c.desired!.dev)));
        // The kernel alters neither broadcast nor scope nor peer of an address that exists.
        return fresh ? [add] : [deleteAddrRequest(addrSpec(c.observed!, this.index(c.observed!.dev))), add];
      }
      case 'route': return [addRouteRequest(this.routeSpec(c.desired!), fresh ? 'add' : 'replace')];
      // A rule cannot be altered: the new one first, so that there is never none.
      case 'rule': return [addRuleRequest(ruleSpec(c.desired!)), ...(c.observed ? [deleteRuleRequest(ruleSpec(c.observed))] : [])];
      case 'neighbour': return [addNeighRequest(neighSpec(c.desired!, this.index(c.desired!.dev)), 'replace')];
      case 'fdb': return [addFdbRequest(fdbSpec(c.desired!, this.index(c.desired!.dev)), fresh && floods(c.desired!.lladdr) ? 'append' : 'replace')];
      case 'qdisc': return this.qdisc(c.desired!, c.observed);
      default: return [];
    }
  }

  private qdisc(want: Qdisc, is: Qdisc | undefined): Request[] {
    const index = this.index(want.dev);
    if (want.kind === 'tbf' && want.tbf) return [replaceQdiscRequest({ index, kind: 'tbf', handle: want.handle, tbf: want.tbf })];
    // An ingress qdisc takes its filters with it.
    const anew = is ? [deleteQdiscRequest({ index, parent: want.parent })] : [];
    return [...anew, addQdiscRequest({ index, kind: 'ingress' }), ...(want.redirect === undefined ? [] : [addRedirectRequest({ index, to: this.index(want.redirect) })])];
  }

  private routeSpec(r: Route): RouteSpec {
    const { dev, nexthops } = r;
    return {
      dst: r.dst, type: r.type, table: r.table, protocol: r.protocol, metric: r.metric, tos: r.tos, gateway: r.gateway, prefsrc: r.prefsrc, scope: r.scope,
      onlink: r.onlink, mtu: r.mtu, index: dev === undefined ? undefined : this.index(dev),
      nexthops: nexthops?.map((h) => ({ gateway: h.gateway, index: this.index(h.dev), weight: h.weight, onlink: h.onlink })),
    };
  }

  private sysctl(c: Change): void {
    if (c.kind === 'sysctl' && c.desired) writeSysctl(this.ns, c.desired.key, c.desired.value);
  }

  /** Each table is replaced in one transaction: there is no moment without it. */
  private nftPhase(changes: readonly Change[]): void {
    try {
      Nftables.with(this.ns, (nft) =>
        this.each(changes, (c) => {
          const t = (c.desired ?? c.observed) as NftTable;
          const table = { family: t.family, name: t.name };
          nft.run([
            { add: { table } },
            { delete: { table } },
            ...(c.op === 'delete' ? [] : withoutHandles(t).map((o) => ({ add: o }))),
          ]);
        }));
    } catch (e) {
      // The library itself is missing: the rest goes on without the firewall, and says so.
      for (const c of changes) this.fail(c, e);
    }
  }

  private indexOf(dev: string): number | undefined {
    this.indexes ??= new Map(this.nl.links().map((l) => [l.name, l.index]));
    return this.indexes.get(dev);
  }

  /** @throws LINK_NOT_FOUND: the object cannot be made since its device is not there. */
  private index(dev: string): number {
    const index = this.indexOf(dev);
    if (index !== undefined) return index;
    throw new PodwayError('LINK_NOT_FOUND', `there is no link ${dev}`, { object: `link ${dev} in ${this.ns.label}`, errno: 'ENODEV' });
  }
}

/** One that nobody else uses. */
const PASSING_METRIC = 112;

/** The kernel's ways of saying that it is not there: what a removal wants. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']);

/** Leaves out what is undefined. */
function compact<T extends object>(o: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined)) as T;
}

const addrSpec = (a: Address, index: number): AddrSpec =>
  compact<AddrSpec>({ index, address: a.address, prefix: a.prefix, broadcast: a.broadcast, scope: a.scope, peer: a.peer });
const ruleSpec = (r: Rule): RuleSpec => {
  const { why: _, ...spec } = r;
  return spec;
};
const neighSpec = (n: Neighbour, index: number): NeighSpec => ({ index, dst: n.dst, state: n.state, lladdr: n.lladdr, proxy: n.proxy });
const fdbSpec = (f: FdbEntry, index: number): FdbSpec => ({ index, lladdr: f.lladdr, state: f.state, dst: f.dst, vlan: f.vlan, inMaster: !f.self });

/** The kernel counts the ageing time in hundredths of a second (USER_HZ). */
const bridgeAttributes = (b: BridgeState): Omit<BridgeAttributes, 'unknown'> => compact({
  stpState: b.stp === undefined ? undefined : b.stp ? 1 : 0, vlanFiltering: b.vlanFiltering, nfCallIptables: b.nfCallIptables, nfCallIp6tables: b.nfCallIp6tables, mcastSnooping: b.mcastSnooping,
  ageingTime: b.ageingTime === undefined ? undefined : Math.round(b.ageingTime * 100),
});

/** @throws LINK_KIND for kinds that are not made from a desired state (a veth is made by the wiring, with both ends at once). */
function linkSpec(l: Link, index: (dev: string) => number): LinkSpec {
  const common = compact<{ name: string; mtu?: number; address?: string; alias?: string }>({ name: l.name, mtu: l.mtu, address: l.address, alias: l.alias });
  if (l.kind === 'bridge') {
    const { vlanFiltering, ...rest } = l.bridge ?? {};
    // Without its MTU, which is set afterwards: only an MTU that was changed counts as chosen, any other follows the ports (br_mtu_auto_adjust).
    const { mtu: _, ...unsized } = common;
    return { kind: 'bridge', ...unsized, bridge: bridgeAttributes(vlanFiltering ? { ...rest, vlanFiltering } : rest) };
  }
  if (l.kind === 'vxlan' && l.vxlan) {
    const v = l.vxlan;
    const local6 = v.local?.includes(':') ?? false;
    return {
      kind: 'vxlan', ...common,
      vxlan: compact({
        id: v.vni, port: v.port, learning: v.learning, local: local6 ? undefined : v.local, local6: local6 ? v.local : undefined,
        link: v.dev === undefined ? undefined : index(v.dev), udpCsum: v.udpCsum, ttl: v.ttl, df: v.df,
      }),
    };
  }
  if (l.kind === 'wireguard') return { kind: 'wireguard', ...common };
  if (l.kind === 'ifb') return { kind: 'ifb', ...common };
  if (l.kind === 'ipip') return { kind: 'ipip', ...common, tunnel: compact({ local: l.tunnel?.local, remote: l.tunnel?.remote, ttl: l.tunnel?.ttl }) };
  throw new PodwayError('LINK_KIND', `link ${l.name} of kind ${l.kind} cannot be made from a desired state`, { object: `link ${l.name}` });
}
