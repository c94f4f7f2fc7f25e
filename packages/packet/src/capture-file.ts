/** What reading any kind of capture file gives, and the choice of reader. */
import { isPcap, readPcap } from './pcap.js';
import { readPcapng } from './pcapng-read.js';

/** The direction of a packet at its interface. */
export type Direction = 'inbound' | 'outbound';

export interface CaptureInterface {
  readonly linkType: number;
  /** 0 means no limit. */
  readonly snapLength: number;
  readonly name?: string;
  readonly description?: string;
  /** Capture filter, as text. */
  readonly filter?: string;
}

export interface CaptureRecord {
  /** Index into the file's `interfaces`. */
  readonly interfaceId: number;
  readonly linkType: number;
  /** Time since 1970; both 0 where the file has none. */
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly bytes: Uint8Array;
  /** Length on the wire. */
  readonly originalLength: number;
  readonly comments?: readonly string[];
  readonly direction?: Direction;
}

/** Something wrong with the file, `offset` bytes from its start. */
export interface CaptureProblem {
  readonly offset: number;
  readonly message: string;
}

/** Iterate to get the records; `interfaces` and `problems` are complete after the last one. Iterate once: problems are added each time. */
export interface CaptureFile extends Iterable<CaptureRecord> {
  readonly format: 'pcap' | 'pcapng';
  readonly interfaces: readonly CaptureInterface[];
  readonly problems: readonly CaptureProblem[];
}

/** Reads a capture file of either format held in memory. Never throws. */
export function readCapture(bytes: Uint8Array): CaptureFile {
  return isPcap(bytes) ? readPcap(bytes) : readPcapng(bytes);
}

/** A record's time in nanoseconds since 1970. */
export function timeNs(record: CaptureRecord): bigint {
  return BigInt(record.seconds) * 1_000_000_000n + BigInt(record.nanoseconds);
}
