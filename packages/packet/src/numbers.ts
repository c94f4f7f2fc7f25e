/** Numbers that more than one protocol needs: EtherTypes (IEEE 802), IP protocols (IANA), link types (tcpdump.org/linktypes.html). */

export const ETHER = {
  ipv4: 0x0800,
  arp: 0x0806,
  vlan: 0x8100,
  ipv6: 0x86dd,
  qinq: 0x88a8,
  qinqOld: 0x9100,
  transparentEthernet: 0x6558,
} as const;

export const IP = {
  hopByHop: 0,
  icmp: 1,
  ipv4: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  noNext: 59,
  destinationOptions: 60,
  sctp: 132,
} as const;

export const LINKTYPE = {
  null: 0,
  ethernet: 1,
  raw: 101,
  loop: 108,
  linuxSll: 113,
  ipv4: 228,
  ipv6: 229,
  linuxSll2: 276,
} as const;

/** UDP ports taken as VXLAN unless told otherwise: Linux and Flannel use 8472, IANA assigned 4789. */
export const VXLAN_PORTS: readonly number[] = [8472, 4789];
/** UDP ports that carry WireGuard: its usual one, and the next, which Podway uses while keys change. */
export const WIREGUARD_PORTS: readonly number[] = [51820, 51821];
