/** IFLA_* attributes. Source: linux/if_link.h (numbers are ABI). */
import { ip } from './address.js';
import { attr, bool8, flag, i32, list, mac, nested, raw, str, u16, u16be, u32, u8, type Attributes, type Codec } from './codec.js';

/** struct rtnl_link_stats64, the first twelve counters plus nohandler. */
export interface LinkStats {
  readonly rxPackets: bigint;
  readonly txPackets: bigint;
  readonly rxBytes: bigint;
  readonly txBytes: bigint;
  readonly rxErrors: bigint;
  readonly txErrors: bigint;
  readonly rxDropped: bigint;
  readonly txDropped: bigint;
  readonly multicast: bigint;
  readonly collisions: bigint;
}

const STATS: readonly (keyof LinkStats)[] = [
  'rxPackets', 'txPackets', 'rxBytes', 'txBytes', 'rxErrors', 'txErrors', 'rxDropped', 'txDropped', 'multicast', 'collisions',
];

const stats64: Codec<LinkStats> = {
  write: () => undefined,
  read(b, start, end) {
    if (end - start < STATS.length * 8) return undefined;
    return Object.fromEntries(STATS.map((name, i) => [name, b.readBigUInt64LE(start + i * 8)])) as unknown as LinkStats;
  },
};

export const VXLAN = {
  id: attr(1, 'IFLA_VXLAN_ID', u32),
  group: attr(2, 'IFLA_VXLAN_GROUP', ip),
  link: attr(3, 'IFLA_VXLAN_LINK', u32),
  local: attr(4, 'IFLA_VXLAN_LOCAL', ip),
  ttl: attr(5, 'IFLA_VXLAN_TTL', u8),
  tos: attr(6, 'IFLA_VXLAN_TOS', u8),
  learning: attr(7, 'IFLA_VXLAN_LEARNING', bool8),
  ageing: attr(8, 'IFLA_VXLAN_AGEING', u32),
  limit: attr(9, 'IFLA_VXLAN_LIMIT', u32),
  proxy: attr(11, 'IFLA_VXLAN_PROXY', bool8),
  rsc: attr(12, 'IFLA_VXLAN_RSC', bool8),
  l2miss: attr(13, 'IFLA_VXLAN_L2MISS', bool8),
  l3miss: attr(14, 'IFLA_VXLAN_L3MISS', bool8),
  port: attr(15, 'IFLA_VXLAN_PORT', u16be),
  group6: attr(16, 'IFLA_VXLAN_GROUP6', ip),
  local6: attr(17, 'IFLA_VXLAN_LOCAL6', ip),
  udpCsum: attr(18, 'IFLA_VXLAN_UDP_CSUM', bool8),
  udpZeroCsum6Tx: attr(19, 'IFLA_VXLAN_UDP_ZERO_CSUM6_TX', bool8),
  udpZeroCsum6Rx: attr(20, 'IFLA_VXLAN_UDP_ZERO_CSUM6_RX', bool8),
  collectMetadata: attr(25, 'IFLA_VXLAN_COLLECT_METADATA', bool8),
  df: attr(29, 'IFLA_VXLAN_DF', u8),
} as const;

export const BRIDGE = {
  forwardDelay: attr(1, 'IFLA_BR_FORWARD_DELAY', u32),
  helloTime: attr(2, 'IFLA_BR_HELLO_TIME', u32),
  maxAge: attr(3, 'IFLA_BR_MAX_AGE', u32),
  ageingTime: attr(4, 'IFLA_BR_AGEING_TIME', u32),
  stpState: attr(5, 'IFLA_BR_STP_STATE', u32),
  priority: attr(6, 'IFLA_BR_PRIORITY', u16),
  vlanFiltering: attr(7, 'IFLA_BR_VLAN_FILTERING', bool8),
  mcastSnooping: attr(23, 'IFLA_BR_MCAST_SNOOPING', bool8),
  nfCallIptables: attr(36, 'IFLA_BR_NF_CALL_IPTABLES', bool8),
  nfCallIp6tables: attr(37, 'IFLA_BR_NF_CALL_IP6TABLES', bool8),
  nfCallArptables: attr(38, 'IFLA_BR_NF_CALL_ARPTABLES', bool8),
} as const;

export const BRIDGE_PORT = {
  state: attr(1, 'IFLA_BRPORT_STATE', u8),
  priority: attr(2, 'IFLA_BRPORT_PRIORITY', u16),
  cost: attr(3, 'IFLA_BRPORT_COST', u32),
  hairpin: attr(4, 'IFLA_BRPORT_MODE', bool8),
  guard: attr(5, 'IFLA_BRPORT_GUARD', bool8),
  protect: attr(6, 'IFLA_BRPORT_PROTECT', bool8),
  fastLeave: attr(7, 'IFLA_BRPORT_FAST_LEAVE', bool8),
  learning: attr(8, 'IFLA_BRPORT_LEARNING', bool8),
  unicastFlood: attr(9, 'IFLA_BRPORT_UNICAST_FLOOD', bool8),
  proxyArp: attr(10, 'IFLA_BRPORT_PROXYARP', bool8),
  multicastFlood: attr(27, 'IFLA_BRPORT_MCAST_FLOOD', bool8),
  broadcastFlood: attr(30, 'IFLA_BRPORT_BCAST_FLOOD', bool8),
  neighSuppress: attr(32, 'IFLA_BRPORT_NEIGH_SUPPRESS', bool8),
  isolated: attr(33, 'IFLA_BRPORT_ISOLATED', bool8),
} as const;

