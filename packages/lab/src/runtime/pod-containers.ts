/**
 * The containers of one pod: their states over restarts, the runs of those that run, and what
 * starts, follows and stops them. When to do which is the worker's (pod-worker.ts) and plan()'s.
 */
import { PodwayError, isPodwayError, messageOf } from '@podway/errors';
import type { Pod } from '@podway/kube';
import { decideRestart } from './backoff.js';
import { kubeTime } from './clock.js';
import { configure, launch } from './container.js';
import type { Container } from './env.js';
import type { EventType } from './events.js';
import type { ExitStatus, RunningContainer } from './init.js';
import { backOffWords, newState, plan, refuse, type ContainerState, type Plan } from './plan.js';
import type { WorkerContext } from './pod-worker.js';
import { startProbes } from './probes.js';
import type { ContainerRecord, PodRecord } from './record.js';
import type { Sandbox } from './sandbox.js';

interface Run {
  readonly record: ContainerRecord;
  readonly process: RunningContainer;
  stopProbes: () => void;
}

/** The pod they belong to, as it is now. */
export interface OfPod {
  readonly context: WorkerContext;
  pod(): Pod;
  sandbox(): Sandbox | undefined;
  ips(): readonly string[];
  record(): PodRecord | undefined;
  event(type: EventType, reason: string, message: string, container?: string): void;
  wake(): void;
}

/** Where containers of a kind stand in a pod's spec. */
export const LISTS = { init: 'initContainers', app: 'containers', ephemeral: 'ephemeralContainers' } as const;

export function kindOf(pod: Pod, container: string): ContainerRecord['kind'] {
  const has = (list: readonly { name: string }[] | undefined): boolean => (list ?? []).some((c) => c.name === container);
  return has(pod.spec?.initContainers) ? 'init' : has(pod.spec?.ephemeralContainers) ? 'ephemeral' : 'app';
}

export class PodContainers {
  readonly states = new Map<string, ContainerState>();
  readonly imageIDs = new Map<string, string>();
  private readonly runs = new Map<string, Run>();
  private detached = false;

  constructor(private readonly of: OfPod) {}

