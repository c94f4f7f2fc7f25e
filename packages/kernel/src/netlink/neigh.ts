/**
 * Neighbours (IP → MAC) and FDB entries (MAC → port or VTEP): one kernel message, two tables.
 * Equivalent: `ip neigh`, `bridge fdb`. Source: linux/neighbour.h.
 */
import { AF_BRIDGE, AF_INET, AF_INET6, familyNumber, familyOf, ip, type Family } from './address.js';
import { attr, mac, readAttributes, u16, u16be, u32, u8, writeAttributes, type Attributes, type Writer } from './codec.js';
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Answer, type NetlinkSocket, type Request } from './socket.js';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;
const NTF_PROXY = 0x08;
const NTF_EXT_LEARNED = 0x10;
const NTF_ROUTER = 0x80;

/** Permanent first: `bridge` makes entries that are permanent and noarp, and they count as permanent. */
const STATE = { permanent: 128, noarp: 64, incomplete: 1, reachable: 2, stale: 4, delay: 8, probe: 16, failed: 32 } as const;
export type NeighState = keyof typeof STATE | 'none';
const stateName = (n: number): NeighState => (Object.entries(STATE).find(([, v]) => n & v)?.[0] as NeighState | undefined) ?? 'none';

const NEIGH = {
  dst: attr(1, 'NDA_DST', ip),
  lladdr: attr(2, 'NDA_LLADDR', mac),
  probes: attr(4, 'NDA_PROBES', u32),
  vlan: attr(5, 'NDA_VLAN', u16),
  port: attr(6, 'NDA_PORT', u16be),
  vni: attr(7, 'NDA_VNI', u32),
  ifindex: attr(8, 'NDA_IFINDEX', u32),
  master: attr(9, 'NDA_MASTER', u32),
  srcVni: attr(11, 'NDA_SRC_VNI', u32),
  protocol: attr(12, 'NDA_PROTOCOL', u8),
} as const;

export interface NeighInfo {
  readonly family: Family;
  readonly index: number;
  readonly dst: string;
  readonly lladdr: string | undefined;
  readonly state: NeighState;
  readonly proxy: boolean;
  readonly router: boolean;
  readonly extLearned: boolean;
}

export interface FdbInfo {
  /** The port (bridge) or the VXLAN device itself. */
  readonly index: number;
  readonly lladdr: string;
  /** The VTEP behind it (VXLAN). */
  readonly dst: string | undefined;
  readonly port: number | undefined;
  readonly vni: number | undefined;
  /** Where the outer packet must leave, where the entry says so. */
  readonly via: number | undefined;
  readonly vlan: number | undefined;
  readonly master: number | undefined;
  readonly state: NeighState;
  /** In the device's own table (`self`), in the bridge's (`master`). */
  readonly self: boolean;
  readonly extLearned: boolean;
}

export interface NeighSpec {
  readonly index: number;
  readonly dst: string;
  readonly lladdr?: string;
  readonly state?: NeighState;
  readonly proxy?: boolean;
}

export interface FdbSpec {
  readonly index: number;
  readonly lladdr: string;
  readonly dst?: string;
  readonly state?: NeighState;
  /** In the bridge's table rather than the device's own. */
  readonly inMaster?: boolean;
  readonly vlan?: number;
}

/** struct ndmsg: family, pad1, pad2, ifindex, state, flags, type. */
function header(w: Writer, o: { family: number; index?: number; state?: number; flags?: number }): void {
  const at = w.reserve(12);
  w.buffer.writeUInt8(o.family, at);
  w.buffer.writeInt32LE(o.index ?? 0, at + 4);
  w.buffer.writeUInt16LE(o.state ?? 0, at + 8);
  w.buffer.writeUInt8(o.flags ?? 0, at + 10);
}

const stateNumber = (s: NeighState | undefined): number => (s === 'none' ? 0 : STATE[s ?? 'permanent']);
type How = 'add' | 'replace' | 'append';
const FLAGS: Readonly<Record<How, number>> = {
  add: NLM_F_CREATE | NLM_F_EXCL, replace: NLM_F_CREATE | NLM_F_REPLACE, append: NLM_F_CREATE | NLM_F_APPEND,
};

