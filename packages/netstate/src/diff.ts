/**
 * The difference between a desired and an observed state, as a list of changes. Pure.
 *
 * Each change says in words why it is made; the log, the dry run and the doctor print the same
 * sentence. What exists and is not ours is never changed: where it stands in the way, the change
 * is a `conflict`, which `apply` refuses. Fields a desired object leaves out are not compared.
 *
 * A link that must be made anew takes with it whatever is on it. All of that is listed: what is
 * wanted is created, what is not goes, and what somebody else had put there is put back.
 */
import { deviceOfSysctl, isLasting, linkDifferences, linkIncompatible, objectDifferences, qdiscDifferences, sameSysctl, type Listed } from './compare.js';
import { KEY_PARTS, keyOf, nftTables, type Kind, type NftTable, type ObjectByKind } from './keys.js';
import { sameTable, tableDifference } from './nft-compare.js';
import { ownsIn, type Owns, type Ownership } from './ownership.js';
import type { Explained, Link, NetnsState, RouteHop } from './types.js';

export type Op = 'create' | 'change' | 'recreate' | 'delete' | 'conflict';

export type Change = {
  [K in Kind]: {
    readonly kind: K;
    readonly op: Op;
    readonly key: string;
    /** Why, in words. */
    readonly reason: string;
    readonly desired?: ObjectByKind[K];
    /** What was there before. With `create`: what goes with a link that is made anew. */
    readonly observed?: ObjectByKind[K];
  };
}[Kind];

const because = (what: string, o: Explained): string => (o.why ? `${what}: ${o.why}` : what);

/** What happens to the links decides about all that is on them. */
interface Fate {
  readonly recreated: ReadonlySet<string>;
  /** Recreated or removed: what is on them goes. */
  readonly lost: ReadonlySet<string>;
  /** Somebody else's, standing where ours should be: nothing is put on them. */
  readonly refused: ReadonlySet<string>;
}

export function diff(desired: NetnsState, observed: NetnsState, ownership: Ownership): Change[] {
  const owns = ownsIn(observed, ownership);
  const changes: Change[] = [];
  const fate = diffLinks(desired, observed, owns, changes);
  const context = { owns, fate, changes };
  compare(context, 'address', desired.addresses, observed.addresses);
  compare(context, 'route', desired.routes, observed.routes);
  compare(context, 'rule', desired.rules, observed.rules);
  compare(context, 'neighbour', desired.neighbours, observed.neighbours);
  compare(context, 'fdb', desired.fdb, observed.fdb);
  compare(context, 'peer', desired.wireguardPeers ?? [], observed.wireguardPeers ?? []);
  diffQdiscs(desired, observed, owns, fate, changes);
  diffSysctls(desired, observed, fate, changes);
  diffNft(desired, observed, owns, changes);
  return changes;
}

