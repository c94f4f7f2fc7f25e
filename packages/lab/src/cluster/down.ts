/**
 * Takes a lab away, whatever state it is in: running, half started, or with everything killed.
 * Twice is once. What belongs to the lab is told by `belongings`.
 *
 * The nodes go first, while those who started what runs in them still live: a dead process is off the
 * machine only when its parent has asked for its end, and orphans wait for the machine's PID 1 (measured
 * where that looks once a second or two: 1.1 s against 0.1 s).
 */
import { readFileSync, rmdirSync, rmSync } from 'node:fs';
import { detachMount, lockFile, Netns, NETNS_DIR } from '@podway/kernel';
import { PodwayError } from '@podway/errors';
import { belongings } from './belongings.js';
import { LABS_DIR, LabLayout } from './layout.js';

export interface Removed {
  readonly processes: number;
  readonly namespaces: readonly string[];
  readonly mounts: readonly string[];
  readonly folder: boolean;
}

const KILL_TIMEOUT_MS = 10_000;
/** For the nodes alone; what has not ended by then is asked once more, with all the others. */
const NODES_TIMEOUT_MS = 1_000;
const ROUNDS = 5;

/** @throws LAB_STUCK naming the processes that would not end. */
export async function down(name: string): Promise<Removed> {
  const layout = new LabLayout(name);
  let found = belongings(layout);
  const { folder } = found;
  const ended = new Set<number>();
  // New ones may be started while the first round is killed, until the lab's own process is gone.
  for (let round = 0; round < ROUNDS && found.processes.length > 0; round++) {
    for (const pid of found.processes) ended.add(pid);
    if (found.holders.length > 0) {
      found.holders.forEach(kill);
      await gone(found.holders, NODES_TIMEOUT_MS);
    }
    found.processes.forEach(kill);
    const left = await gone(found.processes, KILL_TIMEOUT_MS);
    if (left.length) {
      throw new PodwayError('LAB_STUCK', `processes of lab ${name} do not end: ${left.join(', ')}`, {
        object: `lab ${name}`, hint: `Look at them: ps -o pid,stat,wchan:32,args -p ${left.join(',')}`,
      });
    }
    found = belongings(layout);
  }
  const { namespaces, mounts } = found;
  for (const n of namespaces) Netns.remove(n);
  for (const m of [...mounts].reverse()) detachMount(m);
  // Retried: another `down` may be at the same folder.
  rmSync(layout.dir, { recursive: true, force: true, maxRetries: 5 });
  removeLock(layout);
  for (const dir of [LABS_DIR, NETNS_DIR]) removeIfEmpty(dir);
  return { processes: ended.size, namespaces, mounts, folder };
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** Waits until they hold nothing any more. @returns those that still do when the time is over */
async function gone(pids: readonly number[], timeoutMs: number): Promise<readonly number[]> {
  const until = performance.now() + timeoutMs;
  let left = pids.filter(exists);
  while (left.length && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    left = left.filter(exists);
  }
  return left;
}

/** A zombie whose parent has yet to wait for it holds nothing any more. */
function exists(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** The file of a start that died; one that is under way keeps its own. */
function removeLock(layout: LabLayout): void {
  try {
    lockFile(layout.lock)?.release();
  } catch {
    // Without the folder of all labs there is no lock either.
  }
}

export function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // Somebody else's things are in it, or it is not there.
  }
}