  /**
   * Gives every container of the pod a state.
   * @param first the pod was just taken over: what its status tells of earlier runs ended with an earlier lab process.
   */
  know(first: boolean): void {
    const { spec, status } = this.of.pod();
    const before = first ? [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? []), ...(status?.ephemeralContainerStatuses ?? [])] : [];
    for (const c of [...(spec?.initContainers ?? []), ...(spec?.containers ?? []), ...(spec?.ephemeralContainers ?? [])]) {
      if (this.states.has(c.name)) continue;
      const s = newState(c.name);
      const told = before.find((x) => x.name === c.name);
      // The lab was restarted: its containers ended with it, and start once more.
      s.restartCount = told ? told.restartCount + (told.containerID ? 1 : 0) : 0;
      if (told?.containerID && kindOf(this.of.pod(), c.name) === 'ephemeral') this.neverAgain(s);
      this.states.set(c.name, s);
    }
  }

  /** Ephemeral containers are not restarted, whatever ended them. */
  private neverAgain(s: ContainerState): void {
    const now = this.of.context.clock.now();
    s.restartCount = 0;
    delete s.waiting;
    s.terminated = {
      exitCode: 137, signal: 9, reason: 'ContainerStatusUnknown', message: 'The container could not be located when the pod was terminated',
      startedAt: now, finishedAt: now, id: '',
    };
  }

  records(): ContainerRecord[] {
    return [...this.runs.values()].map((r) => r.record);
  }

  running(container: string): boolean {
    return this.runs.has(container);
  }

  /** Stop working on them and leave them running. */
  detach(): void {
    this.detached = true;
    for (const r of this.runs.values()) {
      r.stopProbes();
      r.process.detach();
    }
  }

  /** What to do next; those that wait are told so. */
  plan(): Plan {
    const p = plan(this.of.pod(), this.states, this.of.context.clock.now());
    for (const { container, delay } of p.backingOff) this.backOff(container, delay);
    return p;
  }

  /** The sandbox is another one: who ended starts again in it. */
  startAnew(): void {
    for (const [name, s] of this.states) {
      if (s.terminated === undefined || kindOf(this.of.pod(), name) === 'ephemeral') continue;
      this.states.set(name, { ...newState(name), restartCount: s.restartCount + 1, last: s.terminated });
    }
  }

  private backOff(c: Container, delay: number): void {
    const s = this.states.get(c.name);
    const told = s && backOffWords(this.of.pod(), c, { state: s, delay });
    if (!s || !told) return;
    s.waiting = told.waiting;
    this.of.event(told.type, 'BackOff', told.message, c.name);
  }

  /** PID 1 of the container whose processes an ephemeral one shall see. @throws CONTAINER_NOT_FOUND */
  private targetPid(c: Container): number | undefined {
    const { targetContainerName: target } = c as { targetContainerName?: string };
    if (target === undefined || target === '') return undefined;
    const run = this.runs.get(target);
    if (!run) throw new PodwayError('CONTAINER_NOT_FOUND', `target container "${target}" does not run`);
    return run.record.pid;
  }

  /** Errors become the container's state and events. */
  async start(c: Container): Promise<void> {
    const { options, clock } = this.of.context;
    const pod = this.of.pod();
    const s = this.states.get(c.name);
    const sandbox = this.of.sandbox();
    if (!s || !sandbox) return;
    let prepared;
    try {
      prepared = await options.images.get(c.image ?? '');
    } catch (e) {
      this.of.event('Warning', 'Failed', isPodwayError(e) && e.hint ? `${e.message} (${e.hint})` : messageOf(e), c.name);
      this.of.event('Warning', 'Failed', 'Error: ErrImagePull', c.name);
      refuse(s, { reason: 'ErrImagePull', message: messageOf(e) }, clock.now());
      return;
    }
    this.imageIDs.set(c.name, prepared.imageID);
    let configuration;
    let pidOf: number | undefined;
    try {
      pidOf = this.targetPid(c);
      configuration = await configure(pod, c, prepared, sandbox, options);
    } catch (e) {
      this.of.event('Warning', isPodwayError(e) && e.code.startsWith('VOLUME') ? 'FailedMount' : 'Failed', `Error: ${messageOf(e)}`, c.name);
      refuse(s, { reason: 'CreateContainerConfigError', message: messageOf(e) }, clock.now());
      return;
    }
    delete s.refused;
    const begin = performance.now();
    const startedAt = clock.now();
    this.of.event('Normal', 'Pulled', `Container image "${c.image}" already present on machine`, c.name);
    if (s.terminated) {
      const d = decideRestart(s.backoff, s.terminated.finishedAt, startedAt);
      if (d.kind === 'start') s.backoff = d.backoff;
      s.last = s.terminated;
      s.restartCount += 1;
      delete s.terminated;
    }
    try {
      const launched = await launch(
        {
          pod, container: c, kind: kindOf(pod, c.name), image: prepared, sandbox, configuration, restartCount: s.restartCount, startedAt: kubeTime(startedAt),
          ...(pidOf === undefined ? {} : { pidOf }),
        },
        options,
      );
      this.follow(c, s, launched, startedAt);
      options.timing?.(`${pod.metadata?.namespace}/${pod.metadata?.name}`, 'container', performance.now() - begin);
    } catch (e) {
      this.of.event('Warning', 'Failed', `Error: failed to start container "${c.name}": ${messageOf(e)}`, c.name);
      delete s.waiting;
      s.terminated = { exitCode: 128, signal: 0, reason: 'StartError', message: messageOf(e), startedAt, finishedAt: clock.now(), id: '' };
    }
  }

  private follow(c: Container, s: ContainerState, launched: { record: ContainerRecord; process: RunningContainer }, startedAt: number): void {
    const { options, clock } = this.of.context;
    delete s.waiting;
    s.running = { id: launched.record.id, pid: launched.process.pid, startedAt };
    this.of.event('Normal', 'Created', `Created container: ${c.name}`, c.name);
    this.of.event('Normal', 'Started', `Started container ${c.name}`, c.name);
    const run: Run = { ...launched, stopProbes: () => undefined };
    this.runs.set(c.name, run);
    void launched.process.exited.then((status) => this.ended(c.name, run, status));
    const change = (fn: () => void) => (): void => {
      fn();
      this.of.wake();
    };
    if (launched.record.kind === 'ephemeral') return; // never ready, never asked
    run.stopProbes = startProbes(c, {
      clock,
      target: () => ({
        init: options.init, nodePid: options.node.holderPid, podIP: this.of.ips()[0] ?? '127.0.0.1', record: this.of.record() ?? noRecord(),
      }),
      on: {
        ready: (ready) => change(() => (s.ready = ready))(),
        started: change(() => (s.started = true)),
        unhealthy: (kind, output) => this.of.event('Warning', 'Unhealthy', `${kind} probe failed: ${output}`, c.name),
        kill: (kind) => {
          this.of.event('Normal', 'Killing', `Container ${c.name} failed ${kind.toLowerCase()} probe, will be restarted`, c.name);
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
    s.terminated = { ...status, reason: status.exitCode === 0 ? 'Completed' : 'Error', startedAt, finishedAt: this.of.context.clock.now(), id };
    this.of.wake();
  }

  grace(): number {
    return (this.of.pod().metadata?.deletionGracePeriodSeconds ?? this.of.pod().spec?.terminationGracePeriodSeconds ?? 30) * 1000;
  }

  /** TERM, and after the grace period KILL. */
  private async stop(run: Run, grace: number): Promise<void> {
    run.stopProbes();
    const cancel = this.of.context.clock.after(grace, () => run.process.signal('SIGALRM'));
    run.process.signal('SIGTERM');
    await run.process.exited;
    cancel();
  }

  async stopAll(grace: number, tell: boolean): Promise<void> {
    await Promise.all([...this.runs].map(async ([name, run]) => {
      if (tell) this.of.event('Normal', 'Killing', `Stopping container ${name}`, name);
      await this.stop(run, grace);
      this.ended(name, run, await run.process.exited);
    }));
  }
}

function noRecord(): never {
  throw new Error('a probe ran without a sandbox');
}
