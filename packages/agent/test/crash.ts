/**
 * Killing a process at each of its system calls in turn, with strace's fault injection: at the Nth
 * call of a kind SIGKILL is delivered at its entry, so the call itself is not made. Between two calls
 * a process changes nothing outside itself: all calls and all N together are all states in which it
 * can die. strace counts each kind of call by itself, and each thread's. Needs the right to trace.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

/** Why these tests cannot run here, or false. */
export function cannotTrace(): string | false {
  const tried = spawnSync('strace', ['-qq', '-o', '/dev/null', '-e', 'trace=write', '-e', 'inject=write:signal=SIGKILL:when=1', 'echo', 'x']);
  if (tried.error) return 'strace is missing (Debian package strace)';
  return tried.signal === 'SIGKILL' || tried.status === 137 ? false : 'this machine does not allow tracing (ptrace)';
}

/** The Nth call of one kind. */
export interface KillPoint {
  readonly call: string;
  readonly n: number;
}

const injection = ({ call, n }: KillPoint): string[] => ['-o', '/dev/null', '-e', `trace=${call}`, '-e', `inject=${call}:signal=SIGKILL:when=${n}`];

/** The kinds of calls in a log of strace, in the order of their first appearance. */
export const callsIn = (log: string): string[] =>
  [...new Set([...readFileSync(log, 'utf8').matchAll(/^(?:\d+ +)?([a-z_0-9]+)\(/gm)].map((m) => m[1] ?? ''))];

/** Calls that only wait, or say what time it is: a death there is one at the call after. */
const IDLE = '!epoll_wait,epoll_pwait,epoll_pwait2,poll,futex,sched_yield,clock_gettime,gettimeofday,getpid,madvise,mprotect,mmap,munmap,restart_syscall';

/** Attaches to a process, all threads of it, and does as the options say until `detach`. */
async function attach(pid: number, options: readonly string[]): Promise<{ detach(): Promise<void> }> {
  const strace = spawn('strace', ['-f', ...options, '-p', String(pid)], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(strace, 'close');
  let said = '';
  await new Promise<void>((resolve, reject) => {
    strace.stderr.on('data', (d: Buffer) => {
      said += d.toString();
      if (/attached with \d+ threads|attached\n/.test(said)) resolve();
    });
    void ended.then(() => reject(new Error(`strace could not attach: ${said}`)));
  });
  return {
    async detach() {
      strace.kill('SIGINT');
      // It can wait for ever for a thread that is dead already; what a dead tracer had attached is free.
      const hard = setTimeout(() => strace.kill('SIGKILL'), 300);
      await ended;
      clearTimeout(hard);
    },
  };
}

/** From now on the process dies at this call. */
export const killAtCall = (pid: number, point: KillPoint): Promise<{ detach(): Promise<void> }> => attach(pid, injection(point));

/** From now on its calls are written down. */
export const logCalls = (pid: number, log: string): Promise<{ detach(): Promise<void> }> => attach(pid, ['-o', log, '-e', `trace=${IDLE}`]);

/**
 * Calls after which something outside the process can be different. A death at any other call leaves the
 * same as one at the next of these, so trying these is trying all.
 */
export const changes = (call: string): boolean =>
  /^(sendto|sendmsg|writev?|pwrite64|openat|creat|rename(at2?)?|unlink(at)?|mkdir(at)?|rmdir|fsync|fdatasync|ftruncate|link(at)?|mount|umount2|shutdown|close)$/.test(call);

/** Starts a program under strace: with a point, it dies there; else its calls are written to the log. */
export const spawnTraced = (program: string, env: Record<string, string>, how: KillPoint | { readonly log: string }): ChildProcess =>
  spawn('strace', ['-qq', ...('log' in how ? ['-o', how.log] : injection(how)), program], {
    env: { PATH: process.env['PATH'] ?? '', ...env }, stdio: ['pipe', 'pipe', 'inherit'],
  });
