/** One packet of every kind the decoder knows, sound and unsound, for the oracle tests, the property tests and the fuzzer. */
import { encode, LINKTYPE, TCP_FLAGS, type EthernetSpec, type Ipv4Spec, type Ipv6Spec, type LayerSpec, type TcpSpec } from '../src/index.js';
import { crc32c } from '../src/checksum.js';

export interface Sample {
  readonly name: string;
  readonly linkType: number;
  readonly bytes: Uint8Array;
  /** False if the decoder must find something wrong with it. */
  readonly sound: boolean;
  readonly originalLength?: number;
}

export const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
export const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(parts));
/** `length` bytes that differ from each other. */
export const filler = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + 0x10) & 0xff);

export const ETH: EthernetSpec = { type: 'ethernet', src: '0a:58:0a:f4:00:02', dst: '0a:58:0a:f4:00:01' };
export const OUTER_ETH: EthernetSpec = { type: 'ethernet', src: '02:42:ac:12:00:02', dst: '02:42:ac:12:00:03' };
export const V4: Ipv4Spec = { type: 'ipv4', src: '10.244.0.2', dst: '10.244.2.2', id: 0x1234, ttl: 63 };
export const V6: Ipv6Spec = { type: 'ipv6', src: 'fd00:10:244::2', dst: 'fd00:10:244:2::5', hopLimit: 63, flowLabel: 0xabcde };
export const OUTER_V4: Ipv4Spec = { type: 'ipv4', src: '172.18.0.2', dst: '172.18.0.3', id: 0x77 };
export const OUTER_V6: Ipv6Spec = { type: 'ipv6', src: 'fc00::2', dst: 'fc00::3' };
export const ECHO: LayerSpec = { type: 'icmp', message: { kind: 'echo-request', id: 7, sequence: 1 } };
export const SYN: TcpSpec = {
  type: 'tcp', srcPort: 40000, dstPort: 9080, sequence: 0xfffffff0, flags: TCP_FLAGS.syn,
  options: [
    { kind: 'mss', value: 1410 },
    { kind: 'sack-permitted' },
    { kind: 'timestamp', value: 0x89abcdef, echo: 0 },
    { kind: 'nop' },
    { kind: 'window-scale', shift: 7 },
  ],
};
export const DATA: TcpSpec = {
  type: 'tcp', srcPort: 40000, dstPort: 9080, sequence: 100, acknowledgement: 500, flags: TCP_FLAGS.ack | TCP_FLAGS.psh, window: 501,
  options: [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamp', value: 5, echo: 6 }],
};
const UDP = { type: 'udp', srcPort: 50000, dstPort: 9999 } as const;
export const VXLAN: readonly LayerSpec[] = [OUTER_ETH, OUTER_V4, { type: 'udp', srcPort: 51234, dstPort: 8472, checksum: 0 }, { type: 'vxlan', vni: 1 }];
const VXLAN6: readonly LayerSpec[] = [OUTER_ETH, OUTER_V6, { type: 'udp', srcPort: 51234, dstPort: 4789, checksum: 0 }, { type: 'vxlan', vni: 0xabcdef }];

/** An IPv6 packet with extension headers: `extensions` begins with next header `first`; the upper layer is made for the addresses given. */
function extended(first: number, extensions: Uint8Array, upper: LayerSpec, checksumIp: Ipv6Spec = V6): Uint8Array {
  const segment = encode([checksumIp, upper], filler(16)).subarray(40);
  return encode([ETH, { ...V6, nextHeader: first }], join(extensions, segment));
}

function patched(packet: Uint8Array, changes: Readonly<Record<number, number>>): Uint8Array {
  const out = packet.slice();
  for (const [at, value] of Object.entries(changes)) out[Number(at)] = value;
  return out;
}

const v4Packet = encode([V4, UDP], filler(32));
const v6Packet = encode([V6, UDP], filler(32));
const tcpPacket = encode([V4, DATA], filler(32));
const router: Ipv4Spec = { type: 'ipv4', src: '172.18.0.1', dst: '10.244.0.2', id: 9 };
const router6: Ipv6Spec = { type: 'ipv6', src: 'fc00::1', dst: V6.src };

function sample(name: string, packet: Uint8Array, more: Partial<Omit<Sample, 'name' | 'bytes'>> = {}): Sample {
  return { name, bytes: packet, linkType: LINKTYPE.ethernet, sound: true, ...more };
}

const nd = (type: number, body: string): Uint8Array => {
  // Encoded through the generic echo form, then type and checksum put right by making it again.
  const ip: Ipv6Spec = { type: 'ipv6', src: 'fe80::1', dst: 'ff02::1', hopLimit: 255, nextHeader: 58 };
  const message = join(Uint8Array.of(type, 0, 0, 0), bytes(body));
  const packet = encode([ETH, ip], message);
  const ipWords = [...packet.subarray(22, 54), ...Uint8Array.of(0, 0, message.length >> 8, message.length & 255, 0, 0, 0, 58), ...message];
  let total = 0;
  for (let i = 0; i < ipWords.length; i += 2) total += ((ipWords[i] as number) << 8) + (ipWords[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return patched(packet, { 56: (~total >> 8) & 255, 57: ~total & 255 });
};

/** INIT with the CRC32c that tshark calls good. */
function sctp(): Uint8Array {
  const packet = bytes('80e80050 00000000 00000000 01000014 00000001 00010000 000a000a 00000001');
  new DataView(packet.buffer).setUint32(8, crc32c(packet, 0, packet.length, 8));
  return packet;
}

const WG: readonly LayerSpec[] = [OUTER_ETH, OUTER_V4, { type: 'udp', srcPort: 51820, dstPort: 51820 }];
const WIREGUARD: readonly Sample[] = [
  sample('wireguard initiation', encode([...WG, { type: 'wireguard', message: 'initiation', senderIndex: 0xdeadbeef }])),
  sample('wireguard response', encode([...WG, { type: 'wireguard', message: 'response', senderIndex: 0x01020304, receiverIndex: 0xdeadbeef }])),
  sample('wireguard cookie reply', encode([...WG, { type: 'wireguard', message: 'cookie reply', receiverIndex: 0xdeadbeef }])),
  sample('wireguard data', encode([...WG, { type: 'wireguard', message: 'data', receiverIndex: 0xfefdfcfb, counter: 0x1_0000_0007 }], filler(112))),
  sample('wireguard keepalive', encode([...WG, { type: 'wireguard', message: 'data', receiverIndex: 1 }], filler(16))),
];

export const SAMPLES: readonly Sample[] = [
  sample('arp request', encode([{ ...ETH, dst: 'ff:ff:ff:ff:ff:ff' }, { type: 'arp', operation: 1, senderMac: ETH.src, senderIp: '10.244.0.2', targetMac: '00:00:00:00:00:00', targetIp: '10.244.0.1' }])),
  sample('arp reply, padded to 60', join(encode([ETH, { type: 'arp', operation: 2, senderMac: ETH.src, senderIp: '10.244.0.1', targetMac: ETH.dst, targetIp: '10.244.0.2' }]), new Uint8Array(18))),
  sample('icmp echo request', encode([ETH, V4, ECHO], filler(56))),
  sample('icmp echo reply', encode([ETH, V4, { type: 'icmp', message: { kind: 'echo-reply', id: 7, sequence: 1 } }], filler(56))),
  sample('icmp port unreachable', encode([ETH, router, { type: 'icmp', message: { kind: 'unreachable', code: 3 } }], v4Packet)),
  sample('icmp host unreachable, 8 bytes of tcp quoted', encode([ETH, router, { type: 'icmp', message: { kind: 'unreachable', code: 1 } }], tcpPacket.subarray(0, 28))),
  sample('icmp fragmentation needed', encode([ETH, router, { type: 'icmp', message: { kind: 'unreachable', code: 4, mtu: 1450 } }], tcpPacket)),
  sample('icmp time exceeded', encode([ETH, router, { type: 'icmp', message: { kind: 'time-exceeded' } }], v4Packet)),
  sample('icmp redirect', encode([ETH, router, { type: 'icmp', message: { kind: 'redirect', gateway: '10.244.0.9' } }], v4Packet)),
  sample('tcp syn with options', encode([ETH, V4, SYN])),
  sample('tcp data', encode([ETH, V4, DATA], filler(101))),
  sample('tcp sack', encode([ETH, V4, { ...DATA, flags: TCP_FLAGS.ack, options: [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'sack', blocks: [{ left: 1, right: 2 }, { left: 3, right: 0xffffffff }] }] }])),
  sample('tcp rst, ack padded to 60', join(encode([ETH, V4, { ...DATA, flags: TCP_FLAGS.rst | TCP_FLAGS.ack, options: [] }]), new Uint8Array(6))),
  sample('tcp checksum offloaded', encode([ETH, V4, { ...DATA, checksum: 'offloaded' }], filler(101))),
  sample('udp', encode([ETH, V4, UDP], filler(33))),
  sample('udp without data', encode([ETH, V4, UDP])),
  sample('udp without checksum', encode([ETH, V4, { ...UDP, checksum: 0 }], filler(33))),
  sample('udp checksum offloaded', encode([ETH, V4, { ...UDP, checksum: 'offloaded' }], filler(33))),
  sample('ipv4 options', encode([ETH, { ...V4, options: [{ type: 148, data: Uint8Array.of(0, 0) }] }, UDP], filler(9))),
  sample('ipv4 first fragment', encode([ETH, { ...V4, protocol: 17, moreFragments: true }], encode([V4, UDP], filler(64)).subarray(20, 60))),
  sample('ipv4 later fragment', encode([ETH, { ...V4, protocol: 17, fragmentOffset: 1480 }], filler(40))),
  sample('vlan', encode([ETH, { type: 'vlan', id: 100, priority: 5 }, V4, UDP], filler(20))),
  sample('qinq', encode([ETH, { type: 'vlan', id: 7, tpid: 0x88a8 }, { type: 'vlan', id: 100 }, V4, SYN])),
  sample('ipv6 udp', encode([ETH, V6, UDP], filler(20))),
  sample('ipv6 tcp', encode([ETH, V6, DATA], filler(21))),
  sample('ipv6 tcp offloaded', encode([ETH, V6, { ...DATA, checksum: 'offloaded' }], filler(21))),
  sample('icmpv6 echo', encode([ETH, V6, { type: 'icmpv6', message: { kind: 'echo-request', id: 9, sequence: 3 } }], filler(56))),
  sample('icmpv6 neighbour solicitation', encode([ETH, { ...V6, hopLimit: 255 }, { type: 'icmpv6', message: { kind: 'neighbour-solicitation', target: 'fd00:10:244::1', sourceMac: ETH.src } }])),
  sample('icmpv6 neighbour advertisement', encode([ETH, { ...V6, hopLimit: 255 }, { type: 'icmpv6', message: { kind: 'neighbour-advertisement', target: 'fd00:10:244::1', targetMac: ETH.src, solicited: true, override: true } }])),
  sample('icmpv6 router solicitation', nd(133, '00000000 0101 0a580af40002')),
  sample('icmpv6 router advertisement', nd(134, '40c00708 00000000 00000000 0304 40c0 00015180 00003840 00000000 fd000010024400000000000000000000 0501 0000 000005aa')),
  sample('icmpv6 packet too big', encode([ETH, router6, { type: 'icmpv6', message: { kind: 'packet-too-big', mtu: 1430 } }], v6Packet)),
  sample('icmpv6 port unreachable', encode([ETH, router6, { type: 'icmpv6', message: { kind: 'unreachable', code: 4 } }], v6Packet)),
  sample('icmpv6 time exceeded', encode([ETH, router6, { type: 'icmpv6', message: { kind: 'time-exceeded', code: 0 } }], v6Packet)),
  sample('ipv6 hop-by-hop and destination options', extended(0, bytes('3c00 0502 0000 0100  1100 0104 00000000'), UDP)),
  sample('ipv6 routing, one segment left', extended(43, bytes('1102 0001 00000000 20010db8000000000000000000000007'), UDP, { ...V6, dst: '2001:db8::7' })),
  sample('ipv6 first fragment', extended(44, bytes('11000001 0000abcd'), UDP)),
  sample('ipv6 later fragment', extended(44, bytes('110005a8 0000abcd'), UDP)),
  sample('ipv6 atomic fragment', extended(44, bytes('11000000 0000abcd'), UDP)),
  sample('ipv6 ah', extended(51, bytes('11040000 00000001 00000002 000000000000000000000000'), UDP)),
  sample('ipv6 no next header', encode([ETH, { ...V6, nextHeader: 59 }], filler(8))),
  sample('vxlan icmp', encode([...VXLAN, ETH, V4, ECHO], filler(56))),
  sample('vxlan tcp over ipv6, iana port', encode([...VXLAN6, ETH, V4, DATA], filler(40))),
  sample('vxlan ipv6 inside, offloaded', encode([...VXLAN, ETH, V6, { ...DATA, checksum: 'offloaded' }], filler(40))),
  sample('vxlan arp', encode([...VXLAN, ETH, { type: 'arp', operation: 1, senderMac: ETH.src, senderIp: '10.244.0.2', targetMac: '00:00:00:00:00:00', targetIp: '10.244.0.1' }])),
  sample('vxlan in vxlan', encode([...VXLAN, ...VXLAN6, ETH, V4, ECHO], filler(8))),
  ...WIREGUARD,
  sample('ipip', encode([OUTER_ETH, OUTER_V4, V4, DATA], filler(30))),
  sample('6in4', encode([OUTER_ETH, OUTER_V4, V6, UDP], filler(30))),
  sample('ip6ip6', encode([OUTER_ETH, OUTER_V6, V6, UDP], filler(30))),
  sample('gre', encode([OUTER_ETH, OUTER_V4, { type: 'gre', key: 5, checksum: true, sequence: 2 }, V4, UDP], filler(30))),
  sample('gretap', encode([OUTER_ETH, OUTER_V4, { type: 'gre' }, ETH, V4, UDP], filler(30))),
  sample('sctp init', encode([ETH, { ...V4, protocol: 132 }], sctp())),
  sample('sctp offloaded', encode([ETH, { ...V4, protocol: 132 }], bytes('80e80050 00000000 00000000 0b000004'))),
  sample('unknown ethertype', encode([{ ...ETH, etherType: 0x88b5 }], filler(46))),
  sample('802.3 length', encode([{ ...ETH, etherType: 38 }], join(bytes('424203'), filler(43)))),
  sample('linux cooked', join(bytes('0000 0001 0006 0a580af40002 0000 0800'), v4Packet), { linkType: LINKTYPE.linuxSll }),
  sample('linux cooked 2', join(bytes('0800 0000 00000005 0001 04 06 0a580af40002 0000'), v4Packet), { linkType: LINKTYPE.linuxSll2 }),
  sample('raw ipv4', v4Packet, { linkType: LINKTYPE.raw }),
  sample('raw ipv6', v6Packet, { linkType: LINKTYPE.raw }),
  sample('null', join(bytes('02000000'), v4Packet), { linkType: LINKTYPE.null }),
  sample('loop', join(bytes('00000018'), v6Packet), { linkType: LINKTYPE.loop }),
  // Unsound ones.
  sample('bad ipv4 checksum', patched(encode([ETH, V4, UDP], filler(20)), { 24: 0xff }), { sound: false }),
  sample('bad tcp checksum', encode([ETH, V4, { ...DATA, checksum: 0x1111 }], filler(20)), { sound: false }),
  sample('bad udp checksum', encode([ETH, V6, { ...UDP, checksum: 0x1111 }], filler(20)), { sound: false }),
  sample('bad icmp checksum', encode([ETH, V4, { ...ECHO, checksum: 0x1111 } as LayerSpec], filler(20)), { sound: false }),
  sample('bad icmpv6 checksum', encode([ETH, V6, { type: 'icmpv6', message: { kind: 'echo-request', id: 9, sequence: 3 }, checksum: 0x1111 }], filler(56)), { sound: false }),
  sample('bad sctp checksum', patched(encode([ETH, { ...V4, protocol: 132 }], sctp()), { 45: 0xff }), { sound: false }),
  sample('ipv6 udp checksum 0', encode([ETH, V6, { ...UDP, checksum: 0 }], filler(20)), { sound: false }),
  sample('cut by the capture', encode([...VXLAN, ETH, V4, DATA], filler(500)).subarray(0, 128), { sound: false, originalLength: 14 + 20 + 8 + 8 + 14 + 20 + 32 + 500 }),
  sample('ipv4 longer than the frame', encode([ETH, V4, UDP], filler(50)).subarray(0, 60), { sound: false }),
  sample('ipv4 header length 8', patched(encode([ETH, V4, UDP], filler(50)), { 14: 0x42 }), { sound: false }),
  sample('udp length 3', patched(encode([ETH, V4, UDP], filler(50)), { 38: 0, 39: 3 }), { sound: false }),
  sample('tcp header beyond the packet', patched(encode([ETH, V4, DATA]), { 46: 0xf0 }), { sound: false }),
  sample('tcp option of length 0', patched(encode([ETH, V4, DATA]), { 57: 0 }), { sound: false }),
];
