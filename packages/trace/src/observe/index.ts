/**
 * observe(world, live, flow): what really happens to a packet. Captures at every device along the way, sends marked probes from inside
 * the source's namespace, and finds each probe again at every point. Waits for conditions, not for time; what does not come is waited
 * for until the time limit.
 */
import { CaptureSet, type CapturedPacket } from '@podway/kernel';
import { isPodwayError, messageOf, PodwayError } from '@podway/errors';
import type { LiveWorld } from '../live.js';
import { simulateRoundTrip, type RoundTrip } from '../simulate/index.js';
import type { Flow, Trace } from '../simulate/types.js';
import { WorldIndex, ownersOf, type World } from '../world.js';
import { filterFor, mayMatter } from './filter.js';
import { readCounters, risen, type CounterRise } from './counters.js';
import { matchProbe, matchTraffic, type Captured, type Matched, type PathError, type Reading } from './match.js';
import { pointOf, pointsFor, tapsOf, type CapturePoint } from './points.js';
import { Probe, sourceAddress, type Answer } from './probe.js';
import type { Sighting, TunnelPorts } from './sighting.js';

export interface ObserveFlowOptions {
  /**
   * `send` (default): marked probes of its own. `existing`: sends nothing and follows the first packet of this flow that passes, with its
   * own length, TTL and ports; an existing connection is predicted as if it were new.
   */
  readonly traffic?: 'send' | 'existing';
  /** Probes to send; default 3. */
  readonly count?: number;
  /** How long to wait for what does not come. Default 1000. */
  readonly timeoutMs?: number;
  /** Bytes kept of each packet; default 2048. */
  readonly snaplen?: number;
  readonly signal?: AbortSignal;
  /** Made anew from the world when left out. */
  readonly prediction?: RoundTrip;
}

export interface Loss {
  /** Of the capture point. */
  readonly label: string;
  readonly packets: number;
}

export interface ProbeResult {
  readonly number: number;
  readonly answer?: Answer;
  readonly request: readonly Sighting[];
  readonly reply: readonly Sighting[];
  readonly errors: readonly PathError[];
  /** Encrypted packets passed, and which of them is this one cannot be told. */
  readonly sealedUnknown: { readonly request: boolean; readonly reply: boolean };
}

/** JSON throughout. */
export interface Observation {
  readonly flow: Flow;
  /** The address the kernel sends from; undefined when it refuses to send. */
  readonly source?: string;
  /** `existing` was asked for, and nothing of this flow passed in the time given. */
  readonly noTraffic?: true;
  /** errno when the kernel refused to send at all. */
  readonly notSent?: string;
  readonly points: readonly CapturePoint[];
  /** Points where no capture was possible, and why. */
  readonly notCaptured: readonly { readonly label: string; readonly why: string }[];
  readonly probes: readonly ProbeResult[];
  /** Where captures lost packets for want of room: there a missing sighting proves nothing. */
  readonly lost: readonly Loss[];
  /** Counters of drops that rose meanwhile, in the namespaces along the way. Other traffic may have a part in it. */
  readonly counters: readonly CounterRise[];
  /** Deeper sources that were not read. */
  readonly notRead: readonly string[];
}

export interface Observed {
  readonly observation: Observation;
  readonly prediction: RoundTrip;
  /** The probes' packets as captured, in time order: for a capture file. */
  readonly packets: readonly Captured[];
}

const SNAPLEN = 2048;
const BUFFER = 4 * 1024 * 1024;
/** Between two probes: enough that they are apart in a table, too short to wait for. */
const SPACING_MS = 10;

