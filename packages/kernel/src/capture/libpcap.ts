/**
 * libpcap, as far as capture needs it. Loaded when first used, so that commands that capture
 * nothing do not need the library. Pointers are addresses (bigint).
 * Source: pcap(3PCAP), pcap-savefile(5). Debian package libpcap0.8t64 (libpcap0.8).
 */
import { createRequire } from 'node:module';
import { PodwayError } from '@podway/errors';
import type koffiType from 'koffi';

export type Pointer = bigint;

export const PCAP_TSTAMP_PRECISION_NANO = 1;
export const PCAP_ERRBUF_SIZE = 256;
export const PCAP_ERROR_NO_SUCH_DEVICE = -5;
export const PCAP_ERROR_PERM_DENIED = -8;
export const PCAP_ERROR_IFACE_NOT_UP = -9;
export const PCAP_ERROR_PROMISC_PERM_DENIED = -11;
/** struct bpf_program: u_int bf_len, 4 bytes of padding, struct bpf_insn *bf_insns. */
export const BPF_PROGRAM_SIZE = 16;

export interface Libpcap {
  create(device: string, errbuf: Uint8Array): Pointer;
  openDead(linkType: number, snaplen: number, precision: number): Pointer;
  setSnaplen(p: Pointer, snaplen: number): number;
  setPromisc(p: Pointer, on: number): number;
  setTimeout(p: Pointer, ms: number): number;
  setImmediate(p: Pointer, on: number): number;
  setBufferSize(p: Pointer, bytes: number): number;
  setTstampPrecision(p: Pointer, precision: number): number;
  activate(p: Pointer): number;
  setNonblock(p: Pointer, on: number, errbuf: Uint8Array): number;
  setDirection(p: Pointer, direction: number): number;
  datalink(p: Pointer): number;
  selectableFd(p: Pointer): number;
  compile(p: Pointer, program: Uint8Array, filter: string, optimize: number, netmask: number): number;
  setFilter(p: Pointer, program: Uint8Array): number;
  freeCode(program: Uint8Array): void;
  dispatch(p: Pointer, count: number, callback: Pointer, user: Pointer): number;
  stats(p: Pointer, stats: Uint8Array): number;
  geterr(p: Pointer): string;
  statusText(status: number): string;
  close(p: Pointer): void;
  /** The same on a worker thread: the kernel waits 20 to 30 ms before it lets go of a packet socket. */
  closeAsync(p: Pointer): Promise<void>;
  dumpFopen(p: Pointer, file: Pointer): Pointer;
  /** Address of pcap_dump itself: given to `dispatch` as the callback, packets go to a file without leaving C. */
  readonly dump: Pointer;
}

let library: Libpcap | undefined;

/** @throws PCAP_MISSING */
export function libpcap(): Libpcap {
  if (library) return library;
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;
  let so: ReturnType<typeof koffi.load>;
  try {
    so = koffi.load('libpcap.so.0.8');
  } catch {
    try {
      so = koffi.load('libpcap.so.1');
    } catch (cause) {
      throw new PodwayError('PCAP_MISSING', 'libpcap is not installed', { cause, hint: 'Install it: apt-get install libpcap0.8 (Fedora: libpcap)' });
    }
  }
  const f = (signature: string) => so.func(signature) as unknown as (...args: unknown[]) => never;
  const close = so.func('void pcap_close(void *p)') as unknown as { (p: Pointer): void; async(p: Pointer, done: (e: Error | null) => void): void };
  return (library = {
    create: f('void *pcap_create(const char *source, void *errbuf)'),
    openDead: f('void *pcap_open_dead_with_tstamp_precision(int linktype, int snaplen, unsigned int precision)'),
    setSnaplen: f('int pcap_set_snaplen(void *p, int snaplen)'),
    setPromisc: f('int pcap_set_promisc(void *p, int promisc)'),
    setTimeout: f('int pcap_set_timeout(void *p, int to_ms)'),
    setImmediate: f('int pcap_set_immediate_mode(void *p, int immediate)'),
    setBufferSize: f('int pcap_set_buffer_size(void *p, int bytes)'),
    setTstampPrecision: f('int pcap_set_tstamp_precision(void *p, int precision)'),
    activate: f('int pcap_activate(void *p)'),
    setNonblock: f('int pcap_setnonblock(void *p, int nonblock, void *errbuf)'),
    setDirection: f('int pcap_setdirection(void *p, int direction)'),
    datalink: f('int pcap_datalink(void *p)'),
    selectableFd: f('int pcap_get_selectable_fd(void *p)'),
    compile: f('int pcap_compile(void *p, void *program, const char *filter, int optimize, unsigned int netmask)'),
    setFilter: f('int pcap_setfilter(void *p, void *program)'),
    freeCode: f('void pcap_freecode(void *program)'),
    dispatch: f('int pcap_dispatch(void *p, int count, void *callback, void *user)'),
    stats: f('int pcap_stats(void *p, void *stats)'),
    geterr: f('const char *pcap_geterr(void *p)'),
    statusText: f('const char *pcap_statustostr(int status)'),
    close,
    closeAsync: (p) => new Promise((resolve, reject) => close.async(p, (e) => (e ? reject(e) : resolve()))),
    dumpFopen: f('void *pcap_dump_fopen(void *p, void *file)'),
    dump: so.symbol('pcap_dump') as Pointer,
  });
}
