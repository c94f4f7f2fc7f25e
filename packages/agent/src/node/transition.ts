/**
 * Which peer is reached by which backend, while the cluster may be changing from one to another. Pure.
 *
 * A change loses no packet because no node stops taking the old kind of packet before every other
 * node has stopped sending it:
 *
 *  1. a node that learns of the new backend makes it ready beside the old one and says that it takes both
 *  2. each node sends by the new one to every peer that says it takes it
 *  3. a node that sends to all its peers by the new one says so (`uses`)
 *  4. when all peers say so, nobody sends by the old one any more, and it is taken down
 *
 * The MTU is the smaller of the two meanwhile, so that no packet fits only one of them.
 */
import type { NetnsState } from '@podway/netstate';
import { backendOf, podMtu, wayOf } from '../backends/index.js';
import type { Backend, LocalNode, NodeEnds, Peer } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import type { PeerProblem } from './peers.js';

export interface BackendPlan {
  /** Each configuration with the peers that are reached by it, or are to be (`unready`, by name); the first is the wanted one. */
  readonly parts: readonly { readonly config: NetworkConfig; readonly peers: readonly Peer[]; readonly unready?: ReadonlySet<string> }[];
  readonly problems: readonly PeerProblem[];
  /** Nobody uses what was before any more: the caller leaves it out from the next plan on. */
  readonly settled: boolean;
  /** @throws MTU_TOO_BIG */
  readonly mtu: number;
  readonly ends: NodeEnds;
}

/** @throws MTU_TOO_BIG */
export const mtuDuring = (config: NetworkConfig, previous: NetworkConfig | undefined, local: LocalNode): number =>
  Math.min(podMtu(config, local), ...(previous ? [podMtu(previous, local)] : []));

/** @param observed of the node as it is: what must be there before the old way can go (learned routes, handshakes). */
export function planBackends(
  config: NetworkConfig, previous: NetworkConfig | undefined, local: LocalNode, peers: readonly Peer[], observed: Partial<NetnsState> = {},
): BackendPlan {
  const wanted = backendOf(config);
  const old = previous && backendOf(previous);
  const now: Peer[] = [];
  const still: Peer[] = [];
  /** Wanted the new way, but it is not there yet: both are kept up. Who never took the old way has only the new one. */
  const both: Peer[] = [];
  const problems: PeerProblem[] = [];
  for (const peer of peers) {
    const refusal = wanted.refuses(config, local, peer);
    const reached = previous === undefined || (wanted.reached?.(config, local, peer, observed) ?? true);
    const byOld = previous !== undefined && old?.refuses(previous, local, peer) === undefined;
    const lacking = refusal === undefined ? wanted.lacks?.(config, local, peer) : undefined;
    if (lacking !== undefined) problems.push({ node: peer.name, reason: lacking });
    if (refusal === undefined && (reached || !byOld)) now.push(peer);
    else if (refusal === undefined) both.push(peer);
    else if (byOld) still.push(peer);
    else problems.push({ node: peer.name, reason: refusal });
  }
  /** Those that may still send the old way. */
  const senders = (backend: Backend, c: NetworkConfig): Peer[] => now.filter((p) => backend.refuses(c, local, p) === undefined);
  const names = (list: readonly Peer[]): ReadonlySet<string> => new Set(list.map((p) => p.name));
  const settled = previous === undefined || (still.length + both.length === 0 && !peers.some((p) => p.ends.uses === wayOf(previous)));
  const uses = wayOf(still.length + both.length > 0 && previous ? previous : config);
  return {
    parts: [
      { config, peers: [...now, ...both], unready: names(both) },
      ...(previous && old ? [{ config: previous, peers: [...still, ...both, ...(old.keyed ? senders(old, previous) : [])], unready: names(now) }] : []),
    ],
    problems, settled,
    mtu: mtuDuring(config, previous, local),
    ends: {
      publicIP: local.uplink.address, ...(local.uplink.second ? { secondIP: local.uplink.second.address } : {}), uses,
      accepts: {
        ...(previous && old ? { [wayOf(previous)]: old.publish(previous, local) } : {}),
        [wayOf(config)]: wanted.publish(config, local),
      },
    },
  };
}
