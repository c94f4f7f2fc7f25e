/**
 * IPIP: the pod's packet in another IP header, protocol 4. One tunnel device for all peers, one route
 * per peer: `10.244.1.0/24 via 172.18.0.3 dev flannel.ipip onlink`, where the gateway is the peer's
 * own address and becomes the outer destination. No neighbours, no FDB: the device has no Ethernet.
 *
 * The kernel's tunl0 is not used: it appears by itself with the module and is nobody's.
 * IPv4 in IPv4 only. With crossSubnet, peers on the uplink's own subnet get a plain route.
 * MTU: the outer IP header, 20 bytes (RFC 2003).
 */
import { PROTOCOL, TABLE_MAIN } from '@podway/kernel';
import type { NetnsState, Route } from '@podway/netstate';
import type { IpipConfig } from '../config.js';
import type { Backend } from './backend.js';
import { directRoutes, familyOf, metricOf, onSameSubnet, tunnelAddress } from './routes.js';

const OUTER_IP = 20;

export const ipip: Backend<IpipConfig> = {
  type: 'ipip',
  overhead: () => OUTER_IP,
  publish: () => ({}),

  refuses({ backend }, local, peer) {
    if (!peer.ends.accepts.ipip) return `it does not take IPIP; it uses ${peer.ends.uses}`;
    if (backend.crossSubnet && onSameSubnet(local, peer)) return undefined;
    if (familyOf(peer.ends.publicIP) !== 'inet' || familyOf(local.uplink.address) !== 'inet') return 'IPIP needs IPv4 addresses of both nodes';
    return undefined;
  },

  desired({ backend }, local, peers, mtu): Partial<NetnsState> {
    const { device: dev, crossSubnet } = backend;
    const routes = peers.flatMap((peer): Route[] => {
      if (crossSubnet && onSameSubnet(local, peer)) return directRoutes(local, peer);
      return peer.podCidrs.filter((c) => familyOf(c) === 'inet').map((dst) => ({
        family: 'inet', dst, gateway: peer.ends.publicIP, dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.podway, metric: metricOf('inet'), onlink: true,
        why: `pods of node ${peer.name} are behind ${peer.ends.publicIP}`,
      }));
    });
    return {
      links: [{ name: dev, kind: 'ipip', up: true, mtu, alias: 'podway: IPIP tunnel of this node', tunnel: { local: local.uplink.address } }],
      addresses: local.podCidrs.filter((c) => familyOf(c) === 'inet').map((c) => ({ dev, family: 'inet', address: tunnelAddress(c), prefix: 32 })),
      sysctls: { [`net.ipv4.conf.${dev.replaceAll('.', '/')}.forwarding`]: '1' },
      routes,
    };
  },
};
