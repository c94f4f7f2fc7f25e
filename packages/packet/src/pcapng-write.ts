/**
 * Writing pcapng (draft-ietf-opsawg-pcapng) as it streams in: a section header, one interface description per capture point, then packets with
 * nanosecond times, direction and comments. Wireshark shows the interface name as a column, so one file holds all hops of a trace.
 *
 * Pure: every block goes to the sink given. pcapng-file.ts puts it into a file.
 * Equivalent: `mergecap -w all.pcapng hop1.pcapng hop2.pcapng`.
 */
import { concat } from './bytes.js';
import type { Direction } from './capture-file.js';
import { LINKTYPE } from './numbers.js';
import { BLOCK, BYTE_ORDER_MAGIC, OPTION } from './pcapng-read.js';

export interface InterfaceDescription {
  /** Shown in Wireshark's interface column: `m1/cni0`. */
  readonly name: string;
  readonly description?: string;
  /** Default Ethernet. */
  readonly linkType?: number;
  /** Default 0: no limit. */
  readonly snapLength?: number;
  /** Capture filter, as text. */
  readonly filter?: string;
}

export interface PacketToWrite {
  /** What `addInterface` gave. */
  readonly interfaceId: number;
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** Default: the bytes given. */
  readonly originalLength?: number;
  readonly direction?: Direction;
  readonly comments?: readonly string[];
}

export interface InterfaceStatistics {
  readonly timeNs: bigint;
  readonly received: number;
  /** Lost for want of room in the capture buffer. */
  readonly dropped: number;
}

const utf8 = new TextEncoder();
/** A value's length is 16 bits. */
const MAX_OPTION = 0xffff;
const ISB_RECEIVED = 4;
const ISB_DROPPED = 5;

function option(code: number, value: Uint8Array): Uint8Array {
  const kept = value.length > MAX_OPTION ? value.subarray(0, MAX_OPTION) : value;
  const out = new Uint8Array(4 + ((kept.length + 3) & ~3));
  const view = new DataView(out.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, kept.length, true);
  out.set(kept, 4);
  return out;
}

const textOption = (code: number, value: string | undefined): Uint8Array[] => (value === undefined || value === '' ? [] : [option(code, utf8.encode(value))]);

function counter(code: number, value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return option(code, bytes);
}

/** Fixed part, options and end of options, framed as a block. */
function block(type: number, fixed: Uint8Array, options: readonly Uint8Array[]): Uint8Array {
  const tail = options.length === 0 ? [] : [...options, new Uint8Array(4)];
  const padded = new Uint8Array((fixed.length + 3) & ~3);
  padded.set(fixed);
  const body = concat([padded, ...tail]);
  const out = new Uint8Array(12 + body.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, out.length, true);
  out.set(body, 8);
  view.setUint32(out.length - 4, out.length, true);
  return out;
}

export class PcapngWriter {
  private count = 0;

  /** Writes the section header to the sink. `comment` is shown as the file's comment. */
  constructor(
    private readonly sink: (bytes: Uint8Array) => void,
    about: { readonly comment?: string; readonly application?: string } = {},
  ) {
    const fixed = new Uint8Array(16);
    const view = new DataView(fixed.buffer);
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    view.setBigInt64(8, -1n, true);
    sink(block(BLOCK.section, fixed, [...textOption(OPTION.comment, about.comment), ...textOption(4, about.application ?? 'Podway')]));
  }

  /** Describes a capture point; may also be called between packets. Returns its number. */
  addInterface(face: InterfaceDescription): number {
    const fixed = new Uint8Array(8);
    const view = new DataView(fixed.buffer);
    view.setUint16(0, face.linkType ?? LINKTYPE.ethernet, true);
    view.setUint32(4, face.snapLength ?? 0, true);
    const filter = face.filter === undefined || face.filter === '' ? [] : [option(OPTION.ifFilter, concat([Uint8Array.of(0), utf8.encode(face.filter)]))];
    this.sink(
      block(BLOCK.interface, fixed, [
        ...textOption(OPTION.ifName, face.name),
        ...textOption(OPTION.ifDescription, face.description),
        option(OPTION.ifTsresol, Uint8Array.of(9)),
        ...filter,
      ]),
    );
    return this.count++;
  }

  /** Throws RangeError for an interface that was not added. */
  packet(packet: PacketToWrite): void {
    this.check(packet.interfaceId);
    const fixed = new Uint8Array(20 + packet.bytes.length);
    const view = new DataView(fixed.buffer);
    view.setUint32(0, packet.interfaceId, true);
    putTime(view, 4, packet.timeNs);
    view.setUint32(12, packet.bytes.length, true);
    view.setUint32(16, Math.max(packet.originalLength ?? 0, packet.bytes.length), true);
    fixed.set(packet.bytes, 20);
    const options = (packet.comments ?? []).flatMap((comment) => textOption(OPTION.comment, comment));
    if (packet.direction !== undefined) options.push(option(OPTION.epbFlags, Uint8Array.of(packet.direction === 'inbound' ? 1 : 2, 0, 0, 0)));
    this.sink(block(BLOCK.enhancedPacket, fixed, options));
  }

  /** What the capture at an interface received and lost, for the end of the file (`capinfos`, Wireshark's capture properties). */
  statistics(interfaceId: number, statistics: InterfaceStatistics): void {
    this.check(interfaceId);
    const fixed = new Uint8Array(12);
    const view = new DataView(fixed.buffer);
    view.setUint32(0, interfaceId, true);
    putTime(view, 4, statistics.timeNs);
    this.sink(block(BLOCK.interfaceStatistics, fixed, [counter(ISB_RECEIVED, statistics.received), counter(ISB_DROPPED, statistics.dropped)]));
  }

  private check(id: number): void {
    if (id < 0 || id >= this.count) throw new RangeError(`interface ${id} was not added: there are ${this.count}`);
  }
}

function putTime(view: DataView, at: number, timeNs: bigint): void {
  view.setUint32(at, Number((timeNs >> 32n) & 0xffffffffn), true);
  view.setUint32(at + 4, Number(timeNs & 0xffffffffn), true);
}
