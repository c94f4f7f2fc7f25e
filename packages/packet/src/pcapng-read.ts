/**
 * Reading pcapng (draft-ietf-opsawg-pcapng): section header, interface descriptions, enhanced and simple packets; other blocks are skipped.
 *
 *     | block type 4 | total length 4 | body, padded to 4 | total length 4 |
 *
 * A file may hold several sections, each with its own byte order and its own interface numbers; here interfaces are numbered through the file.
 */
import type { CaptureFile, CaptureInterface, CaptureProblem, CaptureRecord, Direction } from './capture-file.js';
import { MAX_RECORD } from './pcap.js';

export const BLOCK = { section: 0x0a0d0d0a, interface: 1, simplePacket: 3, nameResolution: 4, interfaceStatistics: 5, enhancedPacket: 6 } as const;
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
export const OPTION = { end: 0, comment: 1, ifName: 2, ifDescription: 3, ifTsresol: 9, ifFilter: 11, ifTsoffset: 14, epbFlags: 2 } as const;

interface FaceState {
  readonly face: CaptureInterface;
  readonly ticksPerSecond: bigint;
  /** Set where a tick is a power-of-ten part of a second of at most 1 ns, so that time is plain arithmetic. */
  readonly nsPerTick: number | undefined;
  readonly offsetSeconds: number;
}

interface RawOption {
  readonly code: number;
  readonly start: number;
  readonly end: number;
}

const text = new TextDecoder();

class Reader {
  readonly interfaces: CaptureInterface[] = [];
  readonly problems: CaptureProblem[] = [];
  private readonly view: DataView;
  private little = true;
  private faces: FaceState[] = [];
  private firstFace = 0;

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  private problem(offset: number, message: string): void {
    this.problems.push({ offset, message });
  }

  *records(): Generator<CaptureRecord, void, undefined> {
    const { bytes, view } = this;
    let at = 0;
    let inSection = false;
    if (bytes.length === 0) this.problem(0, 'the file is empty');
    while (at < bytes.length) {
      if (bytes.length - at < 12) return this.problem(at, `block header needs 12 bytes, ${bytes.length - at} are there`);
      if (view.getUint32(at) === BLOCK.section) {
        if (!this.startSection(at)) return;
        inSection = true;
      } else if (!inSection) return this.problem(at, 'not a pcapng file: it does not begin with a section header');
      const type = view.getUint32(at, this.little);
      const length = view.getUint32(at + 4, this.little);
      if (length < 12 || length % 4 !== 0 || length > MAX_RECORD) return this.problem(at, `block length ${length} cannot be: the file is damaged here`);
      if (at + length > bytes.length) return this.problem(at, `block has ${length} bytes, ${bytes.length - at} are there: the file ends early`);
      const trailer = view.getUint32(at + length - 4, this.little);
      if (trailer !== length) this.problem(at, `block length is ${length} at its start and ${trailer} at its end`);
      const body = { start: at + 8, end: at + length - 4 };
      if (type === BLOCK.interface) this.addInterface(body.start, body.end);
      else if (type === BLOCK.enhancedPacket || type === BLOCK.simplePacket) {
        const record = type === BLOCK.enhancedPacket ? this.enhanced(body.start, body.end) : this.simple(body.start, body.end);
        if (record !== undefined) yield record;
      }
      at += length;
    }
  }

  private startSection(at: number): boolean {
    const { view } = this;
    if (view.getUint32(at + 8) === BYTE_ORDER_MAGIC) this.little = false;
    else if (view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC) this.little = true;
    else {
      this.problem(at, 'section header has no byte-order magic');
      return false;
    }
    this.faces = [];
    this.firstFace = this.interfaces.length;
    return true;
  }

  private options(start: number, end: number): RawOption[] {
    const found: RawOption[] = [];
    let at = start;
    while (at + 4 <= end) {
      const code = this.view.getUint16(at, this.little);
      const length = this.view.getUint16(at + 2, this.little);
      if (code === OPTION.end) break;
      if (at + 4 + length > end) {
        this.problem(at, `option ${code} has ${length} bytes, ${end - at - 4} are there`);
        break;
      }
      found.push({ code, start: at + 4, end: at + 4 + length });
      at += 4 + ((length + 3) & ~3);
    }
    return found;
  }

  /** A plain view also of a Buffer, whose own subarray is four times as slow. */
  private slice(start: number, end: number): Uint8Array {
    return new Uint8Array(this.bytes.buffer, this.bytes.byteOffset + start, end - start);
  }

  private text(option: RawOption): string {
    return text.decode(this.bytes.subarray(option.start, option.end)).replace(/\0+$/, '');
  }

