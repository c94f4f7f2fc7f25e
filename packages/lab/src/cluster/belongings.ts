/**
 * What belongs to a lab, learnt from the machine by the lab's name. Nothing is remembered that could
 * have been lost: processes are known by what they are called, by the pid namespaces of the lab's nodes,
 * and by the namespaces they live in; namespaces by their names.
 *
 * Cost: three readlinks and a file per process of the machine.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { NETNS_DIR } from '@podway/kernel';
import type { LabConfig } from './config.js';
import { LabLayout } from './layout.js';
import { underlayParts } from './racks.js';
import type { PodRecord } from '../runtime/record.js';
import { isRunning, labNames, readState } from './state.js';

export interface Belongings {
  /** Those that make the nodes: with one ends all that runs in its node. */
  readonly holders: readonly number[];
  /** All, holders as well; never this process. */
  readonly processes: readonly number[];
  readonly namespaces: readonly string[];
  /** Mounts below the lab's folder, in the order they were made. */
  readonly mounts: readonly string[];
  readonly folder: boolean;
}

/** Changes nothing. */
export function belongings(layout: LabLayout): Belongings {
  const namespaces = netnsNames(layout);
  return { ...processesOf(layout, namespaces), namespaces, mounts: mountsBelow(layout.dir), folder: existsSync(layout.dir) };
}

/** Stands in the command line of the lab's own process and of its nodes' holders. */
export const labMark = (layout: LabLayout): string => `podway-lab=${layout.name}`;

/** As a /proc entry shows it. */
interface Process {
  readonly pid: number;
  readonly args: readonly string[];
  /** `net:[4026532281]` */
  readonly namespaces: Readonly<Record<(typeof KINDS)[number], string>>;
}

const KINDS = ['pid', 'net', 'mnt'] as const;

function processesOf(layout: LabLayout, namespaces: readonly string[]): Pick<Belongings, 'holders' | 'processes'> {
  const all = processes();
  const state = readState(layout);
  const main = state && isRunning(state) ? state.pid : undefined;
  const guestOf = sandboxes(layout);
  const marked = all.filter((p) => p.pid === main || isMarked(layout, p.args) || isGuest(p, guestOf));
  // What cannot be read is nobody's.
  const machine = new Set(['', ...[1, process.pid].flatMap((pid) => KINDS.map((kind) => namespaceOf(pid, kind)))]);
  const own = new Set(namespaces.flatMap((n) => netnsId(n) ?? []));
  const found = new Set<Process>();
  const take = (p: Process): void => {
    found.add(p);
    for (const kind of KINDS) if (!machine.has(p.namespaces[kind])) own.add(p.namespaces[kind]);
  };
  marked.forEach(take);
  // A node has pods (in its mount namespace), they have network namespaces, and those what was run in them from outside: until nothing more is found.
  for (let before = -1; before < found.size;) {
    before = found.size;
    for (const p of all) if (!found.has(p) && (own.has(p.namespaces.pid) || own.has(p.namespaces.mnt) || (own.has(p.namespaces.net) && livesIn(p)))) take(p);
  }
  const pids = [...found].map((p) => p.pid).filter((pid) => pid !== process.pid).sort((a, b) => a - b);
  const isHolder = new Set(marked.filter((p) => p.args[0] === 'podway-node').map((p) => p.pid));
  return { holders: pids.filter((pid) => isHolder.has(pid)), processes: pids };
}

function processes(): Process[] {
  return readdirSync('/proc').filter((n) => /^\d+$/.test(n)).flatMap((n) => {
    const pid = Number(n);
    // A kernel thread, or one that has ended: it has no command line and holds nothing.
    const args = quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
    return args ? [{ pid, args: args.split('\0'), namespaces: { pid: namespaceOf(pid, 'pid'), net: namespaceOf(pid, 'net'), mnt: namespaceOf(pid, 'mnt') } }] : [];
  });
}

