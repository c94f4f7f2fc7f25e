/**
 * The difference between a desired and an observed state, as a list of changes. Pure.
 *
 * Each change says in words why it is made; the log, the dry run and the doctor print the same
 * sentence. What exists and is not ours is never changed: where it stands in the way, the change
 * is a `conflict`, which `apply` refuses. Fields a desired object leaves out are not compared.
 */
import { keyOf, nftTables, type Kind, type NftTable, type ObjectByKind } from './keys.js';
import { sameTable } from './nft-compare.js';
import { ownsIn, type Owns, type Ownership } from './ownership.js';
import type { Explained, Link, NetnsState } from './types.js';

export type Op = 'create' | 'change' | 'recreate' | 'delete' | 'conflict';

export type Change = {
  [K in Kind]: {
    readonly kind: K;
    readonly op: Op;
    readonly key: string;
    /** Why, in words. */
    readonly reason: string;
    readonly desired?: ObjectByKind[K];
    readonly observed?: ObjectByKind[K];
  };
}[Kind];

type Fields<T> = readonly (keyof T & string)[];

/** What is compared, by kind; for links and nftables see below. */
const FIELDS = {
  address: ['broadcast', 'scope'] as Fields<ObjectByKind['address']>,
  route: ['type', 'gateway', 'dev', 'prefsrc', 'onlink', 'mtu', 'scope', 'protocol'] as Fields<ObjectByKind['route']>,
  rule: ['action', 'table', 'fwmask', 'ipProto', 'suppressPrefixLength', 'invert'] as Fields<ObjectByKind['rule']>,
  neighbour: ['lladdr', 'state'] as Fields<ObjectByKind['neighbour']>,
  fdb: ['dst', 'state'] as Fields<ObjectByKind['fdb']>,
  sysctl: ['value'] as Fields<ObjectByKind['sysctl']>,
} as const;

/** `mtu 1500 instead of 1450`, for each field that differs. */
function differences<T extends object>(desired: T, observed: T, fields: Fields<T>, prefix = ''): string[] {
  const words: string[] = [];
  for (const f of fields) {
    const want = desired[f];
    if (want === undefined) continue;
    const have = observed[f];
    if (want !== have) words.push(`${prefix}${f} ${have === undefined ? 'none' : String(have)} instead of ${String(want)}`);
  }
  return words;
}

const LINK_FIELDS: Fields<Link> = ['mtu', 'address', 'up', 'master', 'alias'];

/** What the kernel cannot change on an existing link: the first such difference, in words, or undefined. */
export function linkIncompatible(desired: Link, observed: Link): string | undefined {
  if (desired.kind !== observed.kind) return `kind ${observed.kind} instead of ${desired.kind}`;
  if (!desired.vxlan) return undefined;
  if (!observed.vxlan) return 'no VXLAN settings could be read';
  return differences(desired.vxlan, observed.vxlan, ['vni', 'port', 'local', 'dev', 'learning', 'udpCsum', 'df'])[0];
}

function linkDifferences(desired: Link, observed: Link): string[] {
  return [
    ...differences(desired, observed, LINK_FIELDS),
    ...(desired.port ? differences(desired.port, observed.port ?? {}, ['hairpin', 'isolated', 'learning', 'flood']) : []),
    ...(desired.bridge ? differences(desired.bridge, observed.bridge ?? {}, ['stp', 'vlanFiltering', 'nfCallIptables']) : []),
  ];
}

const because = (what: string, o: Explained): string => (o.why ? `${what}: ${o.why}` : what);

export function diff(desired: NetnsState, observed: NetnsState, ownership: Ownership): Change[] {
  const owns = ownsIn(observed, ownership);
  const changes: Change[] = [];
  const links = diffLinks(desired, observed, owns, changes);
  // What hangs on a link that will be made anew, or has gone, is gone with it.
  const alive = (o: { readonly dev?: string }) => o.dev === undefined || !links.lost.has(o.dev);
  compare('address', desired.addresses, observed.addresses.filter(alive), owns, changes);
  compare('route', desired.routes, observed.routes.filter(alive), owns, changes);
  compare('rule', desired.rules, observed.rules, owns, changes);
  compare('neighbour', desired.neighbours, observed.neighbours.filter(alive), owns, changes);
  compare('fdb', desired.fdb, observed.fdb.filter(alive), owns, changes);
  diffSysctls(desired, observed, changes);
  diffNft(desired, observed, owns, changes);
  return changes;
}

