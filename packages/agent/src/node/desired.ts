/**
 * The desired state of a node's own namespace, as a pure function of the configuration, the node,
 * its peers and the attachments: bridge, firewall table, sysctls, the backend's part, and the host
 * end of every pod's veth. What is ours and not in it goes.
 */
import { mergeStates, NFT_TABLE, type Link, type NetnsState, type NftObject } from '@podway/netstate';
import { parseCidr } from '@podway/cni';
import { sysctlDevice } from '@podway/kernel';
import { backendOf } from '../backends/index.js';
import { familiesOf, quietIpv6 } from '../backends/routes.js';
import type { LocalNode } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import type { AttachmentRecord } from '../ipam/index.js';
import { hostPortMasquerade, hostPortObjects, prefixOf, WHERE } from '../hostports/index.js';
import { shapingState } from '../shaping/index.js';
import { hostLink } from '../wiring/bridge.js';
import type { BackendPlan } from './transition.js';
import { broadcastOf, familyOf, gatewayOf, macOfAll } from './addresses.js';

export interface NodeInputs {
  readonly config: NetworkConfig;
  readonly local: LocalNode;
  readonly plan: Pick<BackendPlan, 'parts' | 'mtu'>;
  readonly attachments: readonly AttachmentRecord[];
}

export function desiredNode(i: NodeInputs): NetnsState {
  const { config, local, plan } = i;
  const ways = plan.parts.map((p) => backendOf(p.config).desired(p.config, local, p.peers, plan.mtu, p.unready));
  const ready = i.attachments.filter((r) => r.phase === 'ready');
  const { routes, ...merged } = mergeStates(local.name, baseState(config, local, plan.mtu), ...ways, {
    // What another plugin wired is that plugin's to look after.
    links: ready.filter((r) => !r.chained).map((r) => hostLink(config, r, plan.mtu)),
    nft: podwayTable(config, local.podCidrs, i.attachments),
    sysctls: Object.fromEntries([config.bridge, ...ready.flatMap((r) => (r.chained && r.hostPorts ? [r.chained.dev] : []))].map((dev) => [routeLocalnet(dev), '1'])),
  }, ...ready.map(shapingState));
  // Two ways at once may want one and the same, such as a blackhole behind both.
  const wanted = new Map(routes.map((r) => [r.type === 'blackhole' ? JSON.stringify(r) : r, r]));
  return { ...merged, routes: [...wanted.values()] };
}

/** Lets 127.0.0.1 be the source of what leaves by this device: for host ports asked for on it. */
export const routeLocalnet = (dev: string): string => `net.ipv4.conf.${dev.replaceAll('.', '/')}.route_localnet`;

function baseState(config: NetworkConfig, local: LocalNode, mtu: number): Partial<NetnsState> {
  const dev = config.bridge;
  const bridge: Link = {
    name: dev, kind: 'bridge', up: true, mtu, alias: 'podway: bridge of the pods on this node',
    // A fixed MAC: without one a bridge takes the lowest of its ports and changes it as pods come and go.
    address: macOfAll(local.podCidrs.map(gatewayOf)), bridge: { stp: false },
  };
  return {
    links: [bridge],
    addresses: local.podCidrs.map((podCidr) => {
      const prefix = parseCidr(podCidr).prefix;
      const family = familyOf(podCidr);
      return { dev, family, address: gatewayOf(podCidr), prefix, ...(family === 'inet' ? { broadcast: broadcastOf(podCidr) } : {}) };
    }),
    sysctls: forwarding(dev, local),
  };
}

/** IPv4 forwards by device; IPv6 for the whole namespace at once. */
function forwarding(bridge: string, { podCidrs, uplink }: LocalNode): Record<string, string> {
  const families = familiesOf(podCidrs);
  return {
    ...(families.includes('inet')
      ? { 'net.ipv4.ip_forward': '1', [`net.ipv4.conf.${bridge}.forwarding`]: '1', [`net.ipv4.conf.${sysctlDevice(uplink.dev)}.forwarding`]: '1' }
      : {}),
    ...(families.includes('inet6')
      ? {
          'net.ipv6.conf.all.forwarding': '1',
          ...Object.fromEntries(quietIpv6(bridge)),
          // Who forwards does not believe routers any more (1); where the node did so before, it goes on (2): its default route may come from there.
          ...(uplink.believesRouters ? { [`net.ipv6.conf.${sysctlDevice(uplink.dev)}.accept_ra`]: '2' } : {}),
        }
      : {}),
  };
}

/**
 * Podway's table, whole. Host ports of attachments that are being added stand in it already, those of
 * attachments that are being removed do not any more: as CNI's verbs have it at that moment.
 */
export function podwayTable(config: NetworkConfig, podCidrs: readonly string[], attachments: readonly AttachmentRecord[]): NftObject[] {
  const families = familiesOf(config.clusterCidrs);
  return [
    { table: { family: WHERE.family, name: NFT_TABLE } },
    { chain: { ...WHERE, name: 'postrouting', type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } },
    ...hostPortObjects({ families, podCidrs, attachments }),
    ...hostPortMasquerade(families),
    ...(config.masquerade ? masqueradeRules(config, podCidrs) : []),
  ];
}

/**
 * NAT for what leaves the cluster, and for that only: from this node's pods to an address that is no
 * pod's. `fully-random` keeps two pods with the same source port from racing for one (the classic
 * lost DNS answer). Replies need no rule: conntrack turns them back.
 */
function masqueradeRules(config: NetworkConfig, podCidrs: readonly string[]): NftObject[] {
  const match = (protocol: string, field: string, op: string, right: unknown) => ({ match: { op, left: { payload: { protocol, field } }, right } });
  return podCidrs.flatMap((podCidr): NftObject[] => {
    const protocol = podCidr.includes(':') ? 'ip6' : 'ip';
    const cluster = config.clusterCidrs.find((c) => c.includes(':') === podCidr.includes(':')) ?? podCidr;
    const multicast = protocol === 'ip' ? '224.0.0.0/4' : 'ff00::/8';
    return [
      { rule: { ...WHERE, chain: 'postrouting', comment: 'pod to pod is never translated', expr: [
        match(protocol, 'saddr', '==', prefixOf(podCidr)), match(protocol, 'daddr', '==', prefixOf(cluster)), { accept: null } ] } },
      { rule: { ...WHERE, chain: 'postrouting', comment: 'what leaves the cluster takes the node address', expr: [
        match(protocol, 'saddr', '==', prefixOf(podCidr)), match(protocol, 'daddr', '!=', prefixOf(multicast)),
        { counter: { packets: 0, bytes: 0 } }, { masquerade: { flags: 'fully-random' } } ] } },
    ];
  });
}
