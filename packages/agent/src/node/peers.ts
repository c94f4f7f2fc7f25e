/** From Node objects to this node and its peers. Pure. */
import { cidrOverlaps, parseCidr, tryParseIp, tryParseIpCidr } from '@podway/cni';
import type { Node } from '@podway/kube';
import type { NetnsState } from '@podway/netstate';
import type { LocalNode, NodeEnds, Peer, Uplink } from '../backends/backend.js';

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
  return all.filter((c) => tryParseIpCidr(c) !== undefined);
}

export const internalIp = (node: Node): string | undefined => node.status?.addresses?.find((a) => a.type === 'InternalIP')?.address;

/** What a node says of its ends, or undefined when it has said nothing that can be read. */
export function nodeEnds(node: Node): NodeEnds | undefined {
  try {
    const ends = JSON.parse(node.metadata?.annotations?.[BACKEND_ANNOTATION] ?? '') as Partial<NodeEnds> | null;
    if (typeof ends?.publicIP !== 'string' || !tryParseIp(ends.publicIP) || typeof ends.uses !== 'string') return undefined;
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
 * The uplink: the device that carries the node's InternalIP; without one, that of the default route.
 * @returns undefined when neither is there (yet).
 */
export function uplinkOf(state: NetnsState, nodeIp: string | undefined): Uplink | undefined {
  const byAddress = nodeIp === undefined ? undefined : state.addresses.find((a) => a.address === nodeIp);
  const defaultRoute = state.routes.find((r) => r.table === 254 && /^(0\.0\.0\.0|::)\/0$/.test(r.dst) && r.dev !== undefined);
  const dev = byAddress?.dev ?? defaultRoute?.dev;
  const address = byAddress ?? state.addresses.find((a) => a.dev === dev && a.scope === 'global' && a.family === 'inet');
  const link = state.links.find((l) => l.name === dev);
  if (!link || !address || link.mtu === undefined) return undefined;
  return { dev: link.name, address: address.address, prefix: address.prefix, mtu: link.mtu };
}

export function localNode(node: Node, state: NetnsState): LocalNode | undefined {
  const uplink = uplinkOf(state, internalIp(node));
  const podCidrs = podCidrsOf(node);
  if (!uplink || podCidrs.length === 0) return undefined;
  return { name: node.metadata?.name ?? '', podCidrs, uplink, labels: node.metadata?.labels ?? {} };
}
