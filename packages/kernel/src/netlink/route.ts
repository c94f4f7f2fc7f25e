/** Routes. Equivalent: `ip route`, `ip -6 route`. Source: rtnetlink(7), linux/rtnetlink.h. */
import { isPodwayError } from '@podway/errors';
import { AF_INET, AF_INET6, addressText, familyNumber, familyOf, ip, type Family } from './address.js';
import { attr, ignored, nested, put, readAttributes, u16, u32, u8, writeAttribute, writeAttributes, type Codec, type Writer } from './codec.js';
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Answer, type NetlinkSocket, type Request } from './socket.js';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTNH_F_DEAD = 1;
const RTNH_F_ONLINK = 4;
const RTNH_F_LINKDOWN = 16;
const RTM_F_CLONED = 0x200;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTM_F_FIB_MATCH = 0x2000;

export const SCOPE = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;
export type Scope = keyof typeof SCOPE;
const SCOPE_NAMES: readonly (Scope | undefined)[] = Object.entries(SCOPE).reduce<Scope[]>((all, [name, n]) => ((all[n] = name as Scope), all), []);
export const scopeName = (n: number): Scope => SCOPE_NAMES[n] ?? 'global';

/** rtm_protocol: who made the route. `podway` is the house's own number. */
export const PROTOCOL = {
  unspec: 0, redirect: 1, kernel: 2, boot: 3, static: 4, ra: 9, zebra: 11, bird: 12, dhcp: 16, kubeRouter: 17, calico: 80, podway: 112, bgp: 186,
} as const;

export const ROUTE_TYPE = [
  'unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast', 'blackhole', 'unreachable', 'prohibit', 'throw', 'nat', 'xresolve',
] as const;
export type RouteType = (typeof ROUTE_TYPE)[number];

/** RTA_PREF: two bits, the high one a sign. */
const PREF = { 0: 'medium', 1: 'high', 3: 'low' } as const as Readonly<Record<number, RoutePref>>;
export type RoutePref = 'low' | 'medium' | 'high';

export const TABLE_MAIN = 254;
export const TABLE_LOCAL = 255;

const METRICS = { mtu: attr(2, 'RTAX_MTU', u32), window: attr(3, 'RTAX_WINDOW', u32), advmss: attr(8, 'RTAX_ADVMSS', u32) } as const;

/** RTA_VIA: a next hop of another family: 2 bytes of family, then the address. */
const via: Codec<string> = {
  write(w, v) {
    const at = w.reserve(2);
    w.view.setUint16(at, familyNumber(familyOf(v)), true);
    ip.write(w, v);
  },
  read: (b, start, end) => addressText(b, start + 2, end),
};

const ROUTE = {
  dst: attr(1, 'RTA_DST', ip),
  src: attr(2, 'RTA_SRC', ip),
  iif: attr(3, 'RTA_IIF', u32),
  oif: attr(4, 'RTA_OIF', u32),
  gateway: attr(5, 'RTA_GATEWAY', ip),
  priority: attr(6, 'RTA_PRIORITY', u32),
  prefsrc: attr(7, 'RTA_PREFSRC', ip),
  metrics: attr(8, 'RTA_METRICS', nested(METRICS)),
  cacheInfo: attr(12, 'RTA_CACHEINFO', ignored),
  table: attr(15, 'RTA_TABLE', u32),
  mark: attr(16, 'RTA_MARK', u32),
  via: attr(18, 'RTA_VIA', via),
  pref: attr(20, 'RTA_PREF', u8),
  encapType: attr(21, 'RTA_ENCAP_TYPE', u16),
  nhId: attr(30, 'RTA_NH_ID', u32),
} as const;
const RTA_MULTIPATH = 9;

export interface NextHop {
  readonly gateway: string | undefined;
  readonly index: number;
  readonly weight: number;
  readonly onlink: boolean;
  readonly dead: boolean;
  readonly linkdown: boolean;
}

export interface RouteInfo {
  readonly family: Family;
  /** `0.0.0.0/0` and `::/0` for the default. */
  readonly dst: string;
  readonly type: RouteType;
  readonly table: number;
  readonly protocol: number;
  readonly scope: Scope;
  readonly tos: number;
  readonly gateway: string | undefined;
  /** Output device; undefined for blackhole and the like and for several next hops. */
  readonly index: number | undefined;
  readonly prefsrc: string | undefined;
  readonly metric: number;
  readonly onlink: boolean;
  readonly linkdown: boolean;
  readonly dead: boolean;
  readonly mtu: number | undefined;
  /** Several next hops (ECMP); empty when there is one. */
  readonly nexthops: readonly NextHop[];
  readonly nhId: number | undefined;
  /** IPv6 router preference (RFC 4191). */
  readonly pref: RoutePref | undefined;
}

