/**
 * When a container that ended may start again: at once the first time, then 10 s, 20 s, ... 5 min
 * after it ended; forgotten when it ran for ten minutes.
 * Source: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy and the
 * kubelet's doBackOff with client-go's flowcontrol.Backoff.
 */
export interface Backoff {
  /** How long to wait after the next end. */
  readonly delay: number;
  /** When the delay was last raised. */
  readonly updated: number;
}

export const FIRST_DELAY = 10_000;
export const MAX_DELAY = 300_000;

export type RestartDecision =
  | { readonly kind: 'start'; readonly backoff: Backoff }
  | { readonly kind: 'wait'; readonly until: number; readonly delay: number };

/** @param ended when the container ended (or an image could not be had), milliseconds. */
export function decideRestart(backoff: Backoff | undefined, ended: number, now: number): RestartDecision {
  const forgotten = backoff === undefined || ended - backoff.updated > 2 * MAX_DELAY;
  if (!forgotten && now - ended < backoff.delay) return { kind: 'wait', until: ended + backoff.delay, delay: backoff.delay };
  return { kind: 'start', backoff: { delay: forgotten ? FIRST_DELAY : Math.min(backoff.delay * 2, MAX_DELAY), updated: now } };
}

/** `10s`, `1m20s`, `5m0s`: as Go prints durations. */
export function goDuration(ms: number): string {
  const s = Math.round(ms / 1000);
  return s < 60 ? `${s}s` : `${Math.floor(s / 60)}m${s % 60}s`;
}
