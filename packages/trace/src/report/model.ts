/**
 * Prediction and observation side by side, as a table model. Pure: everything shown (text, JSON, page) is made from this.
 */
import type { RoundTrip } from '../simulate/index.js';
import type { Outcome, Packet, Step, Trace } from '../simulate/types.js';
import { frameLength } from '../simulate/types.js';
import type { Observation, ProbeResult } from '../observe/index.js';
import type { PathError } from '../observe/match.js';
import { pointOf, tapsOf, type CapturePoint } from '../observe/points.js';
import type { OuterHeader, Sighting } from '../observe/sighting.js';
import { ownersOf, WorldIndex, type World } from '../world.js';

/** The outer header as predicted: the source port is a hash, and so unknown. */
export type PredictedOuter = Pick<OuterHeader, 'src' | 'dst' | 'dstPort' | 'vni' | 'ttl' | 'dontFragment' | 'ipLength' | 'ethernet'>;

/** The packet as it should pass a device. */
export interface PredictedPacket {
  readonly src: string;
  readonly dst: string;
  readonly ttl: number;
  readonly ethernet?: { readonly src: string; readonly dst: string };
  readonly ipLength: number;
  readonly frameLength: number;
  readonly outer?: PredictedOuter;
  /** Encrypted: addresses, TTL and lengths are those of the packet that carries it. */
  readonly sealed?: true;
}

export interface Row {
  readonly point: CapturePoint;
  /** Undefined: the packet was not expected here. */
  readonly predicted?: PredictedPacket;
  readonly observed?: Sighting;
  /**
   * `seen`: as predicted. `differs`: seen, but not as predicted. `missing`: expected and not seen. `copy`: a copy that a bridge flooded, as predicted.
   * `unexpected`: seen and not expected. `not observed`: nobody looked. */
  readonly state: 'seen' | 'differs' | 'missing' | 'copy' | 'unexpected' | 'not observed';
  /** `TTL 61, predicted 62`. */
  readonly differences: readonly string[];
  /** The look-ups that brought the packet here, since the row before. */
  readonly decisions: readonly { readonly kind: Step['kind']; readonly why: string }[];
}

export interface Leg {
  readonly direction: 'request' | 'reply';
  readonly rows: readonly Row[];
  readonly predicted: Outcome;
  /** Other ways the kernel might have chosen. */
  readonly alternatives: number;
  readonly lastSeen?: string;
  /** The point after the last sighting, when the way was not seen to its end. */
  readonly expectedNext?: string;
  /** The packet took the predicted way to the predicted end; undefined when not observed. */
  readonly asPredicted?: boolean;
  /** Decisions behind the last device: delivery, or what dropped it. */
  readonly end: readonly { readonly kind: Step['kind']; readonly why: string }[];
  readonly steps: readonly { readonly netns: string; readonly dev?: string; readonly kind: Step['kind']; readonly why: string }[];
}

export interface End {
  readonly name: string;
  readonly role: string;
  readonly node?: string;
  readonly addresses: readonly string[];
  readonly nodeAddresses: readonly string[];
}

export interface Report {
  readonly from: End;
  readonly to?: End;
  readonly flow: Observation['flow'];
  /** `tcp 10.244.0.2:45678 → 10.244.2.2:80`: ports as really used, when observed. */
  readonly tuple: string;
  readonly request: Leg;
  readonly reply?: Leg;
  readonly asymmetry: readonly string[];
  readonly errors: readonly PathError[];
  readonly observed: boolean;
  readonly verdict: 'delivered' | 'dropped' | 'unknown';
  /** One sentence: what happens, and whether it is as predicted. */
  readonly headline: string;
  readonly summary: readonly string[];
  /** Sizes of all headers on the widest frame seen. */
  readonly budget?: string;
  /** Counters of drops that rose while probing, when something did not arrive. */
  readonly evidence: readonly string[];
  readonly notes: readonly string[];
}

