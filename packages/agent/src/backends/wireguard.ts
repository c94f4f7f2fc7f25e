/**
 * WireGuard: every packet between nodes is encrypted. One device, one peer per node (its public key, its address, and its
 * pod ranges as allowed IPs), one route per pod range: `10.244.1.0/24 dev podway.wg scope link`. The device has no Ethernet
 * and no neighbours: which peer a packet goes to, its destination says (cryptokey routing).
 *
 * Nothing leaves in plain text: behind the routes to peers stands a blackhole for the cluster's whole ranges, for a peer that is
 * not known yet, and for a device that somebody deletes. Where a program implements WireGuard, its TUN device outlives it.
 *
 * A peer is sent to by a new way only after the two have shaken hands: before, the other end might not know this node's key,
 * and WireGuard repeats an unanswered greeting only after five seconds.
 *
 * MTU: WireGuard 32 (header 16, tag 16) + UDP 8 + outer IP 20 (IPv4) or 40 (IPv6) = 60 or 80 bytes less than the uplink.
 * Padding to 16 bytes never exceeds the device's MTU.
 * Left out on purpose: crossSubnet; who asks for encryption wants it everywhere.
 */
import { PROTOCOL, sysctlDevice, TABLE_MAIN } from '@podway/kernel';
import { presharedKeyDigest, type NetnsState, type Route, type WireguardPeer } from '@podway/netstate';
import { PodwayError } from '@podway/errors';
import type { DaemonSpec } from '../daemons/spec.js';
import { wireguardGo } from '../wireguard/daemon.js';
import { wireguardDevice, wireguardPort, wireguardWay, type WireguardConfig } from '../wireguard/settings.js';
import type { NetworkConfig } from '../config.js';
import type { Backend, Family, LocalNode, Peer } from './backend.js';
import { familiesOf, familyOf, judge, metricOf, publicIpIn, quietIpv6, sharedFamilies, tunnelAddress } from './routes.js';

const WIREGUARD_AND_TAG = 32;
const UDP_HEADER = 8;
const OUTER_IP = { inet: 20, inet6: 40 } as const;
/** Behind every other route. */
const BLACKHOLE_METRIC = 4096;

type Network = NetworkConfig<WireguardConfig>;

const endpointText = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
/** Over the family of the uplink's first address: one way for the packets of both families. */
const addressOf = (local: LocalNode, peer: Peer): string | undefined => publicIpIn(peer, familyOf(local.uplink.address));
const endOf = (c: WireguardConfig, peer: Peer) => peer.ends.accepts[wireguardWay(c)];

/** A peer's pods of the families that this node's have too. */
const served = (local: LocalNode, peer: Peer): string[] => peer.podCidrs.filter((c) => sharedFamilies(local, peer).includes(familyOf(c)));

/** @throws WIREGUARD_NO_KEY when the caller has not made one */
function own(c: WireguardConfig, local: LocalNode): { publicKey: string; implementation: 'kernel' | 'userspace' } {
  const publicKey = local.wireguard?.publicKeys[c.generation];
  if (local.wireguard && publicKey !== undefined) return { publicKey, implementation: local.wireguard.implementation };
  throw new PodwayError('WIREGUARD_NO_KEY', `node ${local.name} has no WireGuard key of generation ${c.generation}`, { object: `node ${local.name}` });
}

export const wireguard = {
  type: 'wireguard',
  keyed: true,

  overhead: (_config: Network, underlay: Family): number => WIREGUARD_AND_TAG + UDP_HEADER + OUTER_IP[underlay],
  way: ({ backend }: Network) => wireguardWay(backend),

  publish: ({ backend }: Network, local: LocalNode) => ({ ...own(backend, local), port: wireguardPort(backend) }),

  /** One tunnel carries both families: what stops one stops the other. */
  refuses: ({ backend }: Network, local: LocalNode, peer: Peer): string | undefined => judge(local, peer, () => {
    const end = endOf(backend, peer);
    if (!end) return peer.ends.uses.startsWith('wireguard') ? `it has no WireGuard keys of generation ${backend.generation} yet` : `it does not take WireGuard; it uses ${peer.ends.uses}`;
    if (end.publicKey === undefined || end.port === undefined) return 'it has not published its WireGuard key';
    if (addressOf(local, peer) === undefined) return `it is at ${peer.ends.publicIP}, and this node's uplink has only ${local.uplink.address}: WireGuard needs addresses of one family`;
    return undefined;
  }).refusal,

  reached({ backend }: Network, _local: LocalNode, peer: Peer, observed: Partial<NetnsState>): boolean {
    const dev = wireguardDevice(backend);
    return observed.wireguardPeers?.some((p) => p.dev === dev && p.publicKey === endOf(backend, peer)?.publicKey && p.lastHandshake !== undefined) ?? false;
  },

  desired({ backend, clusterCidrs }: Network, local: LocalNode, peers: readonly Peer[], mtu: number, unready: ReadonlySet<string> = new Set()): Partial<NetnsState> {
    const dev = wireguardDevice(backend);
    const { publicKey, implementation } = own(backend, local);
    const wireguardPeers = peers.map((peer): WireguardPeer => {
      const end = endOf(backend, peer)!;
      return {
        dev, publicKey: end.publicKey!, endpoint: endpointText(addressOf(local, peer)!, end.port!), allowedIps: served(local, peer).sort(), keepalive: backend.keepalive,
        presharedKey: backend.presharedKey === undefined ? '' : presharedKeyDigest(backend.presharedKey), why: `pods of node ${peer.name} are behind ${addressOf(local, peer)}`,
      };
    });
    const common = { type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.podway } as const;
    const routes = peers.filter((p) => !unready.has(p.name)).flatMap((peer) => served(local, peer).map((dst): Route => ({
      ...common, family: familyOf(dst), dst, dev, scope: 'link', metric: metricOf(familyOf(dst)), why: `pods of node ${peer.name} are behind ${addressOf(local, peer)}, encrypted`,
    })));
    const blackholes = clusterCidrs.map((dst): Route => ({
      ...common, family: familyOf(dst), dst, type: 'blackhole', metric: BLACKHOLE_METRIC, why: 'so that no packet for a pod leaves this node in plain text',
    }));
    return {
      links: [{
        name: dev, kind: implementation === 'kernel' ? 'wireguard' : 'tun', up: true, mtu, wireguard: { publicKey, port: wireguardPort(backend) },
        alias: `podway: WireGuard tunnel of this node${implementation === 'kernel' ? '' : ', in user space (wireguard-go)'}`,
      }],
      addresses: local.podCidrs.map((podCidr) => {
        const address = tunnelAddress(podCidr);
        return { dev, family: familyOf(address), address, prefix: familyOf(address) === 'inet' ? 32 : 128 };
      }),
      sysctls: Object.fromEntries(familiesOf(local.podCidrs).flatMap((f): [string, string][] =>
        (f === 'inet' ? [[`net.ipv4.conf.${sysctlDevice(dev)}.forwarding`, '1']] : quietIpv6(sysctlDevice(dev))))),
      wireguardPeers, routes: [...routes, ...blackholes],
    };
  },

  daemons: ({ backend }: Network, local: LocalNode): DaemonSpec[] => (own(backend, local).implementation === 'kernel' ? [] : [wireguardGo(wireguardDevice(backend))]),
} as const satisfies Backend<WireguardConfig>;
