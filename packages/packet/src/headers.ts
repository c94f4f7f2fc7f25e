/**
 * The byte budget of a packet: its headers in order with their sizes, summing to the length on the wire, and what encapsulation costs.
 */
import type { DecodedPacket } from './decode.js';
import type { Layer } from './layers.js';

export interface HeaderSize {
  /** Layer type, or `payload`, `padding` (bytes after the innermost packet's end), `not captured`. */
  readonly name: string;
  /** In the field's words: `outer IPv4 20`, `VXLAN vni 1`. */
  readonly label: string;
  readonly offset: number;
  readonly bytes: number;
}

const LABELS: Readonly<Record<Exclude<Layer['type'], 'partial' | 'vxlan' | 'vlan'>, string>> = {
  ethernet: 'Ethernet',
  'linux-cooked': 'Linux cooked',
  loopback: 'loopback',
  arp: 'ARP',
  ipv4: 'IPv4',
  ipv6: 'IPv6',
  'ipv6-hop-by-hop': 'IPv6 hop-by-hop options',
  'ipv6-destination-options': 'IPv6 destination options',
  'ipv6-routing': 'IPv6 routing',
  'ipv6-fragment': 'IPv6 fragment',
  ah: 'AH',
  icmp: 'ICMP',
  icmpv6: 'ICMPv6',
  tcp: 'TCP',
  udp: 'UDP',
  sctp: 'SCTP',
  gre: 'GRE',
  wireguard: 'WireGuard',
};

/** A layer's name as people write it: `IPv4`, `VXLAN vni 1`. */
export function layerLabel(layer: Layer): string {
  switch (layer.type) {
    case 'partial':
      return `${layer.protocol} (cut short)`;
    case 'vxlan':
      return `VXLAN vni ${layer.vni}`;
    case 'vlan':
      return `VLAN ${layer.id}`;
    default:
      return LABELS[layer.type];
  }
}

/** Headers, payload, padding and what was not captured, in order of place. The sizes sum to `packet.originalLength`. */
export function describeHeaders(packet: DecodedPacket): HeaderSize[] {
  const { layers, originalLength } = packet;
  const inner = innermostIpIndex(layers);
  const outer = inner >= 0 && layers.some((l, i) => i < inner && (l.type === 'ipv4' || l.type === 'ipv6'));
  const innerStart = inner < 0 ? 0 : layers[inner - 1]?.type === 'ethernet' ? inner - 1 : inner;
  const sizes: HeaderSize[] = layers.map((layer, i) => {
    const prefix = !outer ? '' : i >= innerStart ? 'inner ' : 'outer ';
    const label = layer.type === 'vxlan' || layer.type === 'gre' ? layerLabel(layer) : prefix + layerLabel(layer);
    return { name: layer.type, label, offset: layer.offset, bytes: layer.headerLength };
  });
  const captured = Math.min(packet.bytes.length, originalLength);
  const payloadEnd = Math.min(Math.max(packet.payloadOffset, packet.payloadEnd), captured);
  const add = (name: string, offset: number, bytes: number): void => {
    if (bytes > 0) sizes.push({ name, label: name, offset, bytes });
  };
  add('payload', packet.payloadOffset, payloadEnd - packet.payloadOffset);
  add('padding', payloadEnd, captured - payloadEnd);
  add('not captured', captured, originalLength - captured);
  return sizes;
}

/**
 * What encapsulation costs in MTU, computed from this packet: the bytes between the start of the outermost IP header and that of the
 * innermost one. 50 for VXLAN over IPv4 (20 + 8 + 8 + 14), 70 over IPv6; 0 for a packet that is not encapsulated or has no IP header.
 */
export function encapsulationOverhead(packet: DecodedPacket): number {
  const { layers } = packet;
  const inner = layers[innermostIpIndex(layers)];
  const outer = layers.find((l) => l.type === 'ipv4' || l.type === 'ipv6');
  return inner === undefined || outer === undefined ? 0 : inner.offset - outer.offset;
}

function innermostIpIndex(layers: readonly Layer[]): number {
  return layers.findLastIndex((l) => l.type === 'ipv4' || l.type === 'ipv6');
}
