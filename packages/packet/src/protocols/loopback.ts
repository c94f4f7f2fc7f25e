/**
 * BSD loopback headers: LINKTYPE_NULL (0, address family in the byte order of the capturing machine) and LINKTYPE_LOOP (108, in
 * network order). 4 bytes. The family of IPv6 differs between the BSDs (24, 28, 30) and Linux (10).
 */
import { type Context, ETHERTYPE, NO_PROBLEMS, type LayerBase } from '../context.js';
import { u32 } from '../bytes.js';
import { ETHER } from '../numbers.js';

export interface LoopbackLayer extends LayerBase {
  readonly type: 'loopback';
  /** Address family as the capturing machine numbers it. */
  readonly family: number;
}

const IPV6_FAMILIES = [10, 24, 28, 30];

export function decodeLoopback(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < 4) return c.partial('loopback', 4);
  const big = u32(bytes, offset);
  // A family fits in 16 bits, so whichever reading is small is the right one: the machine's byte order needs no telling.
  const family = big > 0xffff ? ((big >>> 24) | ((big >>> 8) & 0xff00)) >>> 0 : big;
  c.layers.push({ type: 'loopback', family, offset, headerLength: 4, problems: NO_PROBLEMS });
  if (family === 2) c.follow(ETHERTYPE, ETHER.ipv4, offset + 4, c.end);
  else if (IPV6_FAMILIES.includes(family)) c.follow(ETHERTYPE, ETHER.ipv6, offset + 4, c.end);
  else c.stop(offset + 4, c.end);
}
