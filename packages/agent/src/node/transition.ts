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
import type { Route } from '@podway/netstate';
import { backendOf, podMtu } from '../backends/index.js';
import type { LocalNode, NodeEnds, Peer } from '../backends/backend.js';
import type { BackendType, NetworkConfig } from '../config.js';
import { publicIpIn, uplinkIn } from '../backends/routes.js';
import { familyOf } from './addresses.js';
import type { PeerProblem } from './peers.js';

export interface BackendPlan {
  /** Each configuration with the peers that are reached by it; the first is the wanted one. */
  readonly parts: readonly { readonly config: NetworkConfig; readonly peers: readonly Peer[] }[];
  readonly problems: readonly PeerProblem[];
  /** Nobody uses what was before any more: the caller leaves it out from the next plan on. */
  readonly settled: boolean;
  /** @throws MTU_TOO_BIG */
  readonly mtu: number;
  readonly ends: NodeEnds;
}

/** @param routes of the node as they are: what a learning backend must have learned before the old way can go. */
export function planBackends(
  config: NetworkConfig, previous: NetworkConfig | undefined, local: LocalNode, peers: readonly Peer[], routes: readonly Route[] = [],
): BackendPlan {
  const wanted = backendOf(config);
  const old = previous && backendOf(previous);
  const now: Peer[] = [];
  const still: Peer[] = [];
  /** Wanted the new way, but it is not there yet: both are kept up. One that never took the old way waits for the new one alone. */
  const both: Peer[] = [];
  const problems: PeerProblem[] = [];
  for (const peer of peers) {
    const refusal = wanted.refuses(config, local, peer);
    const reached = wanted.learnsRoutes === undefined || previous === undefined || hasLearned(wanted.learnsRoutes, local, peer, routes);
    const byOld = previous !== undefined && old?.refuses(previous, local, peer) === undefined;
    const lacking = refusal === undefined ? wanted.lacks?.(config, local, peer) : undefined;
    if (lacking !== undefined) problems.push({ node: peer.name, reason: lacking });
    if (refusal === undefined && (reached || !byOld)) now.push(peer);
    else if (refusal === undefined) both.push(peer);
    else if (byOld) still.push(peer);
    else problems.push({ node: peer.name, reason: refusal });
  }
  const settled = previous === undefined || (still.length + both.length === 0 && !peers.some((p) => p.ends.uses === previous.backend.type));
  const uses: BackendType = still.length + both.length > 0 && previous ? previous.backend.type : config.backend.type;
  return {
    parts: [{ config, peers: [...now, ...both] }, ...(previous ? [{ config: previous, peers: [...still, ...both] }] : [])],
    problems, settled,
    mtu: Math.min(podMtu(config, local), ...(previous ? [podMtu(previous, local)] : [])),
    ends: {
      publicIP: local.uplink.address, ...(local.uplink.second ? { secondIP: local.uplink.second.address } : {}), uses,
      accepts: {
        ...(previous && old ? { [previous.backend.type]: old.publish(previous, local) } : {}),
        [config.backend.type]: wanted.publish(config, local),
      },
    },
  };
}

/** Of the families that have a way at all. */
const hasLearned = (protocol: number, local: LocalNode, peer: Peer, routes: readonly Route[]): boolean =>
  peer.podCidrs.filter((c) => uplinkIn(local, familyOf(c)) && publicIpIn(peer, familyOf(c)))
    .every((c) => routes.some((r) => r.protocol === protocol && r.dst === c));
