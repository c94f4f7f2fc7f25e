/**
 * Brings the kernel to a state by a list of changes. The order is declared here and nowhere else.
 *
 * Adding goes from the ground up, so that nothing is announced before what it rests on works:
 * firewall tables first (no packet slips through before its rule), links, sysctls (they need the
 * device), addresses, neighbours and FDB entries, and the route last, because with a route but no
 * neighbour the kernel would begin to ARP for the gateway. Removing goes the other way round.
 * All requests of one phase travel in one batch. A refusal does not stop the rest; every one is
 * returned with its change.
 */
import {
  addAddrRequest, addFdbRequest, addNeighRequest, addRouteRequest, addRuleRequest, createRequests, deleteAddrRequest, deleteFdbRequest,
  deleteNeighRequest, deleteRequest, deleteRouteRequest, deleteRuleRequest, Nftables, RtNetlink, setBridgeRequest, setPortRequest, setRequest,
  writeSysctl, type LinkSpec, type Netns, type Request,
} from '@podway/kernel';
import { PodwayError, isPodwayError } from '@podway/errors';
import { describe, type Change } from './diff.js';
import type { NftTable } from './keys.js';
import type { FdbEntry, Link, Neighbour, Route, Rule, Address } from './types.js';

export interface Failure {
  readonly change: Change;
  readonly error: PodwayError;
}

export interface Applied {
  readonly done: readonly Change[];
  readonly failed: readonly Failure[];
}

/** Phases, in order. Within one, changes keep the order of the list. */
const REMOVE = ['route', 'rule', 'fdb', 'neighbour', 'address', 'link', 'nft'] as const;
const ADD = ['nft', 'link', 'sysctl', 'address', 'neighbour', 'fdb', 'rule', 'route'] as const;

export interface ApplyOptions {
  /** A socket to use; otherwise one is opened for the occasion. */
  readonly netlink?: RtNetlink;
}

