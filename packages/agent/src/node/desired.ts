/**
 * The desired state of a node's own namespace, as a pure function of the configuration, the node,
 * its peers and the attachments: firewall table, sysctls, the backend's part, what the wiring shares
 * among all pods, and each pod's host end with what hangs on it. What is ours and not in it goes.
 */
import { sysctlDevice } from '@podway/kernel';
import { keyOf, mergeStates, NFT_TABLE, type NetnsState, type NftObject, type Route } from '@podway/netstate';
import { backendOf } from '../backends/index.js';
import { familiesOf } from '../backends/routes.js';
import type { LocalNode } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import type { AttachmentRecord } from '../ipam/index.js';
import { hostPortMasquerade, hostPortObjects, prefixOf, routeLocalnet, WHERE } from '../hostports/index.js';
import { shapingState } from '../shaping/index.js';
import { wiringOf } from '../wiring/index.js';
import type { BackendPlan } from './transition.js';

export interface NodeInputs {
  readonly config: NetworkConfig;
  readonly local: LocalNode;
  readonly plan: Pick<BackendPlan, 'parts' | 'mtu'>;
  readonly attachments: readonly AttachmentRecord[];
}

export function desiredNode(i: NodeInputs): NetnsState {
  const { config, local, plan } = i;
  const ways = plan.parts.map((p) => backendOf(p.config).desired(p.config, local, p.peers, plan.mtu, p.unready));
  const wiring = wiringOf(config);
  const ready = i.attachments.filter((r) => r.phase === 'ready');
  const state = mergeStates(
    local.name, baseState(local), wiring.nodeState(config, local, plan.mtu), ...ways,
    { nft: podwayTable(config, local.podCidrs, i.attachments), sysctls: Object.fromEntries(ready.flatMap((r) => (r.chained && r.hostPorts ? [[routeLocalnet(r.chained.dev), '1']] : []))) },
    // What another plugin wired is that plugin's to look after.
    ...ready.filter((r) => !r.chained).map((r) => wiring.hostState(config, r, plan.mtu)), ...ready.map(shapingState),
  );
  return { ...state, routes: once(state.routes) };
}

/** Two ways at once, or backend and wiring, may want the same one: a blackhole for the node's own range. */
function once(routes: readonly Route[]): Route[] {
  const seen = new Set<string>();
  return routes.filter((r) => r.type !== 'blackhole' || (!seen.has(keyOf.route(r)) && seen.add(keyOf.route(r))));
}

/** IPv4 forwards by device, those of the pods are the wiring's; IPv6 for the whole namespace at once. */
function baseState({ podCidrs, uplink }: LocalNode): Partial<NetnsState> {
  const families = familiesOf(podCidrs);
  return {
    sysctls: {
      ...(families.includes('inet') ? { 'net.ipv4.ip_forward': '1', [`net.ipv4.conf.${sysctlDevice(uplink.dev)}.forwarding`]: '1' } : {}),
      ...(families.includes('inet6')
        ? {
            'net.ipv6.conf.all.forwarding': '1',
            // Who forwards does not believe routers any more (1); where the node did so before, it goes on (2): its default route may come from there.
            ...(uplink.believesRouters ? { [`net.ipv6.conf.${sysctlDevice(uplink.dev)}.accept_ra`]: '2' } : {}),
          }
        : {}),
    },
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
