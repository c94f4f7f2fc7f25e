/**
 * Pod status from what the containers are doing: a pure function, in the kubelet's words.
 * Source: kubelet's getPhase, generateAPIPodStatus, status/generate.go.
 */
import type { Pod } from '@podway/kube';
import { kubeTime } from './clock.js';
import type { Container } from './env.js';
import type { ContainerState, Termination } from './plan.js';

type PodStatus = NonNullable<Pod['status']>;
type ContainerStatus = NonNullable<PodStatus['containerStatuses']>[number];
type Condition = NonNullable<PodStatus['conditions']>[number];

export interface StatusInput {
  readonly pod: Pod;
  readonly states: ReadonlyMap<string, ContainerState>;
  readonly imageIDs: ReadonlyMap<string, string>;
  readonly podIPs: readonly string[];
  readonly hostIPs: readonly string[];
  readonly startedAt: number;
  readonly initialized: boolean;
  readonly sandboxReady: boolean;
  readonly now: number;
}

const prefix = 'podway://';

function terminated(t: Termination): object {
  return {
    exitCode: t.exitCode, ...(t.signal ? { signal: t.signal } : {}), reason: t.reason, ...(t.message ? { message: t.message } : {}),
    startedAt: kubeTime(t.startedAt), finishedAt: kubeTime(t.finishedAt), ...(t.id ? { containerID: prefix + t.id } : {}),
  };
}

function containerStatus(c: Container, s: ContainerState, imageID: string): ContainerStatus {
  const ended = s.running ? s.last : s.waiting ? (s.terminated ?? s.last) : s.last;
  const state = s.running
    ? { running: { startedAt: kubeTime(s.running.startedAt) } }
    : s.waiting
      ? { waiting: { reason: s.waiting.reason, ...(s.waiting.message ? { message: s.waiting.message } : {}) } }
      : s.terminated
        ? { terminated: terminated(s.terminated) }
        : { waiting: { reason: 'ContainerCreating' } };
  const id = s.running?.id ?? s.terminated?.id;
  return {
    name: c.name,
    image: c.image ?? '',
    imageID,
    ...(id ? { containerID: prefix + id } : {}),
    ready: s.ready,
    started: s.started,
    restartCount: s.restartCount,
    state,
    lastState: ended ? { terminated: terminated(ended) } : {},
  } as ContainerStatus;
}

export function phaseOf(pod: Pod, states: ReadonlyMap<string, ContainerState>, initialized: boolean): string {
  const policy = pod.spec?.restartPolicy ?? 'Always';
  if (!initialized) {
    const failed = (pod.spec?.initContainers ?? []).some((c) => {
      const t = states.get(c.name)?.terminated;
      return t !== undefined && t.exitCode !== 0;
    });
    return failed && policy === 'Never' ? 'Failed' : 'Pending';
  }
  const all = (pod.spec?.containers ?? []).map((c) => states.get(c.name));
  const running = all.filter((s) => s?.running).length;
  const ended = all.map((s) => (s?.running ? undefined : s?.terminated)).filter((t) => t !== undefined);
  if (running + ended.length < all.length) return 'Pending';
  if (running > 0) return 'Running';
  if (policy === 'Always') return 'Running';
  const failures = ended.filter((t) => t.exitCode !== 0).length;
  if (failures === 0) return 'Succeeded';
  return policy === 'Never' ? 'Failed' : 'Running';
}

/** Keeps conditions of others and the transition times of what did not change. */
function merged(old: readonly Condition[], fresh: readonly Condition[], now: number): Condition[] {
  const result = old.filter((c) => !fresh.some((f) => f.type === c.type));
  for (const f of fresh) {
    const before = old.find((c) => c.type === f.type);
    const same = before?.status === f.status;
    result.push({ ...f, lastTransitionTime: (same && before.lastTransitionTime) || kubeTime(now) } as Condition);
  }
  return result;
}

export function podStatus(input: StatusInput): PodStatus {
  const { pod, states, now } = input;
  const phase = phaseOf(pod, states, input.initialized);
  const app = pod.spec?.containers ?? [];
  const init = pod.spec?.initContainers ?? [];
  const ephemeral = pod.spec?.ephemeralContainers ?? [];
  const statuses = (list: readonly Container[]): ContainerStatus[] =>
    list.map((c) => {
      const s = states.get(c.name);
      const pending = s && !input.initialized && !s.running && !s.terminated && app.includes(c) && init.length > 0;
      const shown: ContainerState = s ? (pending ? { ...s, waiting: { reason: 'PodInitializing' } } : s) : { name: c.name, restartCount: 0, started: false, ready: false };
      return containerStatus(c, shown, input.imageIDs.get(c.name) ?? '');
    });
  const over = phase === 'Succeeded' || phase === 'Failed';
  const unready = app.filter((c) => !states.get(c.name)?.ready).map((c) => c.name);
  const uninitialized = init.filter((c) => {
    const s = states.get(c.name);
    return s?.terminated?.exitCode !== 0 && !s?.started;
  }).map((c) => c.name);
  const readiness = over
    ? { status: 'False', reason: phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : unready.length
      ? { status: 'False', reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
      : { status: 'True' };
  const fresh = [
    { type: 'PodReadyToStartContainers', status: input.sandboxReady ? 'True' : 'False' },
    input.initialized || phase === 'Succeeded'
      ? { type: 'Initialized', status: 'True', ...(phase === 'Succeeded' ? { reason: 'PodCompleted' } : {}) }
      : { type: 'Initialized', status: 'False', reason: 'ContainersNotInitialized', message: `containers with incomplete status: [${uninitialized.join(' ')}]` },
    { type: 'Ready', ...readiness },
    { type: 'ContainersReady', ...readiness },
    { type: 'PodScheduled', status: 'True' },
  ] as Condition[];
  const hostIP = input.hostIPs[0];
  return {
    phase,
    conditions: merged(pod.status?.conditions ?? [], fresh, now),
    ...(hostIP === undefined ? {} : { hostIP, hostIPs: input.hostIPs.map((ip) => ({ ip })) }),
    ...(input.podIPs[0] === undefined ? {} : { podIP: input.podIPs[0], podIPs: input.podIPs.map((ip) => ({ ip })) }),
    startTime: kubeTime(input.startedAt),
    ...(init.length ? { initContainerStatuses: statuses(init) } : {}),
    containerStatuses: statuses(app),
    ...(ephemeral.length ? { ephemeralContainerStatuses: statuses(ephemeral) } : {}),
    qosClass: pod.status?.qosClass ?? 'BestEffort',
  } as PodStatus;
}
