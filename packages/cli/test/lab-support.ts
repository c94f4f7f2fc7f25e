/** What the tests of labs share: the real program, labs with names of their own, and the machine compared before and after. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NETNS_DIR } from '@podway/kernel';
import { belongings, LabLayout, type LabState } from '@podway/lab/client';

export const PROGRAM = fileURLToPath(new URL('../src/main.js', import.meta.url));
export const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));
export const needsRoot = process.getuid?.() === 0 ? false : 'needs root: makes namespaces and mounts';

/** Files of this test process; gone with it. */
export const scratch = mkdtempSync(join(tmpdir(), 'podway-lab-test-'));
const labs = new Set<string>();
process.once('exit', () => {
  // Whatever a failed test left: tests must not disturb those after them.
  for (const lab of labs) {
    if (exists(lab)) execFileSync(process.execPath, [PROGRAM, 'down', '--lab', lab], { stdio: 'ignore' });
  }
  rmSync(scratch, { recursive: true, force: true });
});

const exists = (lab: string): boolean => {
  const b = belongings(new LabLayout(lab));
  return b.folder || b.processes.length > 0 || b.namespaces.length > 0;
};

/** A name nobody else has. */
export function labName(): string {
  const name = `t${randomBytes(4).toString('hex')}`;
  labs.add(name);
  return name;
}

/** Takes care that a lab with a given name goes when the tests end. */
export const taken = (name: string): string => (labs.add(name), name);

export interface Done {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Started {
  readonly child: ChildProcess;
  /** Stdout until now. */
  readonly said: () => string;
  readonly done: Promise<Done>;
}

interface StartOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Stdin stays open. */
  readonly keepOpen?: boolean;
}

export function start(words: readonly string[], o: StartOptions = {}): Started {
  return startProgram(process.execPath, [PROGRAM, ...words], o);
}

export function startProgram(file: string, args: readonly string[], o: StartOptions = {}): Started {
  const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1', ...o.env } });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (d: string) => (stdout += d));
  child.stderr.setEncoding('utf8').on('data', (d: string) => (stderr += d));
  child.stdin.on('error', () => undefined); // the program need not read it
  if (!o.keepOpen) child.stdin.end(o.input ?? '');
  const done = new Promise<Done>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code: code ?? (signal === 'SIGKILL' ? 137 : 143), stdout, stderr }));
  });
  return { child, done, said: () => stdout };
}

/** Runs the real program to its end. */
export const podway = (...words: string[]): Promise<Done> => start(words).done;

/** Like podway, and it must succeed. @returns stdout */
export async function good(...words: string[]): Promise<string> {
  const r = await podway(...words);
  if (r.code !== 0) throw new Error(`podway ${words.join(' ')} ended with ${r.code}: ${r.stderr}${r.stdout}`);
  return r.stdout;
}

/** One node and one pod: what comes up fastest. */
export function smallLab(name: string): string {
  const file = join(scratch, `${name}.yaml`);
  writeFileSync(file, `apiVersion: podway.io/v1alpha1\nkind: Lab\nname: ${name}\nnodes:\n- name: m1\npods:\n- name: web-a\n  node: m1\n`);
  return file;
}

export const upSmall = (name: string): Promise<string> => good('up', '-f', smallLab(name));
export const stateOf = (lab: string): LabState => JSON.parse(readFileSync(new LabLayout(lab).state, 'utf8')) as LabState;

/** Looks until the answer is not undefined or false. The interval is a poll, not a guess of duration. */
export async function until<T>(what: string, ask: () => T | undefined | false | Promise<T | undefined | false>, ms = 20_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((r) => setTimeout(r, 5));
  }
}

export const quietly = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch {
    return undefined;
  }
};

export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  quietly(() => process.kill(pid, signal));
}

const NAMESPACES = ['net', 'mnt', 'uts', 'ipc', 'pid', 'cgroup'] as const;
export const namespaceOf = (pid: number | 'self', kind: string): string | undefined => quietly(() => readlinkSync(`/proc/${pid}/ns/${kind}`));
const allPids = (): number[] => readdirSync('/proc').filter((d) => /^\d+$/.test(d)).map(Number);

/** When a set of namespaces was looked at, in clock ticks since boot, as /proc/PID/stat counts. */
const lookedAt = new WeakMap<ReadonlySet<string>, number>();
const TICKS = 100;
const ticksNow = (): number => Math.ceil(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * TICKS);
const startOf = (pid: number): number => Number(quietly(() => readFileSync(`/proc/${pid}/stat`, 'utf8'))?.replace(/^.*\) /s, '').split(' ')[19] ?? 0);

/** Every namespace that a lab has now and the machine itself has not: `net:[…]`, `mnt:[…]` and so on. */
export function namespacesOf(lab: string): Set<string> {
  const b = belongings(new LabLayout(lab));
  const own = new Set(NAMESPACES.map((k) => namespaceOf('self', k)));
  const found = new Set<string>();
  for (const pid of b.processes) {
    for (const kind of NAMESPACES) {
      const ns = namespaceOf(pid, kind);
      if (ns && !own.has(ns)) found.add(ns);
    }
  }
  for (const n of b.namespaces) {
    const s = quietly(() => statSync(join(NETNS_DIR, n)));
    if (s) found.add(`net:[${s.ino}]`);
  }
  lookedAt.set(found, ticksNow());
  return found;
}

