/** @podway/packet: bytes to packets and back, and capture files. Depends on nothing. */
export { hex, ipv4Text, ipv6Text, macText, parseIpv4, parseIpv6, parseMac } from './bytes.js';
export { readCapture, timeNs, type CaptureFile, type CaptureInterface, type CaptureProblem, type CaptureRecord, type Direction } from './capture-file.js';
export { checksum, crc32c, fold, sum, type ChecksumState } from './checksum.js';
export {
  Context,
  NO_PROBLEMS,
  type Decoder,
  type LayerBase,
  type PartialLayer,
  type Problem,
  type ProblemCode,
} from './context.js';
export { decode, payloadOf, type DecodedPacket, type DecodeOptions } from './decode.js';
export { encode, type LayerSpec } from './encode.js';
export { describeHeaders, encapsulationOverhead, layerLabel, type HeaderSize } from './headers.js';
export { flowKey, flowOf, identity, innermost, payloadIdentity, reverseFlowKey, type Flow, type Innermost, type TransportLayer } from './identity.js';
export type { IpLayer, Layer, LayerType } from './layers.js';
export { ETHER, IP, LINKTYPE, VXLAN_PORTS, WIREGUARD_PORTS } from './numbers.js';
export { pcapHeader, pcapRecord, readPcap } from './pcap.js';
export { createPcapngFile, type PcapngFile } from './pcapng-file.js';
export { readPcapng } from './pcapng-read.js';
export { PcapngWriter, type InterfaceDescription, type InterfaceStatistics, type PacketToWrite } from './pcapng-write.js';
export { standardRegistry, type PortEntry, type Registry } from './registry.js';
export { summary } from './summary.js';
export type { ArpLayer, ArpSpec } from './protocols/arp.js';
export type { EthernetLayer, EthernetSpec } from './protocols/ethernet.js';
export type { GreLayer, GreSpec } from './protocols/gre.js';
export { ICMP_FRAGMENTATION_NEEDED, type IcmpLayer, type IcmpMessage, type IcmpMessageSpec, type IcmpSpec } from './protocols/icmp.js';
export type { Icmpv6Layer, Icmpv6Message, Icmpv6MessageSpec, Icmpv6Spec, NdOption } from './protocols/icmpv6.js';
export type { Ipv4Layer, Ipv4Option, Ipv4Spec } from './protocols/ipv4.js';
export type { Ipv6Layer, Ipv6Spec } from './protocols/ipv6.js';
export type { ExtensionOption, Ipv6ExtensionLayer } from './protocols/ipv6-extensions.js';
export type { LinuxCookedLayer } from './protocols/linux-cooked.js';
export type { LoopbackLayer } from './protocols/loopback.js';
export { sctpChunkName, type SctpChunk, type SctpLayer } from './protocols/sctp.js';
export { TCP_FLAGS, type TcpLayer, type TcpOption, type TcpSpec } from './protocols/tcp.js';
export type { ChecksumSpec, IpSpec } from './protocols/transport-checksum.js';
export type { UdpLayer, UdpSpec } from './protocols/udp.js';
export type { VlanLayer, VlanSpec } from './protocols/vlan.js';
export { decodeWireguard, wireguardText, type WireguardLayer, type WireguardMessage, type WireguardSpec } from './protocols/wireguard.js';
export type { VxlanLayer, VxlanSpec } from './protocols/vxlan.js';
