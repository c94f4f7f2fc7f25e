/**
 * Keeps the programs running that a backend needs beside the agent (BIRD, wireguard-go).
 *
 * They are no children in spirit: they carry traffic, or the knowledge of where it goes, so they outlive an
 * agent that is killed, and the next one adopts them. What makes this safe at every instruction: a record
 * `NAME.json` is written before the program is started, and the program carries the record's path in its
 * environment; so whoever comes later finds it by pid and start time, or by that mark, or not at all.
 *
 * One that ends is started again: at once the first time, then with doubled waits (0.25 s to 30 s) until it has
 * run for ten seconds. Output goes to NAME.log, which is turned over to NAME.log.1 at 1 MiB.
 * Cost while all is well: one look at /proc per adopted daemon and 200 ms.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, closeSync, copyFileSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { isTemporary, writeDurably } from '@podway/cni';
import { messageOf, PodwayError } from '@podway/errors';
import { findByEnvironment, gone, identify, isAlive, signal, type ProcessId } from './process.js';
import type { DaemonControl, DaemonEvent, DaemonSpec } from './spec.js';

export const DAEMON_MARK = 'PODWAY_DAEMON';
const POLL_MS = 200;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 30_000;
const STEADY_MS = 10_000;
const READY_MS = 10_000;
const STOP_MS = 5_000;
const RELOAD_MS = 30_000;
const LOG_BYTES = 1 << 20;
/** Behind the own PATH: daemons are where users have no need to look. */
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where programs are looked for. */
export const systemPath = (): string => [process.env['PATH'], SYSTEM_PATH].filter(Boolean).join(':');

export interface SupervisorOptions {
  /** For records and logs; made with 0700. */
  readonly dir: string;
  readonly emit?: (e: DaemonEvent) => void;
  /** By the program of the daemon. */
  readonly controls?: Readonly<Record<string, DaemonControl>>;
}

interface DaemonRecord extends Partial<ProcessId> {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** SHA-256 by path. They may hold keys: their text is not kept twice. */
  readonly files: Readonly<Record<string, string>>;
  /** It has worked once: what it left may have to be taken over. */
  readonly worked: boolean;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
const hashes = (spec: DaemonSpec): Record<string, string> => Object.fromEntries(spec.files.map((f) => [f.path, sha256(f.text)]));
const readText = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

/** One daemon, and what is known of it. */
class Daemon {
  spec: DaemonSpec;
  record: DaemonRecord | undefined;
  process: ProcessId | undefined;
  failures = 0;
  startedAt = 0;
  timer: NodeJS.Timeout | undefined;
  constructor(spec: DaemonSpec) {
    this.spec = spec;
  }
}

export class Supervisor {
  private readonly daemons = new Map<string, Daemon>();
  private readonly emit: (e: DaemonEvent) => void;
  private readonly poll: NodeJS.Timeout;
  private work: Promise<unknown> = Promise.resolve();
  private closed = false;
  private looked = false;

  constructor(private readonly o: SupervisorOptions) {
    mkdirSync(o.dir, { recursive: true, mode: 0o700 });
    this.emit = o.emit ?? (() => undefined);
    for (const f of readdirSync(o.dir)) if (isTemporary(f)) rmSync(join(o.dir, f), { force: true });
    this.poll = setInterval(() => this.look(), POLL_MS);
    this.poll.unref();
  }

  logPath = (name: string): string => join(this.o.dir, `${name}.log`);
  private recordPath = (name: string): string => join(this.o.dir, `${name}.json`);

  private control = (spec: DaemonSpec): DaemonControl | undefined => this.o.controls?.[spec.program ?? spec.name];

  /** Pid by name, of those that run. */
  running(): Record<string, number> {
    return Object.fromEntries([...this.daemons].filter(([, d]) => d.process && isAlive(d.process)).map(([name, d]) => [name, d.process!.pid]));
  }

