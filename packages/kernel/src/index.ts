export * from './netns.js';
export * from './netns-list.js';
export * from './sysctl.js';
export { waitReadable, errnoName, errnoNumber, errnoText } from './libc.js';
export * from './netlink/rtnetlink.js';
export { AF_INET, AF_INET6, addressBytes, addressText, familyOf, familyNumber, type Family } from './netlink/address.js';
export {
  checkIfname, createRequests, deleteRequest, setRequest, setPortRequest, setBridgeRequest,
  type LinkInfo, type LinkSpec, type LinkSettings, type OperState, type PortState,
} from './netlink/link.js';
export { explainRefusal, kernelHas, kernelLacks, type KernelPart } from './netlink/kinds.js';
export { MACVLAN_MODE, macvlanModeName, type MacvlanMode } from './netlink/link-tables.js';
export type { LinkStats, TunnelAttributes, VlanAttributes, VxlanAttributes, BridgeAttributes, BridgePortAttributes } from './netlink/link-tables.js';
export { LinkRemover } from './netlink/link-remover.js';
export { addAddrRequest, deleteAddrRequest, type AddrInfo, type AddrSpec } from './netlink/addr.js';
export {
  addRouteRequest, deleteRouteRequest, PROTOCOL, ROUTE_TYPE, SCOPE, TABLE_LOCAL, TABLE_MAIN,
  type NextHop, type RouteInfo, type RouteQuery, type RouteSpec, type RoutePref, type RouteType, type Scope,
} from './netlink/route.js';
export { addRuleRequest, deleteRuleRequest, type RuleInfo, type RuleSpec } from './netlink/rule.js';
export {
  addFdbRequest, addNeighRequest, deleteFdbRequest, deleteNeighRequest,
  type FdbInfo, type FdbSpec, type NeighInfo, type NeighSpec, type NeighState,
} from './netlink/neigh.js';
export {
  addQdiscRequest, deleteQdiscRequest, replaceQdiscRequest, tbfSettings, type HtbInfo, type QdiscInfo, type QdiscSpec, type TbfInfo, type TbfSettings,
} from './netlink/qdisc.js';
export { addRedirectRequest, deleteFiltersRequest, type FilterAction, type FilterInfo, type RedirectSpec } from './netlink/filter.js';
export type { TcStats } from './netlink/tc.js';
export { NetlinkSocket, type Refusal, type Request } from './netlink/socket.js';
export * from './nft.js';
export { Capture, checkFilter, type CaptureOptions, type CaptureStats } from './capture/capture.js';
export { CaptureSet, type CapturedPacket } from './capture/capture-set.js';
export type { RawPacket } from './capture/sink.js';
export { netnsIdOf } from './netlink/nsid.js';
export { ProbeSocket, type SocketKind, type SocketOptions } from './sock.js';
export { listenTcp, openTcp, socketAddress } from './listen.js';
export { connectTcp } from './connect.js';
export { lockFile, type FileLock } from './file-lock.js';
export * from './versions.js';
export { GenlSocket, type GenlFamily } from './genl/genetlink.js';
export { deviceFeatures, setDeviceFeatures, type DeviceFeature, type DeviceFeatures } from './genl/ethtool.js';
export * from './wireguard/types.js';
export { generatePresharedKey, generatePrivateKey, publicKeyOf } from './wireguard/keys.js';
export { openKernelWireguard, readKernelWireguard, setKernelWireguard } from './wireguard/kernel.js';
export { openUserspaceWireguard, wireguardSocket, WIREGUARD_SOCKET_DIR } from './wireguard/uapi.js';
export { readUserspaceWireguard, setUserspaceWireguard } from './wireguard/uapi-sync.js';
export { createTun, hasTun } from './netlink/tun.js';
export { listSockets, LISTENING, type SocketInfo, type SocketProtocol, type SocketQuery, type SocketState, type TcpInfo } from './netlink/sockdiag.js';
export {
  Conntrack, conntrackMatcher, deleteConntrackRequest, type ConntrackEntry, type ConntrackFilter, type ConntrackTuple,
} from './netlink/conntrack.js';
export type { ConntrackStatus } from './netlink/conntrack-tables.js';
