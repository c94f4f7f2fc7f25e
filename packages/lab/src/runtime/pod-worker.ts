/**
 * One pod on one node: brings what runs in line with the pod object, step by step, one step at a
 * time. What to do is decided by plan(), what to tell by podStatus(); this file does it.
 *
 * The order is that of a kubelet: sandbox, network ADD, init containers one after the other, then
 * the containers. On deletion: TERM, after the grace period KILL, network DEL, sandbox, API object.
 */
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { isPodwayError, messageOf } from '@podway/errors';
import { Pods, type Pod } from '@podway/kube';
import { decideRestart } from './backoff.js';
import { kubeTime, type Clock } from './clock.js';
import { configure, launch, logDir } from './container.js';
import type { Container } from './env.js';
import type { EventRecorder, EventType } from './events.js';
import type { ExitStatus, RunningContainer } from './init.js';
import { backOffWords, newState, plan, refuse, type ContainerState, type Plan } from './plan.js';
import { startProbes } from './probes.js';
import { readRecords, removeRecord, writeRecord, type ContainerRecord, type PodRecord } from './record.js';
import { createSandbox, reclaim, removeSandbox, type Sandbox } from './sandbox.js';
import { podStatus } from './status.js';
import type { RuntimeOptions } from './types.js';
import { podDir, writePodFiles } from './volumes.js';