export function buildReport(world: World, trip: RoundTrip, observation?: Observation): Report {
  const index = new WorldIndex(world);
  const probe = observation && bestProbe(observation);
  const request = legOf(index, 'request', trip.request.traces, observation, probe?.request, probe?.sealedUnknown.request);
  const reply = trip.reply ? legOf(index, 'reply', trip.reply.traces, observation, probe?.reply, probe?.sealedUnknown.reply) : undefined;
  const all = [...(probe?.request ?? []), ...(probe?.reply ?? [])];
  const widest = all.reduce<Sighting | undefined>((w, s) => ((s.sealed ? Infinity : s.overhead) > (w ? (w.sealed ? Infinity : w.overhead) : -1) ? s : w), undefined);
  const to = ownersOf(world, trip.request.flow.dst)[0];
  const taken = chosen(trip.request.traces, probe?.request);
  const { outcome } = taken;
  return {
    from: endOf(world, trip.request.flow.from), ...(to ? { to: endOf(world, to.key) } : {}), flow: trip.request.flow, tuple: tupleOf(trip.request.flow, request),
    request, ...(reply ? { reply } : {}), asymmetry: trip.ways?.find((w) => w.trace === taken)?.asymmetry ?? trip.asymmetry, errors: dedupe(observation?.probes.flatMap((p) => p.errors) ?? []),
    observed: observation !== undefined, verdict: outcome.kind, headline: headline(outcome, request, reply, observation),
    summary: observation ? summaryOf(observation, request, reply) : [],
    ...(widest ? { budget: `${widest.headers.map((h) => `${h.label} ${h.bytes}`).join(' + ')} = ${widest.frameLength}` } : {}),
    evidence: observation && (outcome.kind !== 'delivered' || request.asPredicted === false || reply?.asPredicted === false || observation.probes.some((p) => p.answer?.kind !== 'reply'))
      ? observation.counters.map((c) => `${c.netns}: ${c.counter} rose by ${c.by}`) : [],
    notes: notesOf(world, observation),
  };
}

/** The probe that got furthest; of equals the first, which also shows what resolving addresses cost. */
const bestProbe = (o: Observation): ProbeResult | undefined =>
  o.probes.reduce<ProbeResult | undefined>((b, p) => (p.request.length + p.reply.length > (b ? b.request.length + b.reply.length : -1) ? p : b), undefined);

/** The way that fits best what was seen: each sighting speaks for one device of it, with the addresses it had there. */
function chosen(traces: readonly Trace[], seen: readonly Sighting[] | undefined): Trace {
  const score = (t: Trace): number => {
    const left = [...(seen ?? [])];
    return t.hops.flatMap((h) => h.steps).filter((s) => s.kind === 'transmit' || s.kind === 'receive').reduce((sum, s) => {
      const p = predictedOf(s.packet);
      const label = `${s.netns.replace(/^default\//, '')}/${s.dev ?? ''}`;
      const at = left.findIndex((x) => x.point === label && x.dst === p.dst && x.src === p.src);
      if (at < 0) return sum + (left.some((x) => x.point === label) ? 0.5 : -0.1);
      left.splice(at, 1);
      return sum + 1;
    }, 0);
  };
  const own = traces.filter((t) => !t.copy);
  if (!seen?.length) return own[0] ?? traces[0]!;
  return own.map((t) => ({ t, n: score(t) })).reduce((b, x) => (x.n > b.n ? x : b), { t: own[0] ?? traces[0]!, n: -Infinity }).t;
}

