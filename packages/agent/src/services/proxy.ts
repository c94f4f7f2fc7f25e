/**
 * Keeps the table for Services as the API's Services and EndpointSlices want it.
 *
 * A change of one Service costs its own elements; the kernel is read only at the start, when an application
 * failed, and now and then (in case somebody else has altered the table). What is there when the agent starts
 * goes on working meanwhile, and a table that is right already is not touched.
 */
import { isPodwayError, messageOf } from '@podway/errors';
import { Nftables, type Netns } from '@podway/kernel';
import {
  EndpointSlices, PROXY_NAME_LABEL, SERVICE_NAME_LABEL, Services, localEndpoints, serviceKey, serviceKeyOfSlice, serviceModel,
  type EndpointSlice, type ObjectClient, type Service, type ServiceModel,
} from '@podway/kube';
import type { LocalNode } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import type { AgentEvent } from '../events.js';
import { changeCommands, mendChains, removeTable, wholeTable } from './commands.js';
import { serviceEntries, type ServiceNode } from './entries.js';
import { changedFrontends, forgetStaleFlows, staleAffinity } from './flows.js';
import { HealthServers } from './health.js';
import { elementMap, isClean, observedTable, tableDrift } from './observed.js';
import { AFFINITY, SERVICES_TABLE, TABLE } from './ruleset.js';
import { ServiceTable, type ElementChange, type TableChange } from './table.js';

export interface ServiceProxyOptions {
  readonly ns: Netns;
  readonly client: ObjectClient;
  readonly emit: (e: AgentEvent) => void;
}

/** Where this node is, and what the cluster's ranges are. */
export interface ServiceSurroundings {
  readonly node: ServiceNode;
  readonly clusterCidrs: readonly string[];
}

export const serviceSurroundings = (config: Pick<NetworkConfig, 'clusterCidrs'>, local: LocalNode): ServiceSurroundings => ({
  node: { name: local.name, addresses: [local.uplink.address, ...(local.uplink.second ? [local.uplink.second.address] : [])] },
  clusterCidrs: config.clusterCidrs,
});

const RETRY_MS = 1000;
/** Reading the whole table takes 0.15 ms an endpoint: beyond half a second, at most a twentieth of the time goes into it. */
const QUICK_MS = 500;
const READING_SHARE = 20;

export class ServiceProxy {
  private readonly services = new Map<string, Service>();
  private readonly slices = new Map<string, Map<string, EndpointSlice>>();
  private readonly dirty = new Set<string>();
  private readonly owners = new Map<string, string>();
  private readonly models = new Map<string, ServiceModel>();
  private readonly stops: (() => void)[] = [];
  private readonly health: HealthServers;
  private table = new ServiceTable();
  private nft: Nftables | undefined;
  private surroundings: ServiceSurroundings | undefined;
  private unsynced = 2;
  private pending = false;
  private closed = false;
  /** The kernel must be read before the next change. */
  private unsure = true;
  private readAgainAt = 0;
  private retry: NodeJS.Timeout | undefined;
  private problems = '';

  constructor(private readonly o: ServiceProxyOptions) {
    this.health = new HealthServers(o.ns, (doing, error) => o.emit({ type: 'failed', doing, error }));
  }

  /** Begins to watch. Nothing is changed before all Services and slices are known, and the node. */
  start(): void {
    const synced = (): void => {
      this.unsynced--;
      this.soon();
    };
    this.stops.push(
      this.o.client.watch(Services, {}, {
        event: (type, s) => {
          const key = serviceKey(s);
          const other = s.metadata?.labels?.[PROXY_NAME_LABEL] !== undefined;
          if (type === 'DELETED' || other) this.services.delete(key);
          else this.services.set(key, s);
          this.touch(key);
        },
        synced: () => { if (this.unsynced > 0) synced(); },
      }),
      this.o.client.watch(EndpointSlices, { labelSelector: SERVICE_NAME_LABEL }, {
        event: (type, s) => {
          const key = serviceKeyOfSlice(s);
          if (key === undefined) return;
          const of = this.slices.get(key) ?? new Map<string, EndpointSlice>();
          if (type === 'DELETED') of.delete(s.metadata?.name ?? '');
          else of.set(s.metadata?.name ?? '', s);
          if (of.size) this.slices.set(key, of);
          else this.slices.delete(key);
          this.touch(key);
        },
        synced: () => { if (this.unsynced > 0) synced(); },
      }),
    );
  }

