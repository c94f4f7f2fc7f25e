/**
 * One packet at one place, with everything that happened to it so far. Stages take a cursor and give cursors: one as a rule,
 * several where the kernel has a choice nobody outside can foresee.
 */
import type { Link, NetnsState } from '@podway/netstate';
import type { WorldIndex, WorldNamespace } from '../world.js';
import type { Outcome, Packet, Step, Translation } from './types.js';

export type Place =
  /** A local process, or the kernel itself, sends. `oif`: bound to a device. */
  | { readonly at: 'send'; readonly netns: string; readonly oif?: string }
  | { readonly at: 'ip-output'; readonly netns: string; readonly dev: string; readonly nexthop: string; readonly mtu?: number }
  | { readonly at: 'transmit'; readonly netns: string; readonly dev: string }
  | { readonly at: 'receive'; readonly netns: string; readonly dev: string }
  /** `ingress` undefined: the bridge device itself sends. */
  | { readonly at: 'bridge'; readonly netns: string; readonly bridge: string; readonly ingress?: string }
  | { readonly at: 'ip-receive'; readonly netns: string; readonly dev: string }
  | { readonly at: 'local'; readonly netns: string; readonly dev: string }
  | { readonly at: 'end'; readonly outcome: Outcome };

export interface Cursor {
  readonly place: Place;
  readonly packet: Packet;
  readonly steps: readonly Step[];
  readonly translations: readonly Translation[];
  /** br_netfilter showed the packet to the IP hooks of prerouting in this namespace already (ip_sabotage_in). */
  readonly hooked?: string;
  /** Flooded to where the addressee is not. */
  readonly copy?: true;
}

export interface Sim {
  readonly index: WorldIndex;
  /** Translations made on the way there; the packet is an answer when given. */
  readonly answering?: readonly Translation[];
  /** Namespaces the request went through: there the answer belongs to an established connection. */
  readonly known: ReadonlySet<string>;
  /** Decides what the kernel leaves to chance; the simulation is run once for each way it can fall. */
  readonly choose?: (of: number) => number;
}

type Facts<K extends Step['kind']> = Omit<Extract<Step, { kind: K }>, 'netns' | 'packet' | 'kind'> & { readonly packet?: Packet };

/** Adds a step; its packet becomes the cursor's. */
export function note<K extends Step['kind']>(c: Cursor, netns: string, kind: K, facts: Facts<K>): Cursor {
  const packet = facts.packet ?? c.packet;
  return { ...c, packet, steps: [...c.steps, { ...facts, kind, netns, packet } as unknown as Step] };
}

export const goTo = (c: Cursor, place: Place): Cursor => ({ ...c, place });

export function drop(c: Cursor, netns: string, d: { readonly object: string; readonly why: string; readonly reason?: string; readonly dev?: string }): Cursor[] {
  const facts = { object: d.object, why: d.why, ...(d.reason ? { reason: d.reason } : {}), ...(d.dev ? { dev: d.dev } : {}) };
  return [goTo(note(c, netns, 'drop', facts), { at: 'end', outcome: { kind: 'dropped', netns, ...facts } })];
}

export function unknown(c: Cursor, netns: string, missing: string): Cursor[] {
  return [goTo(note(c, netns, 'unknown', { missing, why: `cannot be told: ${missing}` }), { at: 'end', outcome: { kind: 'unknown', netns, missing } })];
}

/** The namespace of a place; stages are only entered for namespaces of the world. */
export function namespaceOf(sim: Sim, key: string): WorldNamespace {
  const ns = sim.index.namespace(key);
  if (!ns) throw new RangeError(`namespace ${key} is not in the world`);
  return ns;
}

export const stateOf = (sim: Sim, key: string): NetnsState => namespaceOf(sim, key).state;

/** A sysctl of a device: the greater of `all` and the device's own where the kernel takes the greater. */
export function deviceSysctl(state: NetnsState, dev: string, key: string, how: 'own' | 'max' | 'or'): number | undefined {
  const read = (d: string): number | undefined => {
    const v = state.sysctls[`net.ipv4.conf.${d.replaceAll('.', '/')}.${key}`];
    return v === undefined ? undefined : Number(v);
  };
  const own = read(dev);
  if (how === 'own') return own;
  const all = read('all');
  if (own === undefined && all === undefined) return undefined;
  return Math.max(own ?? 0, all ?? 0);
}

/** Why a device cannot carry packets now, or undefined when it can. */
export function deadDevice(sim: Sim, netns: string, link: Link): { readonly object: string; readonly why: string } | undefined {
  if (!link.up) return { object: `link ${link.name} in ${netns}`, why: `${link.name} in ${netns} is down` };
  if (link.lowerUp !== false) return undefined;
  const peer = sim.index.peer(netns, link.name);
  const other = peer && sim.index.link(peer.netns, peer.dev);
  if (peer && other && !other.up) return { object: `link ${peer.dev} in ${peer.netns}`, why: `${link.name} has no carrier: its peer ${peer.dev} in ${peer.netns} is down` };
  if (link.kind === 'bridge') return { object: `link ${link.name} in ${netns}`, why: `${link.name} has no carrier: none of its ports is up` };
  return { object: `link ${link.name} in ${netns}`, why: `${link.name} has no carrier` };
}
