/**
 * Links (network devices). Equivalent: `ip -d -s link`, `bridge -d link`.
 *
 * A device is never created with IFF_UP: veth_open answers ENOTCONN while its peer does not exist
 * yet, and a device that comes up before its address and MTU are set sends packets nobody wants.
 * Source: rtnetlink(7), linux/if_link.h, linux/if.h.
 */
import { PodwayError, isPodwayError } from '@podway/errors';
import { readAttributes, writeAttribute, writeAttributes, raw, type Writer, type Codec } from './codec.js';
import {
  BRIDGE, BRIDGE_PORT, INFO_DATA, IPTUN, LINK, MACVLAN_MODE, VETH_INFO_PEER, VLAN, VXLAN,
  type BridgeAttributes, type BridgePortAttributes, type LinkAttributes, type LinkStats, type MacvlanMode,
  type TunnelAttributes, type VlanAttributes, type VxlanAttributes,
} from './link-tables.js';
import { NLM_F_CREATE, NLM_F_EXCL, type Answer, type NetlinkSocket, type Request } from './socket.js';
import { AF_BRIDGE } from './address.js';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const IFF_PROMISC = 0x100;
const IFF_LOWER_UP = 0x10000;
const IFF_RUNNING = 0x40;
const RTEXT_FILTER_VF = 1;
const IPPROTO_IPIP = 4;

/** IFF_*. Source: linux/if.h; the order is that of print_link_flags in iproute2. */
const FLAGS = [
  ['LOOPBACK', 0x8], ['BROADCAST', 0x2], ['POINTOPOINT', 0x10], ['MULTICAST', 0x1000], ['NOARP', IFF_NOARP], ['ALLMULTI', 0x200],
  ['PROMISC', IFF_PROMISC], ['MASTER', 0x400], ['SLAVE', 0x800], ['DEBUG', 0x4], ['DYNAMIC', 0x8000], ['AUTOMEDIA', 0x4000],
  ['PORTSEL', 0x2000], ['NOTRAILERS', 0x20], ['UP', IFF_UP], ['LOWER_UP', IFF_LOWER_UP], ['DORMANT', 0x20000], ['ECHO', 0x40000],
] as const;
const OPERSTATE = ['UNKNOWN', 'NOTPRESENT', 'DOWN', 'LOWERLAYERDOWN', 'TESTING', 'DORMANT', 'UP'] as const;
export type OperState = (typeof OPERSTATE)[number];
const PORT_STATE = ['disabled', 'listening', 'learning', 'forwarding', 'blocking'] as const;
export type PortState = (typeof PORT_STATE)[number];

export interface LinkInfo {
  readonly index: number;
  readonly name: string;
  /** `veth`, `bridge`, `vxlan` …; undefined for loopback and hardware. */
  readonly kind: string | undefined;
  /** ARPHRD_*: 1 Ethernet, 772 loopback, 768 IPIP, 65534 none. */
  readonly hardwareType: number;
  readonly address: string | undefined;
  readonly broadcast: string | undefined;
  readonly mtu: number;
  /** Administratively up. */
  readonly up: boolean;
  /** Carrier: the other end is there and up. */
  readonly lowerUp: boolean;
  readonly running: boolean;
  readonly noArp: boolean;
  readonly promiscuous: boolean;
  readonly operstate: OperState;
  /** All flags that are set, in the words and the order of `ip link`, without RUNNING. */
  readonly flags: readonly string[];
  /** Link group; 0 is `default`. */
  readonly group: number;
  /** IFLA_LINKMODE: 0 default, 1 dormant. */
  readonly linkMode: number;
  readonly master: number | undefined;
  /** Peer (veth) or lower device, as an index in the namespace `linkNetnsid`, or in this one. */
  readonly link: number | undefined;
  readonly linkNetnsid: number | undefined;
  readonly alias: string | undefined;
  readonly altNames: readonly string[];
  readonly qdisc: string | undefined;
  readonly txqlen: number | undefined;
  readonly vxlan: VxlanAttributes | undefined;
  readonly bridge: BridgeAttributes | undefined;
  readonly macvlanMode: number | undefined;
  /** ipip, sit, ip6tnl. */
  readonly tunnel: TunnelAttributes | undefined;
  readonly vlan: VlanAttributes | undefined;
  readonly port: (Omit<BridgePortAttributes, 'state'> & { readonly state: PortState | undefined }) | undefined;
  readonly stats: LinkStats | undefined;
}

