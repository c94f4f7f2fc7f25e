/**
 * Starting a lab from outside: its own process is made, followed until it is ready, and left alone.
 * Whatever goes wrong on the way, and Ctrl-C as well, ends with everything taken away again.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PodwayError } from '@podway/errors';
import { lockFile } from '@podway/kernel';
import type { LabConfig } from './config.js';
import { belongings, labMark } from './belongings.js';
import { down, removeIfEmpty } from './down.js';
import type { LabEvent } from './events.js';
import { LABS_DIR, LabLayout } from './layout.js';
import { isRunning, nameFlag, readState, writeConfig, type LabState } from './state.js';

export interface LaunchOptions {
  readonly config: LabConfig;
  /** Node.js and the main module that has the verb `__lab`. */
  readonly program: readonly string[];
  readonly onEvent: (e: LabEvent) => void;
  readonly signal: AbortSignal;
  /** Leave what was built when the start fails, to be looked at. */
  readonly retain?: boolean;
}

export type Launched =
  | { readonly outcome: 'started'; readonly state: LabState; readonly cleanedUp: boolean }
  | { readonly outcome: 'running'; readonly state: LabState };

/** @throws LAB_STARTING when another `up` is at it; LAB_FAILED or the lab's own error. */
export async function launch(o: LaunchOptions): Promise<Launched> {
  const layout = new LabLayout(o.config.name);
  const state = readState(layout);
  if (state && isRunning(state)) {
    if (state.phase === 'ready') return { outcome: 'running', state };
    throw starting(layout, state);
  }
  mkdirSync(LABS_DIR, { recursive: true, mode: 0o700 });
  // Held until the lab stands or is taken away again: no other start may see, or clean up, what is half made.
  const lock = lockFile(layout.lock);
  if (!lock) throw starting(layout, state);
  try {
    const left = belongings(layout);
    const cleanedUp = left.folder || left.namespaces.length > 0 || left.processes.length > 0;
    if (cleanedUp) await down(layout.name);
    try {
      makeFolder(layout, o.config);
      await follow(layout, o);
    } catch (e) {
      if (!o.retain) await down(layout.name);
      throw e;
    }
    return { outcome: 'started', state: readState(layout)!, cleanedUp };
  } finally {
    lock.release();
    removeIfEmpty(LABS_DIR);
  }
}

const starting = (layout: LabLayout, state: LabState | undefined): PodwayError =>
  new PodwayError('LAB_STARTING', `lab ${layout.name} is being started by another podway up${state ? ` (process ${state.pid})` : ''}`, {
    object: `lab ${layout.name}`, hint: `Wait for it, or take it away: podway down${nameFlag(layout.name)}`,
  });

function makeFolder(layout: LabLayout, config: LabConfig): void {
  for (const d of [LABS_DIR, layout.dir, layout.logs]) mkdirSync(d, { recursive: true, mode: 0o700 });
  writeConfig(layout, config);
}

function follow(layout: LabLayout, o: LaunchOptions): Promise<void> {
  o.signal.throwIfAborted();
  const logFile = join(layout.logs, 'lab.log');
  const log = openSync(logFile, 'a', 0o600);
  const [command = process.execPath, ...args] = o.program;
  const child = spawn(command, [...args, '__lab', layout.name, labMark(layout)], { detached: true, stdio: ['ignore', log, log, 'ipc'], cwd: '/' });
  closeSync(log);
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      o.signal.removeEventListener('abort', stop);
      child.removeAllListeners();
      if (child.connected) child.disconnect();
      child.unref();
      act();
    };
    const stop = () => settle(() => reject(o.signal.reason as Error));
    o.signal.addEventListener('abort', stop, { once: true });
    child.on('message', (message) => {
      const e = message as LabEvent;
      o.onEvent(e);
      if (e.type === 'ready') settle(resolve);
      else if (e.type === 'failed') settle(() => reject(failure(e, layout)));
    });
    child.once('error', (cause) => settle(() => reject(new PodwayError('LAB_FAILED', `lab ${layout.name} could not be started`, { said: cause.message, cause }))));
    child.once('exit', (code, signal) => settle(() => reject(new PodwayError('LAB_FAILED', `the process of lab ${layout.name} ended while starting`, {
      said: `${signal ?? `exit code ${String(code)}`}${tail(logFile)}`,
    }))));
  });
}

function failure(e: Extract<LabEvent, { type: 'failed' }>, layout: LabLayout): PodwayError {
  const agents = (readState(layout)?.config.nodes ?? []).map((n) => tail(join(layout.logs, `agent-${n.name}.log`), 3)).join('');
  return new PodwayError(e.error.code, e.error.message, {
    ...(e.error.object === undefined ? {} : { object: e.error.object }),
    ...(agents ? { said: `what the agents said last:${agents}` } : {}),
    hint: 'With --retain what was built stays, with its logs, until podway down.',
  });
}

/** The last lines of a log, each indented on a line of its own. */
function tail(file: string, lines = 8): string {
  if (!existsSync(file)) return '';
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).filter(Boolean).map((l) => `\n    ${l}`).join('');
}
