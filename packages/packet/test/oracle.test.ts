/** Every kind of packet, field by field, against tshark; the one-line summary against tcpdump. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, PcapngWriter, pcapHeader, pcapRecord, summary, type ChecksumState, type Layer } from '../src/index.js';
import { SAMPLES, type Sample } from './corpus.js';
import { missing, output, tsharkFields, withFile } from './oracle.js';

function pcapng(samples: readonly Sample[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const writer = new PcapngWriter((b) => parts.push(b));
  const ids = new Map<number, number>();
  samples.forEach((s, i) => {
    if (!ids.has(s.linkType)) ids.set(s.linkType, writer.addInterface({ name: `link${s.linkType}`, linkType: s.linkType }));
    writer.packet({
      interfaceId: ids.get(s.linkType) as number,
      timeNs: 1_700_000_000_000_000_000n + BigInt(i),
      bytes: s.bytes,
      ...(s.originalLength !== undefined && { originalLength: s.originalLength }),
    });
  });
  return Buffer.concat(parts);
}

const decodeSample = (s: Sample): ReturnType<typeof decode> =>
  decode(s.bytes, s.linkType, s.originalLength === undefined ? {} : { originalLength: s.originalLength });

/** All layers in order, quoted ones directly after the ICMP error that quotes them, as tshark numbers them. */
function flat(layers: readonly Layer[]): Layer[] {
  return layers.flatMap((l) => ((l.type === 'icmp' || l.type === 'icmpv6') && 'quoted' in l.message ? [l, ...flat(l.message.quoted)] : [l]));
}

const hex = (n: number, digits: number): string => '0x' + n.toString(16).padStart(digits, '0');
const bool = (b: boolean): string => (b ? '1' : '0');

/** tshark 4.0 knows no offloaded checksums and calls them bad (0); 1 good, 2 unverified, 3 not present. */
const STATUS: Readonly<Record<ChecksumState, string>> = { ok: '1', bad: '0', offloaded: '0', absent: '3', unverifiable: '2' };

type Column = readonly [field: string, of: (layer: Layer) => readonly string[]];

const on = <T extends Layer['type']>(type: T, get: (layer: Extract<Layer, { type: T }>) => string | readonly string[]): Column[1] => (layer) => {
  if (layer.type !== type) return [];
  const value = get(layer as Extract<Layer, { type: T }>);
  return typeof value === 'string' ? [value] : value;
};

/** Also of a TCP header that an ICMP error quotes 8 bytes of. */
const tcpPort = (side: 'srcPort' | 'dstPort'): Column[1] => (l) =>
  l.type === 'tcp' ? [String(l[side])] : l.type === 'partial' && l.protocol === 'tcp' ? [String(l.fields[side])] : [];

