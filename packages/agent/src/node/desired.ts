/**
 * The desired state of a node's own namespace, as a pure function of the configuration, the node,
 * its peers and the attachments: firewall table, sysctls, the backend's part, what the wiring shares
 * among all pods, and each pod's host end with what hangs on it. What is ours and not in it goes.
 */
import { keyOf, mergeStates, NFT_TABLE, type NetnsState, type NftObject, type Route } from '@podway/netstate';
import { parseCidr, cidrFirst, formatIp } from '@podway/cni';
import { backendOf } from '../backends/index.js';
import type { LocalNode } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import type { AttachmentRecord } from '../ipam/index.js';
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
  const ways = plan.parts.map((p) => backendOf(p.config).desired(p.config, local, p.peers, plan.mtu));
  const wiring = wiringOf(config);
  const pods = i.attachments.filter((r) => r.phase === 'ready').map((r) => wiring.hostState(config, r, plan.mtu));
  const state = mergeStates(local.name, baseState(config, local), wiring.nodeState(config, local, plan.mtu), ...ways, ...pods);
  return { ...state, routes: once(state.routes) };
}

/** Backend and wiring may want the same one: a blackhole for the node's own range. */
function once(routes: readonly Route[]): Route[] {
  const seen = new Set<string>();
  return routes.filter((r) => r.type !== 'blackhole' || (!seen.has(keyOf.route(r)) && seen.add(keyOf.route(r))));
}

function baseState(config: NetworkConfig, local: LocalNode): Partial<NetnsState> {
  return {
    sysctls: {
      'net.ipv4.ip_forward': '1',
      [`net.ipv4.conf.${local.uplink.dev.replaceAll('.', '/')}.forwarding`]: '1',
      ...(local.podCidrs.some((c) => c.includes(':')) ? { 'net.ipv6.conf.all.forwarding': '1' } : {}),
    },
    nft: config.masquerade ? masqueradeTable(config, local) : [],
  };
}

const prefixOf = (cidr: string) => {
  const c = parseCidr(cidr);
  return { prefix: { addr: formatIp(cidrFirst(c)), len: c.prefix } };
};

/**
 * NAT for what leaves the cluster, and for that only: from this node's pods to an address that is no
 * pod's. `fully-random` keeps two pods with the same source port from racing for one (the classic
 * lost DNS answer). Replies need no rule: conntrack turns them back.
 */
function masqueradeTable(config: NetworkConfig, local: LocalNode): NftObject[] {
  const where = { family: 'inet', table: NFT_TABLE };
  const match = (protocol: string, field: string, op: string, right: unknown) => ({ match: { op, left: { payload: { protocol, field } }, right } });
  return [
    { table: { family: 'inet', name: NFT_TABLE } },
    { chain: { ...where, name: 'postrouting', type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } },
    ...local.podCidrs.flatMap((podCidr): NftObject[] => {
      const protocol = podCidr.includes(':') ? 'ip6' : 'ip';
      const cluster = config.clusterCidrs.find((c) => c.includes(':') === podCidr.includes(':')) ?? podCidr;
      const multicast = protocol === 'ip' ? '224.0.0.0/4' : 'ff00::/8';
      return [
        { rule: { ...where, chain: 'postrouting', comment: 'pod to pod is never translated', expr: [
          match(protocol, 'saddr', '==', prefixOf(podCidr)), match(protocol, 'daddr', '==', prefixOf(cluster)), { accept: null } ] } },
        { rule: { ...where, chain: 'postrouting', comment: 'what leaves the cluster takes the node address', expr: [
          match(protocol, 'saddr', '==', prefixOf(podCidr)), match(protocol, 'daddr', '!=', prefixOf(multicast)),
          { counter: { packets: 0, bytes: 0 } }, { masquerade: { flags: 'fully-random' } } ] } },
      ];
    }),
  ];
}
