/**
 * Reads a world from living namespaces, and keeps the handles to enter them.
 *
 * Which device leads where: each veth names its peer's index and (unless it is in the same namespace) the
 * id its namespace gives the peer's. Candidates are links elsewhere with the two indexes swapped; which of
 * them it is, the kernel says (RTM_GETNSID). A peer outside the world stays unknown, never a look-alike.
 * Cost: 2 to 5 ms per namespace.
 */
import { PodwayError, messageOf } from '@podway/errors';
import { Netns, netnsIdOf, RtNetlink, type NetnsSource } from '@podway/kernel';
import { observe as observeState } from '@podway/netstate';
import { parseProcNet } from './sockets.js';
import type { Role, SocketInfo, World, WorldLink, WorldNamespace, WorldNode, WorldPod } from './world.js';

/** How to enter: a source to open, or a handle that the caller keeps open. */
export type Entrance = NetnsSource | Netns;

export interface WorldSource {
  readonly nodes: readonly { readonly name: string; readonly addresses: readonly string[]; readonly podCIDRs: readonly string[]; readonly netns: Entrance;
    /** Where its WireGuard programs have their sockets. */
    readonly wireguardDir?: string }[];
  readonly pods: readonly {
    readonly namespace: string; readonly name: string; readonly node: string; readonly ips: readonly string[];
    /** Left out for a pod with hostNetwork. */
    readonly netns?: Entrance;
    readonly containers?: readonly { readonly name: string; readonly pid?: number }[];
  }[];
  readonly underlay: readonly { readonly name: string; readonly role: Extract<Role, 'switch' | 'router' | 'outside'>; readonly netns: Entrance }[];
}

/** Open handles by key. */
export class LiveWorld {
  private readonly handles = new Map<string, { readonly ns: Netns; readonly own: boolean }>();
  /** By key: where WireGuard programs have their sockets. */
  readonly wireguardDirs = new Map<string, string>();

  add(key: string, entrance: Entrance): Netns {
    const own = !(entrance instanceof Netns);
    const ns = own ? Netns.open(entrance, key) : entrance;
    this.handles.set(key, { ns, own });
    return ns;
  }

  /** @throws TRACE_NOT_LIVE when the world is only a file. */
  netns(key: string): Netns {
    const found = this.handles.get(key);
    if (found) return found.ns;
    throw new PodwayError('TRACE_NOT_LIVE', `there is no way into ${key}`, { object: key, hint: 'Predict only, or trace on the machine where it runs.' });
  }

  has(key: string): boolean {
    return this.handles.has(key);
  }

  keys(): string[] {
    return [...this.handles.keys()];
  }

  /** Closes what was opened here; handles that were given stay open. */
  close(): void {
    for (const { ns, own } of this.handles.values()) if (own) ns.close();
    this.handles.clear();
  }
}

export interface ReadWorld {
  readonly world: World;
  readonly live: LiveWorld;
}

/** A namespace that is gone (a pod that just ended) is left out and named in `unread`. The caller closes `live`. */
export function readWorld(source: WorldSource): ReadWorld {
  const live = new LiveWorld();
  const unread: string[] = [];
  const namespaces: WorldNamespace[] = [];
  const read = (key: string, role: Role, entrance: Entrance, node?: string): void => {
    try {
      namespaces.push(readNamespace(key, role, live.add(key, entrance), node, live.wireguardDirs.get(key)));
    } catch (e) {
      unread.push(`${key}: ${messageOf(e)}`);
    }
  };
  for (const n of source.nodes) if (n.wireguardDir !== undefined) live.wireguardDirs.set(n.name, n.wireguardDir);
  for (const n of source.nodes) read(n.name, 'node', n.netns, n.name);
  for (const p of source.pods) if (p.netns) read(podKey(p), 'pod', p.netns, p.node);
  for (const u of source.underlay) read(u.name, u.role, u.netns);
  const nodes: WorldNode[] = source.nodes.map((n) => ({ name: n.name, netns: n.name, addresses: n.addresses, podCIDRs: n.podCIDRs }));
  const pods: WorldPod[] = source.pods.map((p) => ({
    namespace: p.namespace, name: p.name, node: p.node, ips: p.ips, netns: p.netns ? podKey(p) : p.node, containers: p.containers ?? [],
  }));
  return { world: { schema: 1, taken: new Date().toISOString(), namespaces, nodes, pods, links: linksBetween(namespaces, live), unread }, live };
}

