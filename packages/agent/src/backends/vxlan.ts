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
 * MTU: Ethernet 14 + VXLAN 8 + UDP 8 + outer IP 20 (IPv4) or 40 (IPv6) = 50 or 70 bytes less than
 * the uplink. The 14 are the inner Ethernet header; the outer one is not part of an MTU (RFC 7348).
 *
 * Left out on purpose: encapsulation only between subnets, and IPv6 on the underlay.
 */
import { cidrFirst, formatIp, parseCidr } from '@podway/cni';
import { VTEP_MAC_PREFIX, type FdbEntry, type NetnsState, type Neighbour, type Route } from '@podway/netstate';
import type { NetworkConfig, VxlanConfig } from '../config.js';
import type { Backend, LocalNode } from './backend.js';

const INNER_ETHERNET = 14;
const VXLAN_HEADER = 8;
const UDP_HEADER = 8;
const OUTER_IP = { inet: 20, inet6: 40 } as const;
const TABLE_MAIN = 254;
/** What `ip` shows as nothing: Flannel's routes carry no protocol, and so do these. */
const PROTOCOL_BOOT = 3;

const family = (address: string): 'inet' | 'inet6' => (address.includes(':') ? 'inet6' : 'inet');

/** The first address of a node's pod range: its VTEP's own, and the gateway others route to. */
export const vtepAddress = (podCidr: string): string => formatIp(cidrFirst(parseCidr(podCidr)));

/**
 * A VTEP's MAC: our prefix, then the low three bytes of its address. Derived, not random, so that a
 * VTEP that is made anew keeps it and no peer must be told.
 */
export function vtepMac(podCidr: string): string {
  const { value } = cidrFirst(parseCidr(podCidr));
  const low = Number(value & 0xffffffn).toString(16).padStart(6, '0');
  // An IPv6 range differs in its upper half; the low bytes of its network address are zero.
  const bytes = podCidr.includes(':') ? Number((value >> 64n) & 0xffffffn).toString(16).padStart(6, '0') : low;
  return VTEP_MAC_PREFIX + bytes.match(/../g)!.join(':');
}

export const vxlan: Backend = {
  type: 'vxlan',

  overhead: (_config, underlay) => INNER_ETHERNET + VXLAN_HEADER + UDP_HEADER + OUTER_IP[underlay],

  publish: (config, local) => ({
    type: 'vxlan', publicIP: local.uplink.address, vtepMAC: vtepMac(local.podCidrs[0]!), vni: settings(config).vni, port: settings(config).port,
  }),

  refuses(config, peer) {
    const { vni, port } = settings(config);
    if (peer.data.type !== 'vxlan') return `it uses ${peer.data.type}, this node uses vxlan`;
    if (peer.data.vtepMAC === undefined) return 'it has not published its VTEP MAC';
    if (peer.data.vni !== vni) return `its VNI is ${peer.data.vni}, here it is ${vni}`;
    if (peer.data.port !== port) return `its VXLAN port is ${peer.data.port}, here it is ${port}`;
    return undefined;
  },

  desired(config, local, peers): Partial<NetnsState> {
    const { device: dev, vni, port } = settings(config);
    const mtu = podMtu(config, local);
    const neighbours: Neighbour[] = [];
    const fdb: FdbEntry[] = [];
    const routes: Route[] = [];
    for (const peer of peers) {
      const mac = peer.data.vtepMAC!;
      const why = `pods of node ${peer.name} are behind ${peer.data.publicIP}`;
      fdb.push({ dev, lladdr: mac, dst: peer.data.publicIP, state: 'permanent', self: true, why });
      for (const podCidr of peer.podCidrs) {
        const gateway = vtepAddress(podCidr);
        neighbours.push({ dev, family: family(gateway), dst: gateway, lladdr: mac, state: 'permanent', why });
        routes.push({
          family: family(gateway), dst: podCidr, gateway, dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL_BOOT,
          metric: family(gateway) === 'inet6' ? 1024 : 0, onlink: true, why,
        });
      }
    }
    return {
      links: [{
        name: dev, kind: 'vxlan', up: true, mtu, address: vtepMac(local.podCidrs[0]!), alias: 'podway: VTEP of this node',
        vxlan: { vni, port, local: local.uplink.address, dev: local.uplink.dev, learning: false },
      }],
      addresses: local.podCidrs.map((podCidr) => {
        const address = vtepAddress(podCidr);
        return { dev, family: family(address), address, prefix: family(address) === 'inet' ? 32 : 128 };
      }),
      sysctls: { [`net.ipv4.conf.${dev.replaceAll('.', '/')}.forwarding`]: '1' },
      neighbours, fdb, routes,
    };
  },
};

function settings(config: NetworkConfig): VxlanConfig {
  return config.backend;
}

/** The MTU of pods, bridge and VTEP: as configured, or the uplink's less the overhead. */
export function podMtu(config: NetworkConfig, local: LocalNode): number {
  return config.mtu ?? local.uplink.mtu - vxlan.overhead(config, family(local.uplink.address));
}
