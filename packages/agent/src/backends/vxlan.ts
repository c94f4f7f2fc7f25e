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
 * Two families, as Flannel has them: pods of a family travel in a VTEP on the underlay of that family, `flannel.1` for IPv4
 * and `flannel-v6.1` for IPv6, with the same VNI and port. Where a node has no address of a family, its pods of that
 * family travel in the VTEP of the other one: what a VTEP carries need not be of its underlay's family.
 *
 * MTU: Ethernet 14 + VXLAN 8 + UDP 8 + outer IP 20 (IPv4) or 40 (IPv6) = 50 or 70 bytes less than
 * the uplink; with both, 70 for all, since a pod has one device. (Flannel takes 50 in either case, and its full-size IPv6
 * packets do not fit.) The 14 are the inner Ethernet header; the outer one is not part of an MTU (RFC 7348).
 */
import { cidrFirst, parseCidr } from '@podway/cni';
import { PROTOCOL, sysctlDevice, TABLE_MAIN } from '@podway/kernel';
import { VTEP_MAC_PREFIX, type FdbEntry, type Link, type NetnsState, type Neighbour, type Route } from '@podway/netstate';
import { OUTER_DF, type VxlanConfig } from '../config.js';
import type { Backend, BackendEnd, Family, LocalNode, Peer } from './backend.js';
import { directRoute, familiesOf, FAMILY_NAME, familyOf, judge, metricOf, onSameSubnet, publicIpIn, quietIpv6, tunnelAddress, uplinkIn, type Judged } from './routes.js';

const INNER_ETHERNET = 14;
const VXLAN_HEADER = 8;
const UDP_HEADER = 8;
const OUTER_IP = { inet: 20, inet6: 40 } as const;
const other = (family: Family): Family => (family === 'inet' ? 'inet6' : 'inet');

/**
 * A VTEP's MAC: our prefix, then three bytes of its node's range. Derived, not random, so that a
 * VTEP that is made anew keeps it and no peer must be told.
 */
export function vtepMac(podCidr: string): string {
  const cidr = parseCidr(podCidr);
  const { value } = cidrFirst(cidr);
  // An IPv6 range differs in the bits before its prefix ends; the low bytes of its network address are zero.
  const bytes = (podCidr.includes(':') ? value >> BigInt(128 - cidr.prefix) : value) & 0xffffffn;
  return VTEP_MAC_PREFIX + Number(bytes).toString(16).padStart(6, '0').match(/../g)!.join(':');
}

/** The underlay by which pods of a family travel from here: their own family's, else the other's. */
const underlayOf = (local: LocalNode, family: Family): Family | undefined => [family, other(family)].find((f) => uplinkIn(local, f));

/** The underlays on which this node has a VTEP. */
const underlays = (local: LocalNode): Family[] =>
  [...new Set(familiesOf(local.podCidrs).map((f) => underlayOf(local, f)).filter((f) => f !== undefined))].sort();

const deviceOn = ({ device, device6 }: VxlanConfig, underlay: Family): string => (underlay === 'inet' ? device : device6);
const macOn = (local: LocalNode, underlay: Family): string => vtepMac(local.podCidrs.find((c) => familyOf(c) === underlay) ?? local.podCidrs[0]!);
const peerMac = (end: BackendEnd, underlay: Family): string | undefined => (underlay === 'inet' ? end.vtepMAC : end.vtepMAC6);

/** Where both have a VTEP: on the underlay of the pods' family, else on the other. */
function common(local: LocalNode, peer: Peer, family: Family): { underlay: Family; mac: string; dst: string } | undefined {
  const end = peer.ends.accepts.vxlan;
  for (const underlay of [family, other(family)]) {
    const [mac, dst] = [end && peerMac(end, underlay), publicIpIn(peer, underlay)];
    if (mac !== undefined && dst !== undefined && underlays(local).includes(underlay)) return { underlay, mac, dst };
  }
  return undefined;
}

