/**
 * Point-to-point wiring: no bridge. A veth pair, and on the node a route to each pod. Every packet of a pod is
 * routed, also to a pod on the same node. Two forms:
 *
 *   gateway host (as the reference plugin ptp and kind)
 *     node   vethX   .1/32                        10.244.5.2 dev vethX scope host
 *     pod    eth0    10.244.5.2/24                default via .1; 10.244.5.0/24 via .1 src …; .1 dev eth0 scope link src …
 *
 *   gateway link-local (as Calico)
 *     node   vethX   proxy_arp, fe80::ecee:…      10.244.5.2 dev vethX scope link
 *     pod    eth0    10.244.5.2/32                default via 169.254.1.1; 169.254.1.1 dev eth0 scope link
 *
 * The first costs one address per range and shows a gateway that can be pinged; every host end has the same
 * address, which no other node sees. The second gives the whole range to pods. 169.254.1.1 stands nowhere: the
 * node answers for it by proxy ARP, which the kernel does only for what it would route to another device (arp_fwd_proxy),
 * so a route to it on the uplink makes that certain on a node without default route as well.
 *
 * A packet to an address of this node's range that no pod has would follow the default route, and come back: a
 * blackhole route for the range ends it here.
 */
import { formatCidr, parseCidr, type CniResult } from '@podway/cni';
import { PROTOCOL, sysctlDevice, TABLE_MAIN, type Netns } from '@podway/kernel';
import { mergeStates, type Address, type NetnsState, type Route } from '@podway/netstate';
import type { LocalNode } from '../backends/backend.js';
import { familiesOf, quietIpv6 } from '../backends/routes.js';
import type { NetworkConfig } from '../config.js';
import type { AttachmentIp, AttachmentRecord } from '../ipam/index.js';
import { holderName } from '../ipam/index.js';
import { routeLocalnet } from '../hostports/index.js';
import { familyOf } from '../node/addresses.js';
import { bare, defaultOf, hostEnd, hostMac, makePair, must, podAddress, podRoute, podSide, requests, subnetOf } from './veth.js';
import type { HostState, Wiring, WiringContext } from './wiring.js';

/** Calico's next hops. */
export const LINK_LOCAL_GATEWAY = { inet: '169.254.1.1', inet6: 'fe80::ecee:eeee:eeee:eeee' } as const;
const BLACKHOLE_METRIC = 4096;

const single = (family: 'inet' | 'inet6'): number => (family === 'inet' ? 32 : 128);
const alone = (address: string): string => `${address}/${single(familyOf(address))}`;
const isLinkLocal = (config: NetworkConfig): boolean => config.gateway === 'link-local';

/** What one address needs on the node: how the gateway is there, and the route to the pod. */
function hostPart(config: NetworkConfig, r: AttachmentRecord, i: AttachmentIp): { addresses: Address[]; routes: Route[]; sysctls: Record<string, string> } {
  const dev = r.hostIfname;
  const family = familyOf(i.address);
  const route = { ...podRoute(dev, alone(bare(i.address)), family), why: `${holderName(r)} is behind ${dev}` };
  if (!isLinkLocal(config)) {
    return {
      addresses: [{ dev, family, address: i.gateway, prefix: single(family) }],
      routes: [family === 'inet' ? { ...route, scope: 'host' } : route], sysctls: {},
    };
  }
  return family === 'inet'
    ? { addresses: [], routes: [{ ...route, scope: 'link' }], sysctls: { [`net.ipv4.conf.${dev}.proxy_arp`]: '1', [`net.ipv4.neigh.${dev}.proxy_delay`]: '0' } }
    : { addresses: [{ dev, family, address: LINK_LOCAL_GATEWAY.inet6, prefix: 64, scope: 'link' }], routes: [route], sysctls: {} };
}

