/**
 * One line for a packet, in tcpdump's words (`tcpdump -n -S`), outer and inner packet separated by " / ". VLAN tags come first, and what is
 * wrong with the packet last, in brackets.
 */
import type { DecodedPacket } from './decode.js';
import type { Layer } from './layers.js';
import type { ArpLayer } from './protocols/arp.js';
import type { IcmpLayer } from './protocols/icmp.js';
import type { Icmpv6Layer } from './protocols/icmpv6.js';
import { sctpChunkName } from './protocols/sctp.js';
import { wireguardText } from './protocols/wireguard.js';
import type { TcpLayer, TcpOption } from './protocols/tcp.js';
import { hexNumber } from './bytes.js';

const LINUX_VXLAN_PORT = 8472;
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'ICMP', 2: 'IGMP', 6: 'TCP', 17: 'UDP', 50: 'ESP', 58: 'ICMP6', 89: 'OSPF', 112: 'VRRP', 132: 'SCTP' };

export function summary(packet: DecodedPacket): string {
  const { layers } = packet;
  const parts: string[] = [];
  let tags = '';
  for (let i = 0; i < layers.length; ) {
    const layer = layers[i] as Layer;
    if (layer.type === 'vlan') tags += `vlan ${layer.id}, `;
    if (layer.type === 'ipv4' || layer.type === 'ipv6') {
      const stop = nextPacket(layers, i + 1);
      parts.push(tags + ipText(packet, layers.slice(i, stop)));
      tags = '';
      i = stop;
      continue;
    }
    if (layer.type === 'arp') parts.push(tags + arpText(layer));
    else if (layer.type === 'partial') parts.push(`${tags}${layer.protocol} header cut short`);
    i++;
  }
  if (parts.length === 0) parts.push(tags + bareText(packet));
  const wrong = packet.problems.map((p) => ` [${p.protocol}: ${p.message}]`).join('');
  return parts.join(' / ') + wrong;
}

/** Index where the next encapsulated packet begins. */
function nextPacket(layers: readonly Layer[], from: number): number {
  for (let i = from; i < layers.length; i++) {
    const type = (layers[i] as Layer).type;
    if (type === 'ipv4' || type === 'ipv6' || type === 'ethernet' || type === 'arp' || type === 'vlan') return i;
  }
  return layers.length;
}

function bareText(packet: DecodedPacket): string {
  const last = packet.layers.at(-1);
  if (last !== undefined && 'etherType' in last) {
    const kind = last.etherType < 1536 ? '802.3' : `ethertype ${hexNumber(last.etherType)}`;
    return `${last.type === 'ethernet' ? `${last.src} > ${last.dst}, ` : ''}${kind}, length ${packet.originalLength}`;
  }
  return `link type ${packet.linkType}, length ${packet.originalLength}`;
}

function arpText(arp: ArpLayer): string {
  const length = `length ${arp.headerLength}`;
  if (arp.operation === 1) return `ARP, Request who-has ${arp.targetIp} tell ${arp.senderIp}, ${length}`;
  if (arp.operation === 2) return `ARP, Reply ${arp.senderIp} is-at ${arp.senderMac}, ${length}`;
  return `ARP, operation ${arp.operation}, ${length}`;
}

