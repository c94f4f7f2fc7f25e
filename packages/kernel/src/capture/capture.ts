/**
 * Packet capture on one device of one namespace, with tcpdump's filter language.
 * Equivalent: `ip netns exec NS tcpdump -i DEV --time-stamp-precision=nano -w - FILTER`.
 *
 * The socket is made inside the namespace and stays there. Nothing needs cleaning up after a kill:
 * the kernel closes the socket and takes promiscuous mode back with it.
 */
import { PodwayError, isPodwayError } from '@podway/errors';
import type { Netns } from '../netns.js';
import { RtNetlink } from '../netlink/rtnetlink.js';
import {
  BPF_PROGRAM_SIZE, libpcap, PCAP_ERRBUF_SIZE, PCAP_ERROR_IFACE_NOT_UP, PCAP_ERROR_NO_SUCH_DEVICE, PCAP_ERROR_PERM_DENIED,
  PCAP_ERROR_PROMISC_PERM_DENIED, PCAP_TSTAMP_PRECISION_NANO, type Libpcap, type Pointer,
} from './libpcap.js';
import { Sink, type RawPacket } from './sink.js';

export interface CaptureOptions {
  readonly device: string;
  /** tcpdump's language, pcap-filter(7). Default: everything. */
  readonly filter?: string;
  /** Bytes kept of each packet. Default 262144: all of it. */
  readonly snaplen?: number;
  /** Kernel buffer; what does not fit is lost and counted. Default 8 MiB. */
  readonly bufferBytes?: number;
  /** Hand over each packet at once instead of in blocks: for few packets and quick answers. Default false. */
  readonly immediate?: boolean;
  /** Without `immediate`: after how many milliseconds a block that is not full is handed over. Default 10. */
  readonly blockMs?: number;
  readonly direction?: 'both' | 'in' | 'out';
  /** Also take frames addressed to others. A bridge device shows the frames it forwards between its ports only then. Default false. */
  readonly promiscuous?: boolean;
}

export interface CaptureStats {
  /** Packets that passed the filter, lost ones included. */
  readonly received: number;
  /** Lost because the buffer was full. */
  readonly dropped: number;
  /** Dropped by the device itself while capturing (its rx_dropped counter). */
  readonly deviceDropped: number;
}

const DIRECTION = { both: 0, in: 1, out: 2 } as const;
const DEFAULT_SNAPLEN = 262144;
export const READ_LIMIT = 65536;

export class Capture {
  private closed = false;
  private finalStats: CaptureStats | undefined;
  private ended: string | undefined;

  private constructor(
    private readonly pcap: Libpcap,
    private readonly handle: Pointer,
    private readonly ns: Netns,
    readonly device: string,
    private readonly batch: number,
    /** LINKTYPE_ number as savefiles carry it: 1 Ethernet, 113 cooked, 276 cooked v2. */
    readonly linkType: number,
    /** For poll(2): readable when packets wait. */
    readonly fd: number,
    /** At most this many milliseconds pass between a packet and its being readable. */
    readonly delayMs: number,
    private readonly dropsBefore: number,
  ) {}

  /**
   * @throws CAPTURE_NO_DEVICE, CAPTURE_DEVICE_DOWN, CAPTURE_PERMISSION, CAPTURE_BAD_FILTER (with libpcap's words), PCAP_MISSING.
   */
  static open(ns: Netns, o: CaptureOptions): Capture {
    const pcap = libpcap();
    const snaplen = o.snaplen ?? DEFAULT_SNAPLEN;
    const dropsBefore = rxDropped(ns, o.device);
    // libpcap itself would only say "No such device exists", and takes "any" for all devices.
    if (dropsBefore === undefined && o.device !== 'any') {
      throw new PodwayError('CAPTURE_NO_DEVICE', `cannot capture on ${o.device}: there is no such device`, { object: `${o.device} in ${ns.label}`, errno: 'ENODEV' });
    }
    const errbuf = Buffer.alloc(PCAP_ERRBUF_SIZE);
    const handle = pcap.create(o.device, errbuf);
    if (!handle) throw new PodwayError('CAPTURE_FAILED', `cannot capture on ${o.device}`, { object: ns.label, said: textOf(errbuf) });
    try {
      pcap.setSnaplen(handle, snaplen);
      pcap.setPromisc(handle, o.promiscuous ? 1 : 0);
      pcap.setTimeout(handle, o.blockMs ?? 10);
      pcap.setImmediate(handle, o.immediate ? 1 : 0);
      pcap.setBufferSize(handle, o.bufferBytes ?? 8 * 1024 * 1024);
      pcap.setTstampPrecision(handle, PCAP_TSTAMP_PRECISION_NANO);
      const status = ns.run(() => pcap.activate(handle));
      if (status < 0) throw activationError(status, pcap.geterr(handle) || pcap.statusText(status), o.device, ns);
      if (o.direction && o.direction !== 'both') pcap.setDirection(handle, DIRECTION[o.direction]);
      if (o.filter) setFilter(pcap, handle, o.filter, o.device, ns);
      if (pcap.setNonblock(handle, 1, errbuf) < 0) throw new PodwayError('CAPTURE_FAILED', `cannot capture on ${o.device}`, { object: ns.label, said: textOf(errbuf) });
      return new Capture(
        pcap, handle, ns, o.device, Sink.batch(snaplen), pcap.datalink(handle), pcap.selectableFd(handle), o.immediate ? 0 : (o.blockMs ?? 10), dropsBefore ?? 0,
      );
    } catch (e) {
      pcap.close(handle);
      throw e;
    }
  }

