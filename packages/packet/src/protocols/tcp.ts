/**
 * TCP (RFC 9293): 20 bytes and up to 40 of options.
 *
 *     0      2      4     8     12            14      16        18
 *     | sport| dport| seq | ack | off, flags  | window| checksum| urgent | options
 *
 * A header cut after the ports (as in an ICMP error that quotes 8 bytes) becomes a `partial` layer that holds ports and sequence number.
 */
import { type Context, NO_PROBLEMS, TCP_PORT, type LayerBase, type Problem } from '../context.js';
import type { ChecksumState } from '../checksum.js';
import { put16, put32, u16, u32, u8 } from '../bytes.js';
import { IP } from '../numbers.js';
import { badChecksum, putChecksum, transportChecksum, type ChecksumSpec, type IpSpec } from './transport-checksum.js';

export type TcpOption =
  | { readonly kind: 'nop' }
  | { readonly kind: 'mss'; readonly value: number }
  | { readonly kind: 'window-scale'; readonly shift: number }
  | { readonly kind: 'sack-permitted' }
  | { readonly kind: 'sack'; readonly blocks: readonly { readonly left: number; readonly right: number }[] }
  | { readonly kind: 'timestamp'; readonly value: number; readonly echo: number }
  | { readonly kind: 'other'; readonly number: number; readonly data: Uint8Array };

export interface TcpLayer extends LayerBase {
  readonly type: 'tcp';
  readonly srcPort: number;
  readonly dstPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  /** Sum of TCP_FLAGS. */
  readonly flags: number;
  /** As in the header, before scaling. */
  readonly window: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly urgentPointer: number;
  readonly options: readonly TcpOption[];
}

export const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ece: 64, cwr: 128, ae: 256 } as const;

const MIN_LENGTH = 20;
const NO_OPTIONS: readonly TcpOption[] = Object.freeze([]);
const NOP: TcpOption = Object.freeze({ kind: 'nop' });
const SACK_PERMITTED: TcpOption = Object.freeze({ kind: 'sack-permitted' });

export function decodeTcp(c: Context): void {
  const { bytes, offset, end } = c;
  const readable = c.readable;
  const there = readable - offset;
  if (there < MIN_LENGTH) {
    return c.partial('tcp', MIN_LENGTH, {
      ...(there >= 4 && { srcPort: u16(bytes, offset), dstPort: u16(bytes, offset + 2) }),
      ...(there >= 8 && { sequence: u32(bytes, offset + 4) }),
      ...(there >= 12 && { acknowledgement: u32(bytes, offset + 8) }),
    });
  }
  let problems = NO_PROBLEMS;
  let headerLength = (u8(bytes, offset + 12) >>> 4) * 4;
  if (headerLength < MIN_LENGTH) {
    problems = c.report(problems, 'bad-length', 'tcp', `header length is ${headerLength}, less than ${MIN_LENGTH}`);
    headerLength = MIN_LENGTH;
  }
  const headerEnd = Math.min(offset + headerLength, readable);
  if (offset + headerLength > readable) {
    problems = c.report(problems, 'truncated', 'tcp', `header needs ${headerLength} bytes, ${there} are there`);
  }
  let options = NO_OPTIONS;
  if (headerEnd > offset + MIN_LENGTH) {
    const list: TcpOption[] = [];
    problems = parseOptions(c, list, { start: offset + MIN_LENGTH, end: headerEnd }, problems);
    options = list;
  }
  const field = u16(bytes, offset + 16);
  const covered = { start: offset, end, protocol: IP.tcp, field };
  const state = transportChecksum(c, covered);
  if (state === 'bad') problems = badChecksum(c, problems, 'tcp', covered);
  const srcPort = u16(bytes, offset);
  const dstPort = u16(bytes, offset + 2);
  c.layers.push({
    type: 'tcp',
    srcPort,
    dstPort,
    sequence: u32(bytes, offset + 4),
    acknowledgement: u32(bytes, offset + 8),
    flags: u16(bytes, offset + 12) & 0x1ff,
    window: u16(bytes, offset + 14),
    checksum: field,
    checksumState: state,
    urgentPointer: u16(bytes, offset + 18),
    options,
    offset,
    headerLength: headerEnd - offset,
    problems,
  });
  c.otherPort = srcPort;
  c.follow(TCP_PORT, dstPort, headerEnd, Math.max(headerEnd, end));
}

