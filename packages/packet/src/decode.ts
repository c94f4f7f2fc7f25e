/**
 * Bytes to a stack of layers.
 *
 * Never throws, whatever the bytes: what could be read is returned together with what is wrong. Plain objects, nothing computed later, so a
 * packet can be kept, compared and sent as JSON. About 1 µs for Ethernet/IPv4/TCP, 2 µs with VXLAN around it.
 * Equivalent: `tshark -V`, `tcpdump -vv`.
 */
import {
  Context,
  ETHERNET_FRAME,
  ETHERTYPE,
  IP_PROTOCOL,
  NONE,
  NO_PROBLEMS,
  TCP_PORT,
  UDP_PORT,
  type Decoder,
  type Problem,
  type Settings,
} from './context.js';
import type { Layer } from './layers.js';
import { IP, LINKTYPE, VXLAN_PORTS } from './numbers.js';
import { decodeEthernet } from './protocols/ethernet.js';
import { decodeVxlan } from './protocols/vxlan.js';
import { standardRegistry, type PortEntry, type Registry } from './registry.js';

export interface DecodeOptions {
  /** Bytes of the frame on the wire, where the capture may be shorter. Default: the bytes given. */
  readonly originalLength?: number;
  /** UDP destination ports that carry VXLAN. Default: 8472 and 4789. */
  readonly vxlanPorts?: readonly number[];
  /** Layers at most; more are reported as `depth-limit` and left as payload. Default 128, which is 31 VXLAN tunnels deep. */
  readonly maxLayers?: number;
  /** false leaves every checksum `unverifiable`, and saves reading the payload. Default true. */
  readonly verifyChecksums?: boolean;
  readonly registry?: Registry;
}

export interface DecodedPacket {
  readonly bytes: Uint8Array;
  readonly linkType: number;
  /** Length of the frame on the wire; more than `bytes.length` if the capture was cut. */
  readonly originalLength: number;
  /** Outermost first. */
  readonly layers: readonly Layer[];
  /** Where the innermost payload begins and ends according to the headers; it may end beyond `bytes`. */
  readonly payloadOffset: number;
  readonly payloadEnd: number;
  /** Everything wrong with the packet, in the order found. The same objects as in the layers, and those that belong to none. */
  readonly problems: readonly Problem[];
}

const REGISTRY = standardRegistry();
const DEFAULTS: Settings = { registry: REGISTRY, vxlanPorts: VXLAN_PORTS, maxLayers: 128, verifyChecksums: true };

function settingsOf(options: DecodeOptions): Settings {
  if (options.vxlanPorts === undefined && options.maxLayers === undefined && options.verifyChecksums === undefined && options.registry === undefined) {
    return DEFAULTS;
  }
  return {
    registry: options.registry ?? REGISTRY,
    vxlanPorts: options.vxlanPorts ?? VXLAN_PORTS,
    maxLayers: options.maxLayers ?? DEFAULTS.maxLayers,
    verifyChecksums: options.verifyChecksums ?? true,
  };
}

/**
 * Decodes one frame of a link type (LINKTYPE_ number as in pcap files; default Ethernet).
 * The result refers to `bytes` and does not copy them.
 */
export function decode(bytes: Uint8Array, linkType: number = LINKTYPE.ethernet, options?: DecodeOptions): DecodedPacket {
  const settings = options === undefined ? DEFAULTS : settingsOf(options);
  const originalLength = Math.max(bytes.length, options?.originalLength ?? 0);
  const c = new Context(bytes, 0, originalLength, settings, run, 0);
  const start = settings.registry.link.get(linkType);
  if (start === undefined) c.report(NO_PROBLEMS, 'unknown-link-type', 'link', `link type ${linkType} is not known`);
  else {
    if (originalLength > bytes.length) c.report(NO_PROBLEMS, 'truncated', 'capture', `${bytes.length} of ${originalLength} bytes were captured`, bytes.length);
    start(c);
    run(c);
    c.finish();
  }
  return {
    bytes,
    linkType,
    originalLength,
    layers: c.layers,
    payloadOffset: c.offset,
    payloadEnd: c.end,
    problems: c.problems ?? NO_PROBLEMS,
  };
}

/** Calls decoder after decoder until nothing known follows. */
function run(c: Context): void {
  while (c.space !== NONE) {
    const decoder = successor(c);
    if (decoder === undefined) return;
    // A segment without data (a bare ACK, an empty datagram) has no header to decode, and that is no fault.
    if (c.offset >= c.end && (c.space === UDP_PORT || c.space === TCP_PORT)) return;
    if (c.layers.length >= c.settings.maxLayers) {
      c.report(NO_PROBLEMS, 'depth-limit', 'packet', `more than ${c.settings.maxLayers} layers; the rest is left undecoded`);
      return;
    }
    c.space = NONE;
    decoder(c);
  }
}

function successor(c: Context): Decoder | undefined {
  const { registry, vxlanPorts } = c.settings;
  switch (c.space) {
    case ETHERTYPE:
      return registry.etherType.get(c.value);
    case IP_PROTOCOL:
      // Hop-by-hop options have number 0, which after IPv4 is nothing.
      return c.value === IP.hopByHop && c.ipVersion === 4 ? undefined : registry.ipProtocol.get(c.value);
    case UDP_PORT:
      return vxlanPorts.includes(c.value) ? decodeVxlan : byPort(registry.udpPort, c);
    case TCP_PORT:
      return byPort(registry.tcpPort, c);
    case ETHERNET_FRAME:
      return decodeEthernet;
    default:
      return undefined;
  }
}

function byPort(ports: Map<number, PortEntry>, c: Context): Decoder | undefined {
  if (ports.size === 0) return undefined;
  const entry = ports.get(c.value);
  if (entry !== undefined) return entry.decode;
  const other = ports.get(c.otherPort);
  return other?.match === 'either' ? other.decode : undefined;
}

/** The captured bytes of the innermost payload. */
export function payloadOf(packet: DecodedPacket): Uint8Array {
  return packet.bytes.subarray(packet.payloadOffset, Math.max(packet.payloadOffset, packet.payloadEnd));
}
