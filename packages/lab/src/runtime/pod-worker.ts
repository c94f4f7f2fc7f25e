/**
 * One pod on one node: brings what runs in line with the pod object, step by step, one step at a
 * time. What to do is decided by plan(), what to tell by podStatus(), containers are pod-containers.ts;
 * this file has the order of things, the sandbox and the end.
 *
 * The order is that of a kubelet: sandbox, network ADD, init containers one after the other, then
 * the containers. On deletion: TERM, after the grace period KILL, network DEL, sandbox, API object.
 */
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isPodwayError, messageOf } from '@podway/errors';
import { Pods, type Pod } from '@podway/kube';
import type { Clock } from './clock.js';
import { logDir } from './container.js';
import type { EventRecorder, EventType } from './events.js';
import type { Plan } from './plan.js';
import { kindOf, LISTS, PodContainers } from './pod-containers.js';
import { readRecords, removeRecord, writeRecord, type PodRecord } from './record.js';
import { createSandbox, reclaim, removeSandbox, type Sandbox } from './sandbox.js';
import { podStatus } from './status.js';
import type { RuntimeOptions } from './types.js';
import { podDir, writePodFiles } from './volumes.js';

export interface WorkerContext {
  readonly options: RuntimeOptions;
  readonly clock: Clock;
  readonly events: EventRecorder;
  readonly warn: (message: string, error: unknown) => void;
}

/** A killed container is given this long where nobody waits for its clean end (sandbox gone). */
const QUICK_GRACE = 2_000;

export class PodWorker {
  readonly uid: string;
  /** Settles when the pod is gone for good from this node. */
  readonly done: Promise<void>;
  private readonly containers: PodContainers;
  private sandbox: Sandbox | undefined;
  private ips: readonly string[] = [];
  private readonly startedAt: number;
  private initialized = false;
  private over = false;
  private removed = false;
  private finished = false;
  private detached = false;
  private reclaimed = false;
  private failures = 0;
  private dirty = true;
  private wakeUp = (): void => undefined;
  private sentStatus = '';
  private sentRecord = '';

  constructor(private pod: Pod, private readonly context: WorkerContext) {
    this.uid = pod.metadata?.uid ?? '';
    const status = pod.status;
    this.startedAt = status?.startTime ? Date.parse(String(status.startTime)) : context.clock.now();
    this.over = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    this.containers = new PodContainers({
      context, pod: () => this.pod, sandbox: () => this.sandbox, ips: () => this.ips, record: () => this.record,
      event: (type, reason, message, container) => this.event(type, reason, message, container), wake: () => this.wake(),
    });
    this.containers.know(true);
    this.done = this.loop();
  }

  update(pod: Pod): void {
    this.pod = pod;
    this.wake();
  }

  /** The object is gone from the API: nothing to finish, only to clean up. */
  remove(): void {
    this.removed = true;
    this.wake();
  }

  /** Stop working on the pod and leave everything running. */
  detach(): void {
    this.detached = true;
    this.containers.detach();
    this.sandbox?.resident.detach();
    this.wake();
  }

  get object(): Pod {
    return this.pod;
  }

  /** undefined while there is no sandbox. */
  get record(): PodRecord | undefined {
    const s = this.sandbox;
    const { node } = this.context.options;
    if (!s) return undefined;
    return {
      version: 1, lab: node.lab, node: node.name, nodePid: node.holderPid, uid: this.uid,
      namespace: this.pod.metadata?.namespace ?? 'default', name: this.pod.metadata?.name ?? '',
      sandbox: { id: s.id, pid: s.resident.pid, ...(s.netns === undefined ? {} : { netns: s.netns }), shm: s.shm, netnsInode: s.netnsInode, ips: s.ips },
      containers: this.containers.records(),
    };
  }

  restartCount(container: string): number | undefined {
    return this.containers.states.get(container)?.restartCount;
  }

  running(container: string): boolean {
    return this.containers.running(container);
  }

  private wake(): void {
    this.dirty = true;
    this.wakeUp();
  }

  private async loop(): Promise<void> {
    while (!this.finished && !this.detached) {
      this.dirty = false;
      let wakeAt: number | undefined;
      try {
        wakeAt = await this.sync();
        this.failures = 0;
      } catch (e) {
        this.context.warn(`pod ${this.name}`, e);
        wakeAt = this.retryAt();
      }
      if (this.finished || this.detached) return;
      if (!this.dirty) await this.sleepUntil(wakeAt);
    }
  }

  private retryAt(): number {
    return this.context.clock.now() + Math.min(1000 * 2 ** this.failures++, 10_000);
  }

