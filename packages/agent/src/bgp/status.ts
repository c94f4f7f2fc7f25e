/** The BGP side of one node as operators know it: sessions, and why one does not stand. */
import type { Netns } from '@podway/kernel';
import { BirdControl } from './bird-control.js';
import type { BgpPeerStatus, BgpRoute, BirdStatus } from './bird-parse.js';
import { birdPaths } from './daemon.js';
import { explainSession, type SessionExplanation } from './explain.js';
import { probePeers } from './probe.js';

export interface BgpSession extends BgpPeerStatus {
  readonly explanation: SessionExplanation;
}
export interface BgpStatus {
  readonly bird: BirdStatus;
  readonly sessions: readonly BgpSession[];
}

export interface BgpStatusOptions {
  /** Of BIRD. From outside of the node: `nodeSocket(pid)`. */
  readonly socket: string;
  /** Of the node: with it, peers of sessions that do not stand are probed (up to 3 s). */
  readonly netns?: Netns;
  readonly timeoutMs?: number;
}

/** BIRD's socket through the mount namespace of a process on the node (its holder). */
export const nodeSocket = (pid: number): string => `/proc/${pid}/root${birdPaths().socket}`;

/** In these states nothing but the network itself can tell why. */
const SILENT = new Set(['Connect', 'Active', 'Passive']);

/** @throws BIRD_UNREACHABLE, BIRD_TIMEOUT, BIRD_BAD_REPLY */
export async function bgpStatus(o: BgpStatusOptions): Promise<BgpStatus> {
  const limit = o.timeoutMs === undefined ? {} : { timeoutMs: o.timeoutMs };
  const { bird, sessions } = await BirdControl.with(o.socket, async (c) => ({ bird: await c.status(), sessions: await c.sessions() }), limit);
  const silent = sessions.filter((s) => SILENT.has(s.state) && !s.disabled && s.address !== '').map((s) => s.address);
  const probes = o.netns && silent.length ? await probePeers(o.netns, silent) : undefined;
  return { bird, sessions: sessions.map((s) => ({ ...s, explanation: explainSession(s, probes?.get(s.address)) })) };
}

/** What BIRD knows: every route of every peer, and which one is used. */
export const bgpRoutes = (socket: string, timeoutMs?: number): Promise<BgpRoute[]> =>
  BirdControl.with(socket, (c) => c.routes(), timeoutMs === undefined ? {} : { timeoutMs });
