/** From Node objects to this node and its peers. Pure. */
import { cidrOverlaps, formatCidr, parseCidr, tryParseIp, tryParseIpCidr } from '@podway/cni';
import { sysctlDevice, TABLE_MAIN } from '@podway/kernel';
import type { Node } from '@podway/kube';
import type { NetnsState } from '@podway/netstate';
import type { LocalNode, NodeEnds, Peer, Uplink } from '../backends/backend.js';
import { familyOf } from './addresses.js';

/** A node's ends of the network (NodeEnds), as JSON. Only what is public stands in it. */
export const BACKEND_ANNOTATION = 'podway.io/backend';

export interface PeerProblem {
  readonly node: string;
  /** Why it is not served (yet), in words. */
  readonly reason: string;
}

export function podCidrsOf(node: Node): string[] {
  const spec = node.spec ?? {};
  const all = spec.podCIDRs?.length ? spec.podCIDRs : spec.podCIDR ? [spec.podCIDR] : [];
  return all.flatMap((c) => {
    const range = tryParseIpCidr(c)?.cidr;
    return range ? [formatCidr(range)] : [];
  });
}

/** One of each family, the first first. */
export const internalIps = (node: Node): string[] => {
  const all = (node.status?.addresses ?? []).filter((a) => a.type === 'InternalIP' && tryParseIp(a.address)).map((a) => a.address);
  const second = all.find((a) => familyOf(a) !== familyOf(all[0]!));
  return [...all.slice(0, 1), ...(second === undefined ? [] : [second])];
};

/** What a node says of its ends, or undefined when it has said nothing that can be read. */
export function nodeEnds(node: Node): NodeEnds | undefined {
  try {
    const ends = JSON.parse(node.metadata?.annotations?.[BACKEND_ANNOTATION] ?? '') as Partial<NodeEnds> | null;
    if (typeof ends?.publicIP !== 'string' || !tryParseIp(ends.publicIP) || typeof ends.uses !== 'string') return undefined;
    if (ends.secondIP !== undefined && !tryParseIp(ends.secondIP)) return undefined;
    return typeof ends.accepts === 'object' && ends.accepts !== null ? (ends as NodeEnds) : undefined;
  } catch {
    return undefined;
  }
}

/** All other nodes that have said where they are, by name, and those that have not, with the reason. */
export function peersOf(nodes: readonly Node[], self: string): { peers: Peer[]; problems: PeerProblem[] } {
  const peers: Peer[] = [];
  const problems: PeerProblem[] = [];
  const taken = new Map<string, string>();
  // A route to what is this node's own would lead its pods' packets away.
  const own = podCidrsOf(nodes.find((n) => n.metadata?.name === self) ?? {}).map(parseCidr);
  for (const node of [...nodes].sort((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? ''))) {
    const name = node.metadata?.name ?? '';
    const podCidrs = podCidrsOf(node);
    if (name === self) continue;
    const ends = nodeEnds(node);
    const twice = podCidrs.map((c) => taken.get(c)).find((n) => n !== undefined);
    const mine = podCidrs.find((c) => own.some((o) => cidrOverlaps(o, parseCidr(c))));
    const reason =
      podCidrs.length === 0 ? 'it has no pod CIDR yet'
      : !ends ? 'it has not published its end of the network yet'
      : mine ? `its pod CIDR ${mine} overlaps that of this node, ${self}`
      : twice ? `its pod CIDR ${podCidrs.join(', ')} is already that of node ${twice}`
      : undefined;
    if (reason !== undefined || !ends) {
      problems.push({ node: name, reason: reason ?? '' });
      continue;
    }
    for (const c of podCidrs) taken.set(c, name);
    peers.push({ name, podCidrs, ends, labels: node.metadata?.labels ?? {} });
  }
  return { peers, problems };
}

/**
 * The uplink: the device that carries the node's first InternalIP; without one, that of the default route.
 * Its second address is the other InternalIP, or else the first lasting one of the other family on that device.
 * @returns undefined when neither is there (yet).
 */
export function uplinkOf(state: NetnsState, nodeIps: readonly string[]): Uplink | undefined {
  const [first, other] = nodeIps;
  const byAddress = first === undefined ? undefined : state.addresses.find((a) => a.address === first);
  const defaultRoute = state.routes.find((r) => r.table === TABLE_MAIN && /^(0\.0\.0\.0|::)\/0$/.test(r.dst) && r.dev !== undefined);
  const dev = byAddress?.dev ?? defaultRoute?.dev;
  const global = state.addresses.filter((a) => a.dev === dev && a.scope === 'global' && !a.flags?.includes('dynamic'));
  const address = byAddress ?? global.find((a) => a.family === 'inet') ?? global[0];
  const link = state.links.find((l) => l.name === dev);
  if (!link || !address || link.mtu === undefined) return undefined;
  const second = global.filter((a) => a.family !== address.family).sort((a, b) => Number(b.address === other) - Number(a.address === other))[0];
  return {
    dev: link.name, address: address.address, prefix: address.prefix, mtu: link.mtu,
    ...(second ? { second: { address: second.address, prefix: second.prefix } } : {}),
    ...(['1', '2'].includes(state.sysctls[`net.ipv6.conf.${sysctlDevice(link.name)}.accept_ra`] ?? '') ? { believesRouters: true } : {}),
  };
}

/** A second address counts only where pods have its family too. */
export function localNode(node: Node, state: NetnsState): LocalNode | undefined {
  const found = uplinkOf(state, internalIps(node));
  const podCidrs = podCidrsOf(node);
  if (!found || podCidrs.length === 0) return undefined;
  const { second, ...first } = found;
  const uplink = second && podCidrs.some((c) => familyOf(c) === familyOf(second.address)) ? found : first;
  return { name: node.metadata?.name ?? '', podCidrs, uplink, labels: node.metadata?.labels ?? {} };
}
