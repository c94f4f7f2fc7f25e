/**
 * IPv4 (RFC 791): 20 bytes and up to 40 of options.
 *
 *     0        1      2             4     6                   8     9         10         12    16
 *     | ver,ihl| tos  | total length| id  | flags, frag offset| ttl | protocol| checksum | src | dst | options
 *
 * A total length of 0 is what segmentation offload leaves on packets above 64 KiB (Linux "BIG TCP"): the length is then the frame's.
 */
import { type Context, IP_PROTOCOL, NO_PROBLEMS, type LayerBase, type Problem } from '../context.js';
import { checksum, expectedChecksum, fold, sum, type ChecksumState } from '../checksum.js';
import { concat, hexNumber, ipv4Text, parseIpv4, put16, u16, u8 } from '../bytes.js';

export interface Ipv4Option {
  /** Option type byte: 7 record route, 68 timestamp, 131 loose source route, 137 strict, 148 router alert. */
  readonly type: number;
  readonly data: Uint8Array;
}

export interface Ipv4Layer extends LayerBase {
  readonly type: 'ipv4';
  readonly src: string;
  readonly dst: string;
  readonly dscp: number;
  readonly ecn: number;
  /** As the header says, header included. */
  readonly totalLength: number;
  readonly id: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes. */
  readonly fragmentOffset: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly options: readonly Ipv4Option[];
}

const MIN_LENGTH = 20;
const NO_OPTIONS: readonly Ipv4Option[] = Object.freeze([]);

export function decodeIpv4(c: Context): void {
  const { bytes, offset } = c;
  const readable = c.readable;
  if (readable - offset < MIN_LENGTH) return c.partial('ipv4', MIN_LENGTH);
  let problems = NO_PROBLEMS;
  const first = u8(bytes, offset);
  if (first >>> 4 !== 4) problems = c.report(problems, 'bad-value', 'ipv4', `version is ${first >>> 4}`);
  let headerLength = (first & 15) * 4;
  if (headerLength < MIN_LENGTH) {
    problems = c.report(problems, 'bad-length', 'ipv4', `header length is ${headerLength}, less than ${MIN_LENGTH}`);
    headerLength = MIN_LENGTH;
  }
  const totalLength = u16(bytes, offset + 2);
  let end = offset + totalLength;
  if (totalLength === 0) {
    end = c.end;
    if (end - offset <= 0xffff) problems = c.report(problems, 'bad-length', 'ipv4', "total length is 0; the frame's is taken");
  } else if (totalLength < headerLength) {
    problems = c.report(problems, 'bad-length', 'ipv4', `total length ${totalLength} is less than the header's ${headerLength}`);
    end = c.end;
  } else if (end > c.end) {
    if (c.quoteDepth === 0) problems = c.report(problems, 'truncated', 'ipv4', `total length is ${totalLength}, ${c.end - offset} bytes are there`);
    // Keep the promised end: it tells the layers above that bytes are missing.
  }
  const checksumField = u16(bytes, offset + 10);
  let state: ChecksumState = 'unverifiable';
  const headerThere = offset + headerLength <= readable;
  if (headerThere && c.settings.verifyChecksums) {
    const total = sum(bytes, offset, offset + headerLength);
    state = fold(total) === 0xffff ? 'ok' : 'bad';
    if (state === 'bad') {
      const message = `checksum is ${hexNumber(checksumField)}, should be ${hexNumber(expectedChecksum(total, checksumField))}`;
      problems = c.report(problems, 'bad-checksum', 'ipv4', message);
    }
  }
  let options = NO_OPTIONS;
  if (headerLength > MIN_LENGTH) {
    const parsed = parseOptions(c, offset + MIN_LENGTH, Math.min(offset + headerLength, readable), problems);
    options = parsed.options;
    problems = parsed.problems;
    if (!headerThere) problems = c.report(problems, 'truncated', 'ipv4', `header needs ${headerLength} bytes, ${readable - offset} are there`);
  }
  const word = u16(bytes, offset + 6);
  const tos = u8(bytes, offset + 1);
  const protocol = u8(bytes, offset + 9);
  const fragmentOffset = (word & 0x1fff) * 8;
  const moreFragments = (word & 0x2000) !== 0;
  c.layers.push({
    type: 'ipv4',
    src: ipv4Text(bytes, offset + 12),
    dst: ipv4Text(bytes, offset + 16),
    dscp: tos >>> 2,
    ecn: tos & 3,
    totalLength,
    id: u16(bytes, offset + 4),
    dontFragment: (word & 0x4000) !== 0,
    moreFragments,
    fragmentOffset,
    ttl: u8(bytes, offset + 8),
    protocol,
    checksum: checksumField,
    checksumState: state,
    options,
    offset,
    headerLength: headerThere ? headerLength : readable - offset,
    problems,
  });
  if (!headerThere) return c.stop(readable, Math.max(readable, end));
  c.ipVersion = 4;
  c.pseudoSum = sum(bytes, offset + 12, offset + 20);
  c.isFragment = moreFragments || fragmentOffset > 0;
  if (fragmentOffset > 0) c.stop(offset + headerLength, end);
  else c.follow(IP_PROTOCOL, protocol, offset + headerLength, end);
}