/** One IP packet: its header, extension headers and what it carries up to an encapsulated packet. */
function ipText(packet: DecodedPacket, layers: readonly Layer[]): string {
  const ip = layers[0];
  if (ip?.type !== 'ipv4' && ip?.type !== 'ipv6') return '';
  const family = ip.type === 'ipv4' ? 'IP' : 'IP6';
  const rest = layers.slice(1);
  const upper = rest.find((l) => !l.type.startsWith('ipv6-') && l.type !== 'ah');
  const end = packet.payloadEnd;
  const plain = (what: string): string => `${family} ${ip.src} > ${ip.dst}: ${what}`;
  const withPorts = (l: { readonly srcPort: number; readonly dstPort: number }, what: string): string =>
    `${family} ${ip.src}.${l.srcPort} > ${ip.dst}.${l.dstPort}: ${what}${firstFragmentText(layers)}`;
  switch (upper?.type) {
    case 'tcp':
      return withPorts(upper, tcpText(upper, end));
    case 'udp': {
      const sealed = rest.find((l) => l.type === 'wireguard');
      if (sealed !== undefined) return withPorts(upper, `${wireguardText(sealed)}, length ${Math.max(0, upper.length - 8)}`);
      const tunnel = rest.find((l) => l.type === 'vxlan');
      if (tunnel === undefined) return withPorts(upper, `UDP, length ${Math.max(0, upper.length - 8)}`);
      return withPorts(upper, `VXLAN vni ${tunnel.vni}${upper.dstPort === LINUX_VXLAN_PORT ? ' (OTV in tcpdump)' : ''}`);
    }
    case 'sctp':
      return withPorts(upper, `SCTP [${upper.chunks.map((chunk) => sctpChunkName(chunk.type)).join(', ')}], length ${end - upper.offset}`);
    case 'icmp':
      return plain(`${icmpText(upper)}, length ${end - upper.offset}`);
    case 'icmpv6':
      return plain(`ICMP6, ${icmpv6Text(upper)}, length ${end - upper.offset}`);
    case 'gre':
      return plain(`GRE${upper.key === undefined ? '' : `, key ${hexNumber(upper.key, 1)}`}, proto ${hexNumber(upper.protocol)}`);
    case 'partial':
      if (upper.fields.srcPort !== undefined && upper.fields.dstPort !== undefined) {
        return `${family} ${ip.src}.${upper.fields.srcPort} > ${ip.dst}.${upper.fields.dstPort}: ${upper.protocol.toUpperCase()} header cut short`;
      }
      return plain(`${upper.protocol} header cut short`);
    default:
      return plain(carriedText(layers, end));
  }
}

function firstFragmentText(layers: readonly Layer[]): string {
  const first = layers.find((l) => (l.type === 'ipv4' || l.type === 'ipv6-fragment') && l.moreFragments);
  return first !== undefined && 'moreFragments' in first ? `, first fragment, id ${first.id}` : '';
}

/** For an IP packet whose content is not decoded: a later fragment, an encapsulated IP packet, or a protocol that is not known here. */
function carriedText(layers: readonly Layer[], end: number): string {
  const ip = layers[0] as Layer;
  let protocol = ip.type === 'ipv4' ? ip.protocol : 0;
  for (const layer of layers) if ('nextHeader' in layer) protocol = layer.nextHeader;
  if (protocol === 4 || protocol === 41) return protocol === 4 ? 'IPIP' : 'IPv6 in IP';
  if (protocol === 59) return 'no next header';
  const name = PROTOCOL_NAMES[protocol] ?? `ip-proto-${protocol}`;
  const fragment = ip.type === 'ipv4' ? ip : layers.find((l) => l.type === 'ipv6-fragment');
  if (fragment !== undefined && fragment.fragmentOffset > 0) {
    return `${name} fragment, id ${fragment.id}, offset ${fragment.fragmentOffset}${fragment.moreFragments ? ', more follow' : ', last'}`;
  }
  const last = layers.at(-1) as Layer;
  return `${name}, length ${end - last.offset - last.headerLength}`;
}

const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [1, 'F'], [2, 'S'], [4, 'R'], [8, 'P'], [16, '.'], [32, 'U'], [64, 'E'], [128, 'W'], [256, 'e'],
];

function tcpText(tcp: TcpLayer, end: number): string {
  const length = Math.max(0, end - tcp.offset - tcp.headerLength);
  const letters = FLAG_LETTERS.filter(([bit]) => (tcp.flags & bit) !== 0).map(([, letter]) => letter).join('');
  const words = [`Flags [${letters === '' ? 'none' : letters}]`];
  if (length > 0) words.push(`seq ${tcp.sequence}:${(tcp.sequence + length) >>> 0}`);
  else if ((tcp.flags & 7) !== 0) words.push(`seq ${tcp.sequence}`);
  if ((tcp.flags & 16) !== 0) words.push(`ack ${tcp.acknowledgement}`);
  words.push(`win ${tcp.window}`);
  if ((tcp.flags & 32) !== 0) words.push(`urg ${tcp.urgentPointer}`);
  if (tcp.options.length > 0) words.push(`options [${tcp.options.map(optionText).join(',')}]`);
  words.push(`length ${length}`);
  return words.join(', ');
}

function optionText(option: TcpOption): string {
  switch (option.kind) {
    case 'nop':
      return 'nop';
    case 'mss':
      return `mss ${option.value}`;
    case 'window-scale':
      return `wscale ${option.shift}`;
    case 'sack-permitted':
      return 'sackOK';
    case 'sack':
      return `sack ${option.blocks.length} ${option.blocks.map((b) => `{${b.left}:${b.right}}`).join('')}`;
    case 'timestamp':
      return `TS val ${option.value} ecr ${option.echo}`;
    case 'other':
      return `option ${option.number}`;
  }
}