function diffLinks(desired: NetnsState, observed: NetnsState, owns: Owns, changes: Change[]): Fate {
  const recreated = new Set<string>();
  const lost = new Set<string>();
  const refused = new Set<string>();
  const have = new Map(observed.links.map((l) => [l.name, l]));
  for (const want of inOrder(desired.links)) {
    const is = have.get(want.name);
    have.delete(want.name);
    const base = { kind: 'link', key: want.name, desired: want } as const;
    if (!is) {
      changes.push({ ...base, op: 'create', reason: because('missing', want) });
      continue;
    }
    const lower = want.vxlan?.dev;
    const incompatible = linkIncompatible(want, is) ?? (lower !== undefined && recreated.has(lower) ? `${lower} below it is made anew` : undefined);
    const words = linkDifferences(want, is);
    if (want.master !== undefined && want.master === is.master && recreated.has(want.master)) words.push(`its bridge ${want.master} is made anew`);
    if (!incompatible && words.length === 0) continue;
    const ours = owns.link(is);
    // A desired link without an alias is somebody else's, of which we may set what we name (an uplink's MTU, say), but never make anew.
    if (!ours && (incompatible !== undefined || want.alias !== undefined)) {
      refused.add(want.name);
      changes.push({ ...base, op: 'conflict', observed: is, reason: `a link of that name exists and is not Podway's (${incompatible ?? words.join(', ')})` });
    } else if (incompatible) {
      lost.add(want.name);
      recreated.add(want.name);
      changes.push({ ...base, op: 'recreate', observed: is, reason: incompatible });
    } else {
      changes.push({ ...base, op: 'change', observed: is, reason: words.join(', ') });
    }
  }
  for (const is of have.values()) {
    if (owns.link(is)) {
      lost.add(is.name);
      changes.push({ kind: 'link', op: 'delete', key: is.name, observed: is, reason: `no longer wanted (${is.alias ?? ''})` });
    } else if (is.master !== undefined && recreated.has(is.master)) {
      const desiredPort: Link = { name: is.name, kind: is.kind, up: is.up, master: is.master };
      changes.push({ kind: 'link', op: 'change', key: is.name, desired: desiredPort, observed: is, reason: `its bridge ${is.master} is made anew` });
    }
  }
  return { recreated, lost, refused };
}

/** Lower devices and bridges before what rests on them, otherwise as given. */
function inOrder(links: readonly Link[]): Link[] {
  const byName = new Map(links.map((l) => [l.name, l]));
  const ordered = new Set<Link>();
  const visiting = new Set<Link>();
  const visit = (l: Link | undefined): void => {
    if (!l || visiting.has(l)) return;
    visiting.add(l);
    if (l.vxlan?.dev !== undefined) visit(byName.get(l.vxlan.dev));
    if (l.master !== undefined) visit(byName.get(l.master));
    ordered.add(l);
  };
  links.forEach(visit);
  return [...ordered];
}

interface Context {
  readonly owns: Owns;
  readonly fate: Fate;
  readonly changes: Change[];
}

function compare<K extends Listed>(context: Context, kind: K, desired: readonly ObjectByKind[K][], observed: readonly ObjectByKind[K][]): void {
  const { owns, fate, changes } = context;
  const keyFor = keyOf[kind] as (o: ObjectByKind[K]) => string;
  const ours = owns[kind] as (o: ObjectByKind[K]) => boolean;
  const push = (op: Op, key: string, reason: string, want: ObjectByKind[K] | undefined, is: ObjectByKind[K] | undefined): void => {
    const change = { kind, op, key, reason } as { kind: K; op: Op; key: string; reason: string; desired?: ObjectByKind[K]; observed?: ObjectByKind[K] };
    if (want !== undefined) change.desired = want;
    if (is !== undefined) change.observed = is;
    changes.push(change as unknown as Change);
  };
  const have = new ByKey(KEY_PARTS[kind] as KeyParts<ObjectByKind[K]>);
  const going = new ByKey(KEY_PARTS[kind] as KeyParts<ObjectByKind[K]>);
  for (const o of observed) (fate.lost.size && goesWith(o, fate.lost) !== undefined ? going : have).add(o);
  const badness = (want: ObjectByKind[K]) => (o: ObjectByKind[K]) => (objectDifferences(kind, want, o).length ? (ours(o) ? 1 : 2) : 0);
  for (const want of desired) {
    const is = have.take(want, badness);
    let words = is && objectDifferences(kind, want, is);
    if (fate.lost.size && is && losesHops(is, fate.lost)) words = ['a next hop goes with its link'];
    if (words?.length === 0) continue;
    const key = keyFor(want);
    const dev = deviceOf(want);
    if (dev !== undefined && fate.refused.has(dev)) {
      push('conflict', key, `link ${dev} is not Podway's`, want, is);
    } else if (is === undefined) {
      const former = going.take(want, () => () => 0);
      push('create', key, because(former ? `link ${goesWith(former, fate.lost)} is made anew` : 'missing', want as Explained), want, former);
    } else if (ours(is) || claims(kind, want, is)) {
      // Entries with our key on a link of ours that were altered (a wrong MAC, say) count as ours: the key is the claim.
      push('change', key, words!.join(', '), want, is);
    } else {
      push('conflict', key, `exists and is not Podway's (${words!.join(', ')})`, want, is);
    }
  }
  for (const is of have.rest()) if (ours(is)) push('delete', keyFor(is), 'no longer wanted', undefined, is);
  for (const is of going.rest()) {
    const dev = goesWith(is, fate.lost)!;
    if (ours(is)) push('delete', keyFor(is), `goes with link ${dev}`, undefined, is);
    else if (fate.recreated.has(dev) && (isLasting[kind] as (o: ObjectByKind[K]) => boolean)(is)) push('create', keyFor(is), `was on link ${dev}, which is made anew`, is, is);
  }
}

