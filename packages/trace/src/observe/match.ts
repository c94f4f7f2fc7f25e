/**
 * Finds one and the same packet in everything that was captured: the probe on its way, and the answer to it. Pure.
 *
 * The request is the packet first seen that carries the probe's mark (or, for TCP, is the SYN from its port); from there on its
 * identity is what no router, tunnel or NAT changes: IP id, sequence numbers, data. The answer likewise.
 */
import { flowOf, innermost, payloadIdentity, payloadOf, TCP_FLAGS, type DecodedPacket, type Layer, type TransportLayer } from '@podway/packet';
import { matchSealed, type TunnelPoint } from './sealed.js';
import { decodeFrame, ipLengthOf, sightingOf, type Sighting, type TunnelPorts } from './sighting.js';

export interface Captured {
  /** Label of the capture point. */
  readonly point: string;
  readonly tsNs: bigint;
  readonly length: number;
  readonly bytes: Buffer;
  readonly linkType: number;
}

export interface ProbeFacts {
  readonly proto: 'icmp' | 'tcp' | 'udp';
  readonly mark: Buffer;
  readonly port: number;
  readonly dstPort: number;
  /** Label of the point at the source, where the packet is seen first. */
  readonly origin?: string;
}

/** Traffic that is there already: the first packet of this flow at the origin, and the first one back. */
export interface TrafficFacts {
  readonly proto: 'icmp' | 'tcp' | 'udp';
  readonly src: string;
  readonly dst: string;
  /** Any when left out. */
  readonly dstPort?: number;
  readonly origin: string;
}

/** An ICMP error about the probe. */
export interface PathError {
  readonly from: string;
  readonly point: string;
  readonly type: number;
  readonly code: number;
  readonly mtu?: number;
  readonly summary: string;
}

export interface Matched {
  readonly request: readonly Sighting[];
  readonly reply: readonly Sighting[];
  readonly errors: readonly PathError[];
  /** Encrypted packets passed, of which one is the request (the reply), and nobody can tell which. */
  readonly sealedUnknown: { readonly request: boolean; readonly reply: boolean };
  /** All captured packets of the probe, for a capture file. */
  readonly packets: readonly Captured[];
}

interface Seen {
  readonly captured: Captured;
  readonly packet: DecodedPacket;
  readonly identity: string | undefined;
}

/** What of a world the packets are read by. */
export interface Reading {
  readonly ports: TunnelPorts;
  /** Capture points on devices that encrypt. */
  readonly tunnels: readonly TunnelPoint[];
}

const decodeAll = (captured: readonly Captured[], ports: TunnelPorts): Seen[] =>
  captured.map((c) => {
    const packet = decodeFrame(c.bytes, c.length, { linkType: c.linkType, ports });
    return { captured: c, packet, identity: payloadIdentity(packet) };
  });

/** The plain sightings of a packet with the encrypted ones between them, in time order. */
function withSealed(plain: readonly Seen[], seen: readonly Seen[], tunnels: readonly TunnelPoint[]): { all: readonly Seen[]; unknown: boolean } {
  if (tunnels.length === 0) return { all: plain, unknown: false };
  const found = matchSealed(
    plain.flatMap((s) => {
      const ip = innermost(s.packet)?.ip;
      return ip ? [{ point: s.captured.point, tsNs: s.captured.tsNs, ipLength: ipLengthOf(ip) }] : [];
    }), seen, tunnels);
  const all = [...plain, ...seen.filter((s) => found.frames.includes(s))].sort((a, b) => (a.captured.tsNs < b.captured.tsNs ? -1 : a.captured.tsNs > b.captured.tsNs ? 1 : 0));
  return { all, unknown: found.ambiguous };
}

