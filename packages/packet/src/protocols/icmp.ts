/**
 * ICMP (RFC 792): type, code, checksum, four bytes whose meaning the type decides, and data. 8 bytes of header.
 * Errors quote the packet they are about; it is decoded into `quoted`, apart from the stack, since it did not travel in this packet.
 */
import { type Context, NO_PROBLEMS, type LayerBase } from '../context.js';
import type { ChecksumState } from '../checksum.js';
import { ipv4Text, parseIpv4, put16, put32, u16, u32, u8 } from '../bytes.js';
import type { Layer } from '../layers.js';
import { ETHER } from '../numbers.js';
import { badChecksum, putChecksum, transportChecksum, type ChecksumSpec } from './transport-checksum.js';

interface Quoting {
  /** Layers of the quoted packet, from its IP header on; offsets count in the whole frame. */
  readonly quoted: readonly Layer[];
}

export type IcmpMessage =
  | { readonly kind: 'echo-request' | 'echo-reply'; readonly id: number; readonly sequence: number }
  /** `mtu` is of use with code 4 (fragmentation needed and DF set). */
  | ({ readonly kind: 'unreachable'; readonly mtu: number } & Quoting)
  | ({ readonly kind: 'time-exceeded' } & Quoting)
  | ({ readonly kind: 'redirect'; readonly gateway: string } & Quoting)
  | ({ readonly kind: 'parameter-problem'; readonly pointer: number } & Quoting)
  /** `rest` is bytes 4 to 7. */
  | { readonly kind: 'other'; readonly rest: number };

export interface IcmpLayer extends LayerBase {
  readonly type: 'icmp';
  readonly icmpType: number;
  readonly code: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly message: IcmpMessage;
}

const LENGTH = 8;
export const ICMP_FRAGMENTATION_NEEDED = 4;

export function decodeIcmp(c: Context): void {
  const { bytes, offset, end } = c;
  const there = c.readable - offset;
  if (there < LENGTH) return c.partial('icmp', LENGTH, there >= 2 ? { icmpType: u8(bytes, offset), code: u8(bytes, offset + 1) } : {});
  let problems = NO_PROBLEMS;
  const field = u16(bytes, offset + 2);
  const covered = { start: offset, end, protocol: 0, field };
  const state = transportChecksum(c, covered);
  if (state === 'bad') problems = badChecksum(c, problems, 'icmp', covered);
  const icmpType = u8(bytes, offset);
  let message: IcmpMessage;
  if (icmpType === 8 || icmpType === 0) {
    message = { kind: icmpType === 8 ? 'echo-request' : 'echo-reply', id: u16(bytes, offset + 4), sequence: u16(bytes, offset + 6) };
  } else if (icmpType === 3 || icmpType === 11 || icmpType === 5 || icmpType === 12) {
    const { layers: quoted, problem } = c.quote(ETHER.ipv4, offset + LENGTH, end);
    if (problem !== undefined) problems = c.report(problems, 'depth-limit', 'icmp', problem);
    if (icmpType === 3) message = { kind: 'unreachable', mtu: u16(bytes, offset + 6), quoted };
    else if (icmpType === 11) message = { kind: 'time-exceeded', quoted };
    else if (icmpType === 5) message = { kind: 'redirect', gateway: ipv4Text(bytes, offset + 4), quoted };
    else message = { kind: 'parameter-problem', pointer: u8(bytes, offset + 4), quoted };
  } else message = { kind: 'other', rest: u32(bytes, offset + 4) };
  c.layers.push({ type: 'icmp', icmpType, code: u8(bytes, offset + 1), checksum: field, checksumState: state, message, offset, headerLength: LENGTH, problems });
  c.stop(offset + LENGTH, end);
}

/** What an encoder needs of a message; an error's quote is the payload. */
export type IcmpMessageSpec =
  | { readonly kind: 'echo-request' | 'echo-reply'; readonly id: number; readonly sequence: number }
  | { readonly kind: 'unreachable'; readonly code: number; readonly mtu?: number }
  | { readonly kind: 'time-exceeded'; readonly code?: number }
  | { readonly kind: 'redirect'; readonly code?: number; readonly gateway: string };

export interface IcmpSpec {
  readonly type: 'icmp';
  readonly message: IcmpMessageSpec;
  readonly checksum?: ChecksumSpec;
}

export function encodeIcmp(spec: IcmpSpec, payload: Uint8Array): Uint8Array {
  const out = new Uint8Array(LENGTH + payload.length);
  const { message } = spec;
  switch (message.kind) {
    case 'echo-request':
    case 'echo-reply':
      out[0] = message.kind === 'echo-request' ? 8 : 0;
      put16(out, 4, message.id);
      put16(out, 6, message.sequence);
      break;
    case 'unreachable':
      out[0] = 3;
      out[1] = message.code;
      put32(out, 4, message.mtu ?? 0);
      break;
    case 'time-exceeded':
      out[0] = 11;
      out[1] = message.code ?? 0;
      break;
    case 'redirect':
      out[0] = 5;
      out[1] = message.code ?? 1;
      out.set(parseIpv4(message.gateway), 4);
  }
  out.set(payload, LENGTH);
  putChecksum(out, 2, undefined, { protocol: 0, spec: spec.checksum });
  return out;
}