function parseOptions(c: Context, out: TcpOption[], range: { start: number; end: number }, problems: readonly Problem[]): readonly Problem[] {
  const { bytes } = c;
  const { end } = range;
  let at = range.start;
  while (at < end) {
    const number = u8(bytes, at);
    if (number === 0) break;
    if (number === 1) {
      out.push(NOP);
      at++;
      continue;
    }
    const length = at + 1 < end ? u8(bytes, at + 1) : 0;
    if (length < 2 || at + length > end) {
      return c.report(problems, 'bad-option', 'tcp', `option ${number} has length ${length}, ${end - at} bytes are left`, at);
    }
    out.push(parseOption(bytes, at, number, length));
    at += length;
  }
  return problems;
}

/** An option whose length is not its kind's is kept as `other`. */
function parseOption(bytes: Uint8Array, at: number, number: number, length: number): TcpOption {
  if (number === 8 && length === 10) return { kind: 'timestamp', value: u32(bytes, at + 2), echo: u32(bytes, at + 6) };
  if (number === 2 && length === 4) return { kind: 'mss', value: u16(bytes, at + 2) };
  if (number === 3 && length === 3) return { kind: 'window-scale', shift: u8(bytes, at + 2) };
  if (number === 4 && length === 2) return SACK_PERMITTED;
  if (number === 5 && length > 2 && (length - 2) % 8 === 0) {
    const blocks = Array.from({ length: (length - 2) / 8 }, (_, i) => ({ left: u32(bytes, at + 2 + 8 * i), right: u32(bytes, at + 6 + 8 * i) }));
    return { kind: 'sack', blocks };
  }
  return { kind: 'other', number, data: bytes.subarray(at + 2, at + length) };
}

export interface TcpSpec {
  readonly type: 'tcp';
  readonly srcPort: number;
  readonly dstPort: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly urgentPointer?: number;
  /** Written in this order; the end is padded to a multiple of 4. */
  readonly options?: readonly TcpOption[];
  readonly checksum?: ChecksumSpec;
}

export function encodeTcp(spec: TcpSpec, payload: Uint8Array, ip: IpSpec | undefined): Uint8Array {
  const options = (spec.options ?? []).flatMap(optionBytes);
  const headerLength = MIN_LENGTH + Math.ceil(options.length / 4) * 4;
  if (headerLength > 60) throw new RangeError(`TCP options of ${options.length} bytes: at most 40 fit`);
  const out = new Uint8Array(headerLength + payload.length);
  put16(out, 0, spec.srcPort);
  put16(out, 2, spec.dstPort);
  put32(out, 4, spec.sequence ?? 0);
  put32(out, 8, spec.acknowledgement ?? 0);
  put16(out, 12, ((headerLength / 4) << 12) | ((spec.flags ?? 0) & 0x1ff));
  put16(out, 14, spec.window ?? 64240);
  put16(out, 18, spec.urgentPointer ?? 0);
  out.set(options, MIN_LENGTH);
  out.set(payload, headerLength);
  putChecksum(out, 16, ip, { protocol: IP.tcp, spec: spec.checksum });
  return out;
}

function optionBytes(option: TcpOption): number[] {
  const word = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  switch (option.kind) {
    case 'nop':
      return [1];
    case 'mss':
      return [2, 4, option.value >>> 8, option.value & 255];
    case 'window-scale':
      return [3, 3, option.shift];
    case 'sack-permitted':
      return [4, 2];
    case 'sack':
      return [5, 2 + 8 * option.blocks.length, ...option.blocks.flatMap((b) => [...word(b.left), ...word(b.right)])];
    case 'timestamp':
      return [8, 10, ...word(option.value), ...word(option.echo)];
    case 'other':
      return [option.number, option.data.length + 2, ...option.data];
  }
}