export const MACVLAN = { mode: attr(1, 'IFLA_MACVLAN_MODE', u32) } as const;

/** MACVLAN_MODE_*: `private` (no talk between them), `vepa` (through the switch outside), `bridge` (directly), `passthru` (one takes the device over), `source`. */
export const MACVLAN_MODE = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 } as const;
export type MacvlanMode = keyof typeof MACVLAN_MODE;
/** `bridge` for 4; undefined for a number that is no mode. */
export const macvlanModeName = (mode: number): MacvlanMode | undefined =>
  (Object.keys(MACVLAN_MODE) as MacvlanMode[]).find((name) => MACVLAN_MODE[name] === mode);

export const VLAN = {
  id: attr(1, 'IFLA_VLAN_ID', u16),
  flags: attr(2, 'IFLA_VLAN_FLAGS', raw),
  /** EtherType: 0x8100 (802.1Q, the default) or 0x88a8 (802.1ad). */
  protocol: attr(5, 'IFLA_VLAN_PROTOCOL', u16be),
} as const;

export const IPTUN = {
  link: attr(1, 'IFLA_IPTUN_LINK', u32),
  local: attr(2, 'IFLA_IPTUN_LOCAL', ip),
  remote: attr(3, 'IFLA_IPTUN_REMOTE', ip),
  ttl: attr(4, 'IFLA_IPTUN_TTL', u8),
  tos: attr(5, 'IFLA_IPTUN_TOS', u8),
  encapLimit: attr(6, 'IFLA_IPTUN_ENCAP_LIMIT', u8),
  /** IP protocol carried: 4 IPv4, 41 IPv6, 0 any. */
  proto: attr(9, 'IFLA_IPTUN_PROTO', u8),
  pmtudisc: attr(10, 'IFLA_IPTUN_PMTUDISC', bool8),
  collectMetadata: attr(19, 'IFLA_IPTUN_COLLECT_METADATA', flag),
  fwmark: attr(20, 'IFLA_IPTUN_FWMARK', u32),
} as const;

/** IFLA_INFO_DATA is laid out by the kind; the kinds with a table are decoded, others kept raw. */
export const INFO_DATA = { vxlan: VXLAN, bridge: BRIDGE, macvlan: MACVLAN, vlan: VLAN, ipip: IPTUN, sit: IPTUN, ip6tnl: IPTUN } as const;

const INFO = {
  kind: attr(1, 'IFLA_INFO_KIND', str),
  data: attr(2, 'IFLA_INFO_DATA', raw),
  slaveKind: attr(4, 'IFLA_INFO_SLAVE_KIND', str),
  slaveData: attr(5, 'IFLA_INFO_SLAVE_DATA', raw),
} as const;

export const LINK = {
  address: attr(1, 'IFLA_ADDRESS', mac),
  broadcast: attr(2, 'IFLA_BROADCAST', mac),
  ifname: attr(3, 'IFLA_IFNAME', str),
  mtu: attr(4, 'IFLA_MTU', u32),
  link: attr(5, 'IFLA_LINK', u32),
  qdisc: attr(6, 'IFLA_QDISC', str),
  master: attr(10, 'IFLA_MASTER', u32),
  txqlen: attr(13, 'IFLA_TXQLEN', u32),
  operstate: attr(16, 'IFLA_OPERSTATE', u8),
  linkmode: attr(17, 'IFLA_LINKMODE', u8),
  linkinfo: attr(18, 'IFLA_LINKINFO', nested(INFO)),
  netnsPid: attr(19, 'IFLA_NET_NS_PID', u32),
  alias: attr(20, 'IFLA_IFALIAS', str),
  stats64: attr(23, 'IFLA_STATS64', stats64),
  group: attr(27, 'IFLA_GROUP', u32),
  netnsFd: attr(28, 'IFLA_NET_NS_FD', u32),
  numTxQueues: attr(31, 'IFLA_NUM_TX_QUEUES', u32),
  numRxQueues: attr(32, 'IFLA_NUM_RX_QUEUES', u32),
  carrier: attr(33, 'IFLA_CARRIER', bool8),
  linkNetnsid: attr(37, 'IFLA_LINK_NETNSID', i32),
  protoDown: attr(39, 'IFLA_PROTO_DOWN', bool8),
  gsoMaxSegs: attr(40, 'IFLA_GSO_MAX_SEGS', u32),
  gsoMaxSize: attr(41, 'IFLA_GSO_MAX_SIZE', u32),
  newIfindex: attr(49, 'IFLA_NEW_IFINDEX', i32),
  minMtu: attr(50, 'IFLA_MIN_MTU', u32),
  maxMtu: attr(51, 'IFLA_MAX_MTU', u32),
  altNames: attr(52, 'IFLA_PROP_LIST', list(53, str)),
} as const;

/** Attributes of the peer that stand in a veth's info data behind a second ifinfomsg. */
export const VETH_INFO_PEER = 1;

export type LinkAttributes = Attributes<typeof LINK>;
export type VxlanAttributes = Attributes<typeof VXLAN>;
export type BridgeAttributes = Attributes<typeof BRIDGE>;
export type BridgePortAttributes = Attributes<typeof BRIDGE_PORT>;
export type TunnelAttributes = Attributes<typeof IPTUN>;
export type VlanAttributes = Attributes<typeof VLAN>;
