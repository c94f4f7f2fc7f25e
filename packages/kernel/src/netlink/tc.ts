/** What all messages of traffic control share: the tcmsg header, handles in words, statistics. Source: linux/rtnetlink.h, linux/pkt_sched.h. */
import { readAttributes, type Attributes, type AttributeTable, type Writer } from './codec.js';
import type { Answer } from './socket.js';
import { TCA, type STATS } from './tc-tables.js';

const TC_H_ROOT = 0xffffffff;
/** The one handle that the ingress qdisc (and clsact, of the same number) can have: `ffff:`. */
export const INGRESS_HANDLE = 0xffff0000;
const TC_H_INGRESS = 0xfffffff1;
const WORDS: Readonly<Record<string, number>> = { root: TC_H_ROOT, ingress: TC_H_INGRESS, clsact: TC_H_INGRESS, 'clsact/ingress': 0xfffffff2, 'clsact/egress': 0xfffffff3 };

const hex = (n: number): string => n.toString(16);

/** `8001:`, `8001:1`, `root`. @throws RangeError for anything else: handles are written in code, not by people. */
export function handleNumber(text: string): number {
  const word = WORDS[text];
  if (word !== undefined) return word;
  const m = /^([0-9a-f]{1,4}):([0-9a-f]{0,4})$/i.exec(text);
  if (!m) throw new RangeError(`"${text}" is not a handle of traffic control`);
  return ((parseInt(m[1]!, 16) << 16) | parseInt(m[2] || '0', 16)) >>> 0;
}
export const handleText = (n: number): string => `${hex(n >>> 16)}:${n & 0xffff ? hex(n & 0xffff) : ''}`;
export function parentText(n: number): string {
  if (n === TC_H_ROOT) return 'root';
  if (n === TC_H_INGRESS) return 'ingress';
  if (n === WORDS['clsact/ingress']) return 'clsact/ingress';
  return n === WORDS['clsact/egress'] ? 'clsact/egress' : handleText(n);
}

/** struct tcmsg: family, three pads, ifindex, handle, parent, info. */
export function tcHeader(w: Writer, o: { index?: number; handle?: number; parent?: number; info?: number } = {}): void {
  const at = w.reserve(20);
  w.buffer.writeInt32LE(o.index ?? 0, at + 4);
  w.buffer.writeUInt32LE(o.handle ?? 0, at + 8);
  w.buffer.writeUInt32LE(o.parent ?? 0, at + 12);
  w.buffer.writeUInt32LE((o.info ?? 0) >>> 0, at + 16);
}

export interface TcMessage {
  readonly index: number;
  readonly handle: number;
  readonly parent: number;
  readonly info: number;
  readonly v: Attributes<typeof TCA>;
}
export function readTc(a: Answer, type: number): TcMessage | undefined {
  if (a.type !== type || a.end - a.start < 20) return undefined;
  const b = a.buffer;
  return {
    index: b.readInt32LE(a.start + 4), handle: b.readUInt32LE(a.start + 8), parent: b.readUInt32LE(a.start + 12), info: b.readUInt32LE(a.start + 16),
    v: readAttributes(TCA, b, a.start + 20, a.end),
  };
}

/** Options are laid out by kind: the bytes of TCA_OPTIONS read with that kind's table. */
export function optionsOf<T extends AttributeTable>(table: T, bytes: Uint8Array | undefined): Attributes<T> | undefined {
  return bytes && readAttributes(table, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length);
}

export interface TcStats {
  readonly bytes: bigint;
  readonly packets: bigint;
  readonly dropped: number;
  /** Packets that had to wait. */
  readonly overlimits: number;
  readonly requeues: number;
  /** What waits now: packets and bytes. */
  readonly qlen: number;
  readonly backlog: number;
}
export function statsOf(s: Attributes<typeof STATS> | undefined): TcStats | undefined {
  if (!s?.basic) return undefined;
  const q = s.queue;
  return {
    bytes: s.basic.bytes, packets: s.packets64 ?? BigInt(s.basic.packets ?? 0), dropped: q?.drops ?? 0, overlimits: q?.overlimits ?? 0,
    requeues: q?.requeues ?? 0, qlen: q?.qlen ?? 0, backlog: q?.backlog ?? 0,
  };
}
