/** Differences between two topologies, and between two readings of counters: what is streamed to the page. Pure. */
import { LISTS, type Counts, type CounterUpdate, type ListName, type Topology, type TopologyDelta } from './types.js';

type Item = { readonly id: string };

/** Undefined when nothing changed but the time. */
export function topologyDelta(before: Topology, after: Topology): TopologyDelta | undefined {
  const put: Record<string, readonly Item[]> = {};
  const gone: Record<string, readonly string[]> = {};
  for (const list of LISTS) {
    const old = new Map((before[list] as readonly Item[]).map((x) => [x.id, JSON.stringify(x)]));
    const now = after[list] as readonly Item[];
    const changed = now.filter((x) => old.get(x.id) !== JSON.stringify(x));
    for (const x of now) old.delete(x.id);
    if (changed.length) put[list] = changed;
    if (old.size) gone[list] = [...old.keys()];
  }
  const unread = JSON.stringify(before.unread) === JSON.stringify(after.unread) ? undefined : after.unread;
  if (unread === undefined && Object.keys(put).length === 0 && Object.keys(gone).length === 0) return undefined;
  return { taken: after.taken, put: put as TopologyDelta['put'], gone, ...(unread === undefined ? {} : { unread }) };
}

/** What changed keeps its place, what is new comes last. */
export function applyDelta(t: Topology, d: TopologyDelta): Topology {
  const merged = <T extends Item>(list: ListName): readonly T[] => {
    const put = new Map(((d.put[list] ?? []) as readonly unknown[] as readonly T[]).map((x) => [x.id, x]));
    const gone = new Set(d.gone[list]);
    const kept = (t[list] as readonly unknown[] as readonly T[]).filter((x) => !gone.has(x.id)).map((x) => {
      const now = put.get(x.id);
      put.delete(x.id);
      return now ?? x;
    });
    return [...kept, ...put.values()];
  };
  return {
    ...t, taken: d.taken, namespaces: merged('namespaces'), pods: merged('pods'), devices: merged('devices'), links: merged('links'), unread: d.unread ?? t.unread,
  };
}

export type Totals = ReadonlyMap<string, Counts>;

const minus = (a: Counts, b: Counts): Counts => a.map((x, i) => x - b[i]!) as unknown as Counts;
const plus = (a: Counts, b: Counts): Counts => a.map((x, i) => x + b[i]!) as unknown as Counts;

/** A device that is new, or counts from the start again, is given with all it has counted. */
export function counterDelta(before: Totals, after: Totals, ms: number): CounterUpdate {
  const counts: Record<string, Counts> = {};
  for (const [id, now] of after) {
    const old = before.get(id);
    const restarted = old?.some((x, i) => now[i]! < x);
    const added = old && !restarted ? minus(now, old) : now;
    if (added.some((x) => x !== 0)) counts[id] = added;
  }
  return { full: false, ms, counts };
}

export const fullCounters = (totals: Totals): CounterUpdate => ({ full: true, ms: 0, counts: Object.fromEntries(totals) });

export function addCounters(totals: Totals, update: CounterUpdate): Totals {
  if (update.full) return new Map(Object.entries(update.counts));
  const next = new Map(totals);
  for (const [id, added] of Object.entries(update.counts)) {
    const old = next.get(id);
    next.set(id, old ? plus(old, added) : added);
  }
  return next;
}