const WIREGUARD_TYPES: readonly string[] = ['initiation', 'response', 'cookie reply', 'data'];
const COLUMNS: readonly Column[] = [
  ['eth.src', on('ethernet', (l) => l.src)],
  ['eth.dst', on('ethernet', (l) => l.dst)],
  ['vlan.id', on('vlan', (l) => (l.tpid === 0x8100 ? String(l.id) : []))],
  ['vlan.priority', on('vlan', (l) => (l.tpid === 0x8100 ? String(l.priority) : []))],
  ['ieee8021ad.id', on('vlan', (l) => (l.tpid === 0x88a8 ? String(l.id) : []))],
  ['arp.opcode', on('arp', (l) => String(l.operation))],
  ['arp.src.hw_mac', on('arp', (l) => l.senderMac)],
  ['arp.src.proto_ipv4', on('arp', (l) => l.senderIp)],
  ['arp.dst.hw_mac', on('arp', (l) => l.targetMac)],
  ['arp.dst.proto_ipv4', on('arp', (l) => l.targetIp)],
  ['ip.src', on('ipv4', (l) => l.src)],
  ['ip.dst', on('ipv4', (l) => l.dst)],
  ['ip.id', on('ipv4', (l) => hex(l.id, 4))],
  ['ip.ttl', on('ipv4', (l) => String(l.ttl))],
  ['ip.len', on('ipv4', (l) => String(l.totalLength))],
  ['ip.hdr_len', on('ipv4', (l) => String(l.headerLength))],
  ['ip.proto', on('ipv4', (l) => String(l.protocol))],
  ['ip.flags.df', on('ipv4', (l) => bool(l.dontFragment))],
  ['ip.flags.mf', on('ipv4', (l) => bool(l.moreFragments))],
  ['ip.frag_offset', on('ipv4', (l) => String(l.fragmentOffset / 8))],
  ['ip.checksum', on('ipv4', (l) => hex(l.checksum, 4))],
  ['ip.checksum.status', on('ipv4', (l) => STATUS[l.checksumState])],
  ['ipv6.src', on('ipv6', (l) => l.src)],
  ['ipv6.dst', on('ipv6', (l) => l.dst)],
  ['ipv6.hlim', on('ipv6', (l) => String(l.hopLimit))],
  ['ipv6.plen', on('ipv6', (l) => String(l.payloadLength))],
  ['ipv6.flow', on('ipv6', (l) => hex(l.flowLabel, 6))],
  ['ipv6.fraghdr.offset', on('ipv6-fragment', (l) => String(l.fragmentOffset / 8))],
  ['ipv6.fraghdr.ident', on('ipv6-fragment', (l) => hex(l.id, 8))],
  ['ipv6.routing.segleft', on('ipv6-routing', (l) => String(l.segmentsLeft))],
  ['ipv6.routing.src.addr', on('ipv6-routing', (l) => l.addresses)],
  ['ah.spi', on('ah', (l) => hex(l.spi, 8))],
  ['icmp.type', on('icmp', (l) => String(l.icmpType))],
  ['icmp.code', on('icmp', (l) => String(l.code))],
  ['icmp.ident', on('icmp', (l) => ('id' in l.message ? [String(l.message.id)] : []))],
  ['icmp.seq', on('icmp', (l) => ('id' in l.message ? String(l.message.sequence) : []))],
  ['icmp.mtu', on('icmp', (l) => (l.message.kind === 'unreachable' && l.code === 4 ? String(l.message.mtu) : []))],
  ['icmp.redir_gw', on('icmp', (l) => (l.message.kind === 'redirect' ? l.message.gateway : []))],
  ['icmp.checksum.status', on('icmp', (l) => STATUS[l.checksumState])],
  ['icmpv6.type', on('icmpv6', (l) => String(l.icmpType))],
  ['icmpv6.code', on('icmpv6', (l) => String(l.code))],
  ['icmpv6.mtu', on('icmpv6', (l) => (l.message.kind === 'packet-too-big' ? String(l.message.mtu) : []))],
  ['icmpv6.nd.ns.target_address', on('icmpv6', (l) => (l.message.kind === 'neighbour-solicitation' ? l.message.target : []))],
  ['icmpv6.nd.na.target_address', on('icmpv6', (l) => (l.message.kind === 'neighbour-advertisement' ? l.message.target : []))],
  ['icmpv6.opt.linkaddr', on('icmpv6', (l) => ('options' in l.message ? l.message.options.flatMap((o) => ('address' in o ? [o.address] : [])) : []))],
  ['icmpv6.opt.prefix', on('icmpv6', (l) => ('options' in l.message ? l.message.options.flatMap((o) => (o.kind === 'prefix' ? [o.prefix] : [])) : []))],
  ['icmpv6.opt.mtu', on('icmpv6', (l) => ('options' in l.message ? l.message.options.flatMap((o) => (o.kind === 'mtu' ? [String(o.mtu)] : [])) : []))],
  ['icmpv6.checksum.status', on('icmpv6', (l) => STATUS[l.checksumState])],
  ['tcp.srcport', tcpPort('srcPort')],
  ['tcp.dstport', tcpPort('dstPort')],
  ['tcp.seq_raw', on('tcp', (l) => String(l.sequence))],
  ['tcp.ack_raw', on('tcp', (l) => String(l.acknowledgement))],
  ['tcp.flags', on('tcp', (l) => hex(l.flags, 4))],
  ['tcp.window_size_value', on('tcp', (l) => String(l.window))],
  ['tcp.hdr_len', on('tcp', (l) => String(l.headerLength))],
  ['tcp.options.mss_val', on('tcp', (l) => l.options.flatMap((o) => (o.kind === 'mss' ? [String(o.value)] : [])))],
  ['tcp.options.wscale.shift', on('tcp', (l) => l.options.flatMap((o) => (o.kind === 'window-scale' ? [String(o.shift)] : [])))],
  ['tcp.options.timestamp.tsval', on('tcp', (l) => l.options.flatMap((o) => (o.kind === 'timestamp' ? [String(o.value)] : [])))],
  ['tcp.checksum.status', on('tcp', (l) => STATUS[l.checksumState])],
  ['udp.srcport', on('udp', (l) => String(l.srcPort))],
  ['udp.dstport', on('udp', (l) => String(l.dstPort))],
  ['udp.length', on('udp', (l) => String(l.length))],
  ['udp.checksum', on('udp', (l) => hex(l.checksum, 4))],
  ['udp.checksum.status', on('udp', (l) => STATUS[l.checksumState])],
  ['sctp.srcport', on('sctp', (l) => String(l.srcPort))],
  ['sctp.verification_tag', on('sctp', (l) => hex(l.verificationTag, 8))],
  ['sctp.chunk_type', on('sctp', (l) => l.chunks.map((chunk) => String(chunk.type)))],
  ['sctp.checksum.status', on('sctp', (l) => STATUS[l.checksumState])],
  ['vxlan.vni', on('vxlan', (l) => String(l.vni))],
  ['vxlan.flags', on('vxlan', (l) => hex(l.flags << 8, 4))],
  ['wg.type', on('wireguard', (l) => String(WIREGUARD_TYPES.indexOf(l.message) + 1))],
  ['wg.sender', on('wireguard', (l) => (l.senderIndex === undefined ? [] : hex(l.senderIndex, 8)))],
  ['wg.receiver', on('wireguard', (l) => (l.receiverIndex === undefined ? [] : hex(l.receiverIndex, 8)))],
  ['wg.counter', on('wireguard', (l) => (l.counter === undefined ? [] : String(l.counter)))],
  ['gre.proto', on('gre', (l) => hex(l.protocol, 4))],
  ['gre.key', on('gre', (l) => (l.key === undefined ? [] : hex(l.key, 8)))],
  ['sll.src.eth', on('linux-cooked', (l) => l.src)],
  ['sll.ifindex', on('linux-cooked', (l) => (l.ifindex === undefined ? [] : String(l.ifindex)))],
];

