/**
 * WireGuard: into the tunnel (the peer whose allowed IPs hold the destination) and out of it (UDP port, the sender's key, then
 * whether that peer may send from this source). The inner packet is carried unchanged, padded to 16 bytes and encrypted.
 * Source: drivers/net/wireguard/{device,send,receive,allowedips}.c; wireguard-go does the same.
 */
import type { Link, WireguardPeer } from '@podway/netstate';
import { drop, goTo, note, stateOf, unknown, type Cursor, type Sim } from './cursor.js';
import { inPrefix, prefixLength } from './ip.js';
import { isV6 } from './ipv6.js';
import { UNSET_TTL } from './stack.js';
import { IPV4_HEADER, IPV6_HEADER, UDP_HEADER, type Packet } from './types.js';

const HEADER_AND_TAG = 32;
const PADDING = 16;

/** What an inner packet becomes: padded, but not beyond the device's MTU. @param over6 an IPv6 underlay */
export const sealedLength = (inner: number, mtu: number | undefined, over6: boolean): number =>
  (over6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER + HEADER_AND_TAG + Math.max(inner, Math.min(Math.ceil(inner / PADDING) * PADDING, mtu ?? Infinity));

function peerFor(peers: readonly WireguardPeer[], address: string): { peer: WireguardPeer; cidr: string } | undefined {
  const holding = peers.flatMap((peer) => peer.allowedIps.filter((cidr) => inPrefix(address, cidr)).map((cidr) => ({ peer, cidr })));
  return holding.reduce<(typeof holding)[number] | undefined>((b, x) => (b && prefixLength(b.cidr) >= prefixLength(x.cidr) ? b : x), undefined);
}

export function encrypt(sim: Sim, c: Cursor, netns: string, link: Link): Cursor[] {
  const inner = c.packet;
  const state = stateOf(sim, netns);
  const dev = link.name;
  const found = peerFor((state.wireguardPeers ?? []).filter((p) => p.dev === dev), inner.dst);
  if (!found) return drop(c, netns, { object: `allowed IPs of ${dev} in ${netns}`, dev, why: `no peer of ${dev} may be sent ${inner.dst}: none of their allowed IPs holds it (ENOKEY)` });
  const { peer, cidr } = found;
  if (peer.endpoint === undefined) return drop(c, netns, { object: `endpoint of peer ${peer.publicKey} on ${dev} in ${netns}`, dev, why: 'where the peer is, is not known (EDESTADDRREQ)' });
  if (link.wireguard?.publicKey === undefined) return drop(c, netns, { object: `private key of ${dev} in ${netns}`, dev, why: `${dev} has no key: it can shake hands with nobody` });
  const at = peer.endpoint.lastIndexOf(':');
  const [address, port] = [peer.endpoint.slice(0, at).replace(/^\[(.*)\]$/, '$1'), Number(peer.endpoint.slice(at + 1))];
  const over6 = isV6(address);
  const outer: Packet = {
    // The kernel's device asks for no path MTU discovery; a program's ordinary socket does.
    src: '', dst: address, ttl: over6 ? UNSET_TTL : Number(state.sysctls['net.ipv4.ip_default_ttl'] ?? 64), dontFragment: !over6 && link.kind === 'tun',
    length: sealedLength(inner.fragments?.length ?? inner.length, link.mtu, over6), mark: 0,
    l4: { proto: 'udp', srcPort: link.wireguard.port, dstPort: port }, wireguard: { sender: link.wireguard.publicKey, inner },
  };
  const by = link.kind === 'tun' ? 'user space (wireguard-go)' : 'the kernel';
  const noted = note(c, netns, 'encapsulate', {
    dev, peer, link, packet: outer, why: `allowed IPs ${cidr} are those of peer ${peer.publicKey} at ${peer.endpoint}: encrypted by ${by}, ${outer.length - inner.length} bytes more`,
  });
  return [goTo(noted, { at: 'send', netns })];
}

export function decrypt(sim: Sim, c: Cursor, netns: string, dev: string): Cursor[] {
  const outer = c.packet;
  const { l4, wireguard } = outer;
  if (l4.proto !== 'udp' || !wireguard) return unknown(c, netns, 'a WireGuard packet without content');
  const state = stateOf(sim, netns);
  const link = state.links.find((l) => l.wireguard?.port === l4.dstPort && l.up);
  if (!link) {
    const unread = state.links.filter((l) => (l.kind === 'tun' || l.kind === 'wireguard') && !l.wireguard);
    if (unread.length) return unknown(c, netns, `the ports of ${unread.map((l) => l.name).join(', ')}`);
    const ports = state.links.flatMap((l) => (l.wireguard ? [`${l.name} listens on ${l.wireguard.port}${l.up ? '' : ' but is down'}`] : []));
    return drop(c, netns, { object: `WireGuard port of ${netns}`, dev, reason: 'NO_SOCKET', why: `no WireGuard device takes UDP port ${l4.dstPort}${ports.length ? `: ${ports.join(', ')}` : ''}` });
  }
  const peer = state.wireguardPeers?.find((p) => p.dev === link.name && p.publicKey === wireguard.sender);
  if (!peer) return drop(c, netns, { object: `peers of ${link.name} in ${netns}`, dev: link.name, why: `${link.name} does not know the key ${wireguard.sender}: no session with it can be` });
  const { inner } = wireguard;
  if (!peer.allowedIps.some((cidr) => inPrefix(inner.src, cidr))) {
    return drop(c, netns, { object: `allowed IPs of peer ${peer.publicKey} on ${link.name} in ${netns}`, dev: link.name, why: `that peer may not send from ${inner.src}, only from ${peer.allowedIps.join(', ') || 'nothing'}` });
  }
  const at = note(c, netns, 'decapsulate', {
    dev: link.name, link, outer, packet: { ...inner, mark: 0 }, why: `UDP port ${l4.dstPort} is ${link.name}'s and ${inner.src} is among the allowed IPs of the sender: ${outer.length - inner.length} bytes less, TTL unchanged`,
  });
  return [goTo(at, { at: 'receive', netns, dev: link.name })];
}