/** What still holds one of these namespaces: a process inside, a descriptor, a mount in any mount namespace. */
export function holding(namespaces: ReadonlySet<string>): string[] {
  const found: string[] = [];
  const seen = new Set<string>();
  for (const pid of allPids()) {
    // An orphan that has ended waits for the machine's PID 1 to ask for its end; it holds nothing any more.
    if (/^State:\s+[ZX]/m.test(quietly(() => readFileSync(`/proc/${pid}/status`, 'utf8')) ?? 'State: X')) continue;
    // The kernel gives a number to another namespace as soon as it is free: who was started later lives in such a one.
    if (startOf(pid) > (lookedAt.get(namespaces) ?? Infinity)) continue;
    for (const kind of NAMESPACES) {
      const ns = namespaceOf(pid, kind);
      if (ns && namespaces.has(ns)) found.push(`process ${pid} in ${ns}`);
    }
    for (const fd of quietly(() => readdirSync(`/proc/${pid}/fd`)) ?? []) {
      const ns = quietly(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
      if (ns && namespaces.has(ns)) found.push(`descriptor ${fd} of process ${pid} on ${ns}`);
    }
    const mnt = namespaceOf(pid, 'mnt');
    if (!mnt || seen.has(mnt)) continue;
    seen.add(mnt);
    for (const line of (quietly(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8')) ?? '').split('\n')) {
      const [, , , root = '', target = ''] = line.split(' ');
      if (namespaces.has(root)) found.push(`mount ${target} on ${root} seen by process ${pid}`);
    }
  }
  return found;
}

/** What names the lab anywhere on the machine: processes, mounts of any process, files. */
export function naming(lab: string): string[] {
  const found: string[] = [];
  const names = (text: string | undefined): boolean => text !== undefined && new RegExp(`(^|[^a-z0-9])${lab}([^a-z0-9]|$)`).test(text);
  const seen = new Set<string>();
  const own = new Set([process.pid, process.ppid]);
  for (const pid of allPids()) {
    const args = quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))?.replaceAll('\0', ' ');
    if (!own.has(pid) && names(args)) found.push(`process ${pid}: ${args}`);
    const mnt = namespaceOf(pid, 'mnt');
    if (!mnt || seen.has(mnt)) continue;
    seen.add(mnt);
    for (const line of (quietly(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8')) ?? '').split('\n')) {
      if (names(line)) found.push(`mount seen by process ${pid}: ${line}`);
    }
  }
  for (const dir of ['/run/podway', '/run/netns', '/tmp', '/dev/shm', '/run', '/var/lib', '/var/log']) {
    for (const name of quietly(() => readdirSync(dir)) ?? []) if (names(name)) found.push(join(dir, name));
  }
  return found;
}

/** Folders where a node agent of a real machine would work: a lab must not touch them at all. */
const UNTOUCHED = ['/etc/cni', '/opt/cni', '/var/lib/podway', '/var/lib/cni', '/var/lib/kubelet', '/var/log/pods', '/etc/podway'];

/**
 * The machine's own namespace and folders, in words, sorted. Tests of others run at the same time and
 * work in namespaces of their own; what they make under /run and /tmp is not looked at here.
 */
export function machine(): string[] {
  const tool = (file: string, ...args: string[]): string[] =>
    execFileSync(file, args, { encoding: 'utf8' }).split('\n').filter(Boolean).map((l) => `${file}: ${l.trim()}`);
  const lines = [
    ...tool('ip', '-o', 'link').map((l) => l.replace(/ qlen \d+/, '')), ...tool('ip', '-o', 'addr').map((l) => l.replace(/(valid|preferred)_lft \S+/g, '')),
    ...tool('ip', 'route', 'show', 'table', 'all'), ...tool('ip', '-6', 'route', 'show', 'table', 'all').map((l) => l.replace(/expires \S+/, '')),
    ...tool('ip', 'rule'), ...tool('bridge', 'fdb'), ...tool('nft', 'list', 'tables'),
    ...['net/ipv4/ip_forward', 'net/ipv4/conf/all/rp_filter', 'net/ipv6/conf/all/forwarding', 'kernel/hostname'].map((s) => `sysctl ${s} ${readFileSync(`/proc/sys/${s}`, 'utf8').trim()}`),
    ...readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((l) => l.split(' ')[4] ?? '').filter((m) => m && !m.startsWith('/run/netns/') && !m.startsWith('/run/podway/') && !m.startsWith('/tmp/')).map((m) => `mount ${m}`),
  ];
  for (const dir of UNTOUCHED) {
    for (const f of quietly(() => readdirSync(dir, { recursive: true, encoding: 'utf8' })) ?? []) {
      const s = quietly(() => statSync(join(dir, f)));
      lines.push(`file ${join(dir, f)} ${s?.size} ${s?.mtimeMs}`);
    }
  }
  return lines.sort();
}
