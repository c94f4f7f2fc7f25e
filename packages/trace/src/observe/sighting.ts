/** What one captured packet shows at one point. Pure: bytes in, facts out. */
import { decode, decodeWireguard, describeHeaders, encapsulationOverhead, innermost, standardRegistry, summary, type ChecksumState, type DecodedPacket, type HeaderSize, type Ipv4Layer, type Ipv6Layer } from '@podway/packet';

export interface OuterHeader {
  readonly src: string;
  readonly dst: string;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly vni: number;
  readonly vxlanFlags: number;
  readonly ttl: number;
  readonly id?: number;
  readonly dontFragment: boolean;
  readonly ipLength: number;
  readonly udpLength: number;
  readonly ethernet?: { readonly src: string; readonly dst: string };
  readonly udpChecksum: ChecksumState;
}

/** An encrypted packet: what is inside is not seen, so that it is this one is a conclusion. */
export interface Sealed {
  readonly by: 'time and size';
  readonly receiverIndex: number;
  readonly counter: number;
}

export interface Sighting {
  readonly point: string;
  /** Microseconds after the probe's first sighting. */
  readonly offsetUs: number;
  readonly src: string;
  readonly dst: string;
  readonly srcPort?: number;
  readonly dstPort?: number;
  readonly ttl: number;
  /** Of the innermost frame. */
  readonly ethernet?: { readonly src: string; readonly dst: string };
  /** IPv4 only. */
  readonly ipId?: number;
  readonly dontFragment: boolean;
  /** IP total length of the innermost packet. */
  readonly ipLength: number;
  /** On the wire, everything included. */
  readonly frameLength: number;
  readonly outer?: OuterHeader;
  /** Addresses, TTL and lengths are then those of the packet that carries it. */
  readonly sealed?: Sealed;
  /** Bytes between the outermost and the innermost IP header, counted in this packet. */
  readonly overhead: number;
  /** IPv6 has none of its own. */
  readonly checksum: { readonly ip?: ChecksumState; readonly transport?: ChecksumState };
  /** Sizes of all headers; they sum to `frameLength`. */
  readonly headers: readonly HeaderSize[];
  /** The packet in tcpdump's words. */
  readonly summary: string;
  /** How many times this packet was seen here. */
  readonly copies: number;
}

/** UDP ports that carry tunnels in a world. */
export interface TunnelPorts {
  readonly vxlan: readonly number[];
  readonly wireguard: readonly number[];
}

const registries = new Map<string, ReturnType<typeof standardRegistry>>();
/** One for each set of ports: making one costs more than decoding a packet. */
function registryFor(ports: readonly number[]): ReturnType<typeof standardRegistry> {
  const key = ports.join();
  let found = registries.get(key);
  if (!found) {
    registries.set(key, (found = standardRegistry()));
    for (const port of ports) found.udpPort.set(port, { decode: decodeWireguard, match: 'either' });
  }
  return found;
}

/** Bytes with the IP header. */
export const ipLengthOf = (ip: Ipv4Layer | Ipv6Layer): number => (ip.type === 'ipv4' ? ip.totalLength : ip.headerLength + ip.payloadLength);

type IpFacts = Pick<Sighting, 'ttl' | 'ipId' | 'dontFragment' | 'ipLength'>;

/** What both families have, in IPv4's words: an IPv6 packet is never fragmented on its way, as with DF. */
const ipFacts = (ip: Ipv4Layer | Ipv6Layer): IpFacts =>
  ip.type === 'ipv4'
    ? { ttl: ip.ttl, ipId: ip.id, dontFragment: ip.dontFragment, ipLength: ipLengthOf(ip) }
    : { ttl: ip.hopLimit, dontFragment: true, ipLength: ipLengthOf(ip) };

function outerFacts(ip: Ipv4Layer | Ipv6Layer): Pick<OuterHeader, 'ttl' | 'id' | 'dontFragment' | 'ipLength'> {
  const { ipId, ...facts } = ipFacts(ip);
  // Nothing asks for it: the header has no such bit.
  return ip.type === 'ipv4' ? { ...facts, id: ipId! } : { ...facts, dontFragment: false };
}

export const decodeFrame = (bytes: Uint8Array, length: number, o: { linkType: number; ports: TunnelPorts }): DecodedPacket =>
  decode(bytes, o.linkType, { originalLength: length, vxlanPorts: o.ports.vxlan, registry: registryFor(o.ports.wireguard) });

export function sightingOf(p: DecodedPacket, at: { point: string; offsetUs: number; copies: number }): Sighting | undefined {
  const inner = innermost(p);
  if (!inner) return undefined;
  const { ip, transport, index } = inner;
  const frame = p.layers.slice(0, index).findLast((l) => l.type === 'ethernet');
  const outerIp = p.layers.slice(0, index).find((l) => l.type === 'ipv4' || l.type === 'ipv6');
  const outerUdp = p.layers.slice(0, index).find((l) => l.type === 'udp');
  const vxlan = p.layers.find((l) => l.type === 'vxlan');
  const wireguard = p.layers.find((l) => l.type === 'wireguard');
  const outerFrame = p.layers.find((l) => l.type === 'ethernet');
  const ends = (f: typeof frame) => (f?.type === 'ethernet' ? { ethernet: { src: f.src, dst: f.dst } } : {});
  return {
    ...at, src: ip.src, dst: ip.dst, ...ipFacts(ip), frameLength: p.originalLength,
    ...(transport && 'srcPort' in transport ? { srcPort: transport.srcPort, dstPort: transport.dstPort } : {}),
    ...ends(frame),
    ...(outerIp && (outerIp.type === 'ipv4' || outerIp.type === 'ipv6') && outerUdp?.type === 'udp' && vxlan?.type === 'vxlan'
      ? {
          outer: {
            src: outerIp.src, dst: outerIp.dst, srcPort: outerUdp.srcPort, dstPort: outerUdp.dstPort, vni: vxlan.vni, vxlanFlags: vxlan.flags, ...outerFacts(outerIp),
            udpLength: outerUdp.length, udpChecksum: outerUdp.checksumState, ...ends(outerFrame),
          },
        }
      : {}),
    ...(wireguard?.counter === undefined ? {} : { sealed: { by: 'time and size', receiverIndex: wireguard.receiverIndex ?? 0, counter: wireguard.counter } as const }),
    overhead: encapsulationOverhead(p),
    checksum: { ...(ip.type === 'ipv4' ? { ip: ip.checksumState } : {}), ...(transport ? { transport: transport.checksumState } : {}) },
    headers: describeHeaders(p), summary: summary(p),
  };
}