/** @throws TRACE_NOT_LIVE, TRACE_UNKNOWN_SOURCE, and what Capture.open throws (CAPTURE_PERMISSION …). */
export async function observeFlow(world: World, live: LiveWorld, flow: Flow, options: ObserveFlowOptions = {}): Promise<Observed> {
  const index = new WorldIndex(world);
  if (!index.namespace(flow.from)) throw new PodwayError('TRACE_UNKNOWN_SOURCE', `there is no ${flow.from} in this world`, { object: flow.from });
  const ns = live.netns(flow.from);
  const prediction = options.prediction ?? simulateRoundTrip(world, flow);
  const source = sourceAddress(ns, flow);
  const ends = [flow.from, ...ownersOf(world, flow.dst).map((n) => n.key)];
  // Copies that are flooded everywhere need no captures of their own.
  const traces = [...prediction.request.traces, ...(prediction.reply?.traces ?? [])].filter((t) => !t.copy);
  const intrusive = intrusivePoints(traces);
  const points = pointsFor(index, traces, ends).filter((p) => live.has(p.netns) && !intrusive.has(`${p.netns} ${p.dev}`));
  const links = world.namespaces.flatMap((n) => n.state.links);
  const ports: TunnelPorts = {
    vxlan: [...new Set([8472, 4789, ...links.flatMap((l) => (l.vxlan ? [l.vxlan.port] : []))])],
    wireguard: [...new Set(links.flatMap((l) => (l.wireguard ? [l.wireguard.port] : [])))],
  };
  const tunnels = points.filter((p) => index.link(p.netns, p.dev)?.wireguard).map((p) => ({ label: p.label, mtu: index.link(p.netns, p.dev)?.mtu }));
  const reading: Reading = { ports, tunnels };
  if ('errno' in source) {
    return { prediction, packets: [], observation: { flow, notSent: source.errno, points, notCaptured: [], probes: [], lost: [], counters: [], notRead: NOT_READ } };
  }
  const translated = prediction.request.traces.flatMap((t) => t.translations.flatMap((x) => [x.translated.src, x.translated.dst]));
  const filter = filterFor(flow.proto, [source.address, flow.dst, ...translated], ports, traces.some((t) => tapsOf(t).some((x) => x.packet.vxlan?.inner.vxlan)));
  const set = new CaptureSet<CapturePoint>();
  const notCaptured: { label: string; why: string }[] = [...intrusive].map((k) => {
    const [netns = '', dev = ''] = k.split(' ');
    return { label: pointOf(index, netns, dev).label, why: 'while a bridge is watched, the kernel hands a copy of what br_netfilter has translated onto it to IP, which sends it a second time; left out, so that the trace changes nothing' };
  });
  const probes: Probe[] = [];
  try {
    for (const point of points) {
      try {
        set.add(point, live.netns(point.netns), { device: point.dev, filter, immediate: true, snaplen: options.snaplen ?? SNAPLEN, bufferBytes: BUFFER, promiscuous: point.promiscuous });
      } catch (e) {
        // A device that is down or gone passes nothing either: that is a finding, not a failure.
        if (!isPodwayError(e, 'CAPTURE_DEVICE_DOWN') && !isPodwayError(e, 'CAPTURE_NO_DEVICE')) throw e;
        notCaptured.push({ label: point.label, why: messageOf(e) });
      }
    }
    const keys = [...new Set(points.map((p) => p.netns))];
    const before = new Map(keys.map((k) => [k, readCounters(live.netns(k))]));
    const countersOf = (): CounterRise[] => keys.flatMap((k) => risen(k, before.get(k)!, readCounters(live.netns(k))));
    const id = 1 + Math.floor(Math.random() * 65534);
    if (options.traffic !== 'existing') for (let i = 0; i < (options.count ?? 3); i++) probes.push(Probe.open(ns, flow, i, id));
    // What came while the captures were being opened is of no use, and may have filled the first ones: they start empty, and so does the count of losses.
    set.drain();
    const lossBefore = new Map(set.stats().map((s) => [s.tag, s.stats.dropped]));
    const lossesOf = (): Loss[] => set.stats().flatMap((s) => {
      const packets = s.stats.dropped - (lossBefore.get(s.tag) ?? 0);
      return packets > 0 ? [{ label: s.tag.label, packets }] : [];
    });
    if (options.traffic === 'existing') {
      return await watchExisting(set, { world, flow: { ...flow, src: source.address }, points, notCaptured, reading, timeoutMs: options.timeoutMs ?? 1000, signal: options.signal, prediction, lossesOf, countersOf });
    }
    const captured = await sendAndWatch(set, probes, { prediction, points, reading, timeoutMs: options.timeoutMs ?? 1000, signal: options.signal });
    const matched = probes.map((p) => matchOf(p, captured, prediction, points, reading));
    const stats = set.stats();
    return {
      prediction,
      packets: dedupe(matched.flatMap((m) => m.packets)),
      observation: {
        flow, source: source.address, points,
        notCaptured: [...notCaptured, ...stats.flatMap((s) => (s.problem === undefined ? [] : [{ label: s.tag.label, why: s.problem }]))],
        probes: probes.map((p, i) => {
          const { packets: _, ...facts } = matched[i]!;
          const answer = p.poll();
          return { number: i + 1, ...(answer ? { answer } : {}), ...facts };
        }),
        lost: lossesOf(), counters: countersOf(), notRead: NOT_READ,
      },
    };
  } finally {
    for (const p of probes) p.close();
    await set.close();
  }
}