const namespaceOf = (pid: number, kind: string): string => quietly(() => readlinkSync(`/proc/${pid}/ns/${kind}`)) ?? '';

/** `net:[4026532281]` of a name under /run/netns; a name that no namespace is bound to is a plain file on another device. */
function netnsId(name: string): string | undefined {
  const inode = quietly(() => statSync(join(NETNS_DIR, name)).ino);
  return inode === undefined ? undefined : `net:[${inode}]`;
}

/** A tracer that looks in for a moment does so with one thread only; who lives there does with all. */
function livesIn(p: Process): boolean {
  const threads = quietly(() => readdirSync(`/proc/${p.pid}/task`)) ?? [];
  return threads.every((t) => (quietly(() => readlinkSync(`/proc/${p.pid}/task/${t}/ns/net`)) ?? p.namespaces.net) === p.namespaces.net);
}

/** The lab's own process, its holders, and the monitors of its containers (they wait on the machine's side and name files of the lab). */
function isMarked(layout: LabLayout, args: readonly string[]): boolean {
  const mark = labMark(layout);
  if (args.some((a) => a === mark || a.startsWith(`${mark} `))) return true;
  return (args[0]?.endsWith('podway-init') ?? false) && args.some((a) => a.startsWith(`${layout.dir}/`));
}

/** Pods of the lab by the pid of their sandbox: their network namespaces. */
function sandboxes(layout: LabLayout): ReadonlyMap<string, string> {
  const files = quietly(() => readdirSync(layout.pods)) ?? [];
  return new Map(files.flatMap((f): [string, string][] => {
    const record = quietly(() => JSON.parse(readFileSync(join(layout.pods, f), 'utf8')) as PodRecord);
    return record ? [[String(record.sandbox.pid), `net:[${record.sandbox.netnsInode}]`]] : [];
  }));
}

/**
 * `podway exec --tools` in a pod whose node is dead already: nothing else points to its namespace. The
 * inode alone would not do: the kernel uses numbers again.
 */
function isGuest(p: Process, sandboxOf: ReadonlyMap<string, string>): boolean {
  return (p.args[0]?.endsWith('podway-init') ?? false) && p.args[1] === 'exec' && p.args[2] === '--target' && sandboxOf.get(p.args[3] ?? '') === p.namespaces.net;
}

/**
 * Namespace names of the lab. Lab `a` and lab `a-b` share a beginning: what another lab says is its own
 * is not counted, nor what is left of one with a longer name that says nothing any more.
 */
export function netnsNames(layout: LabLayout): string[] {
  const others = labNames().filter((n) => n !== layout.name).map((n) => new LabLayout(n));
  const claimed = new Set<string>();
  const prefixes: string[] = [];
  for (const o of others) {
    const parts = partNames(o);
    if (parts) for (const n of parts) claimed.add(o.netns(n));
    else if (o.name.startsWith(`${layout.name}-`)) prefixes.push(o.netns(''));
  }
  const own = layout.netns('');
  try {
    return readdirSync(NETNS_DIR).filter((n) => n.startsWith(own) && !claimed.has(n) && !prefixes.some((p) => n.startsWith(p))).sort();
  } catch {
    return [];
  }
}

/** Nodes of a lab and parts of its underlay, as its folder tells; undefined when it tells nothing. */
function partNames(layout: LabLayout): string[] | undefined {
  const config = quietly(() => JSON.parse(readFileSync(layout.config, 'utf8')) as Pick<LabConfig, 'nodes' | 'underlay'>);
  const state = readState(layout);
  const nodes = [...(config?.nodes ?? []), ...(state?.nodes ?? [])].map((n) => n.name);
  return nodes.length ? [...nodes, ...underlayParts((config ?? state?.config)?.underlay).map((p) => p.name)] : undefined;
}

function mountsBelow(dir: string): string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  return lines.map((l) => l.split(' ')[4] ?? '').filter((m) => m.startsWith(`${dir}/`));
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
