/**
 * host-gw: every node is the gateway to its own pods. One route per peer, nothing else: no tunnel,
 * no overhead, bare pod addresses on the wire.
 *
 * It needs all nodes on one subnet: a route's gateway must be a neighbour. A peer elsewhere is
 * refused by name, because the router in between knows nothing of pods and would drop the packets
 * without a word (that is what `crossSubnet` with vxlan or ipip, and bgp, are for).
 */
import type { HostGwConfig } from '../config.js';
import type { Backend, Family, LocalNode, Peer } from './backend.js';
import { directRoutes, FAMILY_NAME, judge, onSameSubnet, publicIpIn, uplinkIn, type Judged } from './routes.js';

/** Each family by its own addresses: a route's gateway is of the family of what it leads to. */
const judged = (local: LocalNode, peer: Peer): Judged => judge(local, peer, (family) => reason(local, peer, family));

function reason(local: LocalNode, peer: Peer, family: Family): string | undefined {
  const [own, theirs] = [uplinkIn(local, family), publicIpIn(peer, family)];
  if (theirs === undefined) return `it has no ${FAMILY_NAME[family]} address of its own that a route could lead to`;
  if (own === undefined) return `this node, ${local.name}, has no ${FAMILY_NAME[family]} address to reach ${theirs} from`;
  if (onSameSubnet(local, peer, family)) return undefined;
  return `it is at ${theirs}, not on this node's subnet ${own.address}/${own.prefix}: host-gw reaches neighbours only; use vxlan or ipip with CrossSubnet, or bgp`;
}

export const hostGw: Backend<HostGwConfig> = {
  type: 'host-gw',
  overhead: () => 0,
  publish: () => ({}),
  refuses: (_config, local, peer) => judged(local, peer).refusal,
  lacks: (_config, local, peer) => judged(local, peer).lacking,
  desired: (_config, local, peers) => ({
    routes: peers.flatMap((p) => directRoutes(local, p).filter((r) => onSameSubnet(local, p, r.family))),
  }),
};
