/** The union of all layers. `switch (layer.type)` narrows it. */
import type { PartialLayer } from './context.js';
import type { ArpLayer } from './protocols/arp.js';
import type { EthernetLayer } from './protocols/ethernet.js';
import type { GreLayer } from './protocols/gre.js';
import type { IcmpLayer } from './protocols/icmp.js';
import type { Icmpv6Layer } from './protocols/icmpv6.js';
import type { Ipv4Layer } from './protocols/ipv4.js';
import type { Ipv6ExtensionLayer } from './protocols/ipv6-extensions.js';
import type { Ipv6Layer } from './protocols/ipv6.js';
import type { LinuxCookedLayer } from './protocols/linux-cooked.js';
import type { LoopbackLayer } from './protocols/loopback.js';
import type { SctpLayer } from './protocols/sctp.js';
import type { TcpLayer } from './protocols/tcp.js';
import type { UdpLayer } from './protocols/udp.js';
import type { VlanLayer } from './protocols/vlan.js';
import type { WireguardLayer } from './protocols/wireguard.js';
import type { VxlanLayer } from './protocols/vxlan.js';

export type IpLayer = Ipv4Layer | Ipv6Layer;

export type Layer =
  | EthernetLayer
  | VlanLayer
  | LinuxCookedLayer
  | LoopbackLayer
  | ArpLayer
  | IpLayer
  | Ipv6ExtensionLayer
  | IcmpLayer
  | Icmpv6Layer
  | TcpLayer
  | UdpLayer
  | SctpLayer
  | VxlanLayer
  | WireguardLayer
  | GreLayer
  | PartialLayer;

export type LayerType = Layer['type'];