function podPart(config: NetworkConfig, r: AttachmentRecord, i: AttachmentIp): { address: Address; routes: Route[] } {
  const dev = r.ifname;
  const family = familyOf(i.address);
  const to = (dst: string): Route => podRoute(dev, dst, family);
  if (isLinkLocal(config)) {
    const gateway = LINK_LOCAL_GATEWAY[family];
    return {
      address: { dev, family, address: bare(i.address), prefix: single(family) },
      routes: [...(family === 'inet' ? [{ ...to(alone(gateway)), scope: 'link' as const }] : []), { ...to(defaultOf(family)), gateway }],
    };
  }
  const prefsrc = bare(i.address);
  return {
    address: { ...podAddress(dev, i), flags: ['noprefixroute'] },
    routes: [
      { ...to(alone(i.gateway)), scope: 'link', prefsrc }, { ...to(subnetOf(i.address)), gateway: i.gateway, prefsrc }, { ...to(defaultOf(family)), gateway: i.gateway },
    ],
  };
}

export const ptp: Wiring = {
  type: 'ptp',
  sharedDevice: () => undefined,

  nodeState(config: NetworkConfig, local: LocalNode): Partial<NetnsState> {
    const unused = local.podCidrs.map((c): Route => ({
      family: familyOf(c), dst: formatCidr(parseCidr(c)), type: 'blackhole', table: TABLE_MAIN, protocol: PROTOCOL.podway, metric: BLACKHOLE_METRIC,
      why: 'so that packets to addresses of this node that no pod has end here',
    }));
    const answers = isLinkLocal(config) && local.podCidrs.some((c) => familyOf(c) === 'inet');
    return {
      routes: [...unused, ...(answers ? [{
        ...podRoute(local.uplink.dev, alone(LINK_LOCAL_GATEWAY.inet), 'inet'), scope: 'link' as const, protocol: PROTOCOL.podway,
        why: 'so that proxy ARP answers for the pods\' next hop, default route or not',
      }] : [])],
    };
  },

  hostState(config: NetworkConfig, r: AttachmentRecord, mtu: number): HostState {
    const parts = r.ips.map((i) => hostPart(config, r, i));
    const families = familiesOf(r.ips.map((i) => i.address));
    return {
      links: [hostEnd(r, mtu)], addresses: parts.flatMap((p) => p.addresses), routes: parts.flatMap((p) => p.routes),
      sysctls: {
        ...(families.includes('inet') ? { [`net.ipv4.conf.${sysctlDevice(r.hostIfname)}.forwarding`]: '1' } : {}),
        // The gateway, and the address that the node asks for the pod with, at once: they are looked for by nobody else.
        ...(families.includes('inet6') ? Object.fromEntries(quietIpv6(sysctlDevice(r.hostIfname))) : {}),
        // Only for who asked: without a bridge the switch can be each pod's own.
        ...(r.hostPorts?.length ? { [routeLocalnet(r.hostIfname)]: '1' } : {}),
        ...Object.assign({}, ...parts.map((p) => p.sysctls)) as Record<string, string>,
      },
    };
  },

  podState(config: NetworkConfig, r: AttachmentRecord, mtu: number): NetnsState {
    const parts = r.ips.map((i) => podPart(config, r, i));
    return mergeStates(holderName(r), podSide(r, mtu, parts.map((p) => p.address), parts.flatMap((p) => p.routes)));
  },

  wire(c: WiringContext, pod: Netns, r: AttachmentRecord): void {
    const host = this.hostState(c.config, r, c.mtu);
    makePair(c, pod, r, this.podState(c.config, r, c.mtu), { sysctls: host.sysctls ?? {} });
    must(c.netlink.batch(requests(host, c.netlink.mustLink(r.hostIfname).index)));
  },

  /** Host end, pod end; addresses belong to the pod end. */
  resultOf({ config, mtu }: WiringContext, r: AttachmentRecord): CniResult {
    const gatewayFor = (i: AttachmentIp): string => (isLinkLocal(config) ? LINK_LOCAL_GATEWAY[familyOf(i.address)] : i.gateway);
    return {
      interfaces: [{ name: r.hostIfname, mac: hostMac(r), mtu }, { name: r.ifname, mac: r.mac, mtu, sandbox: r.netns }],
      ips: r.ips.map((i) => ({ address: isLinkLocal(config) ? alone(bare(i.address)) : i.address, gateway: gatewayFor(i), interface: 1 })),
      routes: r.further !== undefined ? [] : r.ips.map((i) => ({ dst: defaultOf(familyOf(i.address)), gw: gatewayFor(i) })),
    };
  },
};