  /**
   * These run, with these files, and no others that this directory knows of. Resolves when each takes requests, or has
   * failed to (events say so, and it is tried again).
   */
  apply(specs: readonly DaemonSpec[]): Promise<void> {
    return this.serially(async () => {
      for (const name of this.known()) if (!specs.some((s) => s.name === name)) await this.end(name);
      await this.ensureAll(specs);
    });
  }

  private async ensureAll(specs: readonly DaemonSpec[]): Promise<void> {
    for (const spec of specs) {
      try {
        await this.ensure(spec);
      } catch (e) {
        this.failed(spec.name, 'bring it to its desired state', e);
      }
    }
  }

  /** These run; others are let be. For what a device must have before it can be set. */
  besides(specs: readonly DaemonSpec[]): Promise<void> {
    return this.serially(() => this.ensureAll(specs));
  }

  /** Ends all that this directory knows of, also what an agent before this one started. */
  stop(): Promise<void> {
    return this.serially(async () => {
      for (const name of this.known()) await this.end(name);
    });
  }

  /** Stops looking after them; they go on. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.poll);
    for (const d of this.daemons.values()) clearTimeout(d.timer);
    await this.work;
  }

  private serially(work: () => Promise<void>): Promise<void> {
    const next = this.work.then(() => (this.closed ? undefined : work()));
    this.work = next.catch(() => undefined);
    return next;
  }

  private known(): string[] {
    const records = this.looked ? [] : readdirSync(this.o.dir).filter((f) => f.endsWith('.json')).map((f) => basename(f, '.json'));
    this.looked = true;
    return [...new Set([...this.daemons.keys(), ...records])];
  }

  private failed(daemon: string, doing: string, e: unknown): void {
    this.emit({ type: 'daemon-failed', daemon, doing, error: messageOf(e) });
  }

  private recall(name: string): DaemonRecord | undefined {
    try {
      const r = JSON.parse(readFileSync(this.recordPath(name), 'utf8')) as DaemonRecord;
      return Array.isArray(r.argv) && typeof r.files === 'object' ? r : undefined;
    } catch {
      return undefined;
    }
  }

  private async remember(name: string, record: DaemonRecord): Promise<void> {
    await writeDurably(this.recordPath(name), `${JSON.stringify(record)}\n`);
  }

  /** The one that runs, whoever started it. */
  private find(name: string, record: DaemonRecord | undefined): ProcessId | undefined {
    if (record?.pid !== undefined && record.startTime !== undefined) {
      const p = { pid: record.pid, startTime: record.startTime };
      if (isAlive(p)) return p;
    }
    return record && findByEnvironment(DAEMON_MARK, this.recordPath(name));
  }

  private async ensure(spec: DaemonSpec): Promise<void> {
    let d = this.daemons.get(spec.name);
    if (!d) {
      this.daemons.set(spec.name, (d = new Daemon(spec)));
      d.record = this.recall(spec.name);
      d.process = this.find(spec.name, d.record);
      if (d.process) {
        d.startedAt = performance.now();
        this.emit({ type: 'daemon-adopted', daemon: spec.name, pid: d.process.pid });
      }
    }
    d.spec = spec;
    clearTimeout(d.timer);
    d.timer = undefined;
    if (!d.process || !isAlive(d.process)) return this.start(d);
    if (!d.record || !same(d.record.argv, spec.argv) || !same(d.record.env, spec.env ?? {})) return this.replace(d);
    const changed = spec.files.filter((f) => d.record!.files[f.path] !== sha256(f.text)).map((f) => f.path);
    const dropped = Object.keys(d.record.files).filter((p) => !spec.files.some((f) => f.path === p));
    if (changed.length || dropped.length) await this.reload(d, changed, dropped);
  }

  private async write(spec: DaemonSpec): Promise<void> {
    for (const f of spec.files) {
      await writeDurably(f.path, f.text);
      if (f.mode !== 0o600) chmodSync(f.path, f.mode);
    }
  }