/** The same namespaces read anew: after something was changed. */
export function rereadWorld({ world, live }: ReadWorld): World {
  const namespaces = world.namespaces.map((n) => (live.has(n.key) ? readNamespace(n.key, n.role, live.netns(n.key), n.node, live.wireguardDirs.get(n.key)) : n));
  return { ...world, taken: new Date().toISOString(), namespaces, links: linksBetween(namespaces, live) };
}

const podKey = (p: { namespace: string; name: string }): string => `${p.namespace}/${p.name}`;

function readNamespace(key: string, role: Role, ns: Netns, node?: string, wireguardDir?: string): WorldNamespace {
  const state = observeState(ns, { wireguardDir });
  const { sockets, legacyTables, legacyTables6 } = readProc(ns);
  return { key, role, ...(node === undefined ? {} : { node }), state: { ...state, netns: { id: state.netns.id, name: key } }, ...(sockets ? { sockets } : {}), legacyTables, legacyTables6 };
}

const TABLES = [['tcp', 4], ['tcp6', 6], ['udp', 4], ['udp6', 6]] as const;

function readProc(ns: Netns): { sockets: SocketInfo[] | undefined; legacyTables: string[]; legacyTables6: string[] } {
  const file = (name: string): string | undefined => {
    try {
      return ns.readFile(`/proc/thread-self/net/${name}`);
    } catch {
      return undefined;
    }
  };
  const texts = TABLES.map(([name, version]) => ({ text: file(name), proto: name.startsWith('tcp') ? ('tcp' as const) : ('udp' as const), version }));
  // Without IPv6 in the kernel the files ending in 6 are missing; without the IPv4 ones nothing is known.
  const sockets = texts[0]?.text === undefined ? undefined : texts.flatMap((t) => (t.text === undefined ? [] : parseProcNet(t.text, t.proto)));
  const tables = (name: string): string[] => (file(name) ?? '').split('\n').filter(Boolean);
  return { sockets, legacyTables: tables('ip_tables_names'), legacyTables6: tables('ip6_tables_names') };
}

function linksBetween(namespaces: readonly WorldNamespace[], live: LiveWorld): WorldLink[] {
  const ends = namespaces.flatMap((n) => n.state.links.filter((l) => l.kind === 'veth' && l.index !== undefined && l.peer).map((l) => ({ netns: n.key, link: l })));
  const bySwapped = new Map<string, typeof ends>();
  for (const e of ends) {
    const k = `${e.link.index} ${e.link.peer!.index}`;
    bySwapped.set(k, [...(bySwapped.get(k) ?? []), e]);
  }
  const ids = new Map<string, number | undefined>();
  const idOf = (from: string, to: string): number | undefined => {
    const k = `${from} ${to}`;
    if (!ids.has(k)) ids.set(k, RtNetlink.with(live.netns(from), (nl) => netnsIdOf(nl.socket, live.netns(to))));
    return ids.get(k);
  };
  const links: WorldLink[] = [];
  const done = new Set<string>();
  for (const e of ends) {
    const mine = `${e.netns} ${e.link.name}`;
    if (done.has(mine)) continue;
    const peer = e.link.peer!;
    const candidates = bySwapped.get(`${peer.index} ${e.link.index}`) ?? [];
    const other = candidates.find((x) =>
      peer.netnsid === undefined ? x.netns === e.netns : x.netns !== e.netns && idOf(e.netns, x.netns) === peer.netnsid);
    if (!other) continue;
    done.add(`${other.netns} ${other.link.name}`);
    links.push({
      a: { netns: e.netns, dev: e.link.name }, b: { netns: other.netns, dev: other.link.name }, how: peer.netnsid === undefined ? 'same-namespace' : 'nsid',
    });
  }
  return links;
}
