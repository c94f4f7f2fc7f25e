/**
 * simulate(world, flow): the way a packet should take, from kernel state alone.
 *
 * Reads a world and nothing else. Each stage is a small function from a packet at a place to the packet at the next place; this
 * file runs them until every branch has ended. Branches are visited in the order the kernel lists them, so the result is stable.
 */
import { WorldIndex, type World } from '../world.js';
import { bridgeStage } from './bridge.js';
import { isV6 } from './ipv6.js';
import { unknown, type Cursor, type Place, type Sim } from './cursor.js';
import { deliver, ipOutput, ipReceive, receive, send, transmit, UNSET_TTL } from './stack.js';
import { IPV4_HEADER, IPV6_HEADER, type Flow, type Hop, type Layer4, type Packet, type Prediction, type Step, type Trace } from './types.js';

/** More steps than any sane path has: a loop that no TTL ends (between bridges), or TTL 255 through two routers. */
const MOST_STEPS = 1500;
const MOST_TRACES = 32;
/** Without options: a reset has none. */
const TCP_HEADER = 20;

const DEFAULT_LENGTH = { icmp: 84, tcp: 60, udp: 52 } as const;

export function packetOf(world: WorldIndex, flow: Flow): Packet {
  const ttl = flow.ttl ?? defaultTtl(world, flow.from, flow.dst);
  const srcPort = flow.srcPort ?? 45678;
  const l4: Layer4 =
    flow.proto === 'icmp' ? { proto: 'icmp', type: 'echo-request' }
    : flow.proto === 'tcp' ? { proto: 'tcp', srcPort, dstPort: flow.dstPort ?? 80, flags: 'syn' }
    : { proto: 'udp', srcPort, dstPort: flow.dstPort ?? 80 };
  return { src: flow.src ?? '', dst: flow.dst, ttl, dontFragment: flow.dontFragment ?? true, length: flow.length ?? DEFAULT_LENGTH[flow.proto] + (isV6(flow.dst) ? IPV6_HEADER - IPV4_HEADER : 0), mark: 0, l4 };
}

/** IPv6 takes it from the device by which the packet leaves: `send` fills it in. */
const defaultTtl = (world: WorldIndex, netns: string, dst: string): number =>
  isV6(dst) ? UNSET_TTL : Number(world.namespace(netns)?.state.sysctls['net.ipv4.ip_default_ttl'] ?? 64);

export function simulate(world: World, flow: Flow): Prediction {
  const index = new WorldIndex(world);
  return { flow, traces: everyWay({ index, known: new Set() }, flow.from, packetOf(index, flow)) };
}

/** What is known of an answer that was seen; the rest is as a kernel would make it. */
export interface ReplyFacts {
  readonly length?: number;
  readonly ttl?: number;
  readonly dontFragment?: boolean;
}

/** The answer to a delivered packet, from where it arrived. Undefined when nothing arrived. */
export function simulateReply(world: World, flow: Flow, request: Trace, facts: ReplyFacts = {}): Prediction | undefined {
  const { outcome, final } = request;
  const refused = outcome.kind === 'dropped' && outcome.reason === 'NO_SOCKET' && final.l4.proto === 'tcp';
  if ((outcome.kind !== 'delivered' && !refused) || final.vxlan || final.wireguard) return undefined;
  const index = new WorldIndex(world);
  const known = new Set(request.hops.map((h) => h.netns));
  // An echo to an anycast address is answered from one of the host's own (icmpv6_echo_reply).
  const anycast = final.l4.proto === 'icmp' && (index.namespace(outcome.netns)?.state.routes.some((r) => r.type === 'anycast' && r.dst === `${final.dst}/128`) ?? false);
  const packet: Packet = {
    src: anycast ? '' : final.dst, dst: final.src, mark: 0, ttl: facts.ttl ?? defaultTtl(index, outcome.netns, final.src),
    // Answers to an echo are made without DF (icmp_push_reply); TCP sets it, UDP by default too.
    dontFragment: facts.dontFragment ?? final.l4.proto !== 'icmp', length: facts.length ?? (refused ? (isV6(final.dst) ? IPV6_HEADER : IPV4_HEADER) + TCP_HEADER : final.length), l4: answerOf(final.l4),
  };
  const reverse: Flow = { from: outcome.netns, dst: packet.dst, ...(packet.src ? { src: packet.src } : {}), proto: flow.proto };
  return { flow: reverse, traces: everyWay({ index, answering: request.translations, known }, outcome.netns, packet) };
}

