/**
 * Recognising one and the same packet at several capture points.
 *
 * On its way a packet gets new MAC addresses, a lower TTL, an outer header, perhaps new addresses and ports (NAT), and its checksums are completed.
 * What stays: the IP id, the transport's own numbers, and the data. `identity` is made of what all but NAT leaves alone;
 * `payloadIdentity` of what NAT leaves alone too.
 *
 * Limits, by nature: segmentation offload makes one captured packet out of several, and they have different identities. Two packets that
 * are equal in all these fields (a retransmission with IP id 0, say) have the same identity: order in time tells them apart. A capture must
 * keep 512 bytes of each packet, or the hash of the data (its first 256 bytes) differs between points with and without an outer header.
 */
import { u8 } from './bytes.js';
import type { DecodedPacket } from './decode.js';
import type { IpLayer, Layer } from './layers.js';
import type { ArpLayer } from './protocols/arp.js';
import type { IcmpLayer } from './protocols/icmp.js';
import type { Icmpv6Layer } from './protocols/icmpv6.js';
import type { SctpLayer } from './protocols/sctp.js';
import type { TcpLayer } from './protocols/tcp.js';
import type { UdpLayer } from './protocols/udp.js';

export type TransportLayer = TcpLayer | UdpLayer | SctpLayer | IcmpLayer | Icmpv6Layer;

export interface Innermost {
  readonly ip: IpLayer;
  /** Missing in a fragment other than the first, in a cut packet, and for protocols that are not decoded. */
  readonly transport: TransportLayer | undefined;
  /** Upper protocol number, after any IPv6 extension headers. */
  readonly protocol: number;
  /** Position of `ip` in `packet.layers`. */
  readonly index: number;
}

const HASHED_BYTES = 256;

function isTransport(layer: Layer): layer is TransportLayer {
  return layer.type === 'tcp' || layer.type === 'udp' || layer.type === 'icmp' || layer.type === 'icmpv6' || layer.type === 'sctp';
}

/** The innermost IP header and what it carries; undefined if the packet has none (ARP). A packet quoted by an ICMP error does not count. */
export function innermost(packet: DecodedPacket): Innermost | undefined {
  const { layers } = packet;
  for (let index = layers.length - 1; index >= 0; index--) {
    const ip = layers[index] as Layer;
    if (ip.type === 'ipv4' || ip.type === 'ipv6') return { ip, index, ...upper(layers, index, ip) };
  }
  return undefined;
}

function upper(layers: readonly Layer[], index: number, ip: IpLayer): { protocol: number; transport: TransportLayer | undefined } {
  let protocol = ip.type === 'ipv4' ? ip.protocol : ip.nextHeader;
  for (let i = index + 1; i < layers.length; i++) {
    const layer = layers[i] as Layer;
    if (isTransport(layer)) return { protocol, transport: layer };
    if ('nextHeader' in layer && layer.type !== 'ipv6') protocol = layer.nextHeader;
    else break;
  }
  return { protocol, transport: undefined };
}

/** FNV-1a over the first bytes: short, and good enough beside the fields it stands with. */
function hash(bytes: Uint8Array, start: number, end: number): string {
  let h = 0x811c9dc5;
  const stop = Math.min(end, start + HASHED_BYTES, bytes.length);
  for (let i = start; i < stop; i++) h = Math.imul(h ^ u8(bytes, i), 0x01000193);
  return (h >>> 0).toString(16);
}

/** `length:hash` of what follows the header at `from`. The length is the one the headers promise, so padding does not count. */
function data(packet: DecodedPacket, from: number): string {
  return `${Math.max(0, packet.payloadEnd - from)}:${hash(packet.bytes, from, packet.payloadEnd)}`;
}

/** The parts of the innermost IP header that stay: id and fragment position. */
function ipNumbers(packet: DecodedPacket, { ip, index }: Innermost): string {
  if (ip.type === 'ipv4') {
    return ip.moreFragments || ip.fragmentOffset > 0 ? `id ${ip.id} frag ${ip.fragmentOffset}${ip.moreFragments ? '+' : ''}` : `id ${ip.id}`;
  }
  for (let i = index + 1; i < packet.layers.length; i++) {
    const layer = packet.layers[i] as Layer;
    if (layer.type === 'ipv6-fragment') return `id ${layer.id} frag ${layer.fragmentOffset}${layer.moreFragments ? '+' : ''}`;
  }
  // The flow label is not taken: routers leave it alone, but NAT and the encapsulating host may not.
  return 'id -';
}

