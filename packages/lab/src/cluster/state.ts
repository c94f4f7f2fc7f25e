/**
 * What is known of a running lab without asking it: `lab.json` in its folder. The API server is the
 * truth about pods; this is about the processes that make the lab.
 */
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { PodwayError } from '@podway/errors';
import { LABS_DIR, LabLayout } from './layout.js';
import type { LabConfig } from './config.js';
import type { Relay } from './port-relay.js';

export interface NodeState {
  readonly name: string;
  readonly address: string;
  /** Its address of the lab's second family. */
  readonly second?: string;
  /** PID 1 of the node, as the machine counts. */
  readonly holderPid: number;
}

export interface LabState {
  readonly name: string;
  readonly version: string;
  /** The lab's own process, and when it was started: a pid alone may be another process by now. */
  readonly pid: number;
  readonly pidStart: string;
  readonly started: string;
  readonly phase: 'starting' | 'ready';
  readonly server: string | undefined;
  readonly nodes: readonly NodeState[];
  readonly config: LabConfig;
  /** Ports of 127.0.0.1 that lead to a port of a node. */
  readonly relays?: readonly Relay[];
}

export function writeState(layout: LabLayout, state: LabState): void {
  const half = `${layout.state}.new`;
  writeFileSync(half, `${JSON.stringify(state, null, 1)}\n`, { mode: 0o600 });
  renameSync(half, layout.state);
}

/** What the lab was asked to be; written before anything is made, and again when nodes join or leave. */
export function writeConfig(layout: LabLayout, config: LabConfig): void {
  const half = `${layout.config}.new`;
  writeFileSync(half, `${JSON.stringify(config)}\n`, { mode: 0o600 });
  renameSync(half, layout.config);
}

/** Undefined when there is none, or only half of one. */
export function readState(layout: LabLayout): LabState | undefined {
  try {
    return JSON.parse(readFileSync(layout.state, 'utf8')) as LabState;
  } catch {
    return undefined;
  }
}

/** Field 22 of /proc/PID/stat: start time in clock ticks since boot; undefined when there is no such process, or it is a zombie. */
export function startOf(pid: number): string | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export const isRunning = (state: LabState): boolean => startOf(state.pid) === state.pidStart;

/** Names of all labs that have a folder, running or not. */
export function labNames(): string[] {
  try {
    return readdirSync(LABS_DIR, { withFileTypes: true }).filter((d) => d.isDirectory()).map((d) => d.name).sort();
  } catch {
    return [];
  }
}

/** The state of a lab that runs. @throws LAB_NOT_RUNNING, LAB_BROKEN */
export function mustRun(name: string): LabState {
  const layout = new LabLayout(name);
  const state = readState(layout);
  if (state && isRunning(state)) return state;
  if (state) {
    throw new PodwayError('LAB_BROKEN', `the process of lab ${name} has ended (pid ${state.pid})`, {
      object: `lab ${name}`, hint: `Clean up and start afresh: podway down${nameFlag(name)} && podway up${nameFlag(name)}`,
    });
  }
  const others = labNames().filter((n) => {
    const other = readState(new LabLayout(n));
    return other !== undefined && isRunning(other);
  });
  throw new PodwayError('LAB_NOT_RUNNING', `lab ${name} is not running`, {
    object: `lab ${name}`,
    hint: others.length ? `Running labs: ${others.join(', ')}. Choose one with --lab.` : `Start it: podway up${nameFlag(name)}`,
  });
}

export const nameFlag = (name: string): string => (name === 'default' ? '' : ` --lab ${name}`);