function judged(backend: VxlanConfig, local: LocalNode, peer: Peer): Judged {
  const end = peer.ends.accepts.vxlan;
  if (!end) return { refusal: `it does not take VXLAN; it uses ${peer.ends.uses}` };
  return judge(local, peer, (family) => {
    if (backend.crossSubnet && onSameSubnet(local, peer, family)) return undefined;
    if (end.vtepMAC === undefined && end.vtepMAC6 === undefined) return 'it has not published its VTEP MAC';
    if (end.vni !== backend.vni) return `its VNI is ${end.vni}, here it is ${backend.vni}`;
    if (end.port !== backend.port) return `its VXLAN port is ${end.port}, here it is ${backend.port}`;
    if (common(local, peer, family)) return undefined;
    return `its VTEP is on an underlay of ${FAMILY_NAME[end.vtepMAC6 === undefined ? 'inet' : 'inet6']}, that of this node on one of ${underlays(local).map((f) => FAMILY_NAME[f]).join(' and ')}`;
  });
}

export const vxlan: Backend<VxlanConfig> = {
  type: 'vxlan',

  overhead: (_config, underlay) => INNER_ETHERNET + VXLAN_HEADER + UDP_HEADER + OUTER_IP[underlay],

  underlays: (_config, local) => underlays(local),

  publish: ({ backend }, local) => ({
    ...(underlays(local).includes('inet') ? { vtepMAC: macOn(local, 'inet') } : {}),
    ...(underlays(local).includes('inet6') ? { vtepMAC6: macOn(local, 'inet6') } : {}),
    vni: backend.vni, port: backend.port,
  }),

  refuses: ({ backend }, local, peer) => judged(backend, local, peer).refusal,
  lacks: ({ backend }, local, peer) => judged(backend, local, peer).lacking,

  desired({ backend }, local, peers, mtu): Partial<NetnsState> {
    const neighbours: Neighbour[] = [];
    const fdb = new Map<string, FdbEntry>();
    const routes: Route[] = [];
    for (const peer of peers) {
      for (const podCidr of peer.podCidrs) {
        const family = familyOf(podCidr);
        if (backend.crossSubnet && onSameSubnet(local, peer, family)) {
          routes.push(...[directRoute(local, peer, podCidr)].filter((r) => r !== undefined));
          continue;
        }
        const way = common(local, peer, family);
        if (!way) continue;
        const dev = deviceOn(backend, way.underlay);
        const why = `pods of node ${peer.name} are behind ${way.dst}`;
        const gateway = tunnelAddress(podCidr);
        fdb.set(`${dev} ${way.mac}`, { dev, lladdr: way.mac, dst: way.dst, state: 'permanent', self: true, why });
        neighbours.push({ dev, family, dst: gateway, lladdr: way.mac, state: 'permanent', why });
        // Without a protocol of its own: what `ip` then prints is Flannel's line to the letter.
        routes.push({ family, dst: podCidr, gateway, dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.boot, metric: metricOf(family), onlink: true, why });
      }
    }
    return { ...vteps(backend, local, mtu), neighbours, fdb: [...fdb.values()], routes };
  },
};

/** This node's own ends: one device an underlay, and on each the first addresses of the ranges that travel by it. */
function vteps(backend: VxlanConfig, local: LocalNode, mtu: number): Pick<NetnsState, 'links' | 'addresses' | 'sysctls'> {
  const { vni, port, df } = backend;
  const families = familiesOf(local.podCidrs);
  const devices = underlays(local).map((u) => deviceOn(backend, u));
  return {
    links: underlays(local).map((underlay): Link => ({
      name: deviceOn(backend, underlay), kind: 'vxlan', up: true, mtu, address: macOn(local, underlay), alias: 'podway: VTEP of this node',
      vxlan: { vni, port, local: uplinkIn(local, underlay)!.address, dev: local.uplink.dev, learning: false, df: OUTER_DF.indexOf(df) },
    })),
    addresses: local.podCidrs.flatMap((podCidr) => {
      const [family, address] = [familyOf(podCidr), tunnelAddress(podCidr)];
      const underlay = underlayOf(local, family);
      return underlay === undefined ? [] : [{ dev: deviceOn(backend, underlay), family, address, prefix: family === 'inet' ? 32 : 128 }];
    }),
    sysctls: Object.fromEntries(devices.map(sysctlDevice).flatMap((dev): [string, string][] => [
      ...(families.includes('inet') ? [[`net.ipv4.conf.${dev}.forwarding`, '1'] as [string, string]] : []),
      ...(families.includes('inet6') ? quietIpv6(dev) : []),
    ])),
  };
}
