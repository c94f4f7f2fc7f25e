/**
 * Which decoder follows which number: the one place where protocols are joined.
 *
 * To add a protocol: one file in protocols/ with its layer type and decoder, the type into the union in layers.ts, and a line here. A caller can
 * also extend a copy (`standardRegistry()`) for ports of its own and pass it to `decode`.
 */
import type { Decoder } from './context.js';
import { ETHER, IP, LINKTYPE, WIREGUARD_PORTS } from './numbers.js';
import { decodeArp } from './protocols/arp.js';
import { decodeEthernet } from './protocols/ethernet.js';
import { decodeGre } from './protocols/gre.js';
import { decodeIcmp } from './protocols/icmp.js';
import { decodeIcmpv6 } from './protocols/icmpv6.js';
import { decodeIpv4 } from './protocols/ipv4.js';
import { decodeIpv6 } from './protocols/ipv6.js';
import { decodeAh, decodeDestinationOptions, decodeFragment, decodeHopByHop, decodeNoNext, decodeRouting } from './protocols/ipv6-extensions.js';
import { decodeSll, decodeSll2 } from './protocols/linux-cooked.js';
import { decodeLoopback } from './protocols/loopback.js';
import { decodeSctp } from './protocols/sctp.js';
import { decodeTcp } from './protocols/tcp.js';
import { decodeUdp } from './protocols/udp.js';
import { decodeWireguard } from './protocols/wireguard.js';
import { decodeVlan } from './protocols/vlan.js';

export interface PortEntry {
  readonly decode: Decoder;
  /** `either`: the port may also be the source (a server's answer). `destination`: only the destination counts (tunnels). */
  readonly match: 'either' | 'destination';
}

export interface Registry {
  readonly link: Map<number, Decoder>;
  readonly etherType: Map<number, Decoder>;
  readonly ipProtocol: Map<number, Decoder>;
  /** VXLAN is not in here: its ports are an option of `decode`. */
  readonly udpPort: Map<number, PortEntry>;
  readonly tcpPort: Map<number, PortEntry>;
}

/** RAW frames begin with an IP header; its version says which. */
const decodeRaw: Decoder = (c) => {
  const version = c.readable > c.offset ? (c.bytes[c.offset] as number) >>> 4 : 4;
  (version === 6 ? decodeIpv6 : decodeIpv4)(c);
};

/** A new registry with all protocols of this package. */
export function standardRegistry(): Registry {
  return {
    link: new Map<number, Decoder>([
      [LINKTYPE.ethernet, decodeEthernet],
      [LINKTYPE.linuxSll, decodeSll],
      [LINKTYPE.linuxSll2, decodeSll2],
      [LINKTYPE.null, decodeLoopback],
      [LINKTYPE.loop, decodeLoopback],
      [LINKTYPE.raw, decodeRaw],
      [LINKTYPE.ipv4, decodeIpv4],
      [LINKTYPE.ipv6, decodeIpv6],
      // What DLT_RAW is on Linux (12) and OpenBSD (14): some programs write it into files.
      [12, decodeRaw],
      [14, decodeRaw],
    ]),
    etherType: new Map<number, Decoder>([
      [ETHER.ipv4, decodeIpv4],
      [ETHER.ipv6, decodeIpv6],
      [ETHER.arp, decodeArp],
      [ETHER.vlan, decodeVlan],
      [ETHER.qinq, decodeVlan],
      [ETHER.qinqOld, decodeVlan],
      [ETHER.transparentEthernet, decodeEthernet],
    ]),
    ipProtocol: new Map<number, Decoder>([
      [IP.tcp, decodeTcp],
      [IP.udp, decodeUdp],
      [IP.icmp, decodeIcmp],
      [IP.icmpv6, decodeIcmpv6],
      [IP.sctp, decodeSctp],
      [IP.gre, decodeGre],
      [IP.ipv4, decodeIpv4],
      [IP.ipv6, decodeIpv6],
      [IP.hopByHop, decodeHopByHop],
      [IP.routing, decodeRouting],
      [IP.fragment, decodeFragment],
      [IP.destinationOptions, decodeDestinationOptions],
      [IP.ah, decodeAh],
      [IP.noNext, decodeNoNext],
    ]),
    udpPort: new Map<number, PortEntry>(WIREGUARD_PORTS.map((port) => [port, { decode: decodeWireguard, match: 'either' }])),
    tcpPort: new Map(),
  };
}