/** Equivalent: `ip neigh add|replace DST lladdr MAC dev DEV nud permanent`. */
export function addNeighRequest(s: NeighSpec, how: Exclude<How, 'append'> = 'add'): Request {
  return {
    type: RTM_NEWNEIGH,
    flags: FLAGS[how],
    doing: `${how} neighbour ${s.dst} lladdr ${s.lladdr ?? '-'} on link #${s.index}`,
    body(w) {
      header(w, { family: familyNumber(familyOf(s.dst)), index: s.index, state: s.proxy ? 0 : stateNumber(s.state), flags: s.proxy ? NTF_PROXY : 0 });
      writeAttributes(w, NEIGH, { dst: s.dst, lladdr: s.lladdr });
    },
  };
}

export function deleteNeighRequest(s: NeighSpec): Request {
  return {
    type: RTM_DELNEIGH,
    flags: 0,
    doing: `delete neighbour ${s.dst} on link #${s.index}`,
    body(w) {
      header(w, { family: familyNumber(familyOf(s.dst)), index: s.index, flags: s.proxy ? NTF_PROXY : 0 });
      writeAttributes(w, NEIGH, { dst: s.dst });
    },
  };
}

function fdbBody(s: FdbSpec): (w: Writer) => void {
  return (w) => {
    header(w, { family: AF_BRIDGE, index: s.index, state: stateNumber(s.state), flags: s.inMaster ? NTF_MASTER : NTF_SELF });
    writeAttributes(w, NEIGH, { dst: s.dst, lladdr: s.lladdr, vlan: s.vlan });
  };
}

const fdbWords = (s: FdbSpec): string => `FDB entry ${s.lladdr}${s.dst ? ` dst ${s.dst}` : ''} on link #${s.index}`;

/** Equivalent: `bridge fdb add|replace|append MAC dev DEV dst IP self permanent`. */
export function addFdbRequest(s: FdbSpec, how: How = 'add'): Request {
  return { type: RTM_NEWNEIGH, flags: FLAGS[how], doing: `${how} ${fdbWords(s)}`, body: fdbBody(s) };
}

export function deleteFdbRequest(s: FdbSpec): Request {
  return { type: RTM_DELNEIGH, flags: 0, doing: `delete ${fdbWords(s)}`, body: fdbBody(s) };
}

interface Raw {
  readonly family: number;
  readonly index: number;
  readonly state: number;
  readonly flags: number;
  readonly v: Attributes<typeof NEIGH>;
}

function read(a: Answer): Raw | undefined {
  if (a.type !== RTM_NEWNEIGH || a.end - a.start < 12) return undefined;
  const b = a.buffer;
  return {
    family: b.readUInt8(a.start),
    index: b.readInt32LE(a.start + 4),
    state: b.readUInt16LE(a.start + 8),
    flags: b.readUInt8(a.start + 10),
    v: readAttributes(NEIGH, b, a.start + 12, a.end),
  };
}

function decodeNeigh(a: Answer): NeighInfo | undefined {
  const r = read(a);
  if (!r || (r.family !== AF_INET && r.family !== AF_INET6) || r.v.dst === undefined) return undefined;
  return {
    family: r.family === AF_INET ? 'inet' : 'inet6', index: r.index, dst: r.v.dst, lladdr: r.v.lladdr,
    state: stateName(r.state), proxy: (r.flags & NTF_PROXY) !== 0, router: (r.flags & NTF_ROUTER) !== 0,
    extLearned: (r.flags & NTF_EXT_LEARNED) !== 0,
  };
}

function decodeFdb(a: Answer): FdbInfo | undefined {
  const r = read(a);
  if (!r || r.family !== AF_BRIDGE || r.v.lladdr === undefined) return undefined;
  return {
    index: r.index, lladdr: r.v.lladdr, dst: r.v.dst, port: r.v.port, vni: r.v.vni, via: r.v.ifindex, vlan: r.v.vlan,
    master: r.v.master, state: stateName(r.state), self: (r.flags & NTF_SELF) !== 0, extLearned: (r.flags & NTF_EXT_LEARNED) !== 0,
  };
}

/** Neighbours of both families, proxy entries included. */
export function listNeighs(socket: NetlinkSocket): NeighInfo[] {
  const dump = (family: number, flags: number) =>
    socket.dump({ type: RTM_GETNEIGH, flags: 0, doing: 'list neighbours', body: (w) => header(w, { family, flags }) }, decodeNeigh);
  return [AF_INET, AF_INET6].flatMap((family) => [...dump(family, 0), ...dump(family, NTF_PROXY)]);
}

/** FDB entries of all bridges and VXLAN devices. */
export function listFdb(socket: NetlinkSocket): FdbInfo[] {
  return socket.dump({ type: RTM_GETNEIGH, flags: 0, doing: 'list FDB entries', body: (w) => header(w, { family: AF_BRIDGE }) }, decodeFdb);
}