export interface LinkSettings {
  readonly mtu?: number;
  readonly address?: string;
  readonly alias?: string;
  readonly txqlen?: number;
  /** 1: no segmentation offload; every frame on the device is as long as it would be on a wire. */
  readonly gsoMaxSegs?: number;
  /** Index of the bridge; 0 takes the port out. */
  readonly master?: number;
}

export type LinkSpec = { readonly name: string; /** Wished index. */ readonly index?: number } & LinkSettings &
  (
    | { readonly kind: 'veth'; readonly peer: { readonly name: string; readonly netnsFd?: number } & Omit<LinkSettings, 'master'> }
    | { readonly kind: 'bridge'; readonly bridge?: Omit<BridgeAttributes, 'unknown'> }
    | { readonly kind: 'vxlan'; readonly vxlan: Omit<VxlanAttributes, 'unknown'> }
    | { readonly kind: 'macvlan'; readonly link: number; readonly mode: number | MacvlanMode; readonly netnsFd?: number }
    | { readonly kind: 'vlan'; readonly link: number; readonly id: number; /** EtherType; default 0x8100. */ readonly protocol?: number; readonly netnsFd?: number }
    /** A TTL other than 0 (inherit) needs pmtudisc, which is on by default. `link` binds the tunnel to the uplink. */
    | { readonly kind: 'ipip'; readonly tunnel: Pick<TunnelAttributes, 'link' | 'local' | 'remote' | 'ttl' | 'tos' | 'pmtudisc'> }
    | { readonly kind: 'ifb' | 'dummy' | 'wireguard' }
  );

/** struct ifinfomsg: family, pad, type, index, flags, change. */
function header(w: Writer, o: { family?: number; index?: number; flags?: number; change?: number } = {}): void {
  const at = w.reserve(16);
  w.buffer.writeUInt8(o.family ?? 0, at);
  w.buffer.writeInt32LE(o.index ?? 0, at + 4);
  w.buffer.writeUInt32LE(o.flags ?? 0, at + 8);
  w.buffer.writeUInt32LE(o.change ?? 0, at + 12);
}

