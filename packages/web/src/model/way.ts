/**
 * The way of a packet on the four layers (application, pod network, node network, physical network), from the report of a
 * trace and what is known of the devices it passes. Pure; the drawing, the text and the player are made from it.
 */
import type { Leg, Report, Row } from '@podway/trace';
import { stackOf, type PacketStack } from './packet.js';
import type { TopoDevice, Topology } from './types.js';

export const LAYERS = ['app', 'pod', 'node', 'physical'] as const;
export type Layer = (typeof LAYERS)[number];

/** What sends or takes the packet. */
export interface Terminal {
  readonly netns: string;
  readonly title: string;
  /** `web (pid 4711)`, `process of the node`, `host outside`. */
  readonly process: string;
}

export interface Stop {
  /** From 1 on, in the order of the report's rows. */
  readonly number: number;
  /** Id of the device in the topology. */
  readonly device: string;
  readonly layer: Layer;
  /** How deep: pod, veth, bridge, VTEP, uplink, underlay. */
  readonly depth: number;
  /** The pod, node or part of the underlay it is in. */
  readonly where: string;
  readonly row: Row;
  readonly packet: PacketStack;
  readonly mtu?: number;
  /** What the device's MTU leaves behind this packet. */
  readonly mtuLeft?: number;
  /** The packet did not come this far, in what was observed. */
  readonly missed: boolean;
}

/** Where a packet ends before its goal. `after`: how many stops it passed. */
export interface Death {
  readonly after: number;
  readonly kind: 'dropped' | 'lost' | 'unknown';
  /** The kernel's own word, where it has one. */
  readonly reason?: string;
  readonly text: string;
}

export interface WayLeg {
  readonly direction: Leg['direction'];
  readonly from: Terminal;
  readonly to?: Terminal;
  readonly stops: readonly Stop[];
  /** Seen where it was not expected, and copies that bridges flood. */
  readonly strays: readonly Row[];
  readonly death?: Death;
  /** Behind the last device. */
  readonly end: Leg['end'];
}

export interface Way {
  readonly report: Report;
  readonly legs: readonly WayLeg[];
}

const DEPTH: Readonly<Record<string, number>> = { pod: 1, veth: 2, bridge: 3, other: 4, vtep: 4, tunnel: 4, uplink: 5, underlay: 6 };
const DEEPEST = 6;

const layerOf = (role: string): Layer => (role === 'pod' ? 'pod' : role === 'underlay' ? 'physical' : 'node');

export function wayOf(report: Report, topology: Topology): Way {
  const devices = new Map(topology.devices.map((d) => [d.id, d]));
  // No answer to what never arrived.
  const begun = report.request.expectedNext === undefined || report.reply?.rows.some((r) => r.observed);
  const legs = [report.request, ...(report.reply && begun ? [report.reply] : [])].map((leg) => legOf(leg, report, topology, devices));
  return { report, legs };
}

function legOf(leg: Leg, report: Report, topology: Topology, devices: ReadonlyMap<string, TopoDevice>): WayLeg {
  const rows = leg.rows.filter((r) => r.predicted);
  const lastSeen = leg.expectedNext === undefined ? rows.length : rows.findLastIndex((r) => r.observed) + 1;
  const stops: Stop[] = [];
  for (const row of rows) {
    const device = `${row.point.netns} ${row.point.dev}`;
    const mtu = devices.get(device)?.mtu;
    const packet = stackOf(row, stops.at(-1)?.packet, report.flow.proto);
    const seen = row.observed ?? row.predicted!;
    stops.push({
      number: stops.length + 1, device, layer: layerOf(row.point.role), depth: DEPTH[row.point.role] ?? DEEPEST, where: row.point.netns, row, packet,
      ...(mtu === undefined ? {} : { mtu, mtuLeft: mtu - (seen.outer?.ipLength ?? seen.ipLength) }), missed: report.observed && stops.length >= lastSeen,
    });
  }
  const request = leg.direction === 'request';
  const source = request ? report.flow.from : (report.to?.name ?? report.flow.dst);
  const goal = leg.predicted.kind === 'delivered' ? leg.predicted.netns : undefined;
  const death = deathOf(leg, report, lastSeen);
  return {
    direction: leg.direction, from: terminalOf(topology, source), ...(goal === undefined || death ? {} : { to: terminalOf(topology, goal) }), stops,
    strays: leg.rows.filter((r) => !r.predicted), ...(death ? { death } : {}), end: leg.end,
  };
}

function deathOf(leg: Leg, report: Report, lastSeen: number): Death | undefined {
  if (leg.expectedNext !== undefined) {
    const evidence = report.evidence.length ? ` (${report.evidence.join('; ')})` : '';
    return { after: lastSeen, kind: 'lost', text: `last seen at ${leg.lastSeen ?? 'no point'}, expected next at ${leg.expectedNext}${evidence}` };
  }
  const p = leg.predicted;
  if (p.kind === 'dropped') return { after: lastSeen, kind: 'dropped', ...(p.reason === undefined ? {} : { reason: p.reason }), text: `${p.object}: ${p.why}` };
  if (p.kind === 'unknown') return { after: lastSeen, kind: 'unknown', text: `cannot be told: ${p.missing}` };
  return undefined;
}

function terminalOf(topology: Topology, netns: string): Terminal {
  const pod = topology.pods.find((p) => p.id === netns);
  if (pod) {
    const [first] = pod.containers;
    return { netns, title: pod.id, process: first ? `${first.name}${first.pid === undefined ? '' : ` (pid ${first.pid})`}` : 'no container' };
  }
  const ns = topology.namespaces.find((n) => n.id === netns);
  return { netns, title: netns, process: ns?.role === 'node' ? 'process of the node' : `host ${netns}` };
}

/** Decisions worth a line in a drawing: what chose the way or changed the packet. */
const DECIDING = new Set(['route', 'neighbour', 'resolve', 'bridge', 'encapsulate', 'decapsulate', 'forward', 'nat', 'fragment', 'no-neighbour']);

export const decidingOf = (row: Row): readonly { readonly kind: string; readonly why: string }[] =>
  row.decisions.filter((d) => DECIDING.has(d.kind)).map((d) => ({ kind: d.kind, why: d.why.replace(/; lost: .*$/, '') }));