  /** The node is (still) here. */
  place(s: ServiceSurroundings): void {
    if (JSON.stringify(s) === JSON.stringify(this.surroundings)) return;
    this.surroundings = s;
    // Every Service may have other addresses now.
    this.table = new ServiceTable();
    this.owners.clear();
    this.models.clear();
    for (const key of this.services.keys()) this.dirty.add(key);
    this.unsure = true;
    this.soon();
  }

  /** Reads the kernel and mends what differs; but not so often that a large table would keep the agent busy with reading it. */
  compare(): void {
    if (performance.now() < this.readAgainAt) return;
    this.unsure = true;
    this.soon();
  }

  private touch(key: string): void {
    this.dirty.add(key);
    this.soon();
  }

  /** Events of one turn are handled together: a rollout's burst is one transaction. */
  private soon(): void {
    if (this.pending || this.closed || this.unsynced > 0 || !this.surroundings) return;
    this.pending = true;
    setImmediate(() => {
      this.pending = false;
      if (!this.closed) this.bring();
    });
  }

  private bring(): void {
    const began = performance.now();
    const surroundings = this.surroundings!;
    try {
      const change = this.takeOver(surroundings);
      const nft = (this.nft ??= Nftables.open(this.o.ns));
      if (this.unsure) {
        this.bringWhole(nft, surroundings, began);
      } else if (change.elements.length) {
        nft.text(changeCommands(change));
        const forgotten = this.forget(nft, change.elements);
        this.o.emit({ type: 'services', services: this.models.size, changes: change.elements.length, forgotten, ms: performance.now() - began });
      }
      this.tellProblems();
      this.health.set(this.checks(surroundings));
    } catch (e) {
      // Nothing of the transaction was done: what is in the kernel is looked at before the next.
      this.unsure = true;
      this.o.emit({ type: 'failed', doing: 'bring the rules of Services in line', error: `${messageOf(e)}${isPodwayError(e) && e.said !== undefined ? `: ${e.said.slice(0, 300)}` : ''}` });
      this.retry ??= setTimeout(() => {
        this.retry = undefined;
        this.soon();
      }, RETRY_MS);
    }
  }

  /** The whole against the kernel. */
  private bringWhole(nft: Nftables, { clusterCidrs }: ServiceSurroundings, began: number): void {
    let listed: ReturnType<Nftables['list']> = [];
    try {
      listed = nft.list(TABLE);
    } catch (e) {
      if (!isPodwayError(e, 'NFT_NOT_FOUND')) throw e;
    }
    const drift = tableDrift(this.table, observedTable(listed), clusterCidrs);
    if (drift.whole) nft.text(wholeTable(this.table, clusterCidrs));
    else if (!isClean(drift)) {
      const strange = drift.strange.flatMap((c) => [`flush chain inet ${SERVICES_TABLE} ${c}`, `delete chain inet ${SERVICES_TABLE} ${c}`]);
      nft.text([mendChains(drift.chains), changeCommands(drift.change), ...strange].filter(Boolean).join('\n'));
    }
    this.unsure = false;
    const took = performance.now() - began;
    this.readAgainAt = took > QUICK_MS ? performance.now() + took * READING_SHARE : 0;
    const forgotten = forgetStaleFlows(this.o.ns, this.table) + this.forgetAffinity(nft);
    const changes = drift.change.elements.length + drift.chains.length + drift.strange.length;
    if (changes || forgotten || drift.whole) this.o.emit({ type: 'services', services: this.models.size, changes, forgotten, ms: performance.now() - began });
  }