export function decodeLink(a: Answer): LinkInfo | undefined {
  if (a.type !== RTM_NEWLINK || a.end - a.start < 16) return undefined;
  const b = a.buffer;
  const flags = b.readUInt32LE(a.start + 8);
  const v = readAttributes(LINK, b, a.start + 16, a.end);
  const kind = v.linkinfo?.kind;
  const info = <K extends keyof typeof INFO_DATA>(wanted: K) =>
    kind === wanted && v.linkinfo?.data
      ? readAttributes(INFO_DATA[wanted], Buffer.from(v.linkinfo.data), 0, v.linkinfo.data.length)
      : undefined;
  const port =
    v.linkinfo?.slaveKind === 'bridge' && v.linkinfo.slaveData
      ? readAttributes(BRIDGE_PORT, Buffer.from(v.linkinfo.slaveData), 0, v.linkinfo.slaveData.length)
      : undefined;
  return {
    index: b.readInt32LE(a.start + 4),
    name: v.ifname ?? '?',
    kind,
    hardwareType: b.readUInt16LE(a.start + 2),
    address: v.address || undefined,
    broadcast: v.broadcast || undefined,
    mtu: v.mtu ?? 0,
    up: (flags & IFF_UP) !== 0,
    lowerUp: (flags & IFF_LOWER_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    noArp: (flags & IFF_NOARP) !== 0,
    promiscuous: (flags & IFF_PROMISC) !== 0,
    operstate: OPERSTATE[v.operstate ?? 0] ?? 'UNKNOWN',
    flags: FLAGS.filter(([, bit]) => flags & bit).map(([word]) => word),
    group: v.group ?? 0,
    linkMode: v.linkmode ?? 0,
    master: v.master || undefined,
    link: v.link || undefined,
    linkNetnsid: v.linkNetnsid,
    alias: v.alias || undefined,
    altNames: v.altNames ?? [],
    qdisc: v.qdisc,
    txqlen: v.txqlen,
    vxlan: info('vxlan'),
    bridge: info('bridge'),
    macvlanMode: info('macvlan')?.mode,
    tunnel: info('ipip') ?? info('sit') ?? info('ip6tnl'),
    vlan: info('vlan'),
    port: port && { ...port, state: port.state === undefined ? undefined : PORT_STATE[port.state] },
    stats: v.stats64,
  };
}

const settings = (s: LinkSettings): LinkAttributes => ({
  mtu: s.mtu, address: s.address, alias: s.alias, txqlen: s.txqlen, gsoMaxSegs: s.gsoMaxSegs, master: s.master,
});

/** Encodes with a function, for the two places where a header stands inside an attribute. */
const inline = (write: (w: Writer) => void): Codec<undefined> => ({ write: (w) => write(w), read: () => undefined });

/**
 * The requests that create a link with everything the spec says. The kernel ignores an alias in
 * the creating message, so it follows in a second one: sent as one batch they are one system
 * call, and no kill can leave the link without its alias. A bridge's MTU too: only one that is set
 * later stays (BROPT_MTU_SET_BY_USER), else the bridge follows its ports, and is 1500 without any.
 */
export function createRequests(spec: LinkSpec): Request[] {
  const { mtu, ...rest } = spec;
  const late = spec.kind === 'bridge' && mtu !== undefined ? { mtu } : {};
  const create = createRequest(spec.kind === 'bridge' ? (rest as LinkSpec) : spec);
  const after = { ...late, ...(spec.alias === undefined ? {} : { alias: spec.alias }) };
  return Object.keys(after).length === 0 ? [create] : [create, setRequest(spec.name, after)];
}

function createRequest(spec: LinkSpec): Request {
  checkIfname(spec.name);
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    doing: `create ${spec.kind} link ${spec.name}`,
    body(w) {
      header(w, spec.index === undefined ? {} : { index: spec.index });
      writeAttributes(w, LINK, { ifname: spec.name, ...settings(spec) });
      if (spec.kind === 'macvlan' || spec.kind === 'vlan') writeAttributes(w, LINK, { link: spec.link, netnsFd: spec.netnsFd });
      writeAttribute(w, LINK.linkinfo.number, inline((w2) => {
        writeAttribute(w2, 1, inline((w3) => w3.buffer.write(spec.kind, w3.reserve(spec.kind.length + 1))), undefined);
        if (spec.kind === 'veth') {
          const { name, netnsFd, ...rest } = spec.peer;
          writeAttribute(w2, 2, inline((w3) =>
            writeAttribute(w3, VETH_INFO_PEER, inline((w4) => {
              header(w4);
              writeAttributes(w4, LINK, { ifname: checkIfname(name), netnsFd, ...settings(rest) });
            }), undefined)), undefined, true);
        } else {
          const data = infoData(spec);
          if (data) writeAttribute(w2, 2, inline((w3) => data(w3)), undefined, true);
        }
      }), undefined, true);
    },
  };
}

function infoData(spec: Exclude<LinkSpec, { kind: 'veth' }>): ((w: Writer) => void) | undefined {
  switch (spec.kind) {
    case 'bridge': return (w) => writeAttributes(w, BRIDGE, spec.bridge ?? {});
    case 'vxlan': return (w) => writeAttributes(w, VXLAN, spec.vxlan);
    case 'macvlan': return (w) => writeAttributes(w, INFO_DATA.macvlan, { mode: typeof spec.mode === 'number' ? spec.mode : MACVLAN_MODE[spec.mode] });
    case 'vlan': return (w) => writeAttributes(w, VLAN, { id: spec.id, protocol: spec.protocol });
    case 'ipip': return (w) => writeAttributes(w, IPTUN, { pmtudisc: true, ...spec.tunnel, proto: IPPROTO_IPIP });
    case 'ifb': case 'dummy': case 'wireguard': return undefined;
  }
}

/**
 * Changes a link, found by index or by name. `up` is applied after everything else in the same
 * request. A name lets a batch set what it has just created. Equivalent: `ip link set`.
 */
export function setRequest(
  link: number | string,
  s: LinkSettings & { up?: boolean; name?: string; netnsFd?: number; promiscuous?: boolean },
  name = typeof link === 'string' ? link : `#${link}`,
): Request {
  const what = Object.entries(s).filter(([, v]) => v !== undefined).map(([k, v]) => `${k} ${String(v)}`).join(', ');
  return {
    type: RTM_NEWLINK,
    flags: 0,
    doing: `set link ${name}: ${what}`,
    body(w) {
      const change = (s.up === undefined ? 0 : IFF_UP) | (s.promiscuous === undefined ? 0 : IFF_PROMISC);
      header(w, { index: typeof link === 'number' ? link : 0, flags: (s.up ? IFF_UP : 0) | (s.promiscuous ? IFF_PROMISC : 0), change });
      writeAttributes(w, LINK, { ...settings(s), ifname: typeof link === 'string' ? link : s.name, netnsFd: s.netnsFd });
    },
  };
}

