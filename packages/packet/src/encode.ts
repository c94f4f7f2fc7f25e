/**
 * A stack of headers to bytes, outermost first, with lengths, checksums and "what follows" numbers filled in.
 *
 *     encode([
 *       { type: 'ethernet', src: '0a:58:0a:f4:00:02', dst: '0a:58:0a:f4:00:01' },
 *       { type: 'ipv4', src: '10.244.0.2', dst: '10.244.2.2', id: 7 },
 *       { type: 'icmp', message: { kind: 'echo-request', id: 7, sequence: 1 } },
 *     ], payload)
 *
 * Throws RangeError for what cannot be put on a wire (an address that is none, too many bytes, a layer that cannot hold the next).
 */
import { ETHER, IP } from './numbers.js';
import { encodeArp, type ArpSpec } from './protocols/arp.js';
import { encodeEthernet, type EthernetSpec } from './protocols/ethernet.js';
import { encodeGre, type GreSpec } from './protocols/gre.js';
import { encodeIcmp, type IcmpSpec } from './protocols/icmp.js';
import { encodeIcmpv6, type Icmpv6Spec } from './protocols/icmpv6.js';
import { encodeIpv4, type Ipv4Spec } from './protocols/ipv4.js';
import { encodeIpv6, type Ipv6Spec } from './protocols/ipv6.js';
import { encodeTcp, type TcpSpec } from './protocols/tcp.js';
import type { IpSpec } from './protocols/transport-checksum.js';
import { encodeUdp, type UdpSpec } from './protocols/udp.js';
import { encodeVlan, type VlanSpec } from './protocols/vlan.js';
import { encodeWireguard, type WireguardSpec } from './protocols/wireguard.js';
import { encodeVxlan, type VxlanSpec } from './protocols/vxlan.js';

export type LayerSpec =
  | EthernetSpec
  | VlanSpec
  | ArpSpec
  | Ipv4Spec
  | Ipv6Spec
  | IcmpSpec
  | Icmpv6Spec
  | TcpSpec
  | UdpSpec
  | VxlanSpec
  | WireguardSpec
  | GreSpec;

const NOTHING = new Uint8Array(0);

/** Builds the frame. `payload` follows the last header. */
export function encode(stack: readonly LayerSpec[], payload: Uint8Array = NOTHING): Uint8Array {
  let bytes = payload;
  for (let i = stack.length - 1; i >= 0; i--) {
    const before = stack[i - 1];
    bytes = encodeLayer(stack[i] as LayerSpec, bytes, {
      next: stack[i + 1],
      ip: before?.type === 'ipv4' || before?.type === 'ipv6' ? before : undefined,
    });
  }
  return bytes;
}

interface Around {
  readonly next: LayerSpec | undefined;
  /** The IP header directly outside, for the pseudo-header. */
  readonly ip: IpSpec | undefined;
}

function encodeLayer(spec: LayerSpec, payload: Uint8Array, { next, ip }: Around): Uint8Array {
  switch (spec.type) {
    case 'ethernet':
      return encodeEthernet(spec, payload, spec.etherType ?? etherTypeOf(spec, next));
    case 'vlan':
      return encodeVlan(spec, payload, spec.etherType ?? etherTypeOf(spec, next));
    case 'gre':
      return encodeGre(spec, payload, spec.protocol ?? etherTypeOf(spec, next));
    case 'arp':
      return encodeArp(spec);
    case 'ipv4':
      return encodeIpv4(spec, payload, spec.protocol ?? protocolOf(spec, next));
    case 'ipv6':
      return encodeIpv6(spec, payload, spec.nextHeader ?? protocolOf(spec, next));
    case 'icmp':
      return encodeIcmp(spec, payload);
    case 'icmpv6':
      return encodeIcmpv6(spec, payload, ip);
    case 'tcp':
      return encodeTcp(spec, payload, ip);
    case 'udp':
      return encodeUdp(spec, payload, ip);
    case 'vxlan':
      return encodeVxlan(spec, payload);
    case 'wireguard':
      return encodeWireguard(spec, payload);
  }
}

function etherTypeOf(spec: LayerSpec, next: LayerSpec | undefined): number {
  switch (next?.type) {
    case 'ipv4':
      return ETHER.ipv4;
    case 'ipv6':
      return ETHER.ipv6;
    case 'arp':
      return ETHER.arp;
    case 'vlan':
      return next.tpid ?? ETHER.vlan;
    case 'ethernet':
      return ETHER.transparentEthernet;
    default:
      throw cannotHold(spec, next);
  }
}

function protocolOf(spec: LayerSpec, next: LayerSpec | undefined): number {
  switch (next?.type) {
    case 'ipv4':
    case 'ipv6':
    case 'icmp':
    case 'icmpv6':
    case 'tcp':
    case 'udp':
    case 'gre':
      return IP[next.type];
    default:
      throw cannotHold(spec, next);
  }
}

function cannotHold(spec: LayerSpec, next: LayerSpec | undefined): RangeError {
  const what = next === undefined ? 'a bare payload unless its number is given' : `a ${next.type} layer`;
  return new RangeError(`a ${spec.type} layer cannot hold ${what}`);
}
