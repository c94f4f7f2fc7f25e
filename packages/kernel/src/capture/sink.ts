/**
 * Where captured packets land: one stretch of memory that libpcap writes savefile records into.
 *
 * A JavaScript callback per packet would cost more than the packet. So `pcap_dispatch` is given the
 * address of `pcap_dump`, whose "file" is memory (fmemopen): a few dozen to thousands of packets go
 * over in C per call, and are cut into records here. One sink serves all captures of the process:
 * reading is synchronous, and each read copies out what it found.
 *
 * Measured on 60-byte packets, objects included: 1 to 2 µs a packet, against 8 to 11 µs with pcap_next_ex
 * called from JavaScript (same file, same run, busy 2-core machine).
 * Source: fmemopen(3), pcap-savefile(5).
 */
import { createRequire } from 'node:module';
import type koffiType from 'koffi';
import { PodwayError } from '@podway/errors';
import { libpcap, PCAP_TSTAMP_PRECISION_NANO, type Pointer } from './libpcap.js';

const SIZE = 4 * 1024 * 1024;
const RECORD_HEADER = 16;
const MOST_PER_DISPATCH = 8192;

interface Stdio {
  malloc(size: number): Pointer;
  fmemopen(buffer: Pointer, size: number, mode: string): Pointer;
  fflush(file: Pointer): number;
  fseek(file: Pointer, offset: number, whence: number): number;
  ftell(file: Pointer): number;
}

export interface RawPacket {
  /** Nanoseconds since 1970 (CLOCK_REALTIME), as the kernel stamped it. */
  readonly tsNs: bigint;
  /** Length on the wire; `bytes` holds at most the snap length of it. */
  readonly length: number;
  readonly bytes: Buffer;
}

export class Sink {
  private static shared: Sink | undefined;

  private constructor(
    private readonly stdio: Stdio,
    private readonly memory: Buffer,
    private readonly file: Pointer,
    private readonly dumper: Pointer,
  ) {}

  static get(): Sink {
    return (Sink.shared ??= Sink.open());
  }

  private static open(): Sink {
    const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;
    const so = koffi.load('libc.so.6');
    const f = (signature: string) => so.func(signature) as unknown as (...args: unknown[]) => never;
    const stdio: Stdio = {
      malloc: f('void *malloc(size_t size)'),
      fmemopen: f('void *fmemopen(void *buffer, size_t size, const char *mode)'),
      fflush: f('int fflush(void *file)'),
      fseek: f('int fseek(void *file, long offset, int whence)'),
      ftell: f('long ftell(void *file)'),
    };
    const pcap = libpcap();
    const memory = stdio.malloc(SIZE);
    const file = memory && stdio.fmemopen(memory, SIZE, 'w');
    const dead = file && pcap.openDead(1, 262144, PCAP_TSTAMP_PRECISION_NANO);
    // The record format does not depend on the link type, so one writer serves captures of any.
    const dumper = dead && pcap.dumpFopen(dead, file);
    if (!dumper) throw new PodwayError('CAPTURE_FAILED', 'cannot set up memory for captured packets');
    return new Sink(stdio, Buffer.from(koffi.view(memory, SIZE)), file, dumper);
  }

  /** How many packets of this snap length are sure to fit: a full sink would lose packets without a word. */
  static batch(snaplen: number): number {
    return Math.max(1, Math.min(MOST_PER_DISPATCH, Math.floor((SIZE - 4096) / (snaplen + RECORD_HEADER))));
  }

  /** One pcap_dispatch. `count` is its result: packets, or negative for an error. */
  dispatch(handle: Pointer, count: number, into: RawPacket[]): number {
    this.stdio.fseek(this.file, 0, 0);
    const pcap = libpcap();
    const got = pcap.dispatch(handle, count, pcap.dump, this.dumper);
    if (got <= 0) return got;
    this.stdio.fflush(this.file);
    const length = this.stdio.ftell(this.file);
    const records = Buffer.allocUnsafeSlow(length);
    this.memory.copy(records, 0, 0, length);
    let at = 0;
    while (at + RECORD_HEADER <= length) {
      const captured = records.readUInt32LE(at + 8);
      const start = at + RECORD_HEADER;
      into.push({
        tsNs: BigInt(records.readUInt32LE(at)) * 1_000_000_000n + BigInt(records.readUInt32LE(at + 4)),
        length: records.readUInt32LE(at + 12),
        bytes: records.subarray(start, start + captured),
      });
      at = start + captured;
    }
    return got;
  }
}
