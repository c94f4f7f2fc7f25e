/**
 * The classic pcap file: 24 bytes of header, then 16 bytes before each packet. Both byte orders; microsecond and nanosecond variants;
 * Kuznetzov's modified variant (24 bytes before each packet) is named as unknown. Source: draft-ietf-opsawg-pcap.
 *
 * Equivalent: `tcpdump -r FILE`, `tcpdump -w FILE`.
 */
import { LINKTYPE } from './numbers.js';
import type { CaptureFile, CaptureInterface, CaptureProblem, CaptureRecord } from './capture-file.js';

const MAGICS: Readonly<Record<number, { little: boolean; nano: boolean }>> = {
  0xa1b2c3d4: { little: false, nano: false },
  0xd4c3b2a1: { little: true, nano: false },
  0xa1b23c4d: { little: false, nano: true },
  0x4d3cb2a1: { little: true, nano: true },
};
/** No link has frames of this size: a larger length means that the file is damaged and what follows cannot be found. */
export const MAX_RECORD = 0x1000000;

/** True if the bytes begin as a pcap file does. */
export function isPcap(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && MAGICS[new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)] !== undefined;
}

/** Reads a pcap file held in memory. Never throws: what is wrong with the file is in `problems` once the records have been walked. */
export function readPcap(bytes: Uint8Array): CaptureFile {
  const problems: CaptureProblem[] = [];
  const interfaces: CaptureInterface[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const magic = bytes.length >= 4 ? MAGICS[view.getUint32(0)] : undefined;
  if (magic === undefined) problems.push({ offset: 0, message: 'not a pcap file: unknown magic number' });
  else if (bytes.length < 24) problems.push({ offset: 0, message: `file header needs 24 bytes, ${bytes.length} are there` });
  else {
    interfaces.push({ linkType: view.getUint32(20, magic.little) & 0xffff, snapLength: view.getUint32(16, magic.little) });
  }
  const face = interfaces[0];
  function* records(): Generator<CaptureRecord, void, undefined> {
    if (magic === undefined || face === undefined) return;
    const { little, nano } = magic;
    let at = 24;
    while (at < bytes.length) {
      if (bytes.length - at < 16) {
        problems.push({ offset: at, message: `packet header needs 16 bytes, ${bytes.length - at} are there` });
        return;
      }
      const length = view.getUint32(at + 8, little);
      const originalLength = view.getUint32(at + 12, little);
      if (length > MAX_RECORD) {
        problems.push({ offset: at, message: `packet length ${length} cannot be: the file is damaged here` });
        return;
      }
      const start = at + 16;
      const end = Math.min(start + length, bytes.length);
      const fraction = view.getUint32(at + 4, little);
      yield {
        interfaceId: 0,
        linkType: face.linkType,
        seconds: view.getUint32(at, little),
        nanoseconds: nano ? fraction : fraction * 1000,
        // Not bytes.subarray: on a Buffer that makes a Buffer, at four times the cost.
        bytes: new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start),
        originalLength,
      };
      if (start + length > bytes.length) problems.push({ offset: at, message: `packet has ${length} bytes, ${end - start} are there: the file ends early` });
      at = start + length;
    }
  }
  return { format: 'pcap', interfaces, problems, [Symbol.iterator]: records };
}

/** The file header of a little-endian nanosecond pcap file. */
export function pcapHeader(linkType: number = LINKTYPE.ethernet, snapLength = 262144): Uint8Array {
  const out = new Uint8Array(24);
  const view = new DataView(out.buffer);
  view.setUint32(0, 0xa1b23c4d, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, snapLength, true);
  view.setUint32(20, linkType, true);
  return out;
}

/** One packet with the header before it, for a file begun with `pcapHeader`. `timeNs` counts nanoseconds since 1970. */
export function pcapRecord(bytes: Uint8Array, timeNs: bigint, originalLength = bytes.length): Uint8Array {
  const out = new Uint8Array(16 + bytes.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, Number(timeNs / 1_000_000_000n), true);
  view.setUint32(4, Number(timeNs % 1_000_000_000n), true);
  view.setUint32(8, bytes.length, true);
  view.setUint32(12, originalLength, true);
  out.set(bytes, 16);
  return out;
}
