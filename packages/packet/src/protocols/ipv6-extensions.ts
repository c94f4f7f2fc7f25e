/**
 * IPv6 extension headers (RFC 8200 section 4) and AH (RFC 4302), each a layer of its own.
 * All but Fragment (8 bytes, fixed) begin with next header and a length: in units of 8 bytes beyond the first 8; for AH, in units of
 * 4 bytes beyond the first 8. AH also occurs after IPv4.
 */
import { type Context, IP_PROTOCOL, NO_PROBLEMS, type LayerBase, type Problem } from '../context.js';
import { sum } from '../checksum.js';
import { ipv6Text, u16, u32, u8 } from '../bytes.js';

export interface ExtensionOption {
  /** 5 router alert, 194 jumbo payload (RFC 2675), 4 tunnel encapsulation limit. */
  readonly type: number;
  readonly data: Uint8Array;
}

interface ExtensionBase extends LayerBase {
  readonly nextHeader: number;
}

export type Ipv6ExtensionLayer =
  | (ExtensionBase & { readonly type: 'ipv6-hop-by-hop' | 'ipv6-destination-options'; readonly options: readonly ExtensionOption[] })
  | (ExtensionBase & { readonly type: 'ipv6-routing'; readonly routingType: number; readonly segmentsLeft: number; readonly addresses: readonly string[] })
  | (ExtensionBase & { readonly type: 'ipv6-fragment'; readonly id: number; /** In bytes. */ readonly fragmentOffset: number; readonly moreFragments: boolean })
  | (ExtensionBase & { readonly type: 'ah'; readonly spi: number; readonly sequence: number });

function options(c: Context, start: number, end: number): { list: ExtensionOption[]; problems: readonly Problem[] } {
  const list: ExtensionOption[] = [];
  let at = start;
  while (at < end) {
    const type = u8(c.bytes, at);
    if (type === 0) {
      at++;
      continue;
    }
    const length = at + 1 < end ? u8(c.bytes, at + 1) + 2 : 0;
    if (length === 0 || at + length > end) {
      return { list, problems: c.report(NO_PROBLEMS, 'bad-option', 'ipv6', `option ${type} does not fit: ${end - at} bytes are left`, at) };
    }
    if (type !== 1) list.push({ type, data: c.bytes.subarray(at + 2, at + length) });
    at += length;
  }
  return { list, problems: NO_PROBLEMS };
}

/** Common start: returns the header's length, or 0 after having pushed a partial layer. */
function lengthOf(c: Context, protocol: string, unit: number): number {
  const there = c.readable - c.offset;
  if (there < 8) {
    c.partial(protocol, 8, there >= 1 ? { nextHeader: u8(c.bytes, c.offset) } : {});
    return 0;
  }
  const length = 8 + u8(c.bytes, c.offset + 1) * unit;
  if (there >= length) return length;
  c.partial(protocol, length, { nextHeader: u8(c.bytes, c.offset) });
  return 0;
}

function decodeOptionsHeader(type: 'ipv6-hop-by-hop' | 'ipv6-destination-options'): (c: Context) => void {
  return (c) => {
    const { offset } = c;
    const headerLength = lengthOf(c, type, 8);
    if (headerLength === 0) return;
    const nextHeader = u8(c.bytes, offset);
    const { list, problems } = options(c, offset + 2, offset + headerLength);
    c.layers.push({ type, nextHeader, options: list, offset, headerLength, problems });
    c.follow(IP_PROTOCOL, nextHeader, offset + headerLength, c.end);
  };
}

export const decodeHopByHop = decodeOptionsHeader('ipv6-hop-by-hop');
export const decodeDestinationOptions = decodeOptionsHeader('ipv6-destination-options');

export function decodeRouting(c: Context): void {
  const { bytes, offset } = c;
  const headerLength = lengthOf(c, 'ipv6-routing', 8);
  if (headerLength === 0) return;
  const nextHeader = u8(bytes, offset);
  const routingType = u8(bytes, offset + 2);
  const segmentsLeft = u8(bytes, offset + 3);
  const addresses: string[] = [];
  let problems = NO_PROBLEMS;
  // Types 0 (source route), 2 (mobile) and 4 (segment routing, RFC 8754) hold addresses after 8 bytes.
  if (routingType === 0 || routingType === 2 || routingType === 4) {
    const room = Math.floor((headerLength - 8) / 16);
    const count = routingType === 4 ? Math.min(room, u8(bytes, offset + 4) + 1) : room;
    for (let i = 0; i < count; i++) addresses.push(ipv6Text(bytes, offset + 8 + 16 * i));
    if (segmentsLeft > count) problems = c.report(problems, 'bad-value', 'ipv6-routing', `${segmentsLeft} segments left of ${count}`);
    else if (segmentsLeft > 0) {
      // The checksum of the upper layer is made with the final destination (RFC 8200 8.1): take the current one out, that one in.
      const last = offset + 8 + (routingType === 4 ? 0 : 16 * (count - 1));
      const ip = c.layers.findLast((l) => l.type === 'ipv6');
      if (ip !== undefined) c.pseudoSum += sum(bytes, last, last + 16) - sum(bytes, ip.offset + 24, ip.offset + 40);
    }
  }
  c.layers.push({ type: 'ipv6-routing', nextHeader, routingType, segmentsLeft, addresses, offset, headerLength, problems });
  c.follow(IP_PROTOCOL, nextHeader, offset + headerLength, c.end);
}

export function decodeFragment(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < 8) return c.partial('ipv6-fragment', 8);
  const nextHeader = u8(bytes, offset);
  const word = u16(bytes, offset + 2);
  const fragmentOffset = word & 0xfff8;
  const moreFragments = (word & 1) !== 0;
  c.layers.push({ type: 'ipv6-fragment', nextHeader, id: u32(bytes, offset + 4), fragmentOffset, moreFragments, offset, headerLength: 8, problems: NO_PROBLEMS });
  // An "atomic" fragment (offset 0, none to follow) is the whole packet (RFC 6946).
  if (moreFragments || fragmentOffset > 0) c.isFragment = true;
  if (fragmentOffset > 0) c.stop(offset + 8, c.end);
  else c.follow(IP_PROTOCOL, nextHeader, offset + 8, c.end);
}

export function decodeAh(c: Context): void {
  const { bytes, offset } = c;
  const headerLength = lengthOf(c, 'ah', 4);
  if (headerLength === 0) return;
  if (headerLength < 12) {
    c.partial('ah', 12, { nextHeader: u8(bytes, offset) });
    return;
  }
  const nextHeader = u8(bytes, offset);
  c.layers.push({ type: 'ah', nextHeader, spi: u32(bytes, offset + 4), sequence: u32(bytes, offset + 8), offset, headerLength, problems: NO_PROBLEMS });
  c.follow(IP_PROTOCOL, nextHeader, offset + headerLength, c.end);
}

/** `No next header` (59): what follows, if anything, is to be ignored. */
export function decodeNoNext(c: Context): void {
  c.stop(c.offset, c.end);
}