function legOf(index: WorldIndex, direction: Leg['direction'], traces: readonly Trace[], o: Observation | undefined, seen: readonly Sighting[] | undefined, sealedUnknown = false): Leg {
  const trace = chosen(traces, seen);
  const steps = trace.hops.flatMap((h) => h.steps);
  const left = [...(seen ?? [])];
  const blind = new Set([...(o?.notCaptured ?? []), ...(o?.lost ?? [])].map((n) => n.label));
  const known = new Set(o?.points.map((p) => p.label));
  const copies = new Set(traces.filter((t) => t.copy).flatMap((t) => tapsOf(t).map((x) => pointOf(index, x.netns, x.dev).label)));
  const rows: Row[] = [];
  let decisions: { kind: Step['kind']; why: string }[] = [];
  for (const s of steps) {
    if ((s.kind !== 'transmit' && s.kind !== 'receive') || !s.dev || s.dev === 'lo') {
      decisions.push({ kind: s.kind, why: s.why });
      continue;
    }
    const point = pointOf(index, s.netns, s.dev);
    const predicted = predictedOf(s.packet);
    const at = left.findIndex((x) => x.point === point.label && (x.sealed !== undefined) === (predicted.sealed ?? false));
    const [observed] = at < 0 ? [] : left.splice(at, 1);
    const differences = observed ? compare(predicted, observed) : [];
    const watched = o !== undefined && o.notSent === undefined && !o.noTraffic && known.has(point.label) && !blind.has(point.label) && !(predicted.sealed && sealedUnknown);
    const state = observed ? (differences.length ? 'differs' : 'seen') : watched ? 'missing' : 'not observed';
    if (predicted.sealed && sealedUnknown && !observed) decisions.push({ kind: 'unknown', why: 'several encrypted packets of this size passed at that time: which of them it is cannot be told' });
    rows.push({ point, predicted, ...(observed ? { observed } : {}), state, differences, decisions });
    decisions = [];
  }
  for (const extra of left) {
    const point = o?.points.find((p) => p.label === extra.point);
    if (point) rows.push({ point, observed: extra, state: copies.has(extra.point) ? 'copy' : 'unexpected', differences: [], decisions: [] });
  }
  const lastIndex = rows.findLastIndex((r) => r.observed && r.predicted);
  const next = rows.find((r, i) => i > lastIndex && r.state === 'missing');
  const last = rows[lastIndex];
  return {
    direction, rows, predicted: trace.outcome, alternatives: traces.filter((t) => !t.copy).length - 1, end: decisions,
    ...(last ? { lastSeen: last.point.label } : {}), ...(o && next ? { expectedNext: next.point.label } : {}),
    ...(o?.notSent ? { asPredicted: trace.outcome.kind === 'dropped' && rows.length === 0 } : {}),
    ...(o && !o.notSent && !o.noTraffic ? { asPredicted: rows.every((r) => r.state === 'seen' || r.state === 'copy' || r.state === 'not observed') } : {}),
    steps: steps.filter((s) => !('promiscuous' in s)).map((s) => ({ netns: s.netns, ...(s.dev ? { dev: s.dev } : {}), kind: s.kind, why: s.why })),
  };
}

export function predictedOf(p: Packet): PredictedPacket {
  // Of a tunnel in a tunnel, the packet itself and the outermost header.
  let inner = p;
  while (inner.vxlan) inner = inner.vxlan.inner;
  return {
    src: inner.src, dst: inner.dst, ttl: inner.ttl, ipLength: inner.fragments?.length ?? inner.length, frameLength: frameLength(p),
    ...(inner.wireguard ? { sealed: true } : {}), ...(inner.ethernet ? { ethernet: inner.ethernet } : {}),
    ...(p.vxlan && p.l4.proto === 'udp'
      ? { outer: { src: p.src, dst: p.dst, dstPort: p.l4.dstPort, vni: p.vxlan.vni, ttl: p.ttl, dontFragment: p.dontFragment, ipLength: p.fragments?.length ?? p.length, ...(p.ethernet ? { ethernet: p.ethernet } : {}) } }
      : {}),
  };
}

function compare(p: PredictedPacket, s: Sighting): string[] {
  const found: string[] = [];
  const check = (name: string, predicted: unknown, observed: unknown): void => {
    if (predicted !== undefined && predicted !== observed) found.push(`${name} ${String(observed)}, predicted ${String(predicted)}`);
  };
  check('TTL', p.ttl, s.ttl);
  check('source', p.src, s.src);
  check('destination', p.dst, s.dst);
  check('source MAC', p.ethernet?.src, s.ethernet?.src);
  check('destination MAC', p.ethernet?.dst, s.ethernet?.dst);
  check('IP length', p.ipLength, s.ipLength);
  check('frame length', p.frameLength, s.frameLength);
  if (!p.outer !== !s.outer) found.push(p.outer ? 'not encapsulated, predicted VXLAN' : 'encapsulated, predicted not');
  if (p.outer && s.outer) {
    check('outer source MAC', p.outer.ethernet?.src, s.outer.ethernet?.src);
    check('outer destination MAC', p.outer.ethernet?.dst, s.outer.ethernet?.dst);
    for (const k of ['src', 'dst', 'dstPort', 'vni', 'ttl', 'dontFragment', 'ipLength'] as const) check(`outer ${k}`, p.outer[k], s.outer[k]);
  }
  return found;
}

