/**
 * VXLAN with static entries, in exactly the forms Flannel uses.
 *
 * Objects per peer: one neighbour (the peer's VTEP address → its VTEP MAC), one FDB entry (that MAC
 * → the peer's node address), one route (its pod range via its VTEP address, onlink). The address
 * of a VTEP is the first of its node's pod range with /32, so the three can be written down from
 * the Node object alone: no multicast, no learning, no ARP on the overlay.
 *
 * Why not the other ways: kernel miss call-backs (l2miss/l3miss) stop all traffic while the agent
 * is down; learning with a flood list sends every first packet to every node.
 *
 * With crossSubnet a peer on the uplink's own subnet gets a plain route instead, as with host-gw;
 * it still accepts encapsulated packets, so the two ends need not agree.
 *
 * MTU: Ethernet 14 + VXLAN 8 + UDP 8 + outer IP 20 (IPv4) or 40 (IPv6) = 50 or 70 bytes less than
 * the uplink. The 14 are the inner Ethernet header; the outer one is not part of an MTU (RFC 7348).
 */
import { cidrFirst, parseCidr } from '@podway/cni';
import { PROTOCOL, TABLE_MAIN } from '@podway/kernel';
import { VTEP_MAC_PREFIX, type FdbEntry, type NetnsState, type Neighbour, type Route } from '@podway/netstate';
import type { VxlanConfig } from '../config.js';
import type { Backend } from './backend.js';
import { directRoutes, familyOf, metricOf, onSameSubnet, tunnelAddress } from './routes.js';

const INNER_ETHERNET = 14;
const VXLAN_HEADER = 8;
const UDP_HEADER = 8;
const OUTER_IP = { inet: 20, inet6: 40 } as const;

/**
 * A VTEP's MAC: our prefix, then the low three bytes of its address. Derived, not random, so that a
 * VTEP that is made anew keeps it and no peer must be told.
 */
export function vtepMac(podCidr: string): string {
  const { value } = cidrFirst(parseCidr(podCidr));
  // An IPv6 range differs in its upper half; the low bytes of its network address are zero.
  const bytes = podCidr.includes(':') ? (value >> 64n) & 0xffffffn : value & 0xffffffn;
  return VTEP_MAC_PREFIX + Number(bytes).toString(16).padStart(6, '0').match(/../g)!.join(':');
}

export const vxlan: Backend<VxlanConfig> = {
  type: 'vxlan',

  overhead: (_config, underlay) => INNER_ETHERNET + VXLAN_HEADER + UDP_HEADER + OUTER_IP[underlay],

  publish: ({ backend }, local) => ({ vtepMAC: vtepMac(local.podCidrs[0]!), vni: backend.vni, port: backend.port }),

  refuses({ backend }, local, peer) {
    const end = peer.ends.accepts.vxlan;
    if (!end) return `it does not take VXLAN; it uses ${peer.ends.uses}`;
    if (backend.crossSubnet && onSameSubnet(local, peer)) return undefined;
    if (end.vtepMAC === undefined) return 'it has not published its VTEP MAC';
    if (end.vni !== backend.vni) return `its VNI is ${end.vni}, here it is ${backend.vni}`;
    if (end.port !== backend.port) return `its VXLAN port is ${end.port}, here it is ${backend.port}`;
    return undefined;
  },

  desired({ backend }, local, peers, mtu): Partial<NetnsState> {
    const { device: dev, vni, port, crossSubnet } = backend;
    const neighbours: Neighbour[] = [];
    const fdb: FdbEntry[] = [];
    const routes: Route[] = [];
    for (const peer of peers) {
      if (crossSubnet && onSameSubnet(local, peer)) {
        routes.push(...directRoutes(local, peer));
        continue;
      }
      const mac = peer.ends.accepts.vxlan!.vtepMAC!;
      const why = `pods of node ${peer.name} are behind ${peer.ends.publicIP}`;
      fdb.push({ dev, lladdr: mac, dst: peer.ends.publicIP, state: 'permanent', self: true, why });
      for (const podCidr of peer.podCidrs) {
        const gateway = tunnelAddress(podCidr);
        const family = familyOf(gateway);
        neighbours.push({ dev, family, dst: gateway, lladdr: mac, state: 'permanent', why });
        // Without a protocol of its own: what `ip` then prints is Flannel's line to the letter.
        routes.push({ family, dst: podCidr, gateway, dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.boot, metric: metricOf(family), onlink: true, why });
      }
    }
    return {
      links: [{
        name: dev, kind: 'vxlan', up: true, mtu, address: vtepMac(local.podCidrs[0]!), alias: 'podway: VTEP of this node',
        vxlan: { vni, port, local: local.uplink.address, dev: local.uplink.dev, learning: false },
      }],
      addresses: local.podCidrs.map((podCidr) => {
        const address = tunnelAddress(podCidr);
        return { dev, family: familyOf(address), address, prefix: familyOf(address) === 'inet' ? 32 : 128 };
      }),
      sysctls: { [`net.ipv4.conf.${dev.replaceAll('.', '/')}.forwarding`]: '1' },
      neighbours, fdb, routes,
    };
  },
};