export function matchProbe(captured: readonly Captured[], probe: ProbeFacts, reading: Reading): Matched {
  const seen = decodeAll(captured, reading.ports);
  const asked = seen.filter((s) => isRequest(s.packet, probe));
  const first = asked.find((s) => s.captured.point === probe.origin) ?? asked[0];
  const plain = first ? seen.filter((s) => s.identity === first.identity && isRequest(s.packet, probe, first.packet)) : [];
  const sequence = first && innermost(first.packet)?.transport;
  const answers = seen.filter((s) => isReply(s.packet, probe, sequence?.type === 'tcp' ? sequence.sequence : undefined));
  const back = answers[0] ? answers.filter((s) => s.identity === answers[0]!.identity) : [];
  const [there, here] = [withSealed(plain, seen, reading.tunnels), withSealed(back, seen, reading.tunnels)];
  const [request, reply] = [there.all, here.all];
  const id = first && innermost(first.packet)?.ip;
  const errorsSeen = seen.flatMap((s) => {
    const e = id?.type === 'ipv4' ? errorAbout(s, id.id, probe) : id?.type === 'ipv6' ? error6About(s, id.dst, probe) : undefined;
    return e ? [{ seen: s, e }] : [];
  });
  const start = request[0]?.captured.tsNs ?? reply[0]?.captured.tsNs ?? 0n;
  const once = new Map(errorsSeen.map(({ e }) => [`${e.from} ${e.type} ${e.code}`, e]));
  return {
    request: sightings(request, start), reply: sightings(reply, start), errors: [...once.values()],
    sealedUnknown: { request: there.unknown, reply: here.unknown },
    packets: [...request, ...reply, ...errorsSeen.map((x) => x.seen)].map((s) => s.captured),
  };
}

/** As matchProbe, for traffic that nobody marked. Packets must be in time order. */
export function matchTraffic(captured: readonly Captured[], traffic: TrafficFacts, reading: Reading): Matched {
  const seen = decodeAll(captured, reading.ports);
  const at = seen.findIndex((s) => s.captured.point === traffic.origin && isOfFlow(s.packet, traffic));
  const first = seen[at];
  if (!first) return { request: [], reply: [], errors: [], sealedUnknown: { request: false, reply: false }, packets: [] };
  const asked = flowOf(first.packet);
  const back = seen.find((s, i) => i > at && s.captured.point === traffic.origin && isAnswer(s.packet, first.packet, asked));
  const same = (x: Seen | undefined): Seen[] => (x ? seen.filter((s) => s.identity !== undefined && s.identity === x.identity) : []);
  const [there, here] = [withSealed(same(first), seen, reading.tunnels), withSealed(same(back), seen, reading.tunnels)];
  const [request, reply] = [there.all, here.all];
  const start = request[0]!.captured.tsNs;
  return { request: sightings(request, start), reply: sightings(reply, start), errors: [], sealedUnknown: { request: there.unknown, reply: here.unknown }, packets: [...request, ...reply].map((s) => s.captured) };
}

function isOfFlow(p: DecodedPacket, f: TrafficFacts): boolean {
  const inner = innermost(p);
  const t = inner?.transport;
  if (!inner || (t?.type === 'icmpv6' ? 'icmp' : t?.type) !== f.proto || inner.ip.src !== f.src || inner.ip.dst !== f.dst) return false;
  if (t && isEcho(t)) return t.message.kind === 'echo-request';
  return f.dstPort === undefined || (t !== undefined && 'dstPort' in t && t.dstPort === f.dstPort);
}

function isAnswer(p: DecodedPacket, first: DecodedPacket, asked: ReturnType<typeof flowOf>): boolean {
  const f = flowOf(p);
  if (!f || !asked || f.protocol !== asked.protocol || f.src !== asked.dst || f.dst !== asked.src || f.srcPort !== asked.dstPort || f.dstPort !== asked.srcPort) return false;
  const [a, b] = [innermost(first)?.transport, innermost(p)?.transport];
  if (a && b && isEcho(a) && isEcho(b)) {
    return b.message.kind === 'echo-reply' && a.message.kind === 'echo-request' && a.message.sequence === b.message.sequence;
  }
  return true;
}

const isEcho = (t: TransportLayer): t is Extract<TransportLayer, { type: 'icmp' | 'icmpv6' }> => t.type === 'icmp' || t.type === 'icmpv6';

const carriesMark = (p: DecodedPacket, mark: Buffer): boolean => Buffer.from(payloadOf(p)).includes(mark);

