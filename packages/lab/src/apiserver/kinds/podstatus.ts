/**
 * What `kubectl get pods` says of a pod: READY, STATUS, RESTARTS. Pure.
 * Source: k8s.io/kubernetes/pkg/printers/internalversion/printers.go, printPod.
 */
import type { Pod } from '@podway/kube';
import { humanDuration } from '../duration.js';

export interface PodSummary {
  readonly ready: string;
  readonly status: string;
  /** `2 (3s ago)`. */
  readonly restarts: string;
}

export function podSummary(pod: Pod, now: number): PodSummary {
  const spec = pod.spec;
  const status = pod.status;
  let restarts = 0;
  let restartableInitRestarts = 0;
  let last = -Infinity;
  let lastRestartableInit = -Infinity;
  let total = spec?.containers.length ?? 0;
  let ready = 0;
  let reason = status?.phase ?? '';
  if (status?.reason !== undefined && status.reason !== '') reason = status.reason;
  if (status?.conditions?.some((c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated') === true) reason = 'SchedulingGated';

  const finished = (c: { lastState?: { terminated?: { finishedAt?: string } } }): number => {
    const at = c.lastState?.terminated?.finishedAt;
    return at === undefined ? -Infinity : Date.parse(at);
  };
  const restartable = new Set((spec?.initContainers ?? []).filter((c) => c.restartPolicy === 'Always').map((c) => c.name));
  total += restartable.size;
  const initTotal = spec?.initContainers?.length ?? 0;
  let initializing = false;
  for (const [i, c] of (status?.initContainerStatuses ?? []).entries()) {
    restarts += c.restartCount;
    last = Math.max(last, finished(c));
    if (restartable.has(c.name)) {
      restartableInitRestarts += c.restartCount;
      lastRestartableInit = Math.max(lastRestartableInit, finished(c));
    }
    const terminated = c.state?.terminated;
    if (terminated?.exitCode === 0) continue;
    if (restartable.has(c.name) && c.started === true) {
      if (c.ready) ready++;
      continue;
    }
    if (terminated !== undefined) {
      if ((terminated.reason ?? '') !== '') reason = `Init:${terminated.reason ?? ''}`;
      else if ((terminated.signal ?? 0) !== 0) reason = `Init:Signal:${String(terminated.signal)}`;
      else reason = `Init:ExitCode:${String(terminated.exitCode)}`;
    } else if ((c.state?.waiting?.reason ?? '') !== '' && c.state?.waiting?.reason !== 'PodInitializing') {
      reason = `Init:${c.state?.waiting?.reason ?? ''}`;
    } else reason = `Init:${String(i)}/${String(initTotal)}`;
    initializing = true;
    break;
  }

  const initialized = status?.conditions?.some((c) => c.type === 'Initialized' && c.status === 'True') === true;
  if (!initializing || initialized) {
    restarts = restartableInitRestarts;
    last = lastRestartableInit;
    let running = false;
    for (const c of [...(status?.containerStatuses ?? [])].reverse()) {
      restarts += c.restartCount;
      last = Math.max(last, finished(c));
      const terminated = c.state?.terminated;
      const waiting = c.state?.waiting?.reason ?? '';
      if (waiting !== '') reason = waiting;
      else if (terminated !== undefined && (terminated.reason ?? '') !== '') reason = terminated.reason ?? '';
      else if (terminated !== undefined) {
        reason = (terminated.signal ?? 0) !== 0 ? `Signal:${String(terminated.signal)}` : `ExitCode:${String(terminated.exitCode)}`;
      } else if (c.ready && c.state?.running !== undefined) {
        running = true;
        ready++;
      }
    }
    if (reason === 'Completed' && running) {
      reason = status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') === true ? 'Running' : 'NotReady';
    }
  }

  if (pod.metadata?.deletionTimestamp !== undefined) {
    if (status?.reason === 'NodeLost') reason = 'Unknown';
    else if (!['Failed', 'Succeeded'].includes(status?.phase ?? '')) reason = 'Terminating';
  }
  const ago = restarts !== 0 && last > -Infinity ? ` (${humanDuration(now - last)} ago)` : '';
  return { ready: `${String(ready)}/${String(total)}`, status: reason, restarts: `${String(restarts)}${ago}` };
}
