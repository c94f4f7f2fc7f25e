/**
 * Asks every pod from every other pod, in every family that both have: an HTTP request by a process of the
 * source pod to the target's address. Good only if the answer comes and the server saw the client's own address:
 * pod to pod is without NAT.
 */
import { execFile } from 'node:child_process';
import { formatIp, tryParseIp } from '@podway/cni';
import type { CommandLine } from '../runtime/index.js';
import type { Pair, PairReport } from './events.js';

export interface PairPod {
  readonly name: string;
  /** One a family. */
  readonly addresses: readonly string[];
  /** The process that runs a command in the pod. */
  readonly run: (command: readonly string[]) => CommandLine;
}

const FAMILIES = ['IPv4', 'IPv6'] as const;

interface Question {
  readonly from: PairPod;
  readonly to: PairPod;
  readonly family: (typeof FAMILIES)[number];
  readonly own: string;
  readonly theirs: string;
}

const AT_ONCE = 16;
const TIMEOUT_S = 3;
/** A process that has just been started may not listen yet: a refused pair is asked again for so long. */
const PATIENCE_MS = 3_000;
const PAUSE_MS = 50;
/** Far more than a request takes, for a machine that is busy. */
const PROCESS_TIMEOUT_MS = 10_000;

export async function checkPairs(pods: readonly PairPod[], progress: (done: number, of: number) => void): Promise<PairReport> {
  const todo = pods.flatMap((from) => pods.filter((to) => to !== from).flatMap((to): Question[] => FAMILIES.flatMap((family) => {
    const [own, theirs] = [from, to].map((p) => p.addresses.find((a) => a.includes(':') === (family === 'IPv6')));
    return own === undefined || theirs === undefined ? [] : [{ from, to, family, own, theirs }];
  })));
  const done: Pair[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < todo.length; i = next++) {
      done.push(await askUntil(todo[i]!, performance.now() + PATIENCE_MS));
      progress(done.length, todo.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, todo.length) }, worker));
  return { total: todo.length, ok: done.filter((p) => p.ok).length, failures: done.filter((p) => !p.ok), families: FAMILIES.filter((f) => todo.some((q) => q.family === f)) };
}

async function askUntil(q: Question, until: number): Promise<Pair> {
  for (;;) {
    const pair = await ask(q);
    if (pair.ok || !/refused/i.test(pair.problem ?? '') || performance.now() > until) return pair;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

function ask({ from, to, family, own, theirs }: Question): Promise<Pair> {
  const command = from.run(['wget', '-q', '-T', String(TIMEOUT_S), '-O', '-', `http://${family === 'IPv6' ? `[${theirs}]` : theirs}/json/`]);
  const began = performance.now();
  return new Promise((resolve) => {
    execFile(command.file, [...command.args], { env: command.env, timeout: PROCESS_TIMEOUT_MS }, (error, stdout, stderr) => {
      const ms = performance.now() - began;
      const problem = error ? stderr.trim() || error.message.trim() : judge(stdout, own);
      resolve({ from: from.name, to: to.name, family, ok: problem === undefined, ms, ...(problem === undefined ? {} : { problem }) });
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
  return typeof seen === 'string' && sameAddress(seen, clientAddress) ? undefined : `the server saw ${String(seen)}, not ${clientAddress}: something translates pod addresses`;
}

/** An address may be written in several ways. */
const sameAddress = (a: string, b: string): boolean => a === b || canonical(a) === canonical(b);
const canonical = (text: string): string => {
  const ip = tryParseIp(text);
  return ip ? formatIp(ip) : text;
};
