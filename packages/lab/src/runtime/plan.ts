/**
 * What to do next with a pod's containers: a pure function of the pod and of what its containers
 * are doing. The worker acts on the answer, and asks again when something changed or at `wakeAt`.
 */
import type { Pod } from '@podway/kube';
import { decideRestart, FIRST_DELAY, goDuration, MAX_DELAY, type Backoff } from './backoff.js';
import type { Container } from './env.js';

export interface Termination {
  readonly exitCode: number;
  readonly signal: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly id: string;
}

/** One container over its restarts. */
export interface ContainerState {
  readonly name: string;
  /** Set while it runs. */
  running?: { readonly id: string; readonly pid: number; readonly startedAt: number };
  /** Set while it does not run after having run (or tried to). */
  terminated?: Termination;
  /** How the run before this one ended. */
  last?: Termination;
  waiting?: { readonly reason: string; readonly message?: string };
  restartCount: number;
  backoff?: Backoff;
  /** When it last could not even be created (image, configuration); its own back-off counts from there. */
  refused?: { readonly at: number; readonly backoff: Backoff };
  started: boolean;
  ready: boolean;
}

export const newState = (name: string): ContainerState => ({
  name, restartCount: 0, started: false, ready: false, waiting: { reason: 'ContainerCreating' },
});

export interface Plan {
  /** Containers to start now, in order. */
  readonly start: readonly Container[];
  /** Containers that wait for their back-off. */
  readonly backingOff: readonly { readonly container: Container; readonly delay: number }[];
  /** Ask again at this time (milliseconds), if nothing happens before. */
  readonly wakeAt?: number;
  readonly initialized: boolean;
  /** No container will ever run again. */
  readonly finished: boolean;
}

const isSidecar = (c: Container): boolean => (c as { restartPolicy?: string }).restartPolicy === 'Always';

export function restarts(pod: Pod, t: Termination): boolean {
  const policy = pod.spec?.restartPolicy ?? 'Always';
  return policy === 'Always' || (policy === 'OnFailure' && t.exitCode !== 0);
}

export function plan(pod: Pod, states: ReadonlyMap<string, ContainerState>, now: number): Plan {
  const start: Container[] = [];
  const backingOff: { container: Container; delay: number }[] = [];
  const times: number[] = [];
  let finished = true;

  const consider = (c: Container, again: boolean): void => {
    const s = states.get(c.name);
    if (!s || s.running) {
      finished = false;
      return;
    }
    if (s.terminated && !again) return;
    finished = false;
    const since = s.refused ?? (s.terminated && { at: s.terminated.finishedAt, backoff: s.backoff });
    const d = since ? decideRestart(since.backoff, since.at, now) : undefined;
    if (d?.kind === 'wait') {
      backingOff.push({ container: c, delay: d.delay });
      times.push(d.until);
    } else start.push(c);
  };
  const answer = (initialized: boolean): Plan => ({
    start, backingOff, initialized, finished,
    ...(times.length ? { wakeAt: Math.min(...times) } : {}),
  });

  // Whatever else goes on; once each; and none of them keeps a pod going.
  for (const c of pod.spec?.ephemeralContainers ?? []) consider(c, false);
  finished = true;
  for (const c of pod.spec?.initContainers ?? []) {
    const s = states.get(c.name);
    if (isSidecar(c)) {
      if (!s?.running) consider(c, true);
      if (!s?.started) return { ...answer(false), finished: false };
      continue;
    }
    if (s?.terminated?.exitCode === 0) continue;
    const again = (pod.spec?.restartPolicy ?? 'Always') !== 'Never';
    consider(c, again);
    return answer(false);
  }
  // A sidecar alone does not keep a pod going: only what the app containers do counts.
  finished = true;
  for (const c of pod.spec?.containers ?? []) {
    const t = states.get(c.name)?.terminated;
    consider(c, t === undefined || restarts(pod, t));
  }
  return answer(true);
}

/** What a container that waits for its back-off shows and says; undefined when that was said before. */
export function backOffWords(
  pod: Pod, c: Container, { state, delay }: { readonly state: ContainerState; readonly delay: number },
): { readonly waiting: { reason: string; message: string }; readonly type: 'Normal' | 'Warning'; readonly message: string } | undefined {
  if (state.refused) {
    if (state.waiting?.reason !== 'ErrImagePull') return undefined;
    const message = `Back-off pulling image "${c.image}"`;
    return { waiting: { reason: 'ImagePullBackOff', message: `${message}: ${state.waiting.message ?? ''}` }, type: 'Normal', message };
  }
  if (state.waiting?.reason === 'CrashLoopBackOff') return undefined;
  const name = `${pod.metadata?.name}_${pod.metadata?.namespace}(${pod.metadata?.uid})`;
  return {
    waiting: { reason: 'CrashLoopBackOff', message: `back-off ${goDuration(delay)} restarting failed container=${c.name} pod=${name}` },
    type: 'Warning', message: `Back-off restarting failed container ${c.name} in pod ${name}`,
  };
}

/** A container that cannot be created (image, configuration) waits, longer each time. */
export function refuse(s: ContainerState, waiting: { readonly reason: string; readonly message: string }, now: number): void {
  const delay = s.refused ? Math.min(s.refused.backoff.delay * 2, MAX_DELAY) : FIRST_DELAY;
  s.refused = { at: now, backoff: { delay, updated: now } };
  s.waiting = { ...waiting };
}