export interface RouteSpec {
  /** CIDR. */
  readonly dst: string;
  readonly type?: RouteType | undefined;
  readonly gateway?: string | undefined;
  readonly index?: number | undefined;
  readonly prefsrc?: string | undefined;
  readonly table?: number | undefined;
  /** rtm_protocol; `boot` (3) is what `ip` sets when told nothing. */
  readonly protocol?: number | undefined;
  readonly scope?: Scope | undefined;
  readonly metric?: number | undefined;
  readonly onlink?: boolean | undefined;
  readonly mtu?: number | undefined;
  /** IPv4 only. */
  readonly tos?: number | undefined;
  /** Several next hops (ECMP); then `gateway`, `index` and `onlink` are left out. */
  readonly nexthops?: readonly NextHopSpec[] | undefined;
}

export interface NextHopSpec {
  readonly gateway?: string | undefined;
  readonly index: number;
  /** 1 to 256. */
  readonly weight?: number | undefined;
  readonly onlink?: boolean | undefined;
}

/** struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags. */
function header(w: Writer, o: { family: number; dstLength?: number; srcLength?: number; tos?: number | undefined; table?: number; protocol?: number; scope?: number; type?: number; flags?: number }): void {
  const at = w.reserve(12);
  const d = w.view;
  d.setInt32(at, o.family | ((o.dstLength ?? 0) << 8) | ((o.srcLength ?? 0) << 16) | ((o.tos ?? 0) << 24), true);
  // Tables above 255 travel in RTA_TABLE.
  const table = o.table !== undefined && o.table < 256 ? o.table : 0;
  d.setInt32(at + 4, table | ((o.protocol ?? 0) << 8) | ((o.scope ?? 0) << 16) | ((o.type ?? 0) << 24), true);
  d.setUint32(at + 8, o.flags ?? 0, true);
}

const ROUTE_FLAGS = { add: NLM_F_CREATE | NLM_F_EXCL, replace: NLM_F_CREATE | NLM_F_REPLACE, append: NLM_F_CREATE | NLM_F_APPEND, delete: 0 } as const;

/** A class, not closures: routes go out by the thousand, and their words are made only when something is refused. */
class RouteRequest implements Request {
  readonly type: number;
  readonly flags: number;

  constructor(
    private readonly spec: RouteSpec,
    private readonly how: keyof typeof ROUTE_FLAGS,
  ) {
    this.type = how === 'delete' ? RTM_DELROUTE : RTM_NEWROUTE;
    this.flags = ROUTE_FLAGS[how];
  }

  get doing(): string {
    const s = this.spec;
    const type = s.type && s.type !== 'unicast' ? `${s.type} ` : '';
    return `${this.how} route ${type}${s.dst}${s.gateway ? ` via ${s.gateway}` : ''}${s.index ? ` dev #${s.index}` : ''}`;
  }

  body(w: Writer): void {
    const s = this.spec;
    const deleting = this.how === 'delete';
    const slash = s.dst.indexOf('/');
    const dst = s.dst.slice(0, slash);
    const dstLength = Number(s.dst.slice(slash + 1));
    const type = s.type ?? 'unicast';
    // As iproute2 does: no gateway means on-link, local and the like mean this host.
    const scope = s.scope ?? (type === 'local' ? 'host' : deleting ? 'nowhere' : type === 'unicast' && !s.gateway && !s.nexthops?.some((h) => h.gateway) ? 'link' : 'global');
    const family = familyOf(dst);
    const { gateway } = s;
    const table = s.table ?? TABLE_MAIN;
    header(w, {
      family: familyNumber(family), dstLength, tos: s.tos, table, protocol: s.protocol ?? (deleting ? 0 : PROTOCOL.boot),
      scope: family === 'inet6' ? 0 : SCOPE[scope], type: ROUTE_TYPE.indexOf(type), flags: s.onlink ? RTNH_F_ONLINK : 0,
    });
    if (dstLength !== 0) put(w, ROUTE.dst, dst);
    if (gateway !== undefined) put(w, familyOf(gateway) === family ? ROUTE.gateway : ROUTE.via, gateway);
    put(w, ROUTE.oif, s.index);
    put(w, ROUTE.prefsrc, s.prefsrc);
    put(w, ROUTE.priority, s.metric);
    if (table > 255) put(w, ROUTE.table, table);
    if (s.mtu !== undefined) put(w, ROUTE.metrics, { mtu: s.mtu });
    if (s.nexthops?.length) writeAttribute(w, RTA_MULTIPATH, nextHops, s.nexthops);
  }
}

/** A list of struct rtnexthop: len, flags, hops (weight less one), ifindex, then attributes. */
const nextHops: Codec<readonly NextHopSpec[]> = {
  write(w, hops) {
    for (const h of hops) {
      const at = w.reserve(8);
      if (h.gateway !== undefined) put(w, ROUTE.gateway, h.gateway);
      const d = w.view;
      d.setUint16(at, w.length - at, true);
      d.setUint8(at + 2, h.onlink ? RTNH_F_ONLINK : 0);
      d.setUint8(at + 3, (h.weight ?? 1) - 1);
      d.setInt32(at + 4, h.index, true);
    }
  },
  read: () => undefined,
};

