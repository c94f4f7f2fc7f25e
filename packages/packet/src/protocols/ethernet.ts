/**
 * Ethernet II (and the IEEE 802.3 form with a length in place of the EtherType): 14 bytes.
 *
 *     0      6      12        14
 *     | dst  | src  | type    | payload
 */
import { type Context, ETHERTYPE, NO_PROBLEMS, type LayerBase } from '../context.js';
import { macText, parseMac, put16, u16 } from '../bytes.js';

export interface EthernetLayer extends LayerBase {
  readonly type: 'ethernet';
  readonly src: string;
  readonly dst: string;
  /** EtherType; a value below 1536 is an 802.3 payload length. */
  readonly etherType: number;
}

const LENGTH = 14;

export function decodeEthernet(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < LENGTH) {
    const there = c.readable - offset;
    return c.partial('ethernet', LENGTH, { ...(there >= 6 && { dst: macText(bytes, offset) }), ...(there >= 12 && { src: macText(bytes, offset + 6) }) });
  }
  const etherType = u16(bytes, offset + 12);
  c.layers.push({
    type: 'ethernet',
    src: macText(bytes, offset + 6),
    dst: macText(bytes, offset),
    etherType,
    offset,
    headerLength: LENGTH,
    problems: NO_PROBLEMS,
  });
  followEtherType(c, etherType, offset + LENGTH);
}

/** What comes behind an EtherType field, which below 1536 is a length (IEEE 802.3 clause 3.2.6): nothing of that is read further. */
export function followEtherType(c: Context, etherType: number, next: number): void {
  if (etherType < 1536) c.stop(next, Math.min(c.end, next + etherType));
  else c.follow(ETHERTYPE, etherType, next, c.end);
}

export interface EthernetSpec {
  readonly type: 'ethernet';
  readonly src: string;
  readonly dst: string;
  /** Taken from the next layer if left out. */
  readonly etherType?: number;
}

export function encodeEthernet(spec: EthernetSpec, payload: Uint8Array, etherType: number): Uint8Array {
  const out = new Uint8Array(LENGTH + payload.length);
  out.set(parseMac(spec.dst), 0);
  out.set(parseMac(spec.src), 6);
  put16(out, 12, spec.etherType ?? etherType);
  out.set(payload, LENGTH);
  return out;
}