/** Where we differ from tshark, and why. `*` stands for all fields of the sample. */
const DIFFERENCES: Readonly<Record<string, string>> = {
  'icmp fragmentation needed: tcp.seq_raw': 'tshark leaves raw numbers out of quoted packets',
  'icmp redirect: udp.checksum.status': 'tshark does not verify in this quote, though it is whole',
  'vxlan tcp over ipv6, iana port: udp.checksum.status': 'tshark calls 0 over IPv6 illegal (4); RFC 6935 allows it to tunnels',
  'vxlan in vxlan: udp.checksum.status': 'the same',
  'ipv6 udp checksum 0: udp.checksum.status': 'tshark has a state of its own (4, illegal) for what we call bad',
  'ipv4 header length 8: *': 'tshark stops; we read on as if it were 20',
  'udp length 3: udp.checksum': 'tshark stops after the length',
  'udp length 3: udp.checksum.status': 'the same',
  'tcp header beyond the packet: tcp.hdr_len': 'tshark shows what the header says, we what is there',
};

test('every field of every kind of packet agrees with tshark', { skip: missing('tshark') }, () => {
  const rows = tsharkFields(pcapng(SAMPLES), COLUMNS.map(([field]) => field));
  assert.equal(rows.length, SAMPLES.length);
  const differences: string[] = [];
  const seen = new Set<string>();
  const used = new Set<string>();
  SAMPLES.forEach((s, i) => {
    const layers = flat(decodeSample(s).layers);
    COLUMNS.forEach(([field, of], k) => {
      const ours = layers.flatMap(of).join(',');
      const theirs = (rows[i]?.[k] ?? []).join(',');
      if (ours !== '') seen.add(field);
      if (ours === theirs) return;
      const excuse = [`${s.name}: ${field}`, `${s.name}: *`].find((key) => key in DIFFERENCES);
      if (excuse === undefined) differences.push(`${s.name}: ${field}: tshark ${theirs}, ours ${ours}`);
      else used.add(excuse);
    });
  });
  assert.deepEqual(differences, []);
  assert.deepEqual(COLUMNS.map(([f]) => f).filter((f) => !seen.has(f)), [], 'columns that no sample fills');
  assert.deepEqual([...used].sort(), Object.keys(DIFFERENCES).sort(), 'every listed difference is one');
});