  private sleepUntil(wakeAt: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const cancel = wakeAt === undefined ? undefined : this.context.clock.after(Math.max(0, wakeAt - this.context.clock.now()), () => this.wakeUp());
      this.wakeUp = () => {
        this.wakeUp = () => undefined;
        cancel?.();
        resolve();
      };
    });
  }

  private get name(): string {
    return `${this.pod.metadata?.namespace}/${this.pod.metadata?.name}`;
  }

  private event(type: EventType, reason: string, message: string, container?: string): void {
    const field = container === undefined ? undefined : `spec.${LISTS[kindOf(this.pod, container)]}{${container}}`;
    this.context.events.record({ ...this.pod, apiVersion: 'v1', kind: 'Pod' }, type, reason, message, field);
  }

  /** One round. Returns when to look again although nothing happened. */
  private async sync(): Promise<number | undefined> {
    if (!this.reclaimed) {
      await this.reclaimLeftovers();
      this.reclaimed = true;
    }
    if (this.removed || this.pod.metadata?.deletionTimestamp) {
      await this.terminate().catch((e: unknown) => {
        this.event('Warning', 'FailedKillPod', `error killing pod: ${messageOf(e)}`);
        throw e; // tried again: a pod is not gone before its network is
      });
      return undefined;
    }
    if (this.over) return undefined;
    if (this.sandbox?.resident.isGone()) await this.dropSandbox();
    if (!this.sandbox) {
      const failed = await this.makeSandbox();
      if (failed !== undefined) return failed;
    }
    this.containers.know(false);
    let p = this.plan();
    for (const c of p.start) {
      if (this.dirty && this.pod.metadata?.deletionTimestamp) break;
      await this.containers.start(c);
    }
    p = this.plan();
    if (p.finished) await this.containers.stopAll(QUICK_GRACE, false); // sidecars, ephemeral ones
    if (p.finished) {
      this.over = true;
      await this.publish();
      await this.dismantle();
      return undefined;
    }
    await this.publish();
    if (p.start.length > 0) this.dirty = true;
    return p.wakeAt;
  }

  private plan(): Plan {
    const p = this.containers.plan();
    this.initialized = p.initialized;
    return p;
  }

  private async reclaimLeftovers(): Promise<void> {
    const { options } = this.context;
    const old = (await readRecords(options.node.dirs.pods)).find((r) => r.uid === this.uid);
    if (!old) return;
    await reclaim(old, this.pod, options);
    await removeRecord(options.node.dirs.pods, this.uid);
  }

  private async makeSandbox(): Promise<number | undefined> {
    const { options } = this.context;
    try {
      const sandbox = await createSandbox(this.pod, options);
      this.sandbox = sandbox;
      this.ips = sandbox.ips;
      void sandbox.resident.gone.then(() => this.wake());
      for (const w of await writePodFiles(this.pod, options.node, sandbox.ips, options.dns)) this.event('Warning', w.reason, w.message);
      return undefined;
    } catch (e) {
      this.event('Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${messageOf(e)}`);
      await this.publish();
      return this.retryAt();
    }
  }

  /** The holder died: its containers have a network nobody holds. They end, and all starts anew. */
  private async dropSandbox(): Promise<void> {
    const sandbox = this.sandbox;
    if (!sandbox) return;
    this.event('Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    await this.containers.stopAll(QUICK_GRACE, true);
    await removeSandbox(sandbox, this.context.options);
    this.sandbox = undefined;
    this.containers.startAnew();
  }

  private async terminate(): Promise<void> {
    const { client, node } = this.context.options;
    await this.containers.stopAll(this.removed ? QUICK_GRACE : this.containers.grace(), true);
    await this.dismantle();
    // Files before the object: whoever sees the pod gone finds nothing of it.
    await rm(podDir(node, this.uid), { recursive: true, force: true });
    await rm(dirname(logDir(node.dirs.logs, this.pod, 'x')), { recursive: true, force: true });
    const name = this.pod.metadata?.name ?? '';
    const namespace = this.pod.metadata?.namespace ?? 'default';
    if (!this.removed) {
      await this.publish();
      await client.delete(Pods, { name, namespace }, { gracePeriodSeconds: 0, uid: this.uid }).catch((e: unknown) => {
        if (!isPodwayError(e, 'KUBE_NOT_FOUND') && !isPodwayError(e, 'KUBE_CONFLICT')) throw e;
      });
    }
    this.finished = true;
  }

  /** Takes the sandbox away; what the pod was and said stays. */
  private async dismantle(): Promise<void> {
    const { options } = this.context;
    if (this.sandbox) await removeSandbox(this.sandbox, options);
    this.sandbox = undefined;
    await removeRecord(options.node.dirs.pods, this.uid);
  }

  /** Record and status, each only when changed. */
  private async publish(): Promise<void> {
    const { options, clock } = this.context;
    const record = this.record;
    const text = JSON.stringify(record);
    if (record && text !== this.sentRecord) {
      await writeRecord(options.node.dirs.pods, record);
      this.sentRecord = text;
    }
    const status = podStatus({
      pod: this.pod, states: this.containers.states, imageIDs: this.containers.imageIDs, podIPs: this.ips, hostIPs: options.node.addresses,
      startedAt: this.startedAt, initialized: this.initialized, sandboxReady: this.sandbox !== undefined, now: clock.now(),
    });
    const wanted = JSON.stringify(status);
    if (wanted === this.sentStatus) return;
    const { name = '', namespace = 'default' } = this.pod.metadata ?? {};
    try {
      const stored = await options.client.patch(Pods, { name, namespace }, { status }, { type: 'merge', subresource: 'status', fieldManager: 'kubelet' });
      this.sentStatus = wanted;
      // Times of conditions are kept from what is stored: an older object must not bring older ones back.
      if (stored.metadata?.uid === this.uid && !this.pod.metadata?.deletionTimestamp) this.pod = stored;
    } catch (e) {
      if (!isPodwayError(e, 'KUBE_NOT_FOUND')) throw e;
    }
  }
}
