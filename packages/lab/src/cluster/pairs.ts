/**
 * Asks every pod from every other pod: an HTTP request by a process of the source pod to the target's
 * address. Good only if the answer comes and the server saw the client's own address:
 * pod to pod is without NAT.
 */
import { execFile } from 'node:child_process';
import type { CommandLine } from '../runtime/index.js';
import type { Pair, PairReport } from './events.js';

export interface PairPod {
  readonly name: string;
  readonly address: string;
  /** The process that runs a command in the pod. */
  readonly run: (command: readonly string[]) => CommandLine;
}

const AT_ONCE = 16;
const TIMEOUT_S = 3;
/** A process that has just been started may not listen yet: a refused pair is asked again for so long. */
const PATIENCE_MS = 3_000;
const PAUSE_MS = 50;
/** Far more than a request takes, for a machine that is busy. */
const PROCESS_TIMEOUT_MS = 10_000;

export async function checkPairs(pods: readonly PairPod[], progress: (done: number, of: number) => void): Promise<PairReport> {
  const todo = pods.flatMap((from) => pods.filter((to) => to !== from).map((to) => ({ from, to })));
  const done: Pair[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < todo.length; i = next++) {
      const { from, to } = todo[i]!;
      done.push(await askUntil(from, to, performance.now() + PATIENCE_MS));
      progress(done.length, todo.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, todo.length) }, worker));
  return { total: todo.length, ok: done.filter((p) => p.ok).length, failures: done.filter((p) => !p.ok) };
}

async function askUntil(from: PairPod, to: PairPod, until: number): Promise<Pair> {
  for (;;) {
    const pair = await ask(from, to);
    if (pair.ok || !/refused/i.test(pair.problem ?? '') || performance.now() > until) return pair;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function ask(from: PairPod, to: PairPod): Promise<Pair> {
  const command = from.run(['wget', '-q', '-T', String(TIMEOUT_S), '-O', '-', `http://${to.address}/json/`]);
  const began = performance.now();
  return new Promise((resolve) => {
    execFile(command.file, [...command.args], { env: command.env, timeout: PROCESS_TIMEOUT_MS }, (error, stdout, stderr) => {
      const ms = performance.now() - began;
      const problem = error ? stderr.trim() || error.message.trim() : judge(stdout, from.address);
      resolve({ from: from.name, to: to.name, ok: problem === undefined, ms, ...(problem === undefined ? {} : { problem }) });
    });
  });
}

/** What is wrong with an answer, if anything. Pure. */
export function judge(answer: string, clientAddress: string): string | undefined {
  let seen: unknown;
  try {
    seen = (JSON.parse(answer) as { client?: { address?: unknown } }).client?.address;
  } catch {
    return `the answer is not what a sample pod answers: ${answer.slice(0, 80)}`;
  }
  return seen === clientAddress ? undefined : `the server saw ${String(seen)}, not ${clientAddress}: something translates pod addresses`;
}
