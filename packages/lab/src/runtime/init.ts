/**
 * Starts podway-init and follows what it started. Cost: a spawn of about 2 ms each.
 *
 * A holder or sandbox is a background process of the machine whose stdout stays open: its end is
 * the death of the process, known without polling. A container's monitor is our child.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { PodwayError } from '@podway/errors';

export interface Mount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface Resident {
  /** As the machine counts. */
  readonly pid: number;
  /** Settles when the process has died, or after detach(). */
  readonly gone: Promise<void>;
  readonly isGone: () => boolean;
  /** Stop following; the process goes on. */
  detach(): void;
}

export interface HoldOptions {
  readonly hostname: string;
  readonly title?: string;
  /** A file of the machine that a netns is bound to; without it a new netns is made. */
  readonly netnsFile?: string;
  readonly tmpfs?: readonly string[];
  /** Directories of the machine that the node may write to for itself: what it writes is in `dir`/upper. */
  readonly overlays?: readonly { readonly target: string; readonly dir: string }[];
  readonly binds?: readonly Mount[];
  readonly sysctls?: Readonly<Record<string, string>>;
}

export interface PauseOptions {
  readonly nodePid: number;
  readonly hostname: string;
  readonly title?: string;
  /** In the node's mount namespace. */
  readonly netns?: string;
  readonly shm?: string;
  readonly hostNetwork?: boolean;
  readonly sysctls?: Readonly<Record<string, string>>;
}

export interface Identity {
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  /** Bits of capabilities(7); undefined keeps all. */
  readonly caps?: bigint;
  readonly noNewPrivileges?: boolean;
}

export interface RunOptions extends Identity {
  readonly nodePid: number;
  readonly sandboxPid: number;
  readonly root: string;
  readonly binds: readonly Mount[];
  readonly nodeBinds: readonly Mount[];
  readonly tmpfs: readonly string[];
  readonly cwd?: string;
  readonly privileged: boolean;
  readonly readOnlyRoot: boolean;
  readonly sharePid: boolean;
  /** A container of the same pod whose pid namespace is used (`kubectl debug --target`). */
  readonly pidOf?: number;
  readonly stdin?: boolean;
  /** Stdin ends with the first client that was attached to it. */
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  /** Where the monitor listens for `podway-init attach`. At most 107 bytes. */
  readonly attach?: string;
  readonly log: { readonly path: string; readonly maxBytes: number; readonly files: number };
  readonly exitFile: string;
  readonly env: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

export interface ExitStatus {
  /** 128 + signal when a signal ended it. */
  readonly exitCode: number;
  readonly signal: number;
}

export interface RunningContainer {
  readonly pid: number;
  readonly monitorPid: number;
  readonly exited: Promise<ExitStatus>;
  /** Through the monitor: 'SIGALRM' kills the container. */
  signal(name: 'SIGTERM' | 'SIGALRM' | 'SIGINT' | 'SIGHUP'): void;
  detach(): void;
}

const mounts = (flag: string, list: readonly Mount[] | undefined): string[] =>
  (list ?? []).flatMap((m) => [flag, m.source, m.target, m.readOnly ? 'ro' : 'rw']);
const sysctls = (all: Readonly<Record<string, string>> | undefined): string[] =>
  Object.entries(all ?? {}).flatMap(([k, v]) => ['--sysctl', `${k}=${v}`]);
const option = (flag: string, value: string | number | undefined): string[] => (value === undefined ? [] : [flag, String(value)]);

export function identityArgs(id: Identity): string[] {
  return [
    ...option('--user', id.uid),
    ...option('--group', id.gid),
    ...(id.groups?.length ? ['--groups', id.groups.join(',')] : []),
    ...(id.caps === undefined ? [] : ['--caps', id.caps.toString(16)]),
    ...(id.noNewPrivileges ? ['--no-new-privs'] : []),
  ];
}

export function holdArgs(o: HoldOptions): string[] {
  return [
    'hold', '--hostname', o.hostname, ...option('--title', o.title), ...option('--netns-file', o.netnsFile),
    ...(o.tmpfs ?? []).flatMap((t) => ['--tmpfs', t]), ...(o.overlays ?? []).flatMap((v) => ['--overlay', v.target, v.dir]),
    ...mounts('--bind', o.binds), ...sysctls(o.sysctls),
  ];
}

export function pauseArgs(o: PauseOptions): string[] {
  return [
    'pause', '--node', String(o.nodePid), '--hostname', o.hostname, ...option('--title', o.title),
    ...option('--netns', o.netns), ...option('--shm', o.shm), ...(o.hostNetwork ? ['--host-net'] : []), ...sysctls(o.sysctls),
  ];
}

export function runArgs(o: RunOptions): string[] {
  return [
    'run', '--node', String(o.nodePid), '--sandbox', String(o.sandboxPid), '--root', o.root,
    ...mounts('--bind', o.binds), ...mounts('--node-bind', o.nodeBinds), ...o.tmpfs.flatMap((t) => ['--tmpfs', t]),
    ...option('--cwd', o.cwd), ...identityArgs(o),
    ...(o.privileged ? ['--privileged'] : []), ...(o.readOnlyRoot ? ['--read-only-root'] : []), ...(o.sharePid ? ['--share-pid'] : []),
    ...option('--pid-of', o.pidOf), ...(o.stdin ? ['--stdin'] : []), ...(o.stdinOnce ? ['--stdin-once'] : []), ...(o.tty ? ['--tty'] : []), ...option('--attach', o.attach),
    '--log', o.log.path, '--log-max', String(o.log.maxBytes), '--log-files', String(o.log.files),
    '--exit-file', o.exitFile, '--', ...o.command,
  ];
}

interface Started {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Lines of stdout after the first. */
  readonly lines: string[];
  readonly closed: Promise<void>;
}

/** Spawns, and waits for the line that says it is ready. */
function start(init: string, args: readonly string[], env: Readonly<Record<string, string>>, object: string): Promise<Started> {
  return new Promise((resolve, reject) => {
    const child = spawn(init, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...env } });
    let buffer = '';
    let said = '';
    let ready = false;
    const lines: string[] = [];
    const closed = new Promise<void>((done) => child.stdout.once('close', () => done()));
    child.stderr.setEncoding('utf8').on('data', (d: string) => (said = (said + d).slice(-4000)));
    child.stdout.setEncoding('utf8').on('data', (d: string) => {
      buffer += d;
      const parts = buffer.split('\n');
      buffer = parts.pop() ?? '';
      lines.push(...parts);
      if (ready || lines.length === 0) return;
      ready = true;
      const first = JSON.parse(lines.shift() ?? '') as { pid: number };
      resolve({ child, pid: first.pid, lines, closed });
    });
    child.once('error', (e) => reject(new PodwayError('INIT_FAILED', `start ${init}`, { object, said: e.message, cause: e })));
    child.once('close', (code) => {
      if (ready) return;
      const text = said.trim().replace(/^podway-init: /, '');
      reject(new PodwayError(code === 126 || code === 127 ? 'INIT_EXEC' : 'INIT_FAILED', text || `podway-init ended with status ${code}`, { object }));
    });
  });
}