/** `like`: the first sighting; a UDP answer that repeats the data comes from the port that was asked. */
function isRequest(p: DecodedPacket, probe: ProbeFacts, like?: DecodedPacket): boolean {
  const t = innermost(p)?.transport;
  if (!t) return false;
  switch (probe.proto) {
    case 'icmp': return isEcho(t) && t.message.kind === 'echo-request' && carriesMark(p, probe.mark);
    case 'udp': return t.type === 'udp' && t.dstPort !== probe.port && carriesMark(p, probe.mark);
    case 'tcp': {
      if (t.type !== 'tcp' || (t.flags & (TCP_FLAGS.syn | TCP_FLAGS.ack)) !== TCP_FLAGS.syn) return false;
      const known = like && innermost(like)?.transport;
      return known?.type === 'tcp' ? t.sequence === known.sequence : t.srcPort === probe.port && t.dstPort === probe.dstPort;
    }
  }
}

function isReply(p: DecodedPacket, probe: ProbeFacts, sequence: number | undefined): boolean {
  const t = innermost(p)?.transport;
  if (!t) return false;
  switch (probe.proto) {
    case 'icmp': return isEcho(t) && t.message.kind === 'echo-reply' && carriesMark(p, probe.mark);
    case 'udp': return t.type === 'udp' && t.dstPort === probe.port && carriesMark(p, probe.mark);
    case 'tcp': return t.type === 'tcp' && sequence !== undefined && (t.flags & TCP_FLAGS.ack) !== 0 && (t.flags & (TCP_FLAGS.syn | TCP_FLAGS.rst)) !== 0 && t.acknowledgement === (sequence + 1) >>> 0;
  }
}

function errorAbout(s: Seen, id: number, probe: ProbeFacts): PathError | undefined {
  const inner = innermost(s.packet);
  const t = inner?.transport;
  if (!inner || t?.type !== 'icmp' || !('quoted' in t.message)) return undefined;
  const quoted: Layer | undefined = t.message.quoted.find((l) => l.type === 'ipv4');
  const ports = t.message.quoted.find((l) => l.type === 'udp' || l.type === 'tcp' || l.type === 'icmp' || l.type === 'partial');
  if (quoted?.type !== 'ipv4' || quoted.id !== id || quoted.protocol !== { icmp: 1, tcp: 6, udp: 17 }[probe.proto]) return undefined;
  if (id === 0 && ports && 'srcPort' in ports && ports.srcPort !== probe.port) return undefined;
  return { from: inner.ip.src, point: s.captured.point, type: t.icmpType, code: t.code, summary: sightingOf(s.packet, { point: '', offsetUs: 0, copies: 1 })?.summary ?? '', ...(t.message.kind === 'unreachable' && t.message.mtu ? { mtu: t.message.mtu } : {}) };
}

/** ICMPv6 quotes as much as fits into 1,280 bytes: the mark stands in it, or the ports of a SYN. */
function error6About(s: Seen, dst: string, probe: ProbeFacts): PathError | undefined {
  const inner = innermost(s.packet);
  const t = inner?.transport;
  if (!inner || t?.type !== 'icmpv6' || !('quoted' in t.message)) return undefined;
  const ip = t.message.quoted.find((l) => l.type === 'ipv6');
  const tcp = t.message.quoted.find((l) => l.type === 'tcp');
  const ours = probe.proto === 'tcp' ? tcp?.type === 'tcp' && tcp.srcPort === probe.port && tcp.dstPort === probe.dstPort : s.captured.bytes.includes(probe.mark);
  if (ip?.type !== 'ipv6' || ip.dst !== dst || !ours) return undefined;
  const summary = sightingOf(s.packet, { point: '', offsetUs: 0, copies: 1 })?.summary ?? '';
  return { from: inner.ip.src, point: s.captured.point, type: t.icmpType, code: t.code, summary, ...(t.message.kind === 'packet-too-big' ? { mtu: t.message.mtu } : {}) };
}

/** In time order; several sightings at one point stay apart when the packet differs (came in, went out), equal ones are counted. */
function sightings(seen: readonly Seen[], start: bigint): Sighting[] {
  const found: Sighting[] = [];
  for (const { captured, packet } of seen) {
    const s = sightingOf(packet, { point: captured.point, offsetUs: Number(captured.tsNs - start) / 1000, copies: 1 });
    if (!s) continue;
    const same = found.findIndex((f) => f.point === s.point && f.ttl === s.ttl && f.frameLength === s.frameLength && f.ethernet?.src === s.ethernet?.src && f.ethernet?.dst === s.ethernet?.dst && f.src === s.src && f.dst === s.dst);
    if (same >= 0) found[same] = { ...found[same]!, copies: found[same]!.copies + 1 };
    else found.push(s);
  }
  return found;
}
