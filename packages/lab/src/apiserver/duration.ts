/**
 * Durations as kubectl prints them: `7s`, `3m5s`, `12m`, `5h12m`, `3d4h`, `40d`, `2y10d`.
 * Source: k8s.io/apimachinery/pkg/util/duration, HumanDuration.
 */
export function humanDuration(ms: number): string {
  const s = Math.trunc(ms / 1000);
  if (s < -1) return '<invalid>';
  if (s < 0) return '0s';
  const n = (v: number): string => String(Math.trunc(v));
  if (s < 120) return `${n(s)}s`;
  const m = Math.trunc(s / 60);
  if (m < 10) return s % 60 === 0 ? `${n(m)}m` : `${n(m)}m${n(s % 60)}s`;
  if (m < 180) return `${n(m)}m`;
  const h = Math.trunc(s / 3600);
  if (h < 8) return m % 60 === 0 ? `${n(h)}h` : `${n(h)}h${n(m % 60)}m`;
  if (h < 48) return `${n(h)}h`;
  const d = Math.trunc(h / 24);
  if (h < 192) return h % 24 === 0 ? `${n(d)}d` : `${n(d)}d${n(h % 24)}h`;
  if (h < 24 * 365 * 2) return `${n(d)}d`;
  const y = Math.trunc(d / 365);
  if (h < 24 * 365 * 8) return d % 365 === 0 ? `${n(y)}y` : `${n(y)}y${n(d % 365)}d`;
  return `${n(y)}y`;
}

/** Time since a timestamp, `<unknown>` without one. */
export function since(timestamp: string | undefined | null, now: number): string {
  if (timestamp === undefined || timestamp === null || timestamp === '') return '<unknown>';
  return humanDuration(now - Date.parse(timestamp));
}
