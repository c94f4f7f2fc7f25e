/**
 * Takes a lab away, whatever state it is in: running, half started, or with everything killed.
 *
 * What belongs to the lab is learnt from the machine, by the lab's name: processes in its network
 * namespaces (a node's holder is PID 1 of the node: with it ends all that runs in the node), the
 * lab's own process, namespace names, mounts below its folder, the folder. Nothing is remembered
 * that could have been lost. Twice is once.
 */
import { readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, existsSync } from 'node:fs';
import { listNetns, Netns, NETNS_DIR, detachMount } from '@podway/kernel';
import { PodwayError } from '@podway/errors';
import { LABS_DIR, LabLayout } from './layout.js';
import { isRunning, labNames, readState } from './state.js';

export interface Removed {
  readonly processes: number;
  readonly namespaces: readonly string[];
  readonly mounts: readonly string[];
  readonly folder: boolean;
}

const KILL_TIMEOUT_MS = 10_000;

/** @throws LAB_STUCK naming the processes that would not end. */
export async function down(name: string): Promise<Removed> {
  const layout = new LabLayout(name);
  let processes = 0;
  // New ones may be started while the first round is killed, until the lab's own process is gone.
  for (let round = 0; round < 5; round++) {
    const victims = processesOf(layout);
    if (victims.length === 0) break;
    processes += victims.length;
    for (const pid of victims) kill(pid);
    await gone(victims, name);
  }
  const namespaces = netnsNames(layout);
  for (const n of namespaces) Netns.remove(n);
  const mounts = mountsBelow(layout.dir);
  for (const m of [...mounts].reverse()) detachMount(m);
  const folder = existsSync(layout.dir);
  rmSync(layout.dir, { recursive: true, force: true });
  rmSync(layout.lock, { force: true });
  for (const dir of [LABS_DIR, NETNS_DIR]) removeIfEmpty(dir);
  return { processes, namespaces, mounts, folder };
}

/** All that the machine shows of this lab, without changing anything. */
export function remnants(layout: LabLayout): { processes: number[]; namespaces: string[]; folder: boolean } {
  return { processes: processesOf(layout), namespaces: netnsNames(layout), folder: existsSync(layout.dir) };
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

async function gone(pids: readonly number[], name: string): Promise<void> {
  const until = performance.now() + KILL_TIMEOUT_MS;
  let left = pids.filter(exists);
  while (left.length && performance.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    left = left.filter(exists);
  }
  if (left.length) {
    throw new PodwayError('LAB_STUCK', `processes of lab ${name} do not end: ${left.join(', ')}`, {
      object: `lab ${name}`, hint: `Look at them: ps -o pid,stat,wchan:32,args -p ${left.join(',')}`,
    });
  }
}

/** A zombie whose parent has yet to wait for it holds nothing any more. */
function exists(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/**
 * Namespace names of the lab. Lab `a` and lab `a-b` share a beginning, so a name counts for the
 * longest lab name that fits.
 */
function netnsNames(layout: LabLayout): string[] {
  const prefix = layout.netns('');
  const longer = labNames().filter((n) => n !== layout.name && n.startsWith(`${layout.name}-`)).map((n) => new LabLayout(n).netns(''));
  try {
    return readdirSync(NETNS_DIR).filter((n) => n.startsWith(prefix) && !longer.some((l) => n.startsWith(l))).sort();
  } catch {
    return [];
  }
}

function processesOf(layout: LabLayout): number[] {
  const found = new Set<number>();
  const state = readState(layout);
  if (state && isRunning(state)) found.add(state.pid);
  const names = new Set(netnsNames(layout));
  const netns = listNetns();
  for (const ns of netns) if (ns.names.some((n) => names.has(n))) ns.pids.forEach((p) => found.add(p));
  const machine = quietly(() => readlinkSync('/proc/self/ns/pid'));
  const pidNamespaces = new Set<string>();
  for (const pid of readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map(Number)) {
    if (pid === process.pid) continue;
    const args = quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.split('\0') ?? [];
    if (isOfLab(layout, args)) found.add(pid);
  }
  // Whatever is in the pid namespace of a node is the node's, in whichever network namespace it is.
  for (const pid of found) {
    const ns = quietly(() => readlinkSync(`/proc/${pid}/ns/pid`));
    if (ns && ns !== machine) pidNamespaces.add(ns);
  }
  if (pidNamespaces.size) {
    for (const pid of readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map(Number)) {
      const ns = quietly(() => readlinkSync(`/proc/${pid}/ns/pid`));
      if (ns && pidNamespaces.has(ns)) found.add(pid);
    }
  }
  found.delete(process.pid);
  return [...found].sort((a, b) => a - b);
}

/** Stands in the command line of the lab's own process. */
export const labMark = (layout: LabLayout): string => `podway-lab=${layout.name}`;

/** The lab's own process, and the monitors of its containers (they wait on the machine's side and name files of the lab). */
function isOfLab(layout: LabLayout, args: readonly string[]): boolean {
  const mark = labMark(layout);
  if (args.some((a) => a === mark || a.startsWith(`${mark} `))) return true;
  return (args[0]?.endsWith('podway-init') ?? false) && args.some((a) => a.startsWith(`${layout.dir}/`));
}

function mountsBelow(dir: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map((l) => l.split(' ')[4] ?? '').filter((m) => m.startsWith(`${dir}/`));
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // Somebody else's things are in it, or it is not there.
  }
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
