/**
 * SCTP (RFC 9260): the common header (12 bytes) and the chunks' types and lengths. The checksum is CRC32c over the whole packet;
 * Linux leaves the field 0 where a device shall compute it.
 */
import { type Context, NO_PROBLEMS, type LayerBase } from '../context.js';
import { crc32c, type ChecksumState } from '../checksum.js';
import { hexNumber, u16, u32, u8 } from '../bytes.js';

export interface SctpChunk {
  /** 0 DATA, 1 INIT, 2 INIT ACK, 3 SACK, 4 HEARTBEAT, 6 ABORT, 7 SHUTDOWN, 10 COOKIE ECHO ... */
  readonly type: number;
  readonly flags: number;
  /** As the chunk says, its 4 bytes of header included. */
  readonly length: number;
}

export interface SctpLayer extends LayerBase {
  readonly type: 'sctp';
  readonly srcPort: number;
  readonly dstPort: number;
  readonly verificationTag: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly chunks: readonly SctpChunk[];
}

const LENGTH = 12;
const CHUNK_NAMES: readonly string[] = [
  'DATA', 'INIT', 'INIT ACK', 'SACK', 'HB REQ', 'HB ACK', 'ABORT', 'SHUTDOWN', 'SHUTDOWN ACK', 'OP ERR', 'COOKIE ECHO', 'COOKIE ACK', 'ECNE', 'CWR', 'SHUTDOWN COMPLETE',
];

/** Name of a chunk type as tcpdump prints it, or `chunk N`. */
export function sctpChunkName(type: number): string {
  return CHUNK_NAMES[type] ?? `chunk ${type}`;
}

export function decodeSctp(c: Context): void {
  const { bytes, offset, end } = c;
  const readable = c.readable;
  const there = readable - offset;
  if (there < LENGTH) return c.partial('sctp', LENGTH, there >= 4 ? { srcPort: u16(bytes, offset), dstPort: u16(bytes, offset + 2) } : {});
  let problems = NO_PROBLEMS;
  const field = u32(bytes, offset + 8);
  let state: ChecksumState = 'unverifiable';
  if (c.settings.verifyChecksums && !c.isFragment && c.captured(end)) {
    const expected = crc32c(bytes, offset, end, offset + 8);
    state = field === expected ? 'ok' : field === 0 ? 'offloaded' : 'bad';
    if (state === 'bad') problems = c.report(problems, 'bad-checksum', 'sctp', `CRC32c is ${hexNumber(field, 8)}, should be ${hexNumber(expected, 8)}`);
  }
  const chunks: SctpChunk[] = [];
  let at = offset + LENGTH;
  while (at + 4 <= readable) {
    const length = u16(bytes, at + 2);
    if (length < 4) {
      problems = c.report(problems, 'bad-length', 'sctp', `chunk length is ${length}, less than 4`, at);
      break;
    }
    chunks.push({ type: u8(bytes, at), flags: u8(bytes, at + 1), length });
    if (at + length > end && c.quoteDepth === 0 && !c.isFragment) {
      problems = c.report(problems, 'truncated', 'sctp', `chunk length is ${length}, ${end - at} bytes are there`, at);
    }
    at += (length + 3) & ~3;
  }
  c.layers.push({
    type: 'sctp',
    srcPort: u16(bytes, offset),
    dstPort: u16(bytes, offset + 2),
    verificationTag: u32(bytes, offset + 4),
    checksum: field,
    checksumState: state,
    chunks,
    offset,
    headerLength: LENGTH,
    problems,
  });
  c.stop(offset + LENGTH, end);
}