function endOf(world: World, key: string): End {
  const pod = world.pods.find((p) => p.netns === key);
  const node = world.nodes.find((n) => n.name === (pod?.node ?? key));
  const ns = world.namespaces.find((n) => n.key === key);
  if (pod && ns?.role === 'pod') return { name: `${pod.namespace}/${pod.name}`, role: 'pod', node: pod.node, addresses: pod.ips, nodeAddresses: node?.addresses ?? [] };
  const addresses = node?.addresses ?? ns?.state.addresses.filter((a) => a.dev !== 'lo' && a.scope !== 'link').map((a) => a.address) ?? [];
  return { name: key, role: ns?.role ?? 'unknown', ...(node ? { node: node.name } : {}), addresses, nodeAddresses: node?.addresses ?? [] };
}

function tupleOf(flow: Report['flow'], leg: Leg): string {
  const seen = leg.rows.find((r) => r.observed)?.observed;
  const src = seen?.src ?? leg.rows[0]?.predicted?.src ?? flow.src ?? '?';
  const srcPort = seen?.srcPort ?? flow.srcPort;
  return flow.proto === 'icmp' ? `icmp ${src} → ${flow.dst}` : `${flow.proto} ${src}:${srcPort ?? '*'} → ${flow.dst}:${flow.dstPort ?? 80}`;
}

function headline(outcome: Outcome, request: Leg, reply: Leg | undefined, o: Observation | undefined): string {
  const predicted =
    outcome.kind === 'delivered' ? `delivered to ${outcome.netns}${outcome.listener === 'not known' ? ' (no listener known)' : ''}`
    : outcome.kind === 'dropped' ? `dropped in ${outcome.netns}${outcome.dev ? ` at ${outcome.dev}` : ''}${outcome.reason ? ` (${outcome.reason})` : ''}: ${outcome.object}: ${outcome.why}`
    : `cannot be told: ${outcome.missing}`;
  if (!o) return `Predicted: ${predicted}.`;
  if (o.notSent) return `Predicted: ${predicted}. The kernel did not send at all: ${o.notSent}.`;
  if (o.noTraffic) return `Predicted: ${predicted}. No such traffic was seen.`;
  const broken = [request, ...(reply ? [reply] : [])].find((l) => l.asPredicted === false);
  if (!broken) return `Predicted: ${predicted}. Observed: the same.`;
  const way = broken.direction === 'request' ? 'on the way there' : 'on the way back';
  const wrong = broken.rows.find((r) => r.state === 'differs' || r.state === 'unexpected');
  const where = broken.expectedNext ? `last seen at ${broken.lastSeen ?? 'no point'}, expected next at ${broken.expectedNext}` : `at ${wrong?.point.label ?? '?'}: ${wrong?.differences.join(', ') || 'not expected there'}`;
  return `Predicted: ${predicted}. Observed otherwise ${way}: ${where}.`;
}

function summaryOf(o: Observation, request: Leg, reply: Leg | undefined): string[] {
  if (o.noTraffic) return ['no such traffic was seen: let Podway send its own'];
  if (o.notSent) return [`nothing sent: the kernel refused (${o.notSent})`];
  const answered = o.probes.filter((p) => p.answer?.kind === 'reply').length;
  const refused = o.probes.filter((p) => p.answer?.kind === 'refused').length;
  const out = [`${o.probes.length} sent, ${answered} answered${refused ? `, ${refused} refused` : ''}, ${o.probes.length - answered - refused} without answer`];
  const trips = o.probes.flatMap((p) => (p.reply.length ? [Math.max(...p.reply.map((s) => s.offsetUs))] : []));
  if (trips.length) out.push(`round trip ${Math.round(Math.min(...trips))} to ${Math.round(Math.max(...trips))} µs between captures`);
  const all = request.rows.flatMap((r) => r.observed ?? []);
  const seen = all.filter((s) => !s.sealed);
  const first = seen[0];
  const last = seen.at(-1);
  if (first && last) {
    const nat = seen.find((s) => s.src !== first.src || s.dst !== first.dst);
    out.push(nat ? `addresses change at ${nat.point}: ${first.src} → ${first.dst} becomes ${nat.src} → ${nat.dst}` : `addresses constant: ${first.src} → ${first.dst}`);
    out.push(...ttlText(request));
    const sealed = all.filter((s) => s.sealed);
    const tunnels = [...new Set(seen.filter((s) => s.outer).map((s) => s.overhead))];
    if (tunnels.length) {
      const ports = [...new Set(seen.flatMap((s) => (s.outer ? [s.outer.srcPort] : [])))];
      out.push(`VXLAN adds ${tunnels.join(', ')} bytes; outer source port ${ports.join(', ')} (one per flow)`);
    } else if (sealed.length) {
      out.push(`WireGuard adds ${[...new Set(sealed.map((s) => s.ipLength - first.ipLength))].join(', ')} bytes (${sealed[0]!.src.includes(':') ? 80 : 60}, and padding to 16); encrypted between nodes, matched there by time and size${encryptedBy(request)}`);
    } else if (request.rows.some((r) => r.predicted?.sealed)) {
      out.push(`WireGuard between nodes; which of the encrypted packets there is ours cannot be told${encryptedBy(request)}`);
    } else out.push('no encapsulation');
  }
  const ids = o.probes.flatMap((p) => p.request[0]?.ipId ?? []);
  if (ids.length > 1) out.push(`IP ids ${ids.join(', ')}`);
  if (o.lost.length) out.push(`captures lost packets at ${o.lost.map((l) => `${l.label} (${l.packets})`).join(', ')}: not being seen there proves nothing`);
  if (reply && reply.asPredicted === false) out.push(`answer last seen at ${reply.lastSeen ?? 'no point'}`);
  return out;
}

