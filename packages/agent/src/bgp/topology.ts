/**
 * Who peers with whom. Pure.
 *
 * - mesh: every node with every other one on its subnet. Nodes on other subnets are reached through
 *   routers, and it is the routers (external peers) that tell where they are.
 * - reflectors: every node with every reflector, reflectors among themselves; two reflectors make two sessions a node.
 * - external peers: each with the nodes that it selects.
 *
 * One session per family: IPv4 routes over IPv4, IPv6 routes over IPv6, as next hops must be.
 */
import { cidrContains, formatIp, parseIp, parseIpCidr } from '@podway/cni';
import type { Session, Speaker } from './bird-config.js';
import { familyOf } from '../node/addresses.js';
import { addressOf, isReflector, selects, timersOf, type BgpExternalPeer, type BgpNode, type BgpSettings, type BgpTimers, type Family } from './settings.js';

export interface NodeSpeakerInput {
  readonly settings: BgpSettings;
  readonly clusterCidrs: readonly string[];
  readonly local: BgpNode;
  readonly uplink: string;
  /** The subnets that the uplink is on, `172.18.0.2/16`. */
  readonly subnets: readonly string[];
  readonly peers: readonly BgpNode[];
}

const FAMILIES: readonly Family[] = ['inet', 'inet6'];

export const onSubnet = (subnets: readonly string[], address: string): boolean => subnets.some((s) => cidrContains(parseIpCidr(s).cidr, parseIp(address)));

/** The peers that a node has to speak with outside of the cluster. */
export const externalPeers = (s: BgpSettings, node: BgpNode): BgpExternalPeer[] =>
  s.peers.filter((p) => (p.nodeSelector === undefined || selects(p.nodeSelector, node)) && addressOf(node, familyOf(p.address)) !== undefined);

/** An IPv4 address serves as it is. Where there is none, 32 bits of the node's name do (FNV-1a): stable, and as good as unique. */
export function routerId(node: BgpNode): string {
  const v4 = addressOf(node, 'inet');
  if (v4 !== undefined) return v4;
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(node.name)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return formatIp({ family: 4, value: BigInt(hash || 1) });
}

function between(i: NodeSpeakerInput, peer: BgpNode, family: Family): Session | undefined {
  const { settings: s, local } = i;
  const address = addressOf(peer, family);
  if (address === undefined || addressOf(local, family) === undefined) return undefined;
  const here = isReflector(s, local);
  const there = isReflector(s, peer);
  const common = {
    family, peer: `node ${peer.name}`, address, asn: s.asn, import: 'cluster', ...(s.password === undefined ? {} : { password: s.password }),
  } as const;
  if (s.reflectors.length) {
    if (there) return { ...common, type: 'rr', export: here ? 'reflect' : 'own' };
    return here ? { ...common, type: 'client', export: 'reflect' } : undefined;
  }
  return s.mesh && onSubnet(i.subnets, address) ? { ...common, type: 'mesh', export: 'own' } : undefined;
}

/** The speaker of one node. The settings are taken to be checked. */
export function nodeSpeaker(i: NodeSpeakerInput): Speaker {
  const { settings: s, local } = i;
  const sessions = FAMILIES.flatMap((family) => i.peers.map((p) => between(i, p, family))).filter((x) => x !== undefined);
  const external = externalPeers(s, local).map((p): Session => ({
    type: 'external', family: familyOf(p.address), peer: `AS ${p.asn}`, address: p.address, asn: p.asn, import: p.import ?? 'cluster', export: 'own',
    ...(p.password === undefined ? {} : { password: p.password }), ...(p.multihop === undefined ? {} : { multihop: p.multihop }),
  }));
  const [v4, v6] = [addressOf(local, 'inet'), addressOf(local, 'inet6')];
  return {
    name: `node ${local.name}`, routerId: routerId(local), asn: s.asn, uplinks: [i.uplink], clusterCidrs: i.clusterCidrs, blocks: local.blocks,
    local: { ...(v4 === undefined ? {} : { inet: v4 }), ...(v6 === undefined ? {} : { inet6: v6 }) },
    timers: timersOf(s), sessions: [...sessions, ...external], ...(s.clusterId === undefined ? {} : { clusterId: s.clusterId }),
  };
}

/** A peer that no session and no router brings the way to, in words; undefined when there is a way. */
export function bgpRefuses(i: NodeSpeakerInput, peer: BgpNode): string | undefined {
  const { settings: s, local } = i;
  for (const family of FAMILIES) {
    if (!peer.blocks.some((b) => familyOf(b) === family)) continue;
    const kind = family === 'inet' ? 'IPv4' : 'IPv6';
    const address = addressOf(peer, family);
    if (address === undefined) return `its pods have ${kind} addresses and it has none itself, so no ${kind} next hop leads to it`;
    if (addressOf(local, family) === undefined) return `its pods have ${kind} addresses and this node (${local.name}) has none to reach them from`;
    if (externalPeers(s, local).some((p) => familyOf(p.address) === family)) continue;
    if (!onSubnet(i.subnets, address)) {
      return `${address} is not on the subnet of this node (${i.subnets.filter((n) => familyOf(n) === family).join(', ')}), and no external BGP peer is configured that could lead there`;
    }
    if (!s.mesh && s.reflectors.length === 0) return 'the mesh is off, and neither reflectors nor external peers are configured';
  }
  return undefined;
}

export interface RouterInput {
  readonly name: string;
  readonly asn: number;
  readonly routerId: string;
  readonly clusterCidrs: readonly string[];
  readonly timers: BgpTimers;
  /** Nodes and other routers, each on a link of its own or a shared one. */
  readonly neighbours: readonly { readonly name: string; readonly address: string; readonly asn: number; readonly password?: string; readonly passive?: boolean }[];
}

/** A router of the underlay (top of rack): hands on whatever pod ranges it learns. */
export const routerSpeaker = (r: RouterInput): Speaker => ({
  name: `router ${r.name}`, routerId: r.routerId, asn: r.asn, local: {}, uplinks: ['*'], clusterCidrs: r.clusterCidrs, blocks: [], timers: r.timers,
  sessions: r.neighbours.map((n): Session => ({
    type: 'external', family: familyOf(n.address), peer: n.name, address: n.address, asn: n.asn, import: 'cluster', export: 'all',
    ...(n.password === undefined ? {} : { password: n.password }), ...(n.passive === true ? { passive: true } : {}),
  })),
});
