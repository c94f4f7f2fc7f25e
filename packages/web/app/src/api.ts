/** The server's endpoints, and its stream of changes as the page's state. */
import { useEffect, useRef, useState, useSyncExternalStore } from 'react';
import { addCounters, applyDelta, type Totals } from '../../src/model/delta.js';
import type { ApiError, CounterUpdate, NamespaceView, PathAnswer, PathQuestion, Topology, TopologyDelta } from '../../src/model/types.js';

/** What the server said, with its hint. */
export class Refused extends Error {
  constructor(readonly code: string, message: string, readonly hint: string | undefined) {
    super(message);
  }
}

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  const response = await fetch(path, init);
  const body = (await response.json()) as T | ApiError;
  if (response.ok) return body as T;
  const { error } = body as ApiError;
  throw new Refused(error.code, error.message, error.hint);
}

export function fetchNamespace(netns: string, role: string, signal: AbortSignal): Promise<NamespaceView> {
  const kind = role === 'pod' ? 'pod' : role === 'node' ? 'node' : 'underlay';
  return ask(`/api/${kind}/${netns.split('/').map(encodeURIComponent).join('/')}`, { signal });
}

export const fetchTrace = (id: string): Promise<PathAnswer> => ask(`/api/trace/${encodeURIComponent(id)}`);
export const sendProbes = (question: PathQuestion): Promise<PathAnswer> =>
  ask('/api/trace', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(question) });

export function predictPath(question: PathQuestion): Promise<PathAnswer> {
  return ask(`/api/path?${new URLSearchParams(Object.entries(question).map(([k, v]) => [k, String(v)])).toString()}`);
}

/** Packets and bytes a second, both directions. */
export interface Rate {
  readonly rx: number;
  readonly tx: number;
  readonly bytes: number;
}

/** Counters change every second; only what shows them is drawn again. */
export class CounterStore {
  private totals: Totals = new Map();
  private rates = new Map<string, Rate>();
  private readonly watchers = new Set<() => void>();
  private version = 0;

  take(update: CounterUpdate): void {
    this.totals = addCounters(this.totals, update);
    this.rates = new Map(update.full || update.ms === 0 ? [] : Object.entries(update.counts).map(([id, c]) => {
      const s = 1000 / update.ms;
      return [id, { rx: c[0] * s, tx: c[1] * s, bytes: (c[2] + c[3]) * s }];
    }));
    this.version++;
    for (const w of this.watchers) w();
  }

  rate(id: string): Rate | undefined {
    return this.rates.get(id);
  }

  total(id: string): { rx: number; tx: number; rxBytes: number; txBytes: number; dropped: number } | undefined {
    const c = this.totals.get(id);
    return c && { rx: c[0], tx: c[1], rxBytes: c[2], txBytes: c[3], dropped: c[4] + c[5] };
  }

  readonly subscribe = (watcher: () => void): (() => void) => {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  };
  readonly snapshot = (): number => this.version;
}

export interface LiveState {
  readonly topology: Topology | undefined;
  readonly counters: CounterStore;
  readonly state: 'connecting' | 'live' | 'trouble' | 'lost';
  readonly message?: string;
}

export function useLive(): LiveState {
  const [topology, setTopology] = useState<Topology>();
  const [link, setLink] = useState<{ state: LiveState['state']; message?: string }>({ state: 'connecting' });
  const counters = useRef<CounterStore>(undefined);
  counters.current ??= new CounterStore();
  useEffect(() => {
    const source = new EventSource('/api/events');
    const on = <T>(event: string, take: (data: T) => void): void => source.addEventListener(event, (e) => take(JSON.parse((e as MessageEvent<string>).data) as T));
    on<Topology>('topology', (t) => (setTopology(t), setLink({ state: 'live' })));
    on<TopologyDelta>('change', (d) => (setTopology((t) => t && applyDelta(t, d)), setLink({ state: 'live' })));
    on<CounterUpdate>('counters', (u) => (counters.current!.take(u), setLink((l) => (l.state === 'live' ? l : { state: 'live' }))));
    on<{ message: string }>('trouble', ({ message }) => setLink({ state: 'trouble', message }));
    source.onerror = () => setLink({ state: 'lost' });
    return () => source.close();
  }, []);
  return { topology, counters: counters.current, ...link };
}

/** Draws again with every update of the counters. */
export const useCounters = (store: CounterStore): CounterStore => {
  useSyncExternalStore(store.subscribe, store.snapshot);
  return store;
};

/** What a request answers, asked again when the key changes. */
export function useAnswer<T>(key: string | undefined, request: (signal: AbortSignal) => Promise<T>): { readonly data?: T; readonly error?: Error; readonly again: () => void } {
  const [answer, setAnswer] = useState<{ key: string; data?: T; error?: Error }>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (key === undefined) return undefined;
    const abort = new AbortController();
    request(abort.signal).then((data) => setAnswer({ key, data }), (e: unknown) => {
      if (!abort.signal.aborted) setAnswer({ key, error: e instanceof Error ? e : new Error(String(e)) });
    });
    return () => abort.abort();
  }, [key, round]);
  const mine = answer?.key === key ? answer : undefined;
  return { ...(mine?.data === undefined ? {} : { data: mine.data }), ...(mine?.error === undefined ? {} : { error: mine.error }), again: () => setRound((n) => n + 1) };
}