function answerOf(l4: Layer4): Layer4 {
  switch (l4.proto) {
    case 'icmp': return { proto: 'icmp', type: 'echo-reply' };
    case 'tcp': return { proto: 'tcp', srcPort: l4.dstPort, dstPort: l4.srcPort, flags: 'syn-ack' };
    case 'udp': return { proto: 'udp', srcPort: l4.dstPort, dstPort: l4.srcPort ?? 0 };
  }
}

export interface RoundTrip {
  readonly request: Prediction;
  /** For the first trace that arrived; behind it those of the other ways. */
  readonly reply?: Prediction;
  /** Where the way back is not the way there in reverse, in words. */
  readonly asymmetry: readonly string[];
  /** The same for each way that the request may take; the first is `asymmetry`. */
  readonly ways?: readonly { readonly trace: Trace; readonly asymmetry: readonly string[] }[];
}

export function simulateRoundTrip(world: World, flow: Flow, facts: ReplyFacts = {}): RoundTrip {
  const request = simulate(world, flow);
  const pairs = request.traces.flatMap((trace) => {
    const reply = trace.copy ? undefined : simulateReply(world, flow, trace, facts);
    return reply ? [{ trace, reply }] : [];
  });
  const [first] = pairs;
  if (!first) return { request, asymmetry: [] };
  // Where chance chose the way there, each way has its own way back.
  const reply = { ...first.reply, traces: pairs.flatMap((p) => p.reply.traces).sort((a, b) => Number(a.copy ?? false) - Number(b.copy ?? false)) };
  const ways = pairs.map((p) => ({ trace: p.trace, asymmetry: asymmetryOf(p.trace, p.reply) }));
  return { request, reply, asymmetry: ways[0]!.asymmetry, ways };
}

/** Devices passed, as `netns dev`, without those seen only in promiscuous mode. */
export const devicesOf = (t: Trace): string[] =>
  t.hops.flatMap((h) => h.steps.flatMap((s) => ((s.kind === 'transmit' || s.kind === 'receive') && !s.promiscuous && s.dev ? [`${s.netns} ${s.dev}`] : [])))
    .filter((d, i, all) => d !== all[i - 1]);

function asymmetryOf(request: Trace, reply: Prediction): string[] {
  const there = devicesOf(request);
  const found: string[] = [];
  for (const t of reply.traces) {
    if (t.copy) continue;
    const back = devicesOf(t).reverse();
    if (t.outcome.kind !== 'delivered') {
      found.push(`the answer does not arrive: ${t.outcome.kind === 'dropped' ? `${t.outcome.object}: ${t.outcome.why}` : t.outcome.missing}`);
      continue;
    }
    const first = request.hops[0]?.netns;
    if (t.outcome.netns !== first) found.push(`the answer ends in ${t.outcome.netns}, not in ${first ?? 'the sender'}`);
    const asked = request.hops[0]?.steps.find((s) => s.packet.src !== '')?.packet;
    if (asked && (t.final.src !== asked.dst || t.final.dst !== asked.src)) found.push(`the answer comes from ${t.final.src} to ${t.final.dst}; asked was ${asked.src} → ${asked.dst}`);
    const onlyThere = there.filter((d) => !back.includes(d));
    const onlyBack = back.filter((d) => !there.includes(d));
    const show = (list: string[]): string => list.map((d) => d.replace(' ', '/')).join(', ');
    if (onlyThere.length) found.push(`only on the way there: ${show(onlyThere)}`);
    if (onlyBack.length) found.push(`only on the way back: ${show(onlyBack)}`);
  }
  for (const t of request.translations) found.push(`${t.netns} translates addresses: ${t.original.src} → ${t.original.dst} becomes ${t.translated.src} → ${t.translated.dst}`);
  return found;
}