/**
 * Bridges on which a destination is translated to one of the same bridge. Capturing there (promiscuous mode) makes br_handle_frame_finish()
 * pass a copy up, which is forwarded once more: the receiver would get every packet twice.
 */
const intrusivePoints = (traces: readonly Trace[]): Set<string> =>
  new Set(traces.flatMap((t) => t.hops.flatMap((h) => h.steps.flatMap((s) => (s.kind === 'bridged-dnat' ? [`${s.netns} ${s.bridge}`] : [])))));

const NOT_READ = ['drop reasons of the kernel (tracepoint skb:kfree_skb)', 'nftables trace events'];

interface Watching {
  readonly world: World;
  readonly flow: Flow;
  readonly points: readonly CapturePoint[];
  readonly notCaptured: readonly { readonly label: string; readonly why: string }[];
  readonly reading: Reading;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly prediction: RoundTrip;
  readonly lossesOf: () => Loss[];
  readonly countersOf: () => CounterRise[];
}

async function watchExisting(set: CaptureSet<CapturePoint>, w: Watching): Promise<Observed> {
  const { flow, points, reading } = w;
  const origin = points.find((p) => p.netns === flow.from)?.label ?? '';
  // Packets that were under way while the captures were being opened would be seen from the middle on.
  const openedNs = BigInt(Date.now() + 1) * 1_000_000n;
  const captured: Captured[] = [];
  const facts = { proto: flow.proto, src: flow.src ?? '', dst: flow.dst, origin, ...(flow.dstPort === undefined ? {} : { dstPort: flow.dstPort }) };
  const match = (): Matched => matchTraffic(captured, facts, reading);
  const take = (packets: readonly CapturedPacket<CapturePoint>[]): void => {
    for (const p of packets) if (p.tsNs >= openedNs) captured.push({ point: p.tag.label, tsNs: p.tsNs, length: p.length, bytes: p.bytes, linkType: p.linkType });
  };
  const end = Date.now() + w.timeoutMs;
  for (let size = -1; Date.now() < end && !w.signal?.aborted; ) {
    take(await set.next(20));
    if (captured.length === size) continue;
    size = captured.length;
    if (match().reply.some((s) => s.point === origin)) break;
  }
  take(set.drain());
  const { packets, ...facts2 } = match();
  const first = facts2.request[0];
  const answer = facts2.reply[0];
  const like: Flow = first ? { ...flow, length: first.ipLength, ttl: first.ttl, dontFragment: first.dontFragment, ...(first.srcPort === undefined ? {} : { srcPort: first.srcPort, dstPort: first.dstPort! }) } : flow;
  const prediction = first ? simulateRoundTrip(w.world, like, answer ? { length: answer.ipLength, ttl: answer.ttl, dontFragment: answer.dontFragment } : {}) : w.prediction;
  return {
    prediction, packets: dedupe(packets),
    observation: {
      flow: like, ...(flow.src ? { source: flow.src } : {}), ...(first ? {} : { noTraffic: true as const }), points, notCaptured: w.notCaptured,
      probes: first ? [{ number: 1, ...(answer ? { answer: { kind: 'reply' as const } } : {}), ...facts2 }] : [], lost: w.lossesOf(), counters: w.countersOf(),
      notRead: [...NOT_READ, ...(flow.proto === 'tcp' ? ['the connection tracking table: an existing connection is predicted like a new one'] : [])],
    },
  };
}