function transportNumbers(packet: DecodedPacket, transport: TransportLayer | undefined, withPorts: boolean): string {
  if (transport === undefined) return `data ${data(packet, packet.payloadOffset)}`;
  const after = transport.offset + transport.headerLength;
  switch (transport.type) {
    case 'tcp': {
      const ports = withPorts ? `${transport.srcPort}>${transport.dstPort} ` : '';
      return `${ports}seq ${transport.sequence} ack ${transport.acknowledgement} flags ${transport.flags} data ${data(packet, after)}`;
    }
    case 'udp':
      return `${withPorts ? `${transport.srcPort}>${transport.dstPort} ` : ''}data ${data(packet, after)}`;
    case 'sctp':
      return `${withPorts ? `${transport.srcPort}>${transport.dstPort} ` : ''}tag ${transport.verificationTag} data ${data(packet, after)}`;
    case 'icmp':
    case 'icmpv6': {
      const { message } = transport;
      const kind = `${transport.icmpType}/${transport.code}`;
      if (message.kind === 'echo-request' || message.kind === 'echo-reply') {
        return `${kind} ${withPorts ? `id ${message.id} ` : ''}seq ${message.sequence} data ${data(packet, after)}`;
      }
      // NAT rewrites the packet that an error quotes, so without addresses only the kind and the length stay.
      return withPorts ? `${kind} data ${data(packet, after)}` : `${kind} length ${packet.payloadEnd - transport.offset}`;
    }
  }
}

function arpIdentity(arp: ArpLayer): string {
  return `arp ${arp.operation} ${arp.senderIp} (${arp.senderMac}) ${arp.targetIp} (${arp.targetMac})`;
}

/**
 * A text that is equal for one packet before and after TTL decrement, MAC rewriting, encapsulation and checksum completion, and (bar exact
 * repetitions) for no other. undefined if there is neither an IP nor an ARP header.
 */
export function identity(packet: DecodedPacket): string | undefined {
  const last = packet.layers.at(-1);
  // ARP holds nothing, so it is the innermost packet wherever it occurs: also inside VXLAN, where there is an IP header outside it.
  if (last?.type === 'arp') return arpIdentity(last);
  const inner = innermost(packet);
  if (inner === undefined) return undefined;
  const { ip } = inner;
  return `${ip.src} > ${ip.dst} proto ${inner.protocol} ${ipNumbers(packet, inner)} ${transportNumbers(packet, inner.transport, true)}`;
}

/** Like `identity`, without what NAT rewrites: addresses, ports and the echo id. */
export function payloadIdentity(packet: DecodedPacket): string | undefined {
  const inner = innermost(packet);
  if (inner === undefined || packet.layers.at(-1)?.type === 'arp') return identity(packet);
  return `proto ${inner.protocol} ${ipNumbers(packet, inner)} ${transportNumbers(packet, inner.transport, false)}`;
}

export interface Flow {
  readonly protocol: number;
  readonly src: string;
  readonly dst: string;
  /** Ports; for ICMP echo the id in both; 0 where there are none. */
  readonly srcPort: number;
  readonly dstPort: number;
}

/** The innermost packet's flow. */
export function flowOf(packet: DecodedPacket): Flow | undefined {
  const inner = innermost(packet);
  if (inner === undefined) return undefined;
  const { ip, transport, protocol } = inner;
  let srcPort = 0;
  let dstPort = 0;
  if (transport !== undefined) {
    if (transport.type !== 'icmp' && transport.type !== 'icmpv6') ({ srcPort, dstPort } = transport);
    else if ('id' in transport.message) srcPort = dstPort = transport.message.id;
  }
  return { protocol, src: ip.src, dst: ip.dst, srcPort, dstPort };
}

function keyText(f: Flow): string {
  return `${f.protocol} ${f.src}:${f.srcPort} > ${f.dst}:${f.dstPort}`;
}

/** `6 10.244.0.2:40000 > 10.244.2.2:80`: the innermost packet's flow as a map key, one direction. */
export function flowKey(packet: DecodedPacket): string | undefined {
  const flow = flowOf(packet);
  return flow === undefined ? undefined : keyText(flow);
}

/** The key of the other direction: what `flowKey` gives for an answer. */
export function reverseFlowKey(packet: DecodedPacket): string | undefined {
  const f = flowOf(packet);
  return f === undefined ? undefined : keyText({ protocol: f.protocol, src: f.dst, dst: f.src, srcPort: f.dstPort, dstPort: f.srcPort });
}