  private addInterface(start: number, end: number): void {
    if (end - start < 8) {
      this.problem(start, 'interface description is too short');
      // It still takes a number, or all later interfaces would be mistaken for their neighbours.
      this.push({ linkType: 0, snapLength: 0 }, 6, 0);
      return;
    }
    let resolution = 6;
    let offsetSeconds = 0;
    const texts: { name?: string; description?: string; filter?: string } = {};
    for (const option of this.options(start + 8, end)) {
      const length = option.end - option.start;
      if (option.code === OPTION.ifName) texts.name = this.text(option);
      else if (option.code === OPTION.ifDescription) texts.description = this.text(option);
      else if (option.code === OPTION.ifFilter && length > 1 && this.bytes[option.start] === 0) texts.filter = this.text({ ...option, start: option.start + 1 });
      else if (option.code === OPTION.ifTsresol && length >= 1) resolution = this.bytes[option.start] as number;
      else if (option.code === OPTION.ifTsoffset && length === 8) offsetSeconds = Number(this.view.getBigInt64(option.start, this.little));
    }
    this.push({ linkType: this.view.getUint16(start, this.little), snapLength: this.view.getUint32(start + 4, this.little), ...texts }, resolution, offsetSeconds);
  }

  private push(face: CaptureInterface, resolution: number, offsetSeconds: number): void {
    const exponent = resolution & 0x7f;
    const ticksPerSecond = (resolution & 0x80) !== 0 ? 1n << BigInt(exponent) : 10n ** BigInt(exponent);
    const nsPerTick = (resolution & 0x80) === 0 && exponent <= 9 ? 10 ** (9 - exponent) : undefined;
    this.faces.push({ face, ticksPerSecond, nsPerTick, offsetSeconds });
    this.interfaces.push(face);
  }

  private enhanced(start: number, end: number): CaptureRecord | undefined {
    const { view, little } = this;
    if (end - start < 20) {
      this.problem(start, 'enhanced packet block is too short');
      return undefined;
    }
    const id = view.getUint32(start, little);
    const state = this.faces[id];
    if (state === undefined) {
      this.problem(start, `packet of interface ${id}, which has not been described`);
      return undefined;
    }
    const captured = view.getUint32(start + 12, little);
    if (start + 20 + captured > end) {
      this.problem(start, `packet of ${captured} bytes in a block with room for ${end - start - 20}`);
      return undefined;
    }
    const dataStart = start + 20;
    const optionsStart = dataStart + ((captured + 3) & ~3);
    return {
      interfaceId: this.firstFace + id,
      linkType: state.face.linkType,
      ...time(state, view.getUint32(start + 4, little), view.getUint32(start + 8, little)),
      bytes: this.slice(dataStart, dataStart + captured),
      originalLength: view.getUint32(start + 16, little),
      ...(optionsStart + 4 <= end && this.packetOptions(optionsStart, end)),
    };
  }

  private packetOptions(start: number, end: number): { comments?: string[]; direction?: Direction } {
    const comments: string[] = [];
    let direction: Direction | undefined;
    for (const option of this.options(start, end)) {
      if (option.code === OPTION.comment) comments.push(this.text(option));
      else if (option.code === OPTION.epbFlags && option.end - option.start === 4) {
        const bits = this.view.getUint32(option.start, this.little) & 3;
        direction = bits === 1 ? 'inbound' : bits === 2 ? 'outbound' : undefined;
      }
    }
    return { ...(comments.length > 0 && { comments }), ...(direction !== undefined && { direction }) };
  }

  private simple(start: number, end: number): CaptureRecord | undefined {
    const state = this.faces[0];
    if (state === undefined || end - start < 4) {
      this.problem(start, state === undefined ? 'simple packet before any interface description' : 'simple packet block is too short');
      return undefined;
    }
    const originalLength = this.view.getUint32(start, this.little);
    const limit = state.face.snapLength === 0 ? originalLength : Math.min(originalLength, state.face.snapLength);
    const dataEnd = Math.min(start + 4 + limit, end);
    return { interfaceId: this.firstFace, linkType: state.face.linkType, seconds: 0, nanoseconds: 0, bytes: this.slice(start + 4, dataEnd), originalLength };
  }
}

function time(state: FaceState, high: number, low: number): { seconds: number; nanoseconds: number } {
  const ticks = (BigInt(high) << 32n) | BigInt(low);
  const seconds = ticks / state.ticksPerSecond;
  const rest = ticks - seconds * state.ticksPerSecond;
  const nanoseconds = state.nsPerTick !== undefined ? Number(rest) * state.nsPerTick : Number((rest * 1_000_000_000n) / state.ticksPerSecond);
  return { seconds: Number(seconds) + state.offsetSeconds, nanoseconds };
}

/** Reads a pcapng file held in memory. Never throws: what is wrong with the file is in `problems` once the records have been walked. */
export function readPcapng(bytes: Uint8Array): CaptureFile {
  const reader = new Reader(bytes);
  return { format: 'pcapng', interfaces: reader.interfaces, problems: reader.problems, [Symbol.iterator]: () => reader.records() };
}
