/**
 * Scratch namespaces and the standard tools as oracles, for tests. Every namespace is nameless
 * (held by a handle), so tests never meet and nothing is left behind when one is killed.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { Netns } from '../src/index.js';

/** Runs `work` in a fresh namespace and lets go of it. */
export function inScratch<T>(work: (ns: Netns) => T): T {
  const ns = Netns.createNameless('scratch');
  try {
    return work(ns);
  } finally {
    ns.close();
  }
}

/** A program run inside the namespace: the child is started while the thread is in it. */
export const inside = (ns: Netns, program: string, ...args: string[]): string =>
  ns.run(() => execFileSync(program, args, { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024, stdio: ['ignore', 'pipe', 'pipe'] }));

export const ip = (ns: Netns, ...args: string[]): string => inside(ns, 'ip', ...args);
export const bridge = (ns: Netns, ...args: string[]): string => inside(ns, 'bridge', ...args);

/** Many commands in one process. Lines of `ip -batch`. */
export const ipBatch = (ns: Netns, lines: readonly string[]): void => {
  ns.run(() => execFileSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n`, stdio: ['pipe', 'pipe', 'pipe'] }));
};

export type Json = Readonly<Record<string, unknown>>;
export const ipJson = (ns: Netns, ...args: string[]): Json[] => (JSON.parse(ip(ns, '-j', ...args) || '[]') as Json[]).filter((o) => Object.keys(o).length);
export const bridgeJson = (ns: Netns, ...args: string[]): Json[] => JSON.parse(bridge(ns, '-j', ...args) || '[]') as Json[];

/** A process that sits in the namespace until it is killed. */
export function sitInside(ns: Netns): ChildProcess {
  return ns.run(() => spawn('sleep', ['600'], { stdio: 'ignore' }));
}

export async function ended(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

/** Polls until it is so: for what another process does. */
export async function until(what: string, condition: () => boolean, ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`still not so after ${ms} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The same without letting go of the thread: for what the kernel's own workers do. */
export function untilNow(what: string, condition: () => boolean, ms = 5000): void {
  const end = performance.now() + ms;
  const cell = new Int32Array(new SharedArrayBuffer(4));
  while (!condition()) {
    if (performance.now() > end) throw new Error(`still not so after ${ms} ms: ${what}`);
    Atomics.wait(cell, 0, 0, 1);
  }
}
