/**
 * VXLAN (RFC 7348): 8 bytes between UDP and the inner Ethernet frame.
 *
 *     0        1          4       7
 *     | flags  | reserved | VNI   | reserved      flags: 0x08 = "VNI is valid"
 *
 * tcpdump calls port 8472 "OTV" (another protocol registered there) and the VNI its "instance".
 */
import { type Context, ETHERNET_FRAME, NO_PROBLEMS, type LayerBase } from '../context.js';
import { put32, u16, u24, u8 } from '../bytes.js';

export interface VxlanLayer extends LayerBase {
  readonly type: 'vxlan';
  /** The first byte; 0x08 (I) says the VNI is valid. */
  readonly flags: number;
  readonly vni: number;
  /** Group policy id, where the G flag (0x80) is set (Linux `vxlan gbp`). */
  readonly groupPolicyId?: number;
}

const LENGTH = 8;

export function decodeVxlan(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < LENGTH) return c.partial('vxlan', LENGTH);
  const flags = u8(bytes, offset);
  let problems = NO_PROBLEMS;
  if ((flags & 0x08) === 0) problems = c.report(problems, 'bad-value', 'vxlan', 'the I flag is not set: the VNI is not valid and receivers drop the packet');
  const layer = { type: 'vxlan', flags, vni: u24(bytes, offset + 4), offset, headerLength: LENGTH, problems } as const;
  c.layers.push((flags & 0x80) === 0 ? layer : { ...layer, groupPolicyId: u16(bytes, offset + 2) });
  c.follow(ETHERNET_FRAME, 0, offset + LENGTH, c.end);
}

export interface VxlanSpec {
  readonly type: 'vxlan';
  readonly vni: number;
  /** 0x08 unless given. */
  readonly flags?: number;
}

export function encodeVxlan(spec: VxlanSpec, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(LENGTH + payload.length);
  out[0] = spec.flags ?? 0x08;
  put32(out, 4, (spec.vni << 8) >>> 0);
  out.set(payload, LENGTH);
  return out;
}
