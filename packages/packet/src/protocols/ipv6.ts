/**
 * IPv6 (RFC 8200): a fixed header of 40 bytes; extension headers are layers of their own (ipv6-extensions.ts).
 *
 *     0                        4              6            7          8     24
 *     | ver, class, flow label | payload len  | next header| hop limit| src | dst
 *
 * A payload length of 0 without a jumbo option is what segmentation offload leaves on packets above 64 KiB.
 */
import { type Context, IP_PROTOCOL, NO_PROBLEMS, type LayerBase } from '../context.js';
import { sum } from '../checksum.js';
import { ipv6Text, parseIpv6, put16, put32, u16, u32, u8 } from '../bytes.js';

export interface Ipv6Layer extends LayerBase {
  readonly type: 'ipv6';
  readonly src: string;
  readonly dst: string;
  readonly dscp: number;
  readonly ecn: number;
  readonly flowLabel: number;
  /** As the header says: what follows the 40 bytes, extension headers included. */
  readonly payloadLength: number;
  readonly nextHeader: number;
  readonly hopLimit: number;
}

const LENGTH = 40;

export function decodeIpv6(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < LENGTH) {
    const there = c.readable - offset;
    return c.partial('ipv6', LENGTH, { ...(there >= 24 && { src: ipv6Text(bytes, offset + 8) }) });
  }
  let problems = NO_PROBLEMS;
  const first = u32(bytes, offset);
  if (first >>> 28 !== 6) problems = c.report(problems, 'bad-value', 'ipv6', `version is ${first >>> 28}`);
  const payloadLength = u16(bytes, offset + 4);
  const end = payloadLength === 0 ? c.end : offset + LENGTH + payloadLength;
  if (end > c.end && c.quoteDepth === 0) {
    problems = c.report(problems, 'truncated', 'ipv6', `payload length is ${payloadLength}, ${c.end - offset - LENGTH} bytes are there`);
  }
  const nextHeader = u8(bytes, offset + 6);
  c.layers.push({
    type: 'ipv6',
    src: ipv6Text(bytes, offset + 8),
    dst: ipv6Text(bytes, offset + 24),
    dscp: (first >>> 22) & 0x3f,
    ecn: (first >>> 20) & 3,
    flowLabel: first & 0xfffff,
    payloadLength,
    nextHeader,
    hopLimit: u8(bytes, offset + 7),
    offset,
    headerLength: LENGTH,
    problems,
  });
  c.ipVersion = 6;
  c.pseudoSum = sum(bytes, offset + 8, offset + 40);
  c.isFragment = false;
  c.follow(IP_PROTOCOL, nextHeader, offset + LENGTH, end);
}

export interface Ipv6Spec {
  readonly type: 'ipv6';
  readonly src: string;
  readonly dst: string;
  readonly hopLimit?: number;
  readonly flowLabel?: number;
  readonly dscp?: number;
  readonly ecn?: number;
  /** Taken from the next layer if left out. */
  readonly nextHeader?: number;
}

export function encodeIpv6(spec: Ipv6Spec, payload: Uint8Array, nextHeader: number): Uint8Array {
  if (payload.length > 0xffff) throw new RangeError(`IPv6 payload of ${payload.length} bytes: at most 65535 fit`);
  const out = new Uint8Array(LENGTH + payload.length);
  put32(out, 0, ((6 << 28) | ((spec.dscp ?? 0) << 22) | ((spec.ecn ?? 0) << 20) | ((spec.flowLabel ?? 0) & 0xfffff)) >>> 0);
  put16(out, 4, payload.length);
  out[6] = spec.nextHeader ?? nextHeader;
  out[7] = spec.hopLimit ?? 64;
  out.set(parseIpv6(spec.src), 8);
  out.set(parseIpv6(spec.dst), 24);
  out.set(payload, LENGTH);
  return out;
}