function diffLinks(desired: NetnsState, observed: NetnsState, owns: Owns, changes: Change[]): { lost: Set<string> } {
  const lost = new Set<string>();
  const have = new Map(observed.links.map((l) => [l.name, l]));
  for (const want of desired.links) {
    const is = have.get(want.name);
    have.delete(want.name);
    const base = { kind: 'link', key: want.name, desired: want } as const;
    if (!is) {
      changes.push({ ...base, op: 'create', reason: because('missing', want) });
      continue;
    }
    const incompatible = linkIncompatible(want, is);
    const words = linkDifferences(want, is);
    // A desired link without an alias is somebody else's, of which we may set what we name (an uplink's MTU, say).
    const mayChange = owns.link(is) || want.alias === undefined;
    if (!incompatible && words.length === 0) continue;
    if (!mayChange) {
      changes.push({ ...base, op: 'conflict', observed: is, reason: `a link of that name exists and is not Podway's (${incompatible ?? words.join(', ')})` });
    } else if (incompatible) {
      lost.add(want.name);
      changes.push({ ...base, op: 'recreate', observed: is, reason: incompatible });
    } else {
      changes.push({ ...base, op: 'change', observed: is, reason: words.join(', ') });
    }
  }
  for (const is of have.values()) {
    if (!owns.link(is)) continue;
    lost.add(is.name);
    changes.push({ kind: 'link', op: 'delete', key: is.name, observed: is, reason: `no longer wanted (${is.alias ?? ''})` });
  }
  return { lost };
}

type Listed = Exclude<Kind, 'link' | 'sysctl' | 'nft'>;

function compare<K extends Listed>(
  kind: K, desired: readonly ObjectByKind[K][], observed: readonly ObjectByKind[K][], owns: Owns, changes: Change[],
): void {
  const key = keyOf[kind] as (o: ObjectByKind[K]) => string;
  const ours = owns[kind] as (o: ObjectByKind[K]) => boolean;
  const fields = FIELDS[kind] as unknown as Fields<ObjectByKind[K]>;
  const push = (c: { op: Op; key: string; reason: string; desired?: ObjectByKind[K]; observed?: ObjectByKind[K] }) =>
    changes.push({ kind, ...c } as unknown as Change);
  const have = new Map<string, ObjectByKind[K]>();
  for (const o of observed) if (!have.has(key(o))) have.set(key(o), o);
  for (const want of desired) {
    const k = key(want);
    const is = have.get(k);
    have.delete(k);
    if (!is) {
      push({ op: 'create', key: k, desired: want, reason: because('missing', want as Explained) });
      continue;
    }
    const words = differences(want, is, fields);
    if (words.length === 0) continue;
    // Entries with our key on a link of ours that were altered (a wrong MAC, say) count as ours: the key is the claim.
    if (ours(is) || claims(kind, want, is)) push({ op: 'change', key: k, desired: want, observed: is, reason: words.join(', ') });
    else push({ op: 'conflict', key: k, desired: want, observed: is, reason: `exists and is not Podway's (${words.join(', ')})` });
  }
  for (const [k, is] of have) if (ours(is)) push({ op: 'delete', key: k, observed: is, reason: 'no longer wanted' });
}

/** Neighbours, FDB entries and addresses carry no mark; on the device we want them on, their key is ours. */
function claims<K extends Listed>(kind: K, want: ObjectByKind[K], is: ObjectByKind[K]): boolean {
  if (kind === 'route' || kind === 'rule') return false;
  return (want as { dev?: string }).dev === (is as { dev?: string }).dev;
}

function diffSysctls(desired: NetnsState, observed: NetnsState, changes: Change[]): void {
  for (const [key, value] of Object.entries(desired.sysctls)) {
    const is = observed.sysctls[key];
    if (is === value) continue;
    changes.push({
      kind: 'sysctl', op: 'change', key, desired: { key, value }, reason: `is ${is ?? 'unset'}, must be ${value}`,
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
    else if (!sameTable(want, is)) changes.push({ kind: 'nft', op: 'change', key, desired: want, observed: is, reason: 'its rules differ' });
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
      case 'create': return [{ kind, key, reason, op: 'delete', observed: desired! }];
      case 'delete': return [{ kind, key, reason, op: 'create', desired: observed! }];
      // A sysctl whose former value is unknown cannot be put back.
      default: return observed ? [{ kind, key, reason, op: c.op, desired: observed, observed: desired! }] : [];
    }
  });
}

/** One line a change, as logs and dry runs print it. */
export function describe(c: Change): string {
  const verb = { create: 'add', change: 'change', recreate: 'make anew', delete: 'remove', conflict: 'leave alone' }[c.op];
  const noun = { fdb: 'FDB entry', nft: 'nftables table' }[c.kind as 'fdb' | 'nft'] ?? c.kind;
  return `${verb} ${noun} ${c.key}: ${c.reason}`;
}
