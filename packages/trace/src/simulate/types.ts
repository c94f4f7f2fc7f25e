/**
 * What a simulation says: traces made of hops, hops made of steps. Everything that shows a trace (table, JSON,
 * page, doctor) renders these and invents nothing.
 */
import type { FdbEntry, Link, Neighbour, Route, RouteType, Rule, WireguardPeer } from '@podway/netstate';
import type { SocketInfo } from '../world.js';

export type Layer4 =
  | { readonly proto: 'icmp'; readonly type: 'echo-request' | 'echo-reply' }
  | { readonly proto: 'tcp'; readonly srcPort: number; readonly dstPort: number; readonly flags: 'syn' | 'syn-ack' }
  /** `srcPort` undefined: chosen by a hash nobody outside the kernel can compute (VXLAN). */
  | { readonly proto: 'udp'; readonly srcPort: number | undefined; readonly dstPort: number };

/** A packet on its way; `inner` is what it carries when it is VXLAN or WireGuard. */
export interface Packet {
  readonly ethernet?: { readonly src: string; readonly dst: string };
  readonly src: string;
  readonly dst: string;
  /** IPv6: the hop limit. */
  readonly ttl: number;
  readonly dontFragment: boolean;
  /** Bytes with the IP header: IPv4's total length; IPv6's payload length and 40. */
  readonly length: number;
  readonly mark: number;
  readonly l4: Layer4;
  readonly vxlan?: { readonly vni: number; readonly inner: Packet };
  /** Encrypted: only who has the keys sees what is inside. `sender`: public key of the device that sends it. */
  readonly wireguard?: { readonly sender: string; readonly inner: Packet };
  /** Split on the way: this many pieces, the first `length` bytes long. */
  readonly fragments?: { readonly count: number; readonly length: number };
}

export const ETHERNET_HEADER = 14;
export const IPV4_HEADER = 20;
export const IPV6_HEADER = 40;
export const UDP_HEADER = 8;
export const VXLAN_HEADER = 8;

/** Bytes of the frame on the wire (of the first one, when it is split). Devices such as tunnels of IP have no Ethernet header. */
export const frameLength = (p: Packet): number => (p.ethernet ? ETHERNET_HEADER : 0) + (p.fragments?.length ?? p.length);

/** How a packet is split to fit an MTU: all pieces but the last carry a multiple of eight bytes. */
export function fragmentsOf(length: number, mtu: number): { count: number; length: number } {
  const room = Math.floor((mtu - IPV4_HEADER) / 8) * 8;
  return { count: Math.ceil((length - IPV4_HEADER) / room), length: IPV4_HEADER + room };
}

export interface NextHopChoice {
  readonly gateway?: string;
  readonly dev: string;
}

export interface LosingRoute {
  readonly route: Route;
  /** `shorter prefix`, `higher metric 100` … */
  readonly why: string;
}

export interface RouteDecision {
  readonly query: { readonly dst: string; readonly src?: string; readonly iif?: string; readonly oif?: string; readonly mark: number };
  /** The policy rule that named the table. */
  readonly rule?: Rule;
  /** Undefined when nothing fits, or when an output device alone decided. */
  readonly route?: Route;
  readonly type: RouteType;
  readonly losing: readonly LosingRoute[];
  /** More than one: the kernel picks by a hash with a secret seed. */
  readonly nexthops: readonly NextHopChoice[];
  /** errno by name when there is no way. */
  readonly error?: string;
}

export type Hook = 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'ingress' | 'egress';

export interface RuleRef {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle?: number;
  /** The rule in nft's own words. */
  readonly text: string;
}

/** `netns` and `dev` say where; `packet` is the packet after the step; `why` is a sentence for people. */
interface At {
  readonly netns: string;
  readonly dev?: string;
  readonly why: string;
  readonly packet: Packet;
}

