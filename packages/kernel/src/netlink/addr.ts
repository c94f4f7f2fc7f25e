/** Addresses of links. Equivalent: `ip addr`. Source: rtnetlink(7), linux/if_addr.h. */
import { AF_INET, AF_INET6, familyNumber, familyOf, ip, type Family } from './address.js';
import { attr, readAttributes, str, u32, writeAttributes, type Writer } from './codec.js';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Answer, type NetlinkSocket, type Request } from './socket.js';
import { SCOPE, scopeName, type Scope } from './route.js';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const IFA_F_NODAD = 0x02;
const IFA_F_DADFAILED = 0x08;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80;
const IFA_F_NOPREFIXROUTE = 0x200;

const ADDR = {
  /** The peer on point-to-point links, else the same as `local`. */
  address: attr(1, 'IFA_ADDRESS', ip),
  local: attr(2, 'IFA_LOCAL', ip),
  label: attr(3, 'IFA_LABEL', str),
  broadcast: attr(4, 'IFA_BROADCAST', ip),
  flags: attr(8, 'IFA_FLAGS', u32),
} as const;

export interface AddrInfo {
  readonly index: number;
  readonly family: Family;
  readonly address: string;
  readonly prefix: number;
  readonly peer: string | undefined;
  readonly broadcast: string | undefined;
  readonly scope: Scope;
  readonly permanent: boolean;
  readonly tentative: boolean;
  readonly dadFailed: boolean;
  /** IPv4: the label, by default the device's name. */
  readonly label: string | undefined;
  /** The flags that `ip addr` shows, in its words and order; `secondary` is `temporary` for IPv6. */
  readonly flags: readonly string[];
}

export interface AddrSpec {
  readonly index: number;
  readonly address: string;
  readonly prefix: number;
  /** IPv4: defaults to none; `ip` sets it only when asked too. */
  readonly broadcast?: string;
  readonly scope?: Scope;
  /** The other end, on point-to-point links. */
  readonly peer?: string;
  /** The kernel makes no route to the address's subnet. Equivalent: `ip addr add … noprefixroute`. */
  readonly noPrefixRoute?: boolean;
}

/** struct ifaddrmsg: family, prefixlen, flags, scope, index. */
function header(w: Writer, o: { family?: number; prefix?: number; flags?: number; scope?: number; index?: number }): void {
  const at = w.reserve(8);
  w.buffer.writeUInt8(o.family ?? 0, at);
  w.buffer.writeUInt8(o.prefix ?? 0, at + 1);
  w.buffer.writeUInt8(o.flags ?? 0, at + 2);
  w.buffer.writeUInt8(o.scope ?? 0, at + 3);
  w.buffer.writeUInt32LE(o.index ?? 0, at + 4);
}

function body(spec: AddrSpec): (w: Writer) => void {
  const family = familyOf(spec.address);
  return (w) => {
    // Pod and node addresses are assigned by us: duplicate address detection would only delay IPv6 by a second.
    header(w, {
      family: familyNumber(family), prefix: spec.prefix, index: spec.index,
      scope: SCOPE[spec.scope ?? 'global'], flags: family === 'inet6' ? IFA_F_NODAD : 0,
    });
    // Does not fit into the header's eight bits: the attribute then stands for all of them.
    const flags = spec.noPrefixRoute ? IFA_F_NOPREFIXROUTE | (family === 'inet6' ? IFA_F_NODAD : 0) : undefined;
    writeAttributes(w, ADDR, { address: spec.peer ?? spec.address, local: spec.address, broadcast: spec.broadcast, flags });
  };
}

export function addAddrRequest(spec: AddrSpec, replace = false): Request {
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
    doing: `add address ${spec.address}/${spec.prefix} to link #${spec.index}`,
    body: body(spec),
  };
}

export function deleteAddrRequest(spec: AddrSpec): Request {
  return { type: RTM_DELADDR, flags: 0, doing: `delete address ${spec.address}/${spec.prefix} of link #${spec.index}`, body: body(spec) };
}

/** Source: linux/if_addr.h; the order is that of ifa_flag_data in iproute2. `dynamic` is the lack of permanence. */
function flagWords(flags: number, family: number): string[] {
  const words = ([
    [family === AF_INET6 ? 'temporary' : 'secondary', 0x01], ['nodad', IFA_F_NODAD], ['optimistic', 0x04], ['dadfailed', IFA_F_DADFAILED], ['home', 0x10],
    ['deprecated', 0x20], ['tentative', IFA_F_TENTATIVE], ['mngtmpaddr', 0x100], ['noprefixroute', 0x200], ['autojoin', 0x400],
  ] as const).filter(([, bit]) => flags & bit).map(([word]) => word as string);
  return flags & IFA_F_PERMANENT ? words : [...words, 'dynamic'];
}

function decodeAddr(a: Answer): AddrInfo | undefined {
  if (a.type !== RTM_NEWADDR || a.end - a.start < 8) return undefined;
  const family = a.buffer.readUInt8(a.start);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const v = readAttributes(ADDR, a.buffer, a.start + 8, a.end);
  const address = v.local ?? v.address;
  if (!address) return undefined;
  const flags = v.flags ?? a.buffer.readUInt8(a.start + 2);
  return {
    index: a.buffer.readUInt32LE(a.start + 4),
    family: family === AF_INET ? 'inet' : 'inet6',
    address,
    prefix: a.buffer.readUInt8(a.start + 1),
    peer: v.address !== undefined && v.address !== address ? v.address : undefined,
    broadcast: v.broadcast,
    scope: scopeName(a.buffer.readUInt8(a.start + 3)),
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    tentative: (flags & IFA_F_TENTATIVE) !== 0,
    dadFailed: (flags & IFA_F_DADFAILED) !== 0,
    label: v.label,
    flags: flagWords(flags, family),
  };
}

export function listAddrs(socket: NetlinkSocket): AddrInfo[] {
  return socket.dump({ type: RTM_GETADDR, flags: 0, doing: 'list addresses', body: (w) => header(w, {}) }, decodeAddr);
}
