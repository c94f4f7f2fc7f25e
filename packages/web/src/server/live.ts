/**
 * What changes, told to whoever looks: counters every second, as differences; objects when they come, go or change.
 * Works only while somebody listens. A round costs a fraction of a millisecond for each namespace; the whole state is read
 * again when devices or processes changed, and every ten seconds.
 */
import { messageOf } from '@podway/errors';
import { observeLinks } from '@podway/netstate';
import type { LiveWorld, ReadWorld, World } from '@podway/trace';
import { counterDelta, fullCounters, topologyDelta, type Totals } from '../model/delta.js';
import { deviceId, topologyOf, type PodProcesses } from '../model/topology.js';
import type { Counts, CounterUpdate, Topology, TopologyDelta } from '../model/types.js';

/** Where the page's data come from. */
export interface UiSource {
  readonly name: string;
  /** Reads everything anew. The caller closes `live`. */
  read(): Promise<ReadWorld>;
  processes(): Promise<readonly PodProcesses[]>;
}

export type LiveEvent =
  | { readonly event: 'topology'; readonly data: Topology }
  | { readonly event: 'change'; readonly data: TopologyDelta }
  | { readonly event: 'counters'; readonly data: CounterUpdate }
  /** It cannot be read now; it is tried again. */
  | { readonly event: 'trouble'; readonly data: { readonly message: string } };

type Listener = (e: LiveEvent) => void;

export interface LiveOptions {
  readonly mayTrace: boolean;
  /** Between two looks at the counters. Default 1000 ms. */
  readonly everyMs?: number;
}

/** Rounds after which everything is read again in any case. */
const FULL_EVERY = 10;

export class Live {
  private readonly listeners = new Set<Listener>();
  private live: LiveWorld | undefined;
  private topology: Topology | undefined;
  private totals: Totals = new Map();
  private countedAt = 0;
  private shape = '';
  private rounds = 0;
  private timer: NodeJS.Timeout | undefined;
  private working: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(private readonly source: UiSource, private readonly options: LiveOptions) {}

  /** The topology as of now. */
  async now(): Promise<Topology> {
    const { world, live } = await this.source.read();
    live.close();
    return this.topologyFrom(world, await this.source.processes());
  }

  /** The first event is the topology, the second all counters. @returns ends it. */
  listen(listener: Listener): () => void {
    this.listeners.add(listener);
    if (this.topology) {
      listener({ event: 'topology', data: this.topology });
      listener({ event: 'counters', data: fullCounters(this.totals) });
    }
    if (!this.timer) {
      this.timer = setInterval(() => this.round(), this.options.everyMs ?? 1000);
      this.round();
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.rest();
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    this.listeners.clear();
    this.rest();
    await this.working;
    this.live?.close();
  }

  private rest(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    // Whoever comes next is given what is then.
    this.working = this.working.then(() => {
      if (this.listeners.size > 0) return;
      this.live?.close();
      this.live = undefined;
      this.topology = undefined;
    });
  }

  /** One at a time; a slow one leaves the next out. */
  private busy = false;
  private round(): void {
    if (this.busy || this.closed) return;
    this.busy = true;
    this.working = this.working.then(() => this.look()).catch((e: unknown) => {
      this.live?.close();
      this.live = undefined;
      this.tell({ event: 'trouble', data: { message: messageOf(e) } });
    }).finally(() => (this.busy = false));
  }

  private async look(): Promise<void> {
    const processes = await this.source.processes();
    const seen = this.live && countersOf(this.live);
    const shape = JSON.stringify([processes, seen?.shape]);
    if (!this.live || !this.topology || shape !== this.shape || this.rounds++ % FULL_EVERY === FULL_EVERY - 1) {
      const { world, live } = await this.source.read();
      this.live?.close();
      this.live = live;
      const next = this.topologyFrom(world, processes);
      const fresh = countersOf(live);
      this.shape = JSON.stringify([processes, fresh.shape]);
      if (!this.topology) {
        this.tell({ event: 'topology', data: next });
        this.tell({ event: 'counters', data: fullCounters(fresh.totals) });
      } else {
        const delta = topologyDelta(this.topology, next);
        if (delta) this.tell({ event: 'change', data: delta });
        this.count(fresh.totals);
      }
      this.topology = next;
      this.totals = fresh.totals;
      this.countedAt = performance.now();
    } else if (seen) this.count(seen.totals);
  }

  private count(totals: Totals): void {
    const now = performance.now();
    const update = counterDelta(this.totals, totals, Math.round(now - this.countedAt));
    this.totals = totals;
    this.countedAt = now;
    this.tell({ event: 'counters', data: update });
  }

  private topologyFrom(world: World, processes: readonly PodProcesses[]): Topology {
    return topologyOf({ name: this.source.name, world, processes, mayTrace: this.options.mayTrace });
  }

  private tell(e: LiveEvent): void {
    for (const l of this.listeners) l(e);
  }
}

/** Counters of all devices, and what else of them would be drawn differently. */
function countersOf(live: LiveWorld): { totals: Totals; shape: string } {
  const totals = new Map<string, Counts>();
  const shape: string[] = [];
  for (const key of live.keys()) {
    for (const l of observeLinks(live.netns(key))) {
      const id = deviceId(key, l.name);
      shape.push(`${id} ${l.index} ${l.up} ${l.lowerUp} ${l.mtu} ${l.master} ${l.address} ${l.peer?.index}`);
      const c = l.counters;
      if (c) totals.set(id, [c.rxPackets, c.txPackets, c.rxBytes, c.txBytes, c.rxDropped + c.rxErrors, c.txDropped + c.txErrors]);
    }
  }
  return { totals, shape: shape.join('\n') };
}