  private async start(d: Daemon): Promise<void> {
    const { spec } = d;
    const began = performance.now();
    const again = d.record?.worked === true && spec.again !== undefined;
    const argv = again ? [...spec.argv, ...spec.again!] : spec.argv;
    this.control(spec)?.before?.(spec);
    await this.write(spec);
    const base: DaemonRecord = { argv: spec.argv, env: spec.env ?? {}, files: hashes(spec), worked: d.record?.worked ?? false };
    await this.remember(spec.name, (d.record = base));
    const log = openSync(this.logPath(spec.name), 'a', 0o600);
    try {
      const child = spawn(argv[0]!, argv.slice(1), {
        // A session of its own: what ends the agent's, a terminal for instance, does not end the daemon.
        detached: true, stdio: ['ignore', log, log],
        env: { PATH: systemPath(), ...spec.env, [DAEMON_MARK]: this.recordPath(spec.name) },
      });
      child.unref();
      await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject));
      // One that has ended already has no start time any more.
      d.process = identify(child.pid!) ?? { pid: child.pid!, startTime: '' };
      const mine = d.process;
      child.once('exit', (code, by) => this.ended(d, mine, by === null ? `it ended with ${code}` : `it was ended by ${by}`));
    } catch (e) {
      this.failed(spec.name, `start ${argv[0]}`, (e as NodeJS.ErrnoException).code === 'ENOENT' ? notInstalled(spec) : e);
      this.later(d);
      return;
    } finally {
      closeSync(log);
    }
    d.startedAt = performance.now();
    await this.remember(spec.name, (d.record = { ...base, ...d.process }));
    if (!(await this.becomesReady(d, d.process))) return;
    await this.remember(spec.name, (d.record = { ...d.record, worked: true }));
    this.emit({ type: 'daemon-started', daemon: spec.name, pid: d.process.pid, again, ms: performance.now() - began });
  }

  private async becomesReady(d: Daemon, p: ProcessId): Promise<boolean> {
    const ready = this.control(d.spec)?.ready;
    const end = performance.now() + READY_MS;
    for (;;) {
      if (!isAlive(p)) return false;
      try {
        await ready?.(d.spec);
        return true;
      } catch (e) {
        if (performance.now() > end) {
          this.failed(d.spec.name, 'wait until it takes requests', e);
          return false;
        }
      }
      await new Promise((r) => setTimeout(r, 10));
    }
  }

  private async reload(d: Daemon, changed: readonly string[], dropped: readonly string[]): Promise<void> {
    const { spec } = d;
    const began = performance.now();
    const control = this.control(spec)?.reload;
    if (!control && !spec.reload) return this.replace(d);
    const before = spec.files.map((f) => ({ ...f, text: readText(f.path) }));
    await this.write(spec);
    try {
      if (control) await control(spec);
      else await run(spec.reload!, spec.env);
    } catch (e) {
      // It runs on with what it has; and should it be started anew, it finds that, and not what it will not take.
      for (const f of before) if (f.text !== undefined) await writeDurably(f.path, f.text);
      this.failed(spec.name, `take ${changed.join(', ')}`, e);
      return;
    }
    for (const path of dropped) rmSync(path, { force: true });
    await this.remember(spec.name, (d.record = { ...d.record!, files: hashes(spec) }));
    this.emit({ type: 'daemon-reloaded', daemon: spec.name, pid: d.process!.pid, files: changed, ms: performance.now() - began });
  }

  /** Anew, with as little interruption as the program allows. */
  private async replace(d: Daemon): Promise<void> {
    const p = d.process!;
    d.process = undefined;
    const handOver = this.control(d.spec)?.handOver;
    try {
      await handOver?.(d.spec);
      if (!handOver || !(await gone(p, STOP_MS))) await terminate(p);
    } catch (e) {
      this.failed(d.spec.name, 'end it for a restart', e);
      await terminate(p);
    }
    await this.start(d);
  }

  private async end(name: string): Promise<void> {
    const d = this.daemons.get(name);
    clearTimeout(d?.timer);
    this.daemons.delete(name);
    const record = d?.record ?? this.recall(name);
    const p = d?.process && isAlive(d.process) ? d.process : this.find(name, record);
    if (p) {
      await terminate(p);
      this.emit({ type: 'daemon-stopped', daemon: name, pid: p.pid });
    }
    for (const path of Object.keys(record?.files ?? {})) rmSync(path, { force: true });
    rmSync(this.recordPath(name), { force: true });
  }

  private ended(d: Daemon, p: ProcessId, how: string): void {
    if (this.closed || d.process !== p || this.daemons.get(d.spec.name) !== d) return;
    d.process = undefined;
    const restartInMs = this.later(d);
    this.emit({ type: 'daemon-ended', daemon: d.spec.name, pid: p.pid, how: `${how}${this.lastWords(d.spec.name)}`, restartInMs });
  }

  private lastWords(name: string): string {
    const line = readText(this.logPath(name))?.trimEnd().split('\n').at(-1);
    return line ? `; its last words: ${line.slice(0, 300)}` : '';
  }

  private later(d: Daemon): number {
    if (d.startedAt !== 0 && performance.now() - d.startedAt > STEADY_MS) d.failures = 0;
    const wait = d.failures === 0 ? 0 : Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (d.failures - 1));
    d.failures++;
    clearTimeout(d.timer);
    d.timer = setTimeout(() => {
      void this.serially(async () => {
        if (this.daemons.get(d.spec.name) === d && !d.process) await this.start(d);
      }).catch((e: unknown) => {
        this.failed(d.spec.name, 'start it again', e);
        this.later(d);
      });
    }, wait);
    d.timer.unref();
    return wait;
  }

  /** Adopted ones are nobody's children here: their end is seen in /proc. And logs must not fill the disk. */
  private look(): void {
    for (const [name, d] of this.daemons) {
      if (d.process && !isAlive(d.process)) this.ended(d, d.process, 'it is gone');
      const log = this.logPath(name);
      if ((statSync(log, { throwIfNoEntry: false })?.size ?? 0) > LOG_BYTES) {
        // Written with O_APPEND: what comes after the cut begins at its start.
        copyFileSync(log, `${log}.1`);
        truncateSync(log);
      }
    }
  }
}