const deviceOf = (o: object): string | undefined => (o as { dev?: string }).dev;
const hopDevices = (o: object): readonly string[] | undefined => (o as { nexthops?: readonly RouteHop[] }).nexthops?.map((h) => h.dev);

/** The lost link an object goes with. A route with several next hops lives on by those that stay. */
function goesWith(o: object, lost: ReadonlySet<string>): string | undefined {
  const dev = deviceOf(o);
  if (dev !== undefined) return lost.has(dev) ? dev : undefined;
  const hops = hopDevices(o);
  return hops?.length && hops.every((d) => lost.has(d)) ? hops[0] : undefined;
}

const losesHops = (o: object, lost: ReadonlySet<string>): boolean => hopDevices(o)?.some((d) => lost.has(d)) ?? false;

interface KeyParts<T> {
  readonly head: (o: T) => string;
  readonly same: (a: T, b: T) => boolean;
}

/** Objects by their key. Several may have the same one (IPv6 routes, rules that differ in a detail). */
class ByKey<T extends object> {
  private readonly map = new Map<string, T | T[]>();

  constructor(private readonly parts: KeyParts<T>) {}

  add(o: T): void {
    const head = this.parts.head(o);
    const there = this.map.get(head);
    if (there === undefined) this.map.set(head, o);
    else if (Array.isArray(there)) there.push(o);
    else this.map.set(head, [there, o]);
  }

  /** Takes out the object with the key of `want` and the lowest badness, the first of several. */
  take(want: T, badness: (want: T) => (o: T) => number): T | undefined {
    const { head, same } = this.parts;
    const there = this.map.get(head(want));
    if (there === undefined) return undefined;
    if (!Array.isArray(there)) {
      if (!same(want, there)) return undefined;
      this.map.delete(head(want));
      return there;
    }
    const bad = badness(want);
    const candidates = there.filter((o) => same(want, o));
    const best = candidates.length < 2 ? candidates[0] : candidates.reduce((a, b) => (bad(b) < bad(a) ? b : a));
    if (best !== undefined) there.splice(there.indexOf(best), 1);
    return best;
  }

  /** What was not taken, in the order it came. */
  *rest(): Generator<T> {
    for (const there of this.map.values()) {
      if (Array.isArray(there)) yield* there;
      else yield there;
    }
  }
}

/** Neighbours, FDB entries and addresses carry no mark; on the device we want them on, their key is ours. */
function claims<K extends Listed>(kind: K, want: ObjectByKind[K], is: ObjectByKind[K]): boolean {
  if (kind === 'route' || kind === 'rule') return false;
  return deviceOf(want) === deviceOf(is);
}

