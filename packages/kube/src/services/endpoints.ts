/**
 * Which endpoints a connection may be sent to. Pure, and the only place where that is decided: the
 * agent's maps, the health check, the CLI and the tests all ask here.
 *
 * Ready ones. Where there is none, those that are ending but still answer (KEP-1669): better served by
 * somebody who is leaving than by nobody. With policy Local only those of this node, by the same rule.
 */
import type { ServiceEndpoint, TrafficPolicy } from './model.js';

export function usableEndpoints(all: readonly ServiceEndpoint[], policy: TrafficPolicy = 'Cluster', node?: string): readonly ServiceEndpoint[] {
  const candidates = policy === 'Local' ? all.filter((e) => e.node !== undefined && e.node === node) : all;
  const ready = candidates.filter((e) => e.ready);
  return ready.length ? ready : candidates.filter((e) => e.serving && e.terminating);
}

/** What a load balancer's health check of a node counts: ready ones here, or, with none, ending ones that answer. */
export const localEndpoints = (all: readonly ServiceEndpoint[], node: string): number => usableEndpoints(all, 'Local', node).length;