/** ` (encrypted by user space (wireguard-go))`, as the prediction has it. */
function encryptedBy(leg: Leg): string {
  const by = leg.steps.flatMap((s) => /encrypted by (.+), \d+ bytes more$/.exec(s.why)?.[1] ?? [])[0];
  return by === undefined ? '' : `; encrypted by ${by}`;
}

/** How far the TTL fell and who forwarded: the packet's own, and where a tunnel carried it that of what is seen outside. */
function ttlText(leg: Leg): string[] {
  const rows = leg.rows.filter((r) => r.observed !== undefined);
  const forwarders = rows.filter((r, i) => i > 0 && r.decisions.some((d) => d.kind === 'forward'));
  const text = (what: string, ttls: readonly number[], by: readonly Row[]): string => {
    const fall = Math.max(...ttls) - Math.min(...ttls);
    const count = (n: number, one: string): string => (n ? `${n} ${n === 1 ? one : `${one}s`}` : '');
    const routers = by.filter((r) => r.point.role === 'underlay').length;
    const who = [count(by.length - routers, 'node'), count(routers, 'router')].filter(Boolean).join(' and ');
    return `${what} ${ttls[0]} → ${ttls.at(-1)}${fall === by.length ? ` (${who || 'nobody'} forwarded it)` : `: ${fall} less, but ${by.length} forwarded it as far as predicted: another router is in the way`}`;
  };
  const carrier = (r: Row): { readonly src: string; readonly dst: string; readonly ttl: number } | undefined => r.observed?.outer ?? (r.observed?.sealed && r.observed);
  // A tunnel in a tunnel has outer headers of its own on its part of the way.
  const tunnels = new Map<string, Row[]>();
  for (const r of rows) {
    const o = carrier(r);
    if (o) tunnels.set(`${o.src} ${o.dst}`, [...(tunnels.get(`${o.src} ${o.dst}`) ?? []), r]);
  }
  const carried = [...tunnels.values()].flatMap((part) => {
    const by = part.filter((r) => forwarders.includes(r));
    return by.length ? [text('outer TTL', part.map((r) => carrier(r)!.ttl), by)] : [];
  });
  return [text('TTL', rows.flatMap((r) => (r.observed!.sealed ? [] : [r.observed!.ttl])), forwarders.filter((r) => !carrier(r))), ...carried];
}

function notesOf(world: World, o: Observation | undefined): string[] {
  return [
    ...world.unread.map((u) => `not read: ${u}`),
    ...(o?.notCaptured.map((n) => `not captured: ${n.label}: ${n.why}`) ?? []),
    ...(o?.notRead.map((n) => `not read: ${n}`) ?? []),
  ];
}

const dedupe = (errors: readonly PathError[]): PathError[] => [...new Map(errors.map((e) => [`${e.from} ${e.type}/${e.code}`, e])).values()];