async function resident(init: string, args: readonly string[], object: string): Promise<Resident> {
  const { child, pid, closed } = await start(init, args, {}, object);
  let gone = false;
  const ended = closed.then(() => {
    gone = true;
  });
  return {
    pid,
    gone: ended,
    isGone: () => gone,
    detach() {
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
    },
  };
}

/** Makes a lab node. Errors: PodwayError INIT_FAILED with the helper's own line. */
export function startHold(init: string, o: HoldOptions): Promise<Resident> {
  return resident(init, holdArgs(o), `node ${o.hostname}`);
}

/** Makes a pod sandbox inside a node. */
export function startPause(init: string, o: PauseOptions): Promise<Resident> {
  return resident(init, pauseArgs(o), `sandbox ${o.title ?? o.hostname}`);
}

/** Errors: PodwayError INIT_EXEC when the command cannot be executed, INIT_FAILED for all else. */
export async function startContainer(init: string, o: RunOptions): Promise<RunningContainer> {
  const { child, pid, lines, closed } = await start(init, runArgs(o), o.env, `container ${o.command[0] ?? ''}`);
  const code = new Promise<number>((done) => {
    const end = (): void => done(child.exitCode ?? (child.signalCode === null ? 255 : 137));
    if (child.exitCode !== null || child.signalCode !== null) end();
    else child.once('exit', end);
  });
  const exited = Promise.all([code, closed]).then(([exitCode]): ExitStatus => {
    const last = lines.at(-1);
    // No last line: the monitor itself was killed, and took the container with it.
    return last === undefined ? { exitCode, signal: exitCode > 128 ? exitCode - 128 : 0 } : (JSON.parse(last) as ExitStatus);
  });
  return {
    pid,
    monitorPid: child.pid ?? 0,
    exited,
    signal: (name) => void child.kill(name),
    detach() {
      child.stdout?.destroy();
      child.stderr?.destroy();
      child.unref();
    },
  };
}

/** Runs podway-init to its end. Resolves with what it wrote; never rejects on an exit status. */
export function runInit(
  init: string,
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<{ status: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(init, args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...(options.env ?? {}) } });
    let stdout = '';
    let stderr = '';
    const timer = options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), options.timeoutMs);
    const end = (status: number): void => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr });
    };
    child.stdout.setEncoding('utf8').on('data', (d: string) => (stdout += d));
    child.stderr.setEncoding('utf8').on('data', (d: string) => (stderr += d));
    child.once('error', (e) => ((stderr += e.message), end(127)));
    child.once('close', (code) => end(code ?? 137));
  });
}

/** Unmounts and removes paths in a node's mount namespace; a node that is gone has none. */
export async function unmountInNode(init: string, nodePid: number, paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  const { status, stderr } = await runInit(init, ['unmount', '--node', String(nodePid), ...paths]);
  if (status !== 0 && !stderr.includes(`process ${nodePid}`)) {
    throw new PodwayError('INIT_FAILED', stderr.trim().replace(/^podway-init: /, ''), { object: paths.join(' ') });
  }
}