/** Address and, where there are ports, `udp port 53` of the packet that an error quotes. */
function quotedTarget(quoted: readonly Layer[]): { address: string; port: string } {
  const ip = quoted[0];
  const address = ip?.type === 'ipv4' || ip?.type === 'ipv6' ? ip.dst : 'an unreadable packet';
  const upper = quoted[1];
  if (upper?.type === 'tcp' || upper?.type === 'udp') return { address, port: `${upper.type} port ${upper.dstPort}` };
  if (upper?.type === 'partial' && upper.fields.dstPort !== undefined) return { address, port: `${upper.protocol} port ${upper.fields.dstPort}` };
  return { address, port: 'port' };
}

function icmpText({ message, icmpType, code }: IcmpLayer): string {
  switch (message.kind) {
    case 'echo-request':
    case 'echo-reply':
      return `ICMP ${message.kind.replace('-', ' ')}, id ${message.id}, seq ${message.sequence}`;
    case 'unreachable':
      return `ICMP ${unreachableText(message.quoted, code, message.mtu)}`;
    case 'time-exceeded':
      return `ICMP ${code === 0 ? 'time exceeded in-transit' : 'ip reassembly time exceeded'}`;
    case 'redirect':
      return `ICMP redirect ${quotedTarget(message.quoted).address} to ${code === 0 ? 'net' : 'host'} ${message.gateway}`;
    case 'parameter-problem':
      return `ICMP parameter problem - octet ${message.pointer}`;
    case 'other':
      return `ICMP type ${icmpType} code ${code}`;
  }
}

function unreachableText(quoted: readonly Layer[], code: number, mtu: number): string {
  const { address, port } = quotedTarget(quoted);
  switch (code) {
    case 0:
      return `net ${address} unreachable`;
    case 1:
      return `host ${address} unreachable`;
    case 2: {
      const ip = quoted[0];
      return `${address} protocol ${ip?.type === 'ipv4' ? ip.protocol : 0} unreachable`;
    }
    case 3:
      return `${address} ${port} unreachable`;
    case 4:
      return `${address} unreachable - need to frag${mtu === 0 ? '' : ` (mtu ${mtu})`}`;
    case 5:
      return `${address} unreachable - source route failed`;
    case 9:
      return `net ${address} unreachable - admin prohibited`;
    case 10:
      return `host ${address} unreachable - admin prohibited`;
    case 13:
      return `host ${address} unreachable - admin prohibited filter`;
    default:
      return `${address} unreachable, code ${code}`;
  }
}

const V6_UNREACHABLE: readonly string[] = ['route', 'prohibited', 'beyond scope', 'address', 'port', 'source policy', 'reject route'];

const MULTICAST_LISTENER: Readonly<Record<number, string>> = {
  130: 'multicast listener query',
  131: 'multicast listener report',
  132: 'multicast listener done',
  143: 'multicast listener report v2',
};

function icmpv6Text({ message, icmpType, code }: Icmpv6Layer): string {
  switch (message.kind) {
    case 'echo-request':
    case 'echo-reply':
      return `${message.kind.replace('-', ' ')}, id ${message.id}, seq ${message.sequence}`;
    case 'unreachable': {
      const { address, port } = quotedTarget(message.quoted);
      return `destination unreachable, unreachable ${V6_UNREACHABLE[code] ?? `code ${code}`}${code === 4 ? `, ${address} ${port}` : ` ${address}`}`;
    }
    case 'packet-too-big':
      return `packet too big, mtu ${message.mtu}`;
    case 'time-exceeded':
      return code === 0 ? `time exceeded in-transit for ${quotedTarget(message.quoted).address}` : 'ip reassembly time exceeded';
    case 'parameter-problem':
      return `parameter problem - octet ${message.pointer}`;
    case 'router-solicitation':
      return 'router solicitation';
    case 'router-advertisement':
      return 'router advertisement';
    case 'neighbour-solicitation':
      return `neighbor solicitation, who has ${message.target}`;
    case 'neighbour-advertisement':
      return `neighbor advertisement, tgt is ${message.target}`;
    case 'redirect':
      return `redirect, ${message.destination} to ${message.target}`;
    case 'other':
      return MULTICAST_LISTENER[icmpType] ?? `type ${icmpType} code ${code}`;
  }
}