interface Run {
  readonly record: ContainerRecord;
  readonly process: RunningContainer;
  stopProbes: () => void;
}

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
  private readonly states = new Map<string, ContainerState>();
  private readonly runs = new Map<string, Run>();
  private readonly imageIDs = new Map<string, string>();
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
    for (const c of [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? [])]) {
      const s = newState(c.name);
      const before = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])].find((x) => x.name === c.name);
      // The lab was restarted: its containers ended with it, and start once more.
      s.restartCount = before ? before.restartCount + (before.containerID ? 1 : 0) : 0;
      this.states.set(c.name, s);
    }
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
    for (const r of this.runs.values()) {
      r.stopProbes();
      r.process.detach();
    }
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
      containers: [...this.runs.values()].map((r) => r.record),
    };
  }

  restartCount(container: string): number | undefined {
    return this.states.get(container)?.restartCount;
  }

  running(container: string): boolean {
    return this.runs.has(container);
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
    const field = container === undefined ? undefined : `spec.${this.kindOf(container) === 'init' ? 'initContainers' : 'containers'}{${container}}`;
    this.context.events.record({ ...this.pod, apiVersion: 'v1', kind: 'Pod' }, type, reason, message, field);
  }

  private kindOf(container: string): 'init' | 'app' {
    return (this.pod.spec?.initContainers ?? []).some((c) => c.name === container) ? 'init' : 'app';
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
    let p = this.plan();
    this.initialized = p.initialized;
    for (const { container, delay } of p.backingOff) this.backOff(container, delay);
    for (const c of p.start) {
      if (this.dirty && this.pod.metadata?.deletionTimestamp) break;
      await this.startOne(c);
    }
    p = this.plan();
    this.initialized = p.initialized;
    for (const { container, delay } of p.backingOff) this.backOff(container, delay);
    if (p.finished && this.runs.size > 0) await this.stopAll(QUICK_GRACE, false); // sidecars
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
    return plan(this.pod, this.states, this.context.clock.now());
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
    await this.stopAll(QUICK_GRACE, true);
    await removeSandbox(sandbox, this.context.options);
    this.sandbox = undefined;
    for (const [name, s] of this.states) {
      if (s.terminated === undefined) continue;
      this.states.set(name, { ...newState(name), restartCount: s.restartCount + 1, last: s.terminated });
    }
  }

  private backOff(c: Container, delay: number): void {
    const s = this.states.get(c.name);
    const told = s && backOffWords(this.pod, c, { state: s, delay });
    if (!s || !told) return;
    s.waiting = told.waiting;
    this.event(told.type, 'BackOff', told.message, c.name);
  }

  private async startOne(c: Container): Promise<void> {
    const { options, clock } = this.context;
    const s = this.states.get(c.name);
    const sandbox = this.sandbox;
    if (!s || !sandbox) return;
    let prepared;
    try {
      prepared = await options.images.get(c.image ?? '');
    } catch (e) {
      this.event('Warning', 'Failed', isPodwayError(e) && e.hint ? `${e.message} (${e.hint})` : messageOf(e), c.name);
      this.event('Warning', 'Failed', 'Error: ErrImagePull', c.name);
      refuse(s, { reason: 'ErrImagePull', message: messageOf(e) }, clock.now());
      return;
    }
    this.imageIDs.set(c.name, prepared.imageID);
    let configuration;
    try {
      configuration = await configure(this.pod, c, prepared, sandbox, options);
    } catch (e) {
      this.event('Warning', isPodwayError(e) && e.code.startsWith('VOLUME') ? 'FailedMount' : 'Failed', `Error: ${messageOf(e)}`, c.name);
      refuse(s, { reason: 'CreateContainerConfigError', message: messageOf(e) }, clock.now());
      return;
    }
    delete s.refused;
    const begin = performance.now();
    const startedAt = clock.now();
    this.event('Normal', 'Pulled', `Container image "${c.image}" already present on machine`, c.name);
    if (s.terminated) {
      const d = decideRestart(s.backoff, s.terminated.finishedAt, startedAt);
      if (d.kind === 'start') s.backoff = d.backoff;
      s.last = s.terminated;
      s.restartCount += 1;
      delete s.terminated;
    }
    try {
      const launched = await launch(
        { pod: this.pod, container: c, kind: this.kindOf(c.name), image: prepared, sandbox, configuration, restartCount: s.restartCount, startedAt: kubeTime(startedAt) },
        options,
      );
      this.follow(c, s, launched, startedAt);
      options.timing?.(this.name, 'container', performance.now() - begin);
    } catch (e) {
      this.event('Warning', 'Failed', `Error: failed to start container "${c.name}": ${messageOf(e)}`, c.name);
      delete s.waiting;
      s.terminated = { exitCode: 128, signal: 0, reason: 'StartError', message: messageOf(e), startedAt, finishedAt: clock.now(), id: '' };
    }
  }

  private follow(c: Container, s: ContainerState, launched: { record: ContainerRecord; process: RunningContainer }, startedAt: number): void {
    const { options, clock } = this.context;
    delete s.waiting;
    s.running = { id: launched.record.id, pid: launched.process.pid, startedAt };
    this.event('Normal', 'Created', `Created container: ${c.name}`, c.name);
    this.event('Normal', 'Started', `Started container ${c.name}`, c.name);
    const run: Run = { ...launched, stopProbes: () => undefined };
    this.runs.set(c.name, run);
    void launched.process.exited.then((status) => this.ended(c.name, run, status));
    const change = (fn: () => void) => (): void => {
      fn();
      this.wake();
    };
    run.stopProbes = startProbes(c, {
      clock,
      target: () => ({
        init: options.init, nodePid: options.node.holderPid, podIP: this.ips[0] ?? '127.0.0.1', record: this.record ?? noRecord(),
      }),
      on: {
        ready: (ready) => change(() => (s.ready = ready))(),
        started: change(() => (s.started = true)),
        unhealthy: (kind, output) => this.event('Warning', 'Unhealthy', `${kind} probe failed: ${output}`, c.name),
        kill: (kind) => {
          this.event('Normal', 'Killing', `Container ${c.name} failed ${kind.toLowerCase()} probe, will be restarted`, c.name);
          void this.stop(run, this.grace());
        },
      },
    });
  }

  private ended(name: string, run: Run, status: ExitStatus): void {
    if (this.detached) return;
    run.stopProbes();
    if (this.runs.get(name) === run) this.runs.delete(name);
    const s = this.states.get(name);
    if (!s?.running) return;
    const { id, startedAt } = s.running;
    delete s.running;
    s.ready = false;
    s.started = false;
    s.terminated = { ...status, reason: status.exitCode === 0 ? 'Completed' : 'Error', startedAt, finishedAt: this.context.clock.now(), id };
    this.wake();
  }

  private grace(): number {
    return (this.pod.metadata?.deletionGracePeriodSeconds ?? this.pod.spec?.terminationGracePeriodSeconds ?? 30) * 1000;
  }

  /** TERM, and after the grace period KILL. */
  private async stop(run: Run, grace: number): Promise<void> {
    run.stopProbes();
    const cancel = this.context.clock.after(grace, () => run.process.signal('SIGALRM'));
    run.process.signal('SIGTERM');
    await run.process.exited;
    cancel();
  }

  private async stopAll(grace: number, tell: boolean): Promise<void> {
    await Promise.all([...this.runs].map(async ([name, run]) => {
      if (tell) this.event('Normal', 'Killing', `Stopping container ${name}`, name);
      await this.stop(run, grace);
      this.ended(name, run, await run.process.exited);
    }));
  }

  private async terminate(): Promise<void> {
    const { client, node } = this.context.options;
    await this.stopAll(this.removed ? QUICK_GRACE : this.grace(), true);
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
      pod: this.pod, states: this.states, imageIDs: this.imageIDs, podIPs: this.ips, hostIPs: options.node.addresses,
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

function noRecord(): never {
  throw new Error('a probe ran without a sandbox');
}
