/**
 * host-gw: every node is the gateway to its own pods. One route per peer, nothing else: no tunnel,
 * no overhead, bare pod addresses on the wire.
 *
 * It needs all nodes on one subnet: a route's gateway must be a neighbour. A peer elsewhere is
 * refused by name, because the router in between knows nothing of pods and would drop the packets
 * without a word (that is what `crossSubnet` with vxlan or ipip, and bgp, are for).
 */
import type { HostGwConfig } from '../config.js';
import type { Backend } from './backend.js';
import { directRoutes, onSameSubnet } from './routes.js';

export const hostGw: Backend<HostGwConfig> = {
  type: 'host-gw',
  overhead: () => 0,
  publish: () => ({}),
  refuses: (_config, local, peer) =>
    onSameSubnet(local, peer)
      ? undefined
      : `it is at ${peer.ends.publicIP}, not on this node's subnet ${local.uplink.address}/${local.uplink.prefix}: host-gw reaches neighbours only; use vxlan or ipip with CrossSubnet, or bgp`,
  desired: (_config, local, peers) => ({ routes: peers.flatMap((p) => directRoutes(local, p)) }),
};
