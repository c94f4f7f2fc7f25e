/**
 * Neighbours (IP → MAC) and FDB entries (MAC → port or VTEP): one kernel message, two tables.
 * Equivalent: `ip neigh`, `bridge fdb`. Source: linux/neighbour.h.
 */
import { AF_BRIDGE, AF_INET, AF_INET6, familyNumber, familyOf, ip, type Family } from './address.js';
import { attr, ignored, mac, put, readAttributes, u16, u16be, u32, u8, type Attributes, type Writer } from './codec.js';
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
/** By priority: `bridge fdb add … permanent` sets NOARP as well, and is shown as permanent. */
const STATES_SHOWN = (['permanent', 'noarp', 'incomplete', 'reachable', 'stale', 'delay', 'probe', 'failed'] as const).map((name) => [name, STATE[name]] as const);
function stateName(n: number): NeighState {
  for (const [name, bit] of STATES_SHOWN) if (n & bit) return name;
  return 'none';
}

const NEIGH = {
  dst: attr(1, 'NDA_DST', ip),
  lladdr: attr(2, 'NDA_LLADDR', mac),
  cacheInfo: attr(3, 'NDA_CACHEINFO', ignored),
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
  readonly lladdr?: string | undefined;
  readonly state?: NeighState | undefined;
  readonly proxy?: boolean | undefined;
}

export interface FdbSpec {
  readonly index: number;
  readonly lladdr: string;
  readonly dst?: string | undefined;
  readonly state?: NeighState | undefined;
  /** In the bridge's table rather than the device's own. */
  readonly inMaster?: boolean | undefined;
  readonly vlan?: number | undefined;
}

/** struct ndmsg: family, pad1, pad2, ifindex, state, flags, type. */
function header(w: Writer, family: number, index = 0, state = 0, flags = 0): void {
  const at = w.reserve(12);
  const d = w.view;
  d.setUint8(at, family);
  d.setInt32(at + 4, index, true);
  d.setUint32(at + 8, state | (flags << 16), true);
}

const stateNumber = (s: NeighState | undefined): number => (s === 'none' ? 0 : STATE[s ?? 'permanent']);
type How = 'add' | 'replace' | 'append';
const FLAGS: Readonly<Record<How, number>> = {
  add: NLM_F_CREATE | NLM_F_EXCL, replace: NLM_F_CREATE | NLM_F_REPLACE, append: NLM_F_CREATE | NLM_F_APPEND,
};

/** Classes, not closures: these go out by the thousand, and their words are made only when something is refused. */
abstract class EntryRequest<Spec> implements Request {
  readonly type: number;
  readonly flags: number;

  constructor(
    protected readonly spec: Spec,
    protected readonly how: How | 'delete',
  ) {
    this.type = how === 'delete' ? RTM_DELNEIGH : RTM_NEWNEIGH;
    this.flags = how === 'delete' ? 0 : FLAGS[how];
  }

  abstract get doing(): string;
  abstract body(w: Writer): void;
}

class NeighRequest extends EntryRequest<NeighSpec> {
  get doing(): string {
    const { dst, lladdr, index } = this.spec;
    return `${this.how} neighbour ${dst}${this.how === 'delete' ? '' : ` lladdr ${lladdr ?? '-'}`} on link #${index}`;
  }

  body(w: Writer): void {
    const s = this.spec;
    const deleting = this.how === 'delete';
    header(w, familyNumber(familyOf(s.dst)), s.index, s.proxy || deleting ? 0 : stateNumber(s.state), s.proxy ? NTF_PROXY : 0);
    put(w, NEIGH.dst, s.dst);
    if (!deleting) put(w, NEIGH.lladdr, s.lladdr);
  }
}

class FdbRequest extends EntryRequest<FdbSpec> {
  get doing(): string {
    const { lladdr, dst, index } = this.spec;
    return `${this.how} FDB entry ${lladdr}${dst ? ` dst ${dst}` : ''} on link #${index}`;
  }

  body(w: Writer): void {
    const s = this.spec;
    header(w, AF_BRIDGE, s.index, stateNumber(s.state), s.inMaster ? NTF_MASTER : NTF_SELF);
    put(w, NEIGH.dst, s.dst);
    put(w, NEIGH.lladdr, s.lladdr);
    put(w, NEIGH.vlan, s.vlan);
  }
}

/** Equivalent: `ip neigh add|replace DST lladdr MAC dev DEV nud permanent`. */
export const addNeighRequest = (s: NeighSpec, how: Exclude<How, 'append'> = 'add'): Request => new NeighRequest(s, how);
export const deleteNeighRequest = (s: NeighSpec): Request => new NeighRequest(s, 'delete');

/** Equivalent: `bridge fdb add|replace|append MAC dev DEV dst IP self permanent`. */
export const addFdbRequest = (s: FdbSpec, how: How = 'add'): Request => new FdbRequest(s, how);
export const deleteFdbRequest = (s: FdbSpec): Request => new FdbRequest(s, 'delete');

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
    socket.dump({ type: RTM_GETNEIGH, flags: 0, doing: 'list neighbours', body: (w) => header(w, family, 0, 0, flags) }, decodeNeigh);
  return [AF_INET, AF_INET6].flatMap((family) => [...dump(family, 0), ...dump(family, NTF_PROXY)]);
}

/** FDB entries of all bridges and VXLAN devices. */
export function listFdb(socket: NetlinkSocket): FdbInfo[] {
  return socket.dump({ type: RTM_GETNEIGH, flags: 0, doing: 'list FDB entries', body: (w) => header(w, AF_BRIDGE) }, decodeFdb);
}