/** Equivalent: `ip route add|replace|append`. */
export const addRouteRequest = (s: RouteSpec, how: 'add' | 'replace' | 'append' = 'add'): Request => new RouteRequest(s, how);

/** Deletes the route that has everything the spec names. */
export const deleteRouteRequest = (s: RouteSpec): Request => new RouteRequest(s, 'delete');

function decodeRoute(a: Answer): RouteInfo | undefined {
  if (a.type !== RTM_NEWROUTE || a.end - a.start < 12) return undefined;
  const b = a.buffer;
  const number = b.readUInt8(a.start);
  const flags = b.readUInt32LE(a.start + 8);
  if ((number !== AF_INET && number !== AF_INET6) || flags & RTM_F_CLONED) return undefined;
  const v = readAttributes(ROUTE, b, a.start + 12, a.end);
  const multipath = v.unknown?.find((u) => u.number === RTA_MULTIPATH);
  return {
    family: number === AF_INET ? 'inet' : 'inet6',
    dst: `${v.dst ?? (number === AF_INET ? '0.0.0.0' : '::')}/${b.readUInt8(a.start + 1)}`,
    type: ROUTE_TYPE[b.readUInt8(a.start + 7)] ?? 'unspec',
    table: v.table ?? b.readUInt8(a.start + 4),
    protocol: b.readUInt8(a.start + 5),
    scope: scopeName(b.readUInt8(a.start + 6)),
    tos: b.readUInt8(a.start + 3),
    gateway: v.gateway ?? v.via,
    index: v.oif,
    prefsrc: v.prefsrc,
    metric: v.priority ?? 0,
    onlink: (flags & RTNH_F_ONLINK) !== 0,
    linkdown: (flags & RTNH_F_LINKDOWN) !== 0,
    dead: (flags & RTNH_F_DEAD) !== 0,
    mtu: v.metrics?.mtu,
    nexthops: multipath ? decodeNextHops(Buffer.from(multipath.bytes)) : [],
    nhId: v.nhId,
    pref: v.pref === undefined ? undefined : PREF[v.pref],
  };
}

/** struct rtnexthop: len, flags, hops, ifindex, then attributes. */
function decodeNextHops(b: Buffer): NextHop[] {
  const hops: NextHop[] = [];
  let at = 0;
  while (at + 8 <= b.length) {
    const length = b.readUInt16LE(at);
    if (length < 8 || at + length > b.length) break;
    const flags = b.readUInt8(at + 2);
    const v = readAttributes(ROUTE, b, at + 8, at + length);
    hops.push({
      gateway: v.gateway ?? v.via, index: b.readInt32LE(at + 4), weight: b.readUInt8(at + 3) + 1,
      onlink: (flags & RTNH_F_ONLINK) !== 0, dead: (flags & RTNH_F_DEAD) !== 0, linkdown: (flags & RTNH_F_LINKDOWN) !== 0,
    });
    at += (length + 3) & ~3;
  }
  return hops;
}

/** All routes of all tables, both families, without cached clones. */
export function listRoutes(socket: NetlinkSocket): RouteInfo[] {
  return [AF_INET, AF_INET6].flatMap((family) =>
    socket.dump({ type: RTM_GETROUTE, flags: 0, doing: 'list routes', body: (w) => header(w, { family }) }, decodeRoute),
  );
}

export interface RouteQuery {
  readonly dst: string;
  readonly src?: string;
  /** Index of the device the packet came in by: a lookup for forwarding. */
  readonly iif?: number;
  readonly oif?: number;
  readonly mark?: number;
}

/**
 * Asks the kernel which route a packet would take. With `match` the answer is the table's entry
 * itself, otherwise what would be used (with source address and next hop resolved).
 * Equivalent: `ip route get [fibmatch] DST from SRC iif DEV`. Undefined: no route.
 */
export function lookupRoute(socket: NetlinkSocket, q: RouteQuery, match = false): RouteInfo | undefined {
  const family = familyNumber(familyOf(q.dst));
  const length = family === AF_INET ? 32 : 128;
  // IPv6 always names the table, and refuses the flag that asks for it.
  const flags = (family === AF_INET ? RTM_F_LOOKUP_TABLE : 0) | (match ? RTM_F_FIB_MATCH : 0);
  try {
    const answers = socket.request({
      type: RTM_GETROUTE,
      flags: 0,
      doing: `look up the route to ${q.dst}`,
      body(w) {
        header(w, { family, dstLength: length, srcLength: q.src ? length : 0, flags });
        writeAttributes(w, ROUTE, { dst: q.dst, src: q.src, iif: q.iif, oif: q.oif, mark: q.mark });
      },
    });
    const answer = answers[0];
    if (!answer) return undefined;
    // A looked-up route is marked as cloned; that mark would make the decoder pass it over.
    answer.buffer.writeUInt32LE((answer.buffer.readUInt32LE(answer.start + 8) & ~RTM_F_CLONED) >>> 0, answer.start + 8);
    return decodeRoute(answer);
  } catch (e) {
    if (isPodwayError(e) && ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL'].includes(e.errno ?? '')) return undefined;
    throw e;
  }
}

