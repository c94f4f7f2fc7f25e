/**
 * Processes by pid and start time, which together name one process for good: a pid alone may be another one by now.
 * Source: proc(5), /proc/PID/stat fields 3 (state) and 22 (start time in clock ticks since boot).
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcessId {
  readonly pid: number;
  readonly startTime: string;
}

/** @returns undefined when there is none, or only its remains (a zombie). */
export function identify(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name stands in parentheses and may hold anything, parentheses too.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const startTime = fields[19];
    return fields[0] === 'Z' || fields[0] === 'X' || startTime === undefined ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

export const isAlive = (p: ProcessId): boolean => identify(p.pid)?.startTime === p.startTime;

/** The process whose environment holds this. Cost: one small read per process. */
export function findByEnvironment(name: string, value: string): ProcessId | undefined {
  const wanted = Buffer.from(`\0${name}=${value}\0`);
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue;
    try {
      const environ = readFileSync(`/proc/${entry}/environ`);
      if (Buffer.concat([Buffer.from([0]), environ]).includes(wanted)) {
        const found = identify(Number(entry));
        if (found) return found;
      }
    } catch {
      // It has ended, or is not ours to look at.
    }
  }
  return undefined;
}

/** True when it was there to be told. Never another process that has got its pid since. */
export function signal(p: ProcessId, name: NodeJS.Signals): boolean {
  if (!isAlive(p)) return false;
  try {
    return process.kill(p.pid, name);
  } catch {
    return false;
  }
}

/** @returns false when it is still there after `ms`. */
export async function gone(p: ProcessId, ms: number): Promise<boolean> {
  const end = performance.now() + ms;
  while (isAlive(p)) {
    if (performance.now() > end) return false;
    await new Promise((r) => setTimeout(r, 5));
  }
  return true;
}