  /** Takes what is dirty into the table. */
  private takeOver({ node }: ServiceSurroundings): TableChange {
    const chains = this.table.chains;
    const elements = new Map<string, ElementChange>();
    for (const key of this.dirty) {
      const service = this.services.get(key);
      const model = service && serviceModel(service, [...(this.slices.get(key)?.values() ?? [])]);
      const owner = service ? `${service.metadata?.creationTimestamp ?? ''} ${key}` : undefined;
      const before = this.owners.get(key);
      const changes = [
        ...(before !== undefined && before !== owner ? this.table.put(before, []).elements : []),
        ...(owner !== undefined && model ? this.table.put(owner, serviceEntries(model, node)).elements : []),
      ];
      for (const c of changes) {
        const id = `${c.set} ${c.key}`;
        const first = elements.get(id);
        elements.set(id, first ? { ...c, before: first.before } : c);
      }
      if (model && owner !== undefined) {
        this.models.set(key, model);
        this.owners.set(key, owner);
      } else {
        this.models.delete(key);
        this.owners.delete(key);
      }
    }
    this.dirty.clear();
    const now = this.table.chains;
    return {
      elements: [...elements.values()].filter((e) => e.before !== e.after),
      chainsAdded: [...now].filter((c) => !chains.has(c)), chainsRemoved: [...chains].filter((c) => !now.has(c)),
    };
  }

  private forget(nft: Nftables, elements: readonly ElementChange[]): number {
    const lost = elements.some((e) => e.set === 'endpoints4' && e.before !== undefined);
    return forgetStaleFlows(this.o.ns, this.table, changedFrontends(elements)) + (lost ? this.forgetAffinity(nft) : 0);
  }

  private forgetAffinity(nft: Nftables): number {
    if (this.table.elements.get('affine4')!.size === 0) return 0;
    const stale = staleAffinity(this.table, elementMap('map', nft.elements('map', TABLE, AFFINITY) ?? []));
    let forgotten = 0;
    for (const key of stale) {
      try {
        nft.text(`delete element inet ${SERVICES_TABLE} ${AFFINITY} { ${key} }`);
        forgotten++;
      } catch (e) {
        // It timed out in between.
        if (!isPodwayError(e, 'NFT_NOT_FOUND')) throw e;
      }
    }
    return forgotten;
  }

  private checks({ node }: ServiceSurroundings) {
    return [...this.models.values()].flatMap((m) => (m.healthCheckNodePort === undefined ? [] : [{
      namespace: m.namespace, name: m.name, port: m.healthCheckNodePort,
      // A pod counts once, whatever number of ports it serves.
      endpoints: Math.max(0, ...m.ports.map((p) => localEndpoints([...p.endpoints.IPv4, ...p.endpoints.IPv6], node.name))),
    }]));
  }

  private tellProblems(): void {
    const found = this.table.conflicts();
    const text = JSON.stringify(found);
    if (text === this.problems) return;
    this.problems = text;
    const name = (owner: string): string => owner.slice(owner.lastIndexOf(' ') + 1);
    const told = new Set<string>();
    for (const c of found) {
      const line = `${name(c.owner)} ${name(c.holder)}`;
      if (told.has(line)) continue;
      told.add(line);
      this.o.emit({ type: 'service-problem', service: name(c.owner), reason: `${c.key} is already that of Service ${name(c.holder)}` });
    }
  }

  /** Rules stay: a stopped agent harms no connection. */
  close(): void {
    this.closed = true;
    for (const stop of this.stops.splice(0)) stop();
    clearTimeout(this.retry);
    this.health.close();
    this.nft?.close();
  }

  /** What an agent with `Proxy: none` does with rules of one that had it on. */
  static remove(ns: Netns): boolean {
    return Nftables.with(ns, (nft) => {
      if (nft.elements('set', TABLE, 'clusterips4') === undefined) return false;
      nft.text(removeTable);
      return true;
    });
  }
}
