/**
 * GRE (RFC 2784, key and sequence of RFC 2890): 4 bytes and up to three optional words. Version 1 (PPTP) is named and left as payload.
 * EtherType 0x6558 carries an Ethernet frame.
 */
import { type Context, ETHERTYPE, NO_PROBLEMS, type LayerBase } from '../context.js';
import { checksum as internetChecksum, expectedChecksum, fold, sum, type ChecksumState } from '../checksum.js';
import { concat, hexNumber, put16, put32, u16, u32 } from '../bytes.js';

export interface GreLayer extends LayerBase {
  readonly type: 'gre';
  readonly version: number;
  readonly protocol: number;
  /** `absent` unless the header carries one. */
  readonly checksumState: ChecksumState;
  readonly key?: number;
  readonly sequence?: number;
}

export function decodeGre(c: Context): void {
  const { bytes, offset } = c;
  const readable = c.readable;
  if (readable - offset < 4) return c.partial('gre', 4);
  const flags = u16(bytes, offset);
  const protocol = u16(bytes, offset + 2);
  const version = flags & 7;
  const hasChecksum = (flags & 0x8000) !== 0;
  const hasKey = (flags & 0x2000) !== 0;
  const hasSequence = (flags & 0x1000) !== 0;
  const headerLength = version !== 0 ? 4 : 4 + (hasChecksum ? 4 : 0) + (hasKey ? 4 : 0) + (hasSequence ? 4 : 0);
  if (readable - offset < headerLength) return c.partial('gre', headerLength, { protocol });
  let problems = NO_PROBLEMS;
  let state: ChecksumState = 'absent';
  if (version === 0 && hasChecksum) {
    if (!c.settings.verifyChecksums || c.isFragment || !c.captured(c.end)) state = 'unverifiable';
    else {
      const total = sum(bytes, offset, c.end);
      state = fold(total) === 0xffff ? 'ok' : 'bad';
      if (state === 'bad') {
        const field = u16(bytes, offset + 4);
        problems = c.report(problems, 'bad-checksum', 'gre', `checksum is ${hexNumber(field)}, should be ${hexNumber(expectedChecksum(total, field))}`);
      }
    }
  }
  const keyAt = offset + 4 + (hasChecksum ? 4 : 0);
  c.layers.push({
    type: 'gre',
    version,
    protocol,
    checksumState: state,
    ...(version === 0 && hasKey && { key: u32(bytes, keyAt) }),
    ...(version === 0 && hasSequence && { sequence: u32(bytes, keyAt + (hasKey ? 4 : 0)) }),
    offset,
    headerLength,
    problems,
  });
  if (version === 0) c.follow(ETHERTYPE, protocol, offset + headerLength, c.end);
  else c.stop(offset + headerLength, c.end);
}

export interface GreSpec {
  readonly type: 'gre';
  readonly protocol?: number;
  readonly checksum?: boolean;
  readonly key?: number;
  readonly sequence?: number;
}

export function encodeGre(spec: GreSpec, payload: Uint8Array, etherType: number): Uint8Array {
  const words = [spec.checksum === true ? 0 : undefined, spec.key, spec.sequence];
  const present = words.filter((w) => w !== undefined);
  const header = new Uint8Array(4 + 4 * present.length);
  put16(header, 0, (spec.checksum === true ? 0x8000 : 0) | (spec.key !== undefined ? 0x2000 : 0) | (spec.sequence !== undefined ? 0x1000 : 0));
  put16(header, 2, spec.protocol ?? etherType);
  present.forEach((word, i) => put32(header, 4 + 4 * i, word));
  const out = concat([header, payload]);
  if (spec.checksum === true) put16(out, 4, internetChecksum(out));
  return out;
}
