/**
 * Bare packets, and BGP to tell who has which pods. BIRD is the speaker; it learns the routes and puts them into the kernel
 * (`10.244.1.0/24 via 172.18.0.3 dev eth0 proto bird metric 32`).
 *
 * Objects per peer: none of Podway's own; one BGP session (mesh), or none (reflectors), and one route made by BIRD.
 * Podway makes one blackhole route per own block: a packet to an address of the block that no pod has ends here, and is not
 * sent back to a router that would return it until its TTL is used up. Its metric is behind that of every other route,
 * so the bridge's connected route, or a pod's own, wins where there is one.
 *
 * Next hops: nodes on one subnet reach each other directly. Nodes on other subnets are behind routers that must know the
 * pods' ranges; they learn them as external peers. A peer that neither covers is refused by name.
 *
 * Why not Podway's own routes, as in host-gw: routers learn pod ranges only from a routing protocol. Why not a speaker of our
 * own: BIRD is what operators of such networks run and know how to look into.
 *
 * MTU: that of the uplink; nothing is added to a packet.
 * Left out on purpose: IPv4 routes over IPv6 sessions (RFC 8950), BFD, several equal ways to one range (ECMP).
 */
import { formatCidr, parseCidr } from '@podway/cni';
import type { NetnsState, Route } from '@podway/netstate';
import { PROTOCOL, sysctlDevice, TABLE_MAIN } from '@podway/kernel';
import { birdDaemon } from '../bgp/daemon.js';
import { familyOf } from '../node/addresses.js';
import { checkBgpSettings, type BgpNode, type BgpSettings } from '../bgp/settings.js';
import { bgpRefuses, nodeSpeaker, type NodeSpeakerInput } from '../bgp/topology.js';
import type { DaemonPlace, DaemonSpec } from '../daemons/spec.js';
import type { NetworkConfig } from '../config.js';
import type { Backend, LocalNode, Peer } from './backend.js';
import { judge, publicIpIn, uplinkIn, type Judged } from './routes.js';

export type BgpNetwork = Pick<NetworkConfig<BgpSettings>, 'clusterCidrs' | 'backend'>;

/** What BGP can make use of besides: the second family's address, labels for selectors, blocks instead of whole ranges. */
export interface BgpExtras {
  readonly addresses?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  readonly blocks?: readonly string[];
  /** The subnets that the uplink is on; that of its address when absent. */
  readonly subnets?: readonly string[];
}
export type BgpLocal = LocalNode & BgpExtras;
export type BgpPeer = Peer & BgpExtras;

const BLACKHOLE_METRIC = 4096;

const localNode = (l: BgpLocal): BgpNode => ({
  name: l.name, addresses: l.addresses ?? [l.uplink, ...(l.uplink.second ? [l.uplink.second] : [])].map((a) => a.address), blocks: l.blocks ?? l.podCidrs, ...(l.labels === undefined ? {} : { labels: l.labels }),
});
const peerNode = (p: BgpPeer): BgpNode => ({
  name: p.name, addresses: p.addresses ?? [p.ends.publicIP, ...(p.ends.secondIP === undefined ? [] : [p.ends.secondIP])], blocks: p.blocks ?? p.podCidrs, ...(p.labels === undefined ? {} : { labels: p.labels }),
});

const input = (c: BgpNetwork, local: BgpLocal, peers: readonly BgpPeer[]): NodeSpeakerInput => ({
  settings: c.backend, clusterCidrs: c.clusterCidrs, local: localNode(local), uplink: local.uplink.dev,
  subnets: local.subnets ?? [local.uplink, ...(local.uplink.second ? [local.uplink.second] : [])].map((a) => `${a.address}/${a.prefix}`), peers: peers.map(peerNode),
});

function judged(config: BgpNetwork, local: BgpLocal, peer: BgpPeer): Judged {
  const node = peerNode(peer);
  return judge(local, peer, (family) => bgpRefuses(input(config, local, []), { ...node, blocks: node.blocks.filter((b) => familyOf(b) === family) }));
}

export const bgp = {
  type: 'bgp',

  overhead: (): number => 0,
  /** The routes are BIRD's to make; of the families that have a way at all. */
  reached: (_config: BgpNetwork, local: BgpLocal, peer: BgpPeer, observed: Partial<NetnsState>): boolean =>
    peer.podCidrs.filter((c) => uplinkIn(local, familyOf(c)) && publicIpIn(peer, familyOf(c))).every((c) => observed.routes?.some((r) => r.protocol === PROTOCOL.bird && r.dst === c) ?? false),

  publish: () => ({}),

  refuses(config: BgpNetwork, local: BgpLocal, peer: BgpPeer): string | undefined {
    if (!peer.ends.accepts.bgp) return `it does not speak BGP; it uses ${peer.ends.uses}`;
    return judged(config, local, peer).refusal;
  },
  lacks: (config: BgpNetwork, local: BgpLocal, peer: BgpPeer): string | undefined => judged(config, local, peer).lacking,

  desired(_config: BgpNetwork, local: BgpLocal): Partial<NetnsState> {
    const { blocks } = localNode(local);
    return {
      routes: blocks.map((b): Route => ({
        family: familyOf(b), dst: formatCidr(parseCidr(b)), type: 'blackhole', table: TABLE_MAIN, protocol: PROTOCOL.podway, metric: BLACKHOLE_METRIC,
        why: 'so that packets to addresses of this node that no pod has end here',
      })),
      sysctls: {
        'net.ipv4.ip_forward': '1',
        [`net.ipv4.conf.${sysctlDevice(local.uplink.dev)}.forwarding`]: '1',
        ...(blocks.some((b) => familyOf(b) === 'inet6') ? { 'net.ipv6.conf.all.forwarding': '1' } : {}),
      },
    };
  },

  /** @throws BGP_CONFIG_INVALID */
  daemons(config: BgpNetwork, local: BgpLocal, peers: readonly BgpPeer[], o: DaemonPlace = {}): DaemonSpec[] {
    checkBgpSettings(config.backend);
    return [birdDaemon(nodeSpeaker(input(config, local, peers)), o)];
  },
} as const satisfies Backend<BgpSettings>;