/** More ways than this are not tried one by one. */
const MOST_WAYS = 256;

/**
 * The simulation once for each way in which the kernel's random numbers can fall: a Service's endpoint is drawn with
 * `numgen`, and any of them may be it. Choices are taken in the order they come up, and counted through like digits.
 */
function everyWay(sim: Sim, from: string, packet: Packet): Trace[] {
  const found = new Map<string, Trace>();
  let script: number[] = [];
  for (let n = 0; ; n++) {
    const taken: { pick: number; of: number }[] = [];
    const choose = (of: number): number => {
      const pick = script[taken.length] ?? 0;
      taken.push({ pick, of });
      return pick;
    };
    for (const t of run({ ...sim, choose }, from, packet)) found.set(JSON.stringify([t.copy, t.outcome, t.final, devicesOf(t)]), t);
    let last = taken.length - 1;
    while (last >= 0 && taken[last]!.pick + 1 >= taken[last]!.of) last--;
    if (last < 0) break;
    script = [...taken.slice(0, last).map((t) => t.pick), taken[last]!.pick + 1];
    if (n + 1 >= MOST_WAYS) {
      const start: Cursor = { place: { at: 'send', netns: from }, packet, steps: [], translations: [] };
      found.set('more', traceOf(unknown(start, from, `further ways: the kernel chooses one of more than ${MOST_WAYS}`)[0]!));
      break;
    }
  }
  return [...found.values()].sort((a, b) => Number(a.copy ?? false) - Number(b.copy ?? false));
}

function run(sim: Sim, from: string, packet: Packet): Trace[] {
  const ended: Cursor[] = [];
  const start: Cursor = { place: { at: 'send', netns: from }, packet, steps: [], translations: [] };
  if (!sim.index.namespace(from)) return [traceOf(unknown(start, from, `namespace ${from} is not in the world`)[0]!)];
  const first: Step = { kind: 'send', netns: from, packet, why: `${from} sends ${packet.l4.proto} to ${packet.dst}${packet.l4.proto === 'icmp' ? '' : `:${packet.l4.dstPort}`}` };
  const open: Cursor[] = [{ ...start, steps: [first] }];
  while (open.length > 0 && ended.length < MOST_TRACES) {
    const c = open.shift()!;
    if (c.place.at === 'end') ended.push(c);
    else if (c.steps.length > MOST_STEPS) open.unshift(...unknown(c, c.place.netns, `an end: after ${MOST_STEPS} steps the packet still goes round`));
    else open.unshift(...advance(sim, c, c.place));
  }
  return ended.map(traceOf).sort((a, b) => Number(a.copy ?? false) - Number(b.copy ?? false));
}

function advance(sim: Sim, c: Cursor, place: Exclude<Place, { at: 'end' }>): Cursor[] {
  switch (place.at) {
    case 'send': return send(sim, c, place);
    case 'ip-output': return ipOutput(sim, c, place);
    case 'transmit': return transmit(sim, c, place);
    case 'receive': return receive(sim, c, place);
    case 'bridge': return bridgeStage(sim, c, place);
    case 'ip-receive': return ipReceive(sim, c, place);
    case 'local': return deliver(sim, c, place);
  }
}

function traceOf(c: Cursor): Trace {
  if (c.place.at !== 'end') throw new RangeError('the simulation has not ended');
  const hops: { netns: string; steps: Step[] }[] = [];
  for (const s of c.steps) {
    const last = hops.at(-1);
    if (last?.netns === s.netns) last.steps.push(s);
    else hops.push({ netns: s.netns, steps: [s] });
  }
  return { ...(c.copy ? { copy: true as const } : {}), outcome: c.place.outcome, hops: hops satisfies Hop[], final: c.packet, translations: c.translations };
}