/** Settings of a bridge port. Equivalent: `bridge link set dev NAME hairpin on`. */
export function setPortRequest(index: number, port: Omit<BridgePortAttributes, 'unknown'>, name = `#${index}`): Request {
  return {
    // RTM_NEWLINK is accepted too, and does nothing.
    type: RTM_SETLINK,
    flags: 0,
    doing: `set bridge port ${name}`,
    body(w) {
      const IFLA_PROTINFO = 12;
      header(w, { family: AF_BRIDGE, index });
      writeAttribute(w, IFLA_PROTINFO, inline((w2) => writeAttributes(w2, BRIDGE_PORT, port)), undefined, true);
    },
  };
}

/** Changes settings of the kind itself (IFLA_INFO_DATA) of an existing bridge. Equivalent: `ip link set NAME type bridge …`. */
export function setBridgeRequest(index: number, bridge: Omit<BridgeAttributes, 'unknown'>, name = `#${index}`): Request {
  return {
    type: RTM_NEWLINK,
    flags: 0,
    doing: `set bridge ${name}`,
    body(w) {
      header(w, { index });
      writeAttribute(w, LINK.linkinfo.number, inline((w2) => {
        writeAttribute(w2, 1, inline((w3) => w3.buffer.write('bridge', w3.reserve(7))), undefined);
        writeAttribute(w2, 2, inline((w3) => writeAttributes(w3, BRIDGE, bridge)), undefined, true);
      }), undefined, true);
    },
  };
}

export function deleteRequest(index: number, name = `#${index}`): Request {
  return { type: RTM_DELLINK, flags: 0, doing: `delete link ${name}`, body: (w) => header(w, { index }) };
}

/** Removes all links of a group with one waiting for all of them. Equivalent: `ip link delete group N`. */
export function deleteGroupRequest(group: number): Request {
  return { type: RTM_DELLINK, flags: 0, doing: `delete the links of group ${group}`, body: (w) => { header(w); writeAttributes(w, LINK, { group }); } };
}

/** Puts a link into a group. Equivalent: `ip link set NAME group N`. */
export function setGroupRequest(index: number, group: number, name = `#${index}`): Request {
  return { type: RTM_NEWLINK, flags: 0, doing: `set group of link ${name}`, body: (w) => { header(w, { index }); writeAttributes(w, LINK, { group }); } };
}

/** All links of the namespace, by index, with statistics. */
export function listLinks(socket: NetlinkSocket): LinkInfo[] {
  return socket.dump(
    { type: RTM_GETLINK, flags: 0, doing: 'list links', body: (w) => header(w) },
    decodeLink,
  );
}

/** One link by name or index, or undefined when there is none. */
export function getLink(socket: NetlinkSocket, which: string | number): LinkInfo | undefined {
  const IFLA_EXT_MASK = 29;
  try {
    const [answer] = socket.request({
      type: RTM_GETLINK,
      flags: 0,
      doing: `look up link ${which}`,
      body(w) {
        header(w, typeof which === 'number' ? { index: which } : {});
        if (typeof which === 'string') writeAttributes(w, LINK, { ifname: checkIfname(which) });
        writeAttribute(w, IFLA_EXT_MASK, raw, Uint8Array.of(RTEXT_FILTER_VF, 0, 0, 0));
      },
    });
    return answer && decodeLink(answer);
  } catch (e) {
    if (isPodwayError(e) && e.errno === 'ENODEV') return undefined;
    throw e;
  }
}

/**
 * The rules of dev_valid_name(): 1 to 15 bytes, not `.` or `..`, no slash, colon or white space.
 * @throws BAD_IFNAME
 */
export function checkIfname(name: string): string {
  if (name.length > 0 && Buffer.byteLength(name) <= 15 && name !== '.' && name !== '..' && !/[/:\s\0]/.test(name)) return name;
  throw new PodwayError('BAD_IFNAME', `"${name}" cannot be the name of a network device`, {
    hint: 'At most 15 bytes, without slash, colon or white space.',
  });
}
