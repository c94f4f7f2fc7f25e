/**
 * One VLAN tag (IEEE 802.1Q, and 802.1ad "QinQ" for the outer of two): 4 bytes that begin where the EtherType would be.
 * The tag's own TPID is the EtherType of the header before; this layer's bytes are the TCI and the EtherType after it.
 */
import { type Context, NO_PROBLEMS, type LayerBase } from '../context.js';
import { put16, u16 } from '../bytes.js';
import { followEtherType } from './ethernet.js';

export interface VlanLayer extends LayerBase {
  readonly type: 'vlan';
  /** TPID that announced the tag: 0x8100, 0x88a8 or 0x9100. */
  readonly tpid: number;
  /** Priority code point, 0-7. */
  readonly priority: number;
  readonly dropEligible: boolean;
  readonly id: number;
  readonly etherType: number;
}

const LENGTH = 4;

export function decodeVlan(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < LENGTH) return c.partial('vlan', LENGTH);
  const tci = u16(bytes, offset);
  const etherType = u16(bytes, offset + 2);
  c.layers.push({
    type: 'vlan',
    tpid: c.value,
    priority: tci >>> 13,
    dropEligible: (tci & 0x1000) !== 0,
    id: tci & 0xfff,
    etherType,
    offset,
    headerLength: LENGTH,
    problems: NO_PROBLEMS,
  });
  followEtherType(c, etherType, offset + LENGTH);
}

export interface VlanSpec {
  readonly type: 'vlan';
  readonly id: number;
  readonly priority?: number;
  readonly dropEligible?: boolean;
  /** 0x8100 unless given; written as the EtherType of the layer before. */
  readonly tpid?: number;
  readonly etherType?: number;
}

export function encodeVlan(spec: VlanSpec, payload: Uint8Array, etherType: number): Uint8Array {
  const out = new Uint8Array(LENGTH + payload.length);
  put16(out, 0, ((spec.priority ?? 0) << 13) | (spec.dropEligible === true ? 0x1000 : 0) | (spec.id & 0xfff));
  put16(out, 2, spec.etherType ?? etherType);
  out.set(payload, LENGTH);
  return out;
}
