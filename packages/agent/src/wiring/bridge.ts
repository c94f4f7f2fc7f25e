/**
 * Bridge wiring: a veth pair, one end in the pod, the other a port of the node's bridge. About 1 ms in all.
 * Which state to expect:
 *
 *   node   veth1a2b3c4d   port of cni0, no address, alias `podway: pod NS/NAME eth0 …`
 *   pod    eth0           MAC from the address, ADDRESS/24; default via .1, the cluster via .1
 */
import { parseCidr, type CniResult } from '@podway/cni';
import { setPortRequest, sysctlDevice, type Netns } from '@podway/kernel';
import { mergeStates, type Link, type NetnsState } from '@podway/netstate';
import type { LocalNode } from '../backends/backend.js';
import { familiesOf, quietIpv6 } from '../backends/routes.js';
import type { NetworkConfig } from '../config.js';
import type { AttachmentRecord } from '../ipam/index.js';
import { holderName } from '../ipam/index.js';
import { routeLocalnet } from '../hostports/index.js';
import { broadcastOf, familyOf, gatewayOf, macOfAll } from '../node/addresses.js';
import { defaultOf, hostEnd, hostMac, makePair, podAddress, podRoute, podSide } from './veth.js';
import type { Wiring, WiringContext } from './wiring.js';

/** A pod that asks a Service may be led to itself, as one that asks its own host port: the frame goes back by the port it came from. */
const hairpins = (config: NetworkConfig, r: AttachmentRecord): boolean => config.proxy !== 'none' || !!r.hostPorts?.length;

/** A pod that asked a Service and was led to one of its own node gets the answer over the bridge: conntrack must see it there, to turn it back (br_netfilter). */
function netfilterCalls({ podCidrs }: LocalNode): NonNullable<Link['bridge']> {
  const families = familiesOf(podCidrs);
  return { ...(families.includes('inet') ? { nfCallIptables: true } : {}), ...(families.includes('inet6') ? { nfCallIp6tables: true } : {}) };
}

export const bridge: Wiring = {
  type: 'bridge',
  sharedDevice: (config) => config.bridge,

  nodeState(config: NetworkConfig, local: LocalNode, mtu: number): Partial<NetnsState> {
    const dev = config.bridge;
    const families = familiesOf(local.podCidrs);
    return {
      links: [{
        name: dev, kind: 'bridge', up: true, mtu, alias: 'podway: bridge of the pods on this node',
        // A fixed MAC: without one a bridge takes the lowest of its ports and changes it as pods come and go.
        address: macOfAll(local.podCidrs.map(gatewayOf)), bridge: { stp: false, ...(config.proxy === 'none' ? {} : netfilterCalls(local)) },
      }],
      addresses: local.podCidrs.map((podCidr) => {
        const family = familyOf(podCidr);
        return { dev, family, address: gatewayOf(podCidr), prefix: parseCidr(podCidr).prefix, ...(family === 'inet' ? { broadcast: broadcastOf(podCidr) } : {}) };
      }),
      sysctls: {
        [routeLocalnet(dev)]: '1',
        ...(families.includes('inet') ? { [`net.ipv4.conf.${sysctlDevice(dev)}.forwarding`]: '1' } : {}),
        ...(families.includes('inet6') ? Object.fromEntries(quietIpv6(sysctlDevice(dev))) : {}),
      },
    };
  },

  hostState: (config, r, mtu) => ({
    links: [hostEnd(r, mtu, {
      master: config.bridge,
      // Where bridged packets are translated too (br_netfilter), a pod that asks its own Service or host port gets the frame by the port it came in by.
      ...(hairpins(config, r) ? { port: { hairpin: true } } : {}),
    })],
  }),

  podState(config: NetworkConfig, r: AttachmentRecord, mtu: number): NetnsState {
    const dev = r.ifname;
    return mergeStates(holderName(r), podSide(r, mtu, r.ips.map((i) => podAddress(dev, i)), r.ips.flatMap((i) => {
      const family = familyOf(i.address);
      const cluster = config.clusterCidrs.find((c) => familyOf(c) === family);
      return [defaultOf(family), ...(cluster === undefined ? [] : [cluster])].map((dst) => ({ ...podRoute(dev, dst, family), gateway: i.gateway }));
    })));
  },

  wire(c: WiringContext, pod: Netns, r: AttachmentRecord): void {
    makePair(c, pod, r, this.podState(c.config, r, c.mtu), { master: c.shared!.index });
    if (hairpins(c.config, r)) c.netlink.send(setPortRequest(c.netlink.mustLink(r.hostIfname).index, { hairpin: true }, r.hostIfname));
  },

  /** Bridge, host end, pod end; addresses belong to the pod end. */
  resultOf({ config, shared, mtu }: WiringContext, r: AttachmentRecord): CniResult {
    return {
      interfaces: [
        { name: shared!.name, ...(shared!.address === undefined ? {} : { mac: shared!.address }) },
        { name: r.hostIfname, mac: hostMac(r), mtu },
        { name: r.ifname, mac: r.mac, mtu, sandbox: r.netns },
      ],
      ips: r.ips.map((i) => ({ address: i.address, gateway: i.gateway, interface: 2 })),
      routes: r.further !== undefined ? [] : r.ips.flatMap(({ gateway: gw }) => {
        const cluster = config.clusterCidrs.find((c) => familyOf(c) === familyOf(gw));
        return [{ dst: defaultOf(familyOf(gw)), gw }, ...(cluster === undefined ? [] : [{ dst: cluster, gw }])];
      }),
    };
  },
};
