/** Where to capture: every device the prediction passes, and the usual ones of both ends, so that a packet that strays is seen too. */
import type { WorldIndex } from '../world.js';
import type { Trace } from '../simulate/types.js';

export type PointRole = 'pod' | 'veth' | 'bridge' | 'vtep' | 'tunnel' | 'uplink' | 'underlay' | 'other';

export interface CapturePoint {
  readonly netns: string;
  readonly dev: string;
  /** `m1/flannel.1`, also the interface name in pcapng files. */
  readonly label: string;
  readonly role: PointRole;
  readonly index?: number;
  /** `eth0@if7 ↔ vethab12`. */
  readonly text: string;
  /** Bridges show what they forward between ports only in promiscuous mode. */
  readonly promiscuous: boolean;
}

export function pointOf(index: WorldIndex, netns: string, dev: string): CapturePoint {
  const ns = index.namespace(netns);
  const link = index.link(netns, dev);
  const role: PointRole =
    ns?.role === 'pod' ? 'pod'
    : ns?.role !== 'node' ? 'underlay'
    : link?.kind === 'bridge' ? 'bridge'
    : link?.kind === 'vxlan' ? 'vtep'
    : link?.wireguard ? 'tunnel'
    : link?.kind === 'veth' && isPodVeth(index, netns, dev) ? 'veth'
    : uplinksOf(index, netns).includes(dev) ? 'uplink' : 'other';
  return { netns, dev, label: `${netns.replace(/^default\//, '')}/${dev}`, role, text: index.describe(netns, dev), promiscuous: link?.kind === 'bridge', ...(link?.index === undefined ? {} : { index: link.index }) };
}

function isPodVeth(index: WorldIndex, netns: string, dev: string): boolean {
  const peer = index.peer(netns, dev);
  return peer !== undefined && index.namespace(peer.netns)?.role === 'pod';
}

/** Devices through which a node reaches others: under a VTEP, or with one of its own addresses. */
function uplinksOf(index: WorldIndex, netns: string): string[] {
  const ns = index.namespace(netns);
  const own = index.world.nodes.find((n) => n.netns === netns)?.addresses ?? [];
  return [...new Set([
    ...(ns?.state.links.flatMap((l) => (l.vxlan?.dev ? [l.vxlan.dev] : [])) ?? []),
    ...(ns?.state.addresses.filter((a) => own.includes(a.address)).map((a) => a.dev) ?? []),
  ])];
}

/** Devices a trace passes, in order, each once. `promiscuous` ones included. */
export function tapsOf(t: Trace): { readonly netns: string; readonly dev: string; readonly packet: Trace['final'] }[] {
  const taps = t.hops.flatMap((h) => h.steps.flatMap((s) => ((s.kind === 'transmit' || s.kind === 'receive') && s.dev ? [{ netns: s.netns, dev: s.dev, packet: s.packet }] : [])));
  return taps;
}

/** The usual devices of a namespace and, for a pod, of its node on the pod's side. */
function usual(index: WorldIndex, key: string): { netns: string; dev: string }[] {
  const ns = index.namespace(key);
  if (!ns) return [];
  const found: { netns: string; dev: string }[] = [];
  if (ns.role === 'pod') {
    for (const l of ns.state.links.filter((x) => x.kind === 'veth')) {
      found.push({ netns: key, dev: l.name });
      const peer = index.peer(key, l.name);
      if (!peer) continue;
      found.push(peer);
      const bridge = index.link(peer.netns, peer.dev)?.master;
      if (bridge) found.push({ netns: peer.netns, dev: bridge });
    }
    if (ns.node && ns.node !== key) found.push(...usual(index, ns.node));
  } else if (ns.role === 'node') {
    for (const l of ns.state.links.filter((x) => x.kind === 'vxlan' || x.wireguard)) found.push({ netns: key, dev: l.name });
    for (const dev of uplinksOf(index, key)) found.push({ netns: key, dev });
  }
  return found;
}

/** All points for a flow, in the order of the first prediction; what it does not pass comes last. */
export function pointsFor(index: WorldIndex, traces: readonly Trace[], ends: readonly string[]): CapturePoint[] {
  const points = new Map<string, CapturePoint>();
  const add = ({ netns, dev }: { netns: string; dev: string }): void => {
    const key = `${netns} ${dev}`;
    if (!points.has(key) && index.link(netns, dev) && dev !== 'lo') points.set(key, pointOf(index, netns, dev));
  };
  for (const t of traces) tapsOf(t).forEach(add);
  for (const end of ends) usual(index, end).forEach(add);
  return [...points.values()];
}