/** What stands where ours must be gives way: a device has one qdisc at each place, and the kernel puts a default one at every root. */
function diffQdiscs(desired: NetnsState, observed: NetnsState, owns: Owns, fate: Fate, changes: Change[]): void {
  const have = new Map(observed.qdiscs.filter((q) => !fate.lost.has(q.dev)).map((q) => [keyOf.qdisc(q), q]));
  for (const want of desired.qdiscs) {
    // Other kinds are read, not made.
    if (want.kind !== 'ingress' && !want.tbf) continue;
    const key = keyOf.qdisc(want);
    const is = have.get(key);
    have.delete(key);
    // The default qdisc of a device (noqueue and its like) has the handle 0: and is nobody's.
    if (!is || is.handle === '0:') changes.push({ kind: 'qdisc', op: 'create', key, desired: want, reason: because('missing', want) });
    else {
      const words = qdiscDifferences(want, is);
      if (words.length) changes.push({ kind: 'qdisc', op: 'change', key, desired: want, observed: is, reason: words.join(', ') });
    }
  }
  for (const is of have.values()) if (owns.qdisc(is)) changes.push({ kind: 'qdisc', op: 'delete', key: keyOf.qdisc(is), observed: is, reason: 'no longer wanted' });
}

function diffSysctls(desired: NetnsState, observed: NetnsState, fate: Fate, changes: Change[]): void {
  for (const [key, value] of Object.entries(desired.sysctls)) {
    const is = observed.sysctls[key];
    const device = deviceOfSysctl(key);
    const anew = device !== undefined && fate.recreated.has(device);
    if (!anew && is !== undefined && sameSysctl(is, value)) continue;
    changes.push({
      kind: 'sysctl', op: 'change', key, desired: { key, value }, reason: anew ? `link ${device} is made anew, must be ${value}` : `is ${is ?? 'unset'}, must be ${value}`,
      ...(is === undefined ? {} : { observed: { key, value: is } }),
    });
  }
}

function diffNft(desired: NetnsState, observed: NetnsState, owns: Owns, changes: Change[]): void {
  const have = new Map(nftTables(observed.nft).map((t) => [keyOf.nft(t), t]));
  for (const want of nftTables(desired.nft)) {
    const key = keyOf.nft(want);
    const is = have.get(key);
    have.delete(key);
    if (!is) changes.push({ kind: 'nft', op: 'create', key, desired: want, reason: 'missing' });
    else if (sameTable(want, is)) continue;
    else if (owns.nft(is)) changes.push({ kind: 'nft', op: 'change', key, desired: want, observed: is, reason: tableDifference(want, is) });
    else changes.push({ kind: 'nft', op: 'conflict', key, desired: want, observed: is, reason: `a table of that name exists and is not Podway's` });
  }
  for (const is of have.values()) {
    if (owns.nft(is)) changes.push({ kind: 'nft', op: 'delete', key: keyOf.nft(is), observed: is, reason: 'no longer wanted' });
  }
}

/** The changes that lead back, in the order in which `apply` should be given them. A dry run of an undo. */
export function invert(changes: readonly Change[]): Change[] {
  return [...changes].reverse().flatMap((c): Change[] => {
    const { desired, observed, kind, key } = c as { desired?: NftTable; observed?: NftTable; kind: 'nft'; key: string };
    const reason = `undo: ${c.reason}`;
    switch (c.op) {
      case 'conflict': return [];
      // What was on a link that was made anew comes back when that link is made anew once more.
      case 'create': return observed ? [{ kind, key, reason, op: 'create', desired: observed, observed: desired! }] : [{ kind, key, reason, op: 'delete', observed: desired! }];
      case 'delete': return [{ kind, key, reason, op: 'create', desired: observed! }];
      // A sysctl whose former value is unknown cannot be put back.
      default: return observed ? [{ kind, key, reason, op: c.op, desired: observed, observed: desired! }] : [];
    }
  });
}

/** One line a change, as logs and dry runs print it. */
export function describe(c: Change): string {
  const verb = { create: 'add', change: 'change', recreate: 'make anew', delete: 'remove', conflict: 'leave alone' }[c.op];
  const noun = { fdb: 'FDB entry', nft: 'nftables table', peer: 'WireGuard peer' }[c.kind as 'fdb' | 'nft' | 'peer'] ?? c.kind;
  return `${verb} ${noun} ${c.key}: ${c.reason}`;
}