const notInstalled = (spec: DaemonSpec): PodwayError =>
  new PodwayError('DAEMON_NOT_INSTALLED', `${spec.argv[0]} is not installed`, {
    object: `daemon ${spec.name}`, errno: 'ENOENT', ...(spec.package === undefined ? {} : { hint: `Debian: apt-get install --no-install-recommends ${spec.package}` }),
  });

async function terminate(p: ProcessId): Promise<void> {
  signal(p, 'SIGTERM');
  if (await gone(p, STOP_MS)) return;
  signal(p, 'SIGKILL');
  if (!(await gone(p, STOP_MS))) throw new PodwayError('DAEMON_WILL_NOT_END', `end process ${p.pid}`, { object: `process ${p.pid}`, said: 'it is still there after SIGKILL' });
}

function run(argv: readonly string[], env: Readonly<Record<string, string>> | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0]!, argv.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'], timeout: RELOAD_MS, env: { PATH: systemPath(), ...env },
    });
    let said = '';
    for (const s of [child.stdout, child.stderr]) s.on('data', (b: Buffer) => (said = (said + b.toString()).slice(-1000)));
    child.once('error', reject);
    child.once('close', (code, by) => {
      if (code === 0) resolve();
      else reject(new PodwayError('DAEMON_RELOAD_FAILED', `run ${basename(argv[0]!)} in ${dirname(argv[0]!)}`, { said: said.trim() || `ended with ${by ?? code}` }));
    });
  });
}