/** Kinds for which tcpdump has other words or none, and ours. */
const OWN_WORDS: Readonly<Record<string, string>> = {
  'arp reply, padded to 60': 'ARP, Reply 10.244.0.1 is-at 0a:58:0a:f4:00:02, length 28',
  'ipv4 first fragment': 'IP 10.244.0.2.50000 > 10.244.2.2.9999: UDP, length 64, first fragment, id 4660',
  'ipv4 later fragment': 'IP 10.244.0.2 > 10.244.2.2: UDP fragment, id 4660, offset 1480, last',
  'vlan': 'vlan 100, IP 10.244.0.2.50000 > 10.244.2.2.9999: UDP, length 20',
  'qinq': 'vlan 7, vlan 100, IP 10.244.0.2.40000 > 10.244.2.2.9080: Flags [S], seq 4294967280, win 64240, options [mss 1410,sackOK,TS val 2309737967 ecr 0,nop,wscale 7], length 0',
  'ipv6 hop-by-hop and destination options': 'IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 16',
  'ipv6 routing, one segment left': 'IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 16',
  'ipv6 first fragment': 'IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 16, first fragment, id 43981',
  'ipv6 later fragment': 'IP6 fd00:10:244::2 > fd00:10:244:2::5: UDP fragment, id 43981, offset 1448, last',
  'ipv6 atomic fragment': 'IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 16',
  'ipv6 ah': 'IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 16',
  'vxlan icmp': 'IP 172.18.0.2.51234 > 172.18.0.3.8472: VXLAN vni 1 (OTV in tcpdump) / IP 10.244.0.2 > 10.244.2.2: ICMP echo request, id 7, seq 1, length 64',
  'vxlan tcp over ipv6, iana port': 'IP6 fc00::2.51234 > fc00::3.4789: VXLAN vni 11259375 / IP 10.244.0.2.40000 > 10.244.2.2.9080: Flags [P.], seq 100:140, ack 500, win 501, options [nop,nop,TS val 5 ecr 6], length 40',
  'vxlan ipv6 inside, offloaded': 'IP 172.18.0.2.51234 > 172.18.0.3.8472: VXLAN vni 1 (OTV in tcpdump) / IP6 fd00:10:244::2.40000 > fd00:10:244:2::5.9080: Flags [P.], seq 100:140, ack 500, win 501, options [nop,nop,TS val 5 ecr 6], length 40',
  'vxlan arp': 'IP 172.18.0.2.51234 > 172.18.0.3.8472: VXLAN vni 1 (OTV in tcpdump) / ARP, Request who-has 10.244.0.1 tell 10.244.0.2, length 28',
  'wireguard initiation': 'IP 172.18.0.2.51820 > 172.18.0.3.51820: WireGuard initiation, sender 0xdeadbeef, length 148',
  'wireguard response': 'IP 172.18.0.2.51820 > 172.18.0.3.51820: WireGuard response, sender 0x01020304, receiver 0xdeadbeef, length 92',
  'wireguard cookie reply': 'IP 172.18.0.2.51820 > 172.18.0.3.51820: WireGuard cookie reply, receiver 0xdeadbeef, length 64',
  'wireguard data': 'IP 172.18.0.2.51820 > 172.18.0.3.51820: WireGuard data, receiver 0xfefdfcfb, counter 4294967303, length 128',
  'wireguard keepalive': 'IP 172.18.0.2.51820 > 172.18.0.3.51820: WireGuard data, receiver 0x00000001, counter 0, length 32',
  'vxlan in vxlan': 'IP 172.18.0.2.51234 > 172.18.0.3.8472: VXLAN vni 1 (OTV in tcpdump) / IP6 fc00::2.51234 > fc00::3.4789: VXLAN vni 11259375 / IP 10.244.0.2 > 10.244.2.2: ICMP echo request, id 7, seq 1, length 16',
  'ipip': 'IP 172.18.0.2 > 172.18.0.3: IPIP / IP 10.244.0.2.40000 > 10.244.2.2.9080: Flags [P.], seq 100:130, ack 500, win 501, options [nop,nop,TS val 5 ecr 6], length 30',
  '6in4': 'IP 172.18.0.2 > 172.18.0.3: IPv6 in IP / IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 30',
  'ip6ip6': 'IP6 fc00::2 > fc00::3: IPv6 in IP / IP6 fd00:10:244::2.50000 > fd00:10:244:2::5.9999: UDP, length 30',
  'gre': 'IP 172.18.0.2 > 172.18.0.3: GRE, key 0x5, proto 0x0800 / IP 10.244.0.2.50000 > 10.244.2.2.9999: UDP, length 30',
  'gretap': 'IP 172.18.0.2 > 172.18.0.3: GRE, proto 0x6558 / IP 10.244.0.2.50000 > 10.244.2.2.9999: UDP, length 30',
  'sctp init': 'IP 10.244.0.2.33000 > 10.244.2.2.80: SCTP [INIT], length 32',
  'sctp offloaded': 'IP 10.244.0.2.33000 > 10.244.2.2.80: SCTP [COOKIE ACK], length 16',
  'unknown ethertype': '0a:58:0a:f4:00:02 > 0a:58:0a:f4:00:01, ethertype 0x88b5, length 60',
  '802.3 length': '0a:58:0a:f4:00:02 > 0a:58:0a:f4:00:01, 802.3, length 60',
};

test('summary() is what tcpdump prints', { skip: missing('tcpdump') }, () => {
  const samples = SAMPLES.filter((s) => s.sound && s.linkType === 1 && !(s.name in OWN_WORDS));
  assert.ok(samples.length >= 25, `${samples.length} kinds are compared`);
  const content = Buffer.concat([pcapHeader(), ...samples.map((s, i) => pcapRecord(s.bytes, BigInt(i)))]);
  const lines = withFile(content, (path) => output(['tcpdump', '-n', '-t', '-S', '-r', path])).trimEnd().split('\n');
  assert.deepEqual(samples.map((s) => summary(decodeSample(s))), lines);
});

test('summary() of what tcpdump words differently', () => {
  const ours = Object.fromEntries(SAMPLES.filter((s) => s.name in OWN_WORDS).map((s) => [s.name, summary(decodeSample(s))]));
  assert.deepEqual(ours, OWN_WORDS);
});