export type Step = At &
  (
    | { readonly kind: 'send' }
    | { readonly kind: 'source-address'; readonly address: string }
    | { readonly kind: 'route'; readonly decision: RouteDecision }
    | { readonly kind: 'rp-filter'; readonly mode: 'strict' | 'loose'; readonly decision: RouteDecision }
    | { readonly kind: 'forward'; readonly ttlBefore: number }
    | { readonly kind: 'filter'; readonly hook: Hook; readonly verdict: 'accept' | 'drop' | 'reject'; readonly rules: readonly RuleRef[] }
    | { readonly kind: 'nat'; readonly hook: Hook; readonly before: Packet; readonly rule?: RuleRef }
    | { readonly kind: 'fragment'; readonly mtu: number }
    | { readonly kind: 'neighbour'; readonly neighbour: Neighbour }
    | { readonly kind: 'resolve'; readonly target: string; readonly answer: { readonly netns: string; readonly dev: string; readonly lladdr: string } }
    | { readonly kind: 'no-neighbour' }
    | { readonly kind: 'bridge'; readonly bridge: string; readonly ingress?: string; readonly egress: string; readonly fdb?: FdbEntry }
    /** br_netfilter translated the destination to one on the same bridge: the frame stays on it. */
    | { readonly kind: 'bridged-dnat'; readonly bridge: string; readonly lladdr: string }
    /** By an FDB entry (VXLAN) or a peer's allowed IPs (WireGuard). */
    | { readonly kind: 'encapsulate'; readonly fdb?: FdbEntry; readonly peer?: WireguardPeer; readonly link: Link }
    | { readonly kind: 'decapsulate'; readonly link: Link; readonly outer: Packet }
    /** The packet passes a device: a place where it can be captured. `promiscuous`: only when the capture puts the device into that mode. */
    | { readonly kind: 'transmit'; readonly promiscuous?: boolean }
    | { readonly kind: 'receive'; readonly promiscuous?: boolean }
    | { readonly kind: 'deliver'; readonly socket?: SocketInfo }
    | { readonly kind: 'drop'; readonly reason?: string; readonly object: string }
    | { readonly kind: 'unknown'; readonly missing: string }
  );

export type StepKind = Step['kind'];

export type Outcome =
  | { readonly kind: 'delivered'; readonly netns: string; readonly socket?: SocketInfo; readonly listener: 'yes' | 'kernel' | 'not known' }
  | {
      readonly kind: 'dropped'; readonly netns: string; readonly dev?: string;
      /** The kernel's own word (enum skb_drop_reason), where it has one. */
      readonly reason?: string;
      /** The very thing that decided: a route, entry, rule, device or sysctl, in words. */
      readonly object: string;
      readonly why: string;
    }
  | { readonly kind: 'unknown'; readonly netns: string; readonly missing: string };

/** One stretch within one namespace. */
export interface Hop {
  readonly netns: string;
  readonly steps: readonly Step[];
}

/** What connection tracking remembers of a translation, so that the answer is translated back. */
export interface Translation {
  readonly netns: string;
  readonly original: Packet;
  readonly translated: Packet;
}

export interface Trace {
  /** A copy that a bridge floods to a port where the addressee is not: it is seen there, and ends there. */
  readonly copy?: true;
  readonly outcome: Outcome;
  readonly hops: readonly Hop[];
  readonly final: Packet;
  readonly translations: readonly Translation[];
}

/** What is asked: a packet from a namespace to an address. */
export interface Flow {
  /** Key of the namespace that sends. */
  readonly from: string;
  readonly dst: string;
  readonly src?: string;
  readonly proto: 'icmp' | 'tcp' | 'udp';
  readonly srcPort?: number;
  readonly dstPort?: number;
  /** IP length with its header; default 84 for ICMP, 60 for TCP (a SYN), 52 for UDP, and 20 more in IPv6. */
  readonly length?: number;
  readonly ttl?: number;
  readonly dontFragment?: boolean;
}

export interface Prediction {
  readonly flow: Flow;
  /** Usually one; several when the kernel chooses between equal ways. Copies that bridges flood come after those they are copies of. */
  readonly traces: readonly Trace[];
}
