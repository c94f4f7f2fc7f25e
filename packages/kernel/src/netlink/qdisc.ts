/** Queueing disciplines, as far as they must be seen. Equivalent: `tc qdisc`. Source: linux/rtnetlink.h (struct tcmsg). */
import { attr, raw, readAttributes, str, type Writer } from './codec.js';
import type { Answer, NetlinkSocket } from './socket.js';

const RTM_NEWQDISC = 36;
const RTM_GETQDISC = 38;
const TCA = { kind: attr(1, 'TCA_KIND', str), options: attr(2, 'TCA_OPTIONS', raw) } as const;

export interface QdiscInfo {
  readonly index: number;
  readonly kind: string;
  /** `8001:` */
  readonly handle: string;
  /** `root`, `ingress`, `clsact` or `8001:1`. */
  readonly parent: string;
  /** The kind's own structure, undecoded. */
  readonly options: Uint8Array | undefined;
}

const tcHandle = (n: number): string => `${(n >>> 16).toString(16)}:${(n & 0xffff || '').toString(16)}`;
const tcParent = (n: number): string => (n === 0xffffffff ? 'root' : n === 0xfffffff1 ? 'ingress' : n === 0xfffffff2 ? 'clsact' : tcHandle(n));

function decode(a: Answer): QdiscInfo | undefined {
  if (a.type !== RTM_NEWQDISC || a.end - a.start < 20) return undefined;
  const v = readAttributes(TCA, a.buffer, a.start + 20, a.end);
  return {
    index: a.buffer.readInt32LE(a.start + 4),
    kind: v.kind ?? '?',
    handle: tcHandle(a.buffer.readUInt32LE(a.start + 8)),
    parent: tcParent(a.buffer.readUInt32LE(a.start + 12)),
    options: v.options,
  };
}

/** struct tcmsg: family, pads, ifindex, handle, parent, info: 20 bytes, all zero for a dump. */
export function listQdiscs(socket: NetlinkSocket): QdiscInfo[] {
  return socket.dump({ type: RTM_GETQDISC, flags: 0, doing: 'list qdiscs', body: (w: Writer) => void w.reserve(20) }, decode);
}
