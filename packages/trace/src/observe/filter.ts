/**
 * Which packets a capture takes: those of a flow between its two ends, and ICMP about them, bare or within VXLAN of either
 * underlay; and data messages of WireGuard, which do not say what they hold. In pcap-filter(7)'s language, so that the kernel throws the rest away.
 */
import { addressValue } from '../simulate/ip.js';
import { isV6 } from '../simulate/ipv6.js';
import type { Flow } from '../simulate/types.js';
import type { TunnelPorts } from './sighting.js';

/** From the start of the outer UDP header: UDP 8, VXLAN 8, Ethernet 14. */
const INNER_IP = 30;
const OUTER6 = 40;
/** Where the innermost header has its protocol and its addresses. */
const INNER = { inet: { protocol: 9, addresses: [12, 16], words: 1 }, inet6: { protocol: 6, addresses: [8, 24], words: 4 } } as const;
const NUMBER = { inet: { icmp: 1, tcp: 6, udp: 17 }, inet6: { icmp: 58, tcp: 6, udp: 17 } } as const;

/** `udp[42:4] = 0xaf40002`; of an IPv6 address all four words. `udp[]` knows IPv4 only: over IPv6 the header before it is counted too. */
function holds(outer: 'udp' | 'ip6', at: number, address: string): string {
  const { words } = INNER[isV6(address) ? 'inet6' : 'inet'];
  const value = addressValue(address);
  const tests = Array.from({ length: words }, (_, i) => {
    const word = Number((value >> BigInt(32 * (words - 1 - i))) & 0xffffffffn);
    return `${outer}[${at + 4 * i}:4] = 0x${word.toString(16)}`;
  });
  return tests.length === 1 ? tests[0]! : `(${tests.join(' and ')})`;
}

/** Outer IPv4 20, UDP 8, VXLAN 8, Ethernet 14: what a VXLAN inside another one lies deeper. */
const NESTED = 50;

/**
 * The two ends' packets of this protocol, and ICMP about them; also inside VXLAN.
 * @param nested also inside VXLAN over IPv4 that is inside VXLAN over IPv4: a tunnel between sites
 */
export function filterFor(proto: Flow['proto'], addresses: readonly string[], ports: TunnelPorts, nested = false): string {
  const all = [...new Set(addresses.filter(Boolean))];
  const family = all.some(isV6) ? 'inet6' : 'inet';
  const ends = all.filter((a) => isV6(a) === (family === 'inet6'));
  const word = family === 'inet' ? { ip: 'ip', icmp: 'icmp' } : { ip: 'ip6', icmp: 'icmp6' };
  const protocols = [...new Set(['icmp' as const, proto])];
  const bare = `(${protocols.map((p) => (p === 'icmp' ? word.icmp : p)).join(' or ')}) and (${ends.map((a) => `${word.ip} host ${a}`).join(' or ')})`;
  const within = (outer: 'udp' | 'ip6', deeper = 0): string => {
    const start = (outer === 'udp' ? INNER_IP : OUTER6 + INNER_IP) + deeper;
    const tunnels = outer === 'udp' ? anyOf('udp dst port ', ports.vxlan) : `ip6[6] = 17 and (${anyOf(`ip6[${OUTER6 + 2}:2] = `, ports.vxlan)})`;
    const innerProtocol = protocols.map((p) => `${outer}[${start + INNER[family].protocol}] = ${NUMBER[family][p]}`).join(' or ');
    const inner = ends.flatMap((a) => INNER[family].addresses.map((at) => holds(outer, start + at, a))).join(' or ');
    return `((${tunnels}) and (${innerProtocol}) and (${inner}))`;
  };
  return [`(${bare})`, within('udp'), within('ip6'), ...(nested ? [within('udp', NESTED)] : []), ...sealed(ports)].join(' or ');
}

const anyOf = (test: string, ports: readonly number[]): string => ports.map((p) => `${test}${p}`).join(' or ');

/** WireGuard's type 4, with three bytes of nothing: over IPv4, over IPv6, and within VXLAN over IPv4. */
function sealed({ vxlan, wireguard }: TunnelPorts): string[] {
  if (wireguard.length === 0) return [];
  return [
    `((${anyOf('udp dst port ', wireguard)}) and udp[${UDP}] = ${DATA})`,
    `(ip6[6] = 17 and (${anyOf(`ip6[${OUTER6 + 2}:2] = `, wireguard)}) and ip6[${OUTER6 + UDP}] = ${DATA})`,
    `((${anyOf('udp dst port ', vxlan)}) and (${anyOf(`udp[${NESTED + 2}:2] = `, wireguard)}) and udp[${NESTED + UDP}] = ${DATA})`,
  ];
}
const UDP = 8;
const DATA = 4;
/** Where a frame has the protocol number of a UDP header, and its port: over IPv4, over IPv6, and within VXLAN over IPv4. */
const UDP_AT = [[23, 36], [20, 56], [73, 86]] as const;

/** Where a frame has the protocol number of its innermost header, and that of ICMP there: bare (also without Ethernet), within VXLAN over IPv4 or IPv6, or within two over IPv4. */
const ICMP_AT = [0, 14, 64, 84, 114].flatMap((ip) => (['inet', 'inet6'] as const).map((f) => [ip + INNER[f].protocol, NUMBER[f].icmp] as const));

/**
 * Whether a packet can be a probe, an answer or an error about one: on a busy device most of a flow is neither, and need not be decoded.
 * Looks for the mark, and lets all that may be ICMP pass (errors may quote less than the mark), and what is encrypted.
 */
export function mayMatter(bytes: Buffer, marks: readonly Buffer[], proto: Flow['proto'] | undefined, wireguard: readonly number[] = []): boolean {
  if (proto !== 'udp') return true;
  if (wireguard.length && UDP_AT.some(([at, port]) => bytes[at] === 17 && bytes.length > port + 1 && wireguard.includes(bytes.readUInt16BE(port)))) return true;
  return ICMP_AT.some(([at, icmp]) => bytes[at] === icmp) || marks.some((m) => bytes.includes(m));
}