async function sendAndWatch(
  set: CaptureSet<CapturePoint>, probes: readonly Probe[],
  w: { prediction: RoundTrip; points: readonly CapturePoint[]; reading: Reading; timeoutMs: number; signal: AbortSignal | undefined },
): Promise<Captured[]> {
  const captured: Captured[] = [];
  const take = (packets: readonly CapturedPacket<CapturePoint>[]): void => {
    for (const p of packets) if (mayMatter(p.bytes, probes.map((x) => x.mark), probes[0]?.flow.proto, w.reading.ports.wireguard)) captured.push({ point: p.tag.label, tsNs: p.tsNs, length: p.length, bytes: p.bytes, linkType: p.linkType });
  };
  for (const p of probes) {
    p.send();
    take(await set.next(SPACING_MS));
  }
  const end = Date.now() + w.timeoutMs;
  let size = -1;
  while (Date.now() < end && !w.signal?.aborted) {
    const open = probes.filter((p) => p.poll() === undefined);
    // Matching is worth its time only when something new came.
    if (captured.length !== size && open.every((p) => p.flow.proto === 'udp')) {
      size = captured.length;
      if (probes.every((p) => isComplete(p, matchOf(p, captured, w.prediction, w.points, w.reading), w.prediction, w.points))) break;
    }
    take(await set.next(Math.min(20, Math.max(1, end - Date.now()))));
  }
  take(set.drain());
  return captured.sort((a, b) => (a.tsNs < b.tsNs ? -1 : a.tsNs > b.tsNs ? 1 : 0));
}

function matchOf(p: Probe, captured: readonly Captured[], prediction: RoundTrip, points: readonly CapturePoint[], reading: Reading): Matched {
  const first = prediction.request.traces.flatMap((t) => tapsOf(t))[0];
  const origin = points.find((x) => x.netns === first?.netns && x.dev === first?.dev)?.label;
  return matchProbe(captured, { proto: p.flow.proto, mark: p.mark, port: p.port, dstPort: p.flow.dstPort ?? 80, ...(origin === undefined ? {} : { origin }) }, reading);
}

/** Seen where it was expected last, both ways; or, for a datagram nobody answers, arrived. */
function isComplete(p: Probe, m: Matched, prediction: RoundTrip, points: readonly CapturePoint[]): boolean {
  const answer = p.poll();
  const reached = (traces: RoundTrip['request']['traces'], seen: readonly Sighting[]): boolean =>
    traces.some((t) => {
      const last = tapsOf(t).at(-1);
      const label = points.find((x) => x.netns === last?.netns && x.dev === last?.dev)?.label;
      return label !== undefined && seen.some((s) => s.point === label);
    });
  const arrived = prediction.request.traces.some((t) => t.outcome.kind === 'delivered') && reached(prediction.request.traces, m.request);
  if (answer?.kind === 'error') return true;
  if (p.flow.proto === 'udp') return answer === undefined ? arrived : true;
  return answer !== undefined && (m.reply.length > 0 || m.errors.length > 0) && (!prediction.reply || reached(prediction.reply.traces, m.reply));
}

function dedupe(packets: readonly Captured[]): Captured[] {
  return [...new Set(packets)].sort((a, b) => (a.tsNs < b.tsNs ? -1 : a.tsNs > b.tsNs ? 1 : 0));
}

export { filterFor } from './filter.js';