function parseOptions(c: Context, start: number, end: number, before: readonly Problem[]): { options: readonly Ipv4Option[]; problems: readonly Problem[] } {
  const options: Ipv4Option[] = [];
  let at = start;
  while (at < end) {
    const type = u8(c.bytes, at);
    if (type === 0) break;
    if (type === 1) {
      at++;
      continue;
    }
    const length = at + 1 < end ? u8(c.bytes, at + 1) : 0;
    if (length < 2 || at + length > end) {
      return { options, problems: c.report(before, 'bad-option', 'ipv4', `option ${type} has length ${length}, ${end - at} bytes are left`, at) };
    }
    options.push({ type, data: c.bytes.subarray(at + 2, at + length) });
    at += length;
  }
  return { options, problems: before };
}

export interface Ipv4Spec {
  readonly type: 'ipv4';
  readonly src: string;
  readonly dst: string;
  readonly ttl?: number;
  readonly id?: number;
  readonly dscp?: number;
  readonly ecn?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In bytes, a multiple of 8. */
  readonly fragmentOffset?: number;
  /** Taken from the next layer if left out. */
  readonly protocol?: number;
  readonly options?: readonly { readonly type: number; readonly data: Uint8Array }[];
}

export function encodeIpv4(spec: Ipv4Spec, payload: Uint8Array, protocol: number): Uint8Array {
  const options = concat((spec.options ?? []).map((o) => Uint8Array.from([o.type, o.data.length + 2, ...o.data])));
  const headerLength = MIN_LENGTH + Math.ceil(options.length / 4) * 4;
  if (headerLength > 60) throw new RangeError(`IPv4 options of ${options.length} bytes: at most 40 fit`);
  const total = headerLength + payload.length;
  if (total > 0xffff) throw new RangeError(`IPv4 packet of ${total} bytes: at most 65535 fit`);
  const offset = spec.fragmentOffset ?? 0;
  if (offset % 8 !== 0) throw new RangeError(`IPv4 fragment offset ${offset} is not a multiple of 8`);
  const out = new Uint8Array(total);
  out[0] = 0x40 | (headerLength / 4);
  out[1] = ((spec.dscp ?? 0) << 2) | (spec.ecn ?? 0);
  put16(out, 2, total);
  put16(out, 4, spec.id ?? 0);
  put16(out, 6, (spec.dontFragment === true ? 0x4000 : 0) | (spec.moreFragments === true ? 0x2000 : 0) | (offset / 8));
  out[8] = spec.ttl ?? 64;
  out[9] = spec.protocol ?? protocol;
  out.set(parseIpv4(spec.src), 12);
  out.set(parseIpv4(spec.dst), 16);
  out.set(options, MIN_LENGTH);
  put16(out, 10, checksum(out, 0, headerLength));
  out.set(payload, headerLength);
  return out;
}
