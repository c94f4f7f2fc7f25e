/**
 * Many captures at once, waited for by one poll(2) on a worker thread, their packets in time order.
 *
 * Each capture delivers its own packets in order; between captures order is made here. A packet is
 * handed out when all captures have been read at a moment later than its stamp plus the longest
 * delay of any of them, so that no earlier one can still turn up.
 */
import { PodwayError } from '@podway/errors';
import { waitReadable } from '../libc.js';
import type { Netns } from '../netns.js';
import { Capture, READ_LIMIT, type CaptureOptions, type CaptureStats } from './capture.js';
import type { RawPacket } from './sink.js';

export interface CapturedPacket<T> extends RawPacket {
  /** What the capture was added with. */
  readonly tag: T;
  readonly linkType: number;
  readonly device: string;
}

/** Time for a packet that is stamped already to appear in its ring (another processor may be writing it). */
const SETTLE_NS = 500_000n;
const POLL_MS = 20;
const MAX_TIME = 1n << 63n;

export class CaptureSet<T> {
  private readonly members: { readonly tag: T; readonly capture: Capture }[] = [];
  private held: CapturedPacket<T>[] = [];
  private polling: Promise<unknown> = Promise.resolve();
  private closing = false;

  /** @throws as Capture.open; the captures opened before stay open. */
  add(tag: T, ns: Netns, options: CaptureOptions): Capture {
    if (this.closing) throw new PodwayError('CAPTURE_CLOSED', 'the set of captures was closed');
    const capture = Capture.open(ns, options);
    this.members.push({ tag, capture });
    return capture;
  }

  get size(): number {
    return this.members.length;
  }

  /** Everything that waits now, sorted by time, held-back packets included. */
  drain(): CapturedPacket<T>[] {
    const packets = this.held.concat(this.readAll().packets);
    this.held = [];
    return packets.sort(byTime);
  }

  /**
   * Waits for packets, at most `timeoutMs`, and hands out those whose place in time is certain.
   * May return none although packets came: they follow with the next call.
   */
  async next(timeoutMs: number): Promise<CapturedPacket<T>[]> {
    const fds = this.members.filter((m) => m.capture.problem === undefined).map((m) => m.capture.fd);
    const waiting = fds.length ? waitReadable(fds, this.held.length ? Math.min(timeoutMs, this.delayMs() + 1) : timeoutMs) : delay(timeoutMs);
    this.polling = waiting;
    await waiting;
    if (this.closing) return [];
    const now = nowNs() - BigInt(this.delayMs()) * 1_000_000n - SETTLE_NS;
    const { packets: fresh, readUpTo } = this.readAll();
    const certain = readUpTo < now ? readUpTo : now;
    const packets = this.held.concat(fresh).sort(byTime);
    const from = packets.findIndex((p) => p.tsNs > certain);
    this.held = from < 0 ? [] : packets.slice(from);
    return from < 0 ? packets : packets.slice(0, from);
  }

  /** Packets in time order until aborted; then the rest, and the captures are closed. */
  async *stream(signal: AbortSignal): AsyncGenerator<CapturedPacket<T>, void, void> {
    try {
      while (!signal.aborted && this.members.some((m) => m.capture.problem === undefined)) yield* await this.next(POLL_MS);
      yield* this.drain();
    } finally {
      await this.close();
    }
  }

  /** Per capture: figures, and why it ended early if it did. */
  stats(): { readonly tag: T; readonly device: string; readonly stats: CaptureStats; readonly problem: string | undefined }[] {
    return this.members.map(({ tag, capture }) => ({ tag, device: capture.device, stats: capture.stats(), problem: capture.problem }));
  }

  /** Waits for a poll under way (a descriptor must not be closed under it), then closes all. */
  async close(): Promise<void> {
    this.closing = true;
    await this.polling.catch(() => undefined);
    await Promise.all(this.members.map((m) => m.capture.closeAsync()));
  }

  /** `readUpTo`: a capture with more to read than one go takes has given nothing later than this. */
  private readAll(): { packets: CapturedPacket<T>[]; readUpTo: bigint } {
    const packets: CapturedPacket<T>[] = [];
    let readUpTo = MAX_TIME;
    for (const { tag, capture } of this.members) {
      const got = capture.read();
      const last = got.at(-1)?.tsNs ?? MAX_TIME;
      if (got.length >= READ_LIMIT && last < readUpTo) readUpTo = last;
      for (const p of got) packets.push({ ...p, tag, linkType: capture.linkType, device: capture.device });
    }
    return { packets, readUpTo };
  }

  private delayMs(): number {
    return this.members.reduce((most, m) => Math.max(most, m.capture.delayMs), 0);
  }
}

const byTime = (a: RawPacket, b: RawPacket): number => (a.tsNs < b.tsNs ? -1 : a.tsNs > b.tsNs ? 1 : 0);
const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** CLOCK_REALTIME, as the kernel stamps packets; up to a millisecond early, never late. */
const nowNs = (): bigint => BigInt(Date.now()) * 1_000_000n;