export function apply(ns: Netns, changes: readonly Change[], options: ApplyOptions = {}): Applied {
  const nl = options.netlink ?? RtNetlink.open(ns);
  const run = new Run(ns, nl);
  try {
    for (const c of changes) if (c.op === 'conflict') run.fail(c, notOurs(c, ns));
    for (const kind of REMOVE) run.phase(changes.filter((c) => c.kind === kind && c.op === 'delete'));
    for (const kind of ADD) run.phase(changes.filter((c) => c.kind === kind && c.op !== 'delete' && c.op !== 'conflict'));
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

  constructor(
    private readonly ns: Netns,
    private readonly nl: RtNetlink,
  ) {}

  fail(change: Change, error: unknown): void {
    const e = isPodwayError(error) ? error : new PodwayError('APPLY_FAILED', describe(change), { cause: error });
    this.failed.push({ change, error: e });
  }

  phase(changes: readonly Change[]): void {
    if (changes.length === 0) return;
    if (changes[0]!.kind === 'nft') this.nftPhase(changes);
    else if (changes[0]!.kind === 'sysctl') this.each(changes, (c) => this.sysctl(c));
    else if (changes[0]!.kind === 'link') this.linkPhase(changes);
    else this.done.push(...this.send(changes, (c) => this.request(c)));
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
   * them is the change's.
   * @returns the changes of which nothing was refused.
   */
  private send(changes: readonly Change[], requestsOf: (c: Change) => Request[]): Change[] {
    const requests: Request[] = [];
    const owner: Change[] = [];
    for (const c of changes) {
      try {
        for (const r of requestsOf(c)) {
          requests.push(r);
          owner.push(c);
        }
      } catch (e) {
        this.fail(c, e);
      }
    }
    const refused = new Map<Change, PodwayError>();
    for (const r of this.nl.batch(requests)) {
      const c = owner[r.index]!;
      if (!refused.has(c) && !(c.op === 'delete' && GONE.has(r.error.errno ?? ''))) refused.set(c, r.error);
    }
    for (const [c, error] of refused) this.fail(c, error);
    return [...new Set(owner)].filter((c) => !refused.has(c));
  }

  private linkPhase(changes: readonly Change[]): void {
    const gone = changes.filter((c) => c.op === 'recreate' || c.op === 'delete');
    const stuck = this.nl.batch(gone.map((c) => deleteRequest(this.index(c.key), c.key))).filter((r) => !GONE.has(r.error.errno ?? ''));
    for (const r of stuck) this.fail(gone[r.index]!, r.error);
    const failed = new Set(stuck.map((r) => gone[r.index]!));
    for (const c of gone) if (c.op === 'delete' && !failed.has(c)) this.done.push(c);
    this.indexes = undefined;
    const rest = changes.filter((c) => c.op !== 'delete' && !failed.has(c));
    const created = this.send(rest.filter((c) => c.op !== 'change'), (c) => createRequests(linkSpec(c.desired as Link, (dev) => this.index(dev))));
    // Done only once they are set as well.
    this.indexes = undefined;
    this.done.push(...this.send([...created, ...rest.filter((c) => c.op === 'change')], (c) => this.linkSettings(c)));
  }

  private linkSettings(c: Change): Request[] {
    const want = c.desired as Link;
    const is = c.op === 'change' ? (c.observed as Link) : undefined;
    const index = this.index(want.name);
    const changed = <T>(now: T | undefined, before: T | undefined): T | undefined => (is && now === before ? undefined : now);
    const mtu = changed(want.mtu, is?.mtu);
    const address = changed(want.address, is?.address);
    const alias = changed(want.alias, is?.alias);
    const master = is && want.master === is.master ? undefined : want.master;
    const requests: Request[] = [];
    const { port, bridge } = want;
    requests.push(setRequest(index, {
      up: want.up,
      ...(mtu === undefined ? {} : { mtu }), ...(address === undefined ? {} : { address }), ...(alias === undefined ? {} : { alias }),
      ...(master === undefined ? {} : { master: this.index(master) }),
    }, want.name));
    if (port) {
      requests.push(setPortRequest(index, {
        ...(port.hairpin === undefined ? {} : { hairpin: port.hairpin }), ...(port.isolated === undefined ? {} : { isolated: port.isolated }),
        ...(port.learning === undefined ? {} : { learning: port.learning }), ...(port.flood === undefined ? {} : { unicastFlood: port.flood }),
      }, want.name));
    }
    if (bridge && is) {
      requests.push(setBridgeRequest(index, {
        ...(bridge.stp === undefined ? {} : { stpState: bridge.stp ? 1 : 0 }),
        ...(bridge.vlanFiltering === undefined ? {} : { vlanFiltering: bridge.vlanFiltering }),
        ...(bridge.nfCallIptables === undefined ? {} : { nfCallIptables: bridge.nfCallIptables }),
      }, want.name));
    }
    return requests;
  }

  private request(c: Change): Request[] {
    const at = (dev: string | undefined) => (dev === undefined ? undefined : this.index(dev));
    if (c.op === 'delete') {
      switch (c.kind) {
        case 'address': return [deleteAddrRequest({ ...addr(c.observed!), index: this.index(c.observed!.dev) })];
        case 'route': return [deleteRouteRequest(routeSpec(c.observed!, at(c.observed!.dev)))];
        case 'rule': return [deleteRuleRequest(ruleSpec(c.observed!))];
        case 'neighbour': return [deleteNeighRequest(neighSpec(c.observed!, this.index(c.observed!.dev)))];
        case 'fdb': return [deleteFdbRequest(fdbSpec(c.observed!, this.index(c.observed!.dev)))];
        default: return [];
      }
    }
    const fresh = c.op === 'create';
    switch (c.kind) {
      case 'address': return [addAddrRequest({ ...addr(c.desired!), index: this.index(c.desired!.dev) }, !fresh)];
      case 'route': return [addRouteRequest(routeSpec(c.desired!, at(c.desired!.dev)), fresh ? 'add' : 'replace')];
      // A rule cannot be altered: the new one first, so that there is never none.
      case 'rule': return [addRuleRequest(ruleSpec(c.desired!)), ...(c.observed ? [deleteRuleRequest(ruleSpec(c.observed))] : [])];
      case 'neighbour': return [addNeighRequest(neighSpec(c.desired!, this.index(c.desired!.dev)), 'replace')];
      case 'fdb': return [addFdbRequest(fdbSpec(c.desired!, this.index(c.desired!.dev)), fresh && c.desired!.lladdr === '00:00:00:00:00:00' ? 'append' : 'replace')];
      default: return [];
    }
  }

  private sysctl(c: Change): void {
    if (c.kind === 'sysctl' && c.desired) writeSysctl(this.ns, c.desired.key, c.desired.value);
  }

  /** Each table is replaced in one transaction: there is no moment without it. */
  private nftPhase(changes: readonly Change[]): void {
    Nftables.with(this.ns, (nft) =>
      this.each(changes, (c) => {
        const t = (c.desired ?? c.observed) as NftTable;
        const table = { family: t.family, name: t.name };
        nft.run([
          { add: { table } },
          { delete: { table } },
          ...(c.op === 'delete' ? [] : t.objects.map((o) => ({ add: o }))),
        ]);
      }));
  }

  /** @throws LINK_NOT_FOUND: the object cannot be made since its device is not there. */
  private index(dev: string): number {
    this.indexes ??= new Map(this.nl.links().map((l) => [l.name, l.index]));
    const index = this.indexes.get(dev);
    if (index !== undefined) return index;
    throw new PodwayError('LINK_NOT_FOUND', `there is no link ${dev}`, { object: `link ${dev} in ${this.ns.label}`, errno: 'ENODEV' });
  }
}

/** The kernel's ways of saying that it is not there: what a removal wants. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL']);

const addr = (a: Address) => ({
  address: a.address, prefix: a.prefix, ...(a.broadcast === undefined ? {} : { broadcast: a.broadcast }), ...(a.scope === undefined ? {} : { scope: a.scope }),
});
const routeSpec = (r: Route, index: number | undefined) => ({
  dst: r.dst, type: r.type, table: r.table, protocol: r.protocol, metric: r.metric,
  ...(r.gateway === undefined ? {} : { gateway: r.gateway }), ...(index === undefined ? {} : { index }),
  ...(r.prefsrc === undefined ? {} : { prefsrc: r.prefsrc }), ...(r.scope === undefined ? {} : { scope: r.scope }),
  ...(r.onlink ? { onlink: true } : {}), ...(r.mtu === undefined ? {} : { mtu: r.mtu }),
});
const ruleSpec = (r: Rule) => {
  const { why: _, ...spec } = r;
  return spec;
};
const neighSpec = (n: Neighbour, index: number) => ({
  index, dst: n.dst, state: n.state, ...(n.lladdr === undefined ? {} : { lladdr: n.lladdr }), ...(n.proxy ? { proxy: true } : {}),
});
const fdbSpec = (f: FdbEntry, index: number) => ({
  index, lladdr: f.lladdr, state: f.state, ...(f.dst === undefined ? {} : { dst: f.dst }), ...(f.vlan === undefined ? {} : { vlan: f.vlan }),
  ...(f.self ? {} : { inMaster: true }),
});

/** @throws LINK_KIND for kinds that are not made from a desired state (a veth is made by the wiring, with both ends at once). */
function linkSpec(l: Link, index: (dev: string) => number): LinkSpec {
  const common = {
    name: l.name, ...(l.mtu === undefined ? {} : { mtu: l.mtu }), ...(l.address === undefined ? {} : { address: l.address }),
    ...(l.alias === undefined ? {} : { alias: l.alias }),
  };
  if (l.kind === 'bridge') {
    const b = l.bridge ?? {};
    return {
      kind: 'bridge', ...common,
      bridge: { ...(b.stp === undefined ? {} : { stpState: b.stp ? 1 : 0 }), ...(b.vlanFiltering === undefined ? {} : { vlanFiltering: b.vlanFiltering }) },
    };
  }
  if (l.kind === 'vxlan' && l.vxlan) {
    const v = l.vxlan;
    const local = v.local === undefined ? {} : v.local.includes(':') ? { local6: v.local } : { local: v.local };
    return {
      kind: 'vxlan', ...common,
      vxlan: {
        id: v.vni, port: v.port, learning: v.learning, ...local,
        ...(v.dev === undefined ? {} : { link: index(v.dev) }), ...(v.udpCsum === undefined ? {} : { udpCsum: v.udpCsum }), ...(v.df === undefined ? {} : { df: v.df }),
      },
    };
  }
  throw new PodwayError('LINK_KIND', `link ${l.name} of kind ${l.kind} cannot be made from a desired state`, { object: `link ${l.name}` });
}