  /** Why no more packets can come (the device went away), or undefined while capturing. */
  get problem(): string | undefined {
    return this.ended;
  }

  /**
   * Packets that wait, in the order the kernel handed them over; never blocks. Their bytes are the caller's to keep.
   * At most about `limit`, so that a flood cannot hold this thread for ever: whoever gets that many asks again.
   */
  read(limit = READ_LIMIT): RawPacket[] {
    const packets: RawPacket[] = [];
    if (this.closed || this.ended !== undefined) return packets;
    const sink = Sink.get();
    while (packets.length < limit) {
      const got = sink.dispatch(this.handle, Math.min(this.batch, limit - packets.length), packets);
      if (got < 0) this.ended = this.pcap.geterr(this.handle) || this.pcap.statusText(got);
      if (got <= 0) break;
    }
    return packets;
  }

  /** Counted since opening; the last figures after `close`. */
  stats(): CaptureStats {
    if (this.finalStats) return this.finalStats;
    const s = Buffer.alloc(12);
    if (this.closed || this.pcap.stats(this.handle, s) < 0) return { received: 0, dropped: 0, deviceDropped: 0 };
    // libpcap's own ps_ifdrop comes from /sys, which shows devices of this process's namespace, not of the captured one.
    const now = rxDropped(this.ns, this.device) ?? this.dropsBefore;
    return { received: s.readUInt32LE(0), dropped: s.readUInt32LE(4), deviceDropped: Math.max(0, now - this.dropsBefore) };
  }

  close(): void {
    if (this.markClosed()) this.pcap.close(this.handle);
  }

  /** As `close`, without making this thread wait for the kernel. */
  async closeAsync(): Promise<void> {
    if (this.markClosed()) await this.pcap.closeAsync(this.handle);
  }

  private markClosed(): boolean {
    if (this.closed) return false;
    this.finalStats = this.stats();
    return (this.closed = true);
  }
}

/**
 * Checks a filter without capturing. @throws CAPTURE_BAD_FILTER
 * @param linkType default Ethernet.
 */
export function checkFilter(filter: string, linkType = 1): void {
  const pcap = libpcap();
  const handle = pcap.openDead(linkType, DEFAULT_SNAPLEN, PCAP_TSTAMP_PRECISION_NANO);
  try {
    const program = Buffer.alloc(BPF_PROGRAM_SIZE);
    if (pcap.compile(handle, program, filter, 1, 0xffffffff) < 0) throw filterError(filter, pcap.geterr(handle));
    pcap.freeCode(program);
  } finally {
    pcap.close(handle);
  }
}

function setFilter(pcap: Libpcap, handle: Pointer, filter: string, device: string, ns: Netns): void {
  const program = Buffer.alloc(BPF_PROGRAM_SIZE);
  if (pcap.compile(handle, program, filter, 1, 0xffffffff) < 0) throw filterError(filter, pcap.geterr(handle));
  try {
    if (pcap.setFilter(handle, program) < 0) {
      throw new PodwayError('CAPTURE_FAILED', `cannot set the filter on ${device}`, { object: `${device} in ${ns.label}`, said: pcap.geterr(handle) });
    }
  } finally {
    pcap.freeCode(program);
  }
}

const filterError = (filter: string, said: string): PodwayError =>
  new PodwayError('CAPTURE_BAD_FILTER', `"${filter}" is not a capture filter`, { said, hint: 'The language is tcpdump\'s: man pcap-filter. Example: icmp and host 10.244.1.5' });

function activationError(status: number, said: string, device: string, ns: Netns): PodwayError {
  const object = `${device} in ${ns.label}`;
  switch (status) {
    case PCAP_ERROR_NO_SUCH_DEVICE:
      return new PodwayError('CAPTURE_NO_DEVICE', `cannot capture on ${device}: there is no such device`, { object, said });
    case PCAP_ERROR_IFACE_NOT_UP:
      return new PodwayError('CAPTURE_DEVICE_DOWN', `cannot capture on ${device}: the device is down`, { object, said, hint: `Bring it up: ip link set ${device} up` });
    case PCAP_ERROR_PERM_DENIED:
    case PCAP_ERROR_PROMISC_PERM_DENIED:
      return new PodwayError('CAPTURE_PERMISSION', `cannot capture on ${device}`, { object, said, errno: 'EPERM', hint: 'Capturing needs root (CAP_NET_RAW in that namespace).' });
    default:
      return new PodwayError('CAPTURE_FAILED', `cannot capture on ${device}`, { object, said });
  }
}

function rxDropped(ns: Netns, device: string): number | undefined {
  try {
    const stats = RtNetlink.with(ns, (nl) => nl.link(device))?.stats;
    return stats && Number(stats.rxDropped);
  } catch (e) {
    if (isPodwayError(e)) return undefined;
    throw e;
  }
}

const textOf = (b: Buffer): string => b.toString('utf8', 0, Math.max(0, b.indexOf(0)));
