/**
 * A lesson: steps that are said, shown as the command a learner would type, run for real and judged.
 * Lessons are data; where they run (a sandbox of their own, or a running lab) is a `Place`.
 */
export type Language = 'en' | 'zh';
export type Words = { readonly [L in Language]: string };

/** What a command answered. `code` is 127 when there is no such program. */
export interface Ran {
  readonly code: number;
  /** Stdout, then stderr. */
  readonly output: string;
}

/** What earlier steps found, by name: addresses, devices, nodes. */
export type Seen = Readonly<Record<string, string>>;

export interface Expectation {
  /** What a learner should look for. */
  readonly see: Words;
  readonly holds: (ran: Ran, seen: Seen) => boolean;
  /** For what the kernel does in its own time: the command is run again until this holds, for so many milliseconds. */
  readonly withinMs?: number;
  /** Groups of this that are named are kept for later steps. */
  readonly keep?: RegExp;
}

export interface Step {
  readonly say: Words;
  /** As typed, words split at blanks, '…' keeps blanks; no shell interprets it. */
  readonly run?: string | ((seen: Seen) => string);
  /** In place of a command: something worked out, such as a table. */
  readonly show?: (language: Language) => string;
  readonly expect?: Expectation;
}

export interface Lesson {
  readonly id: string;
  readonly title: Words;
  readonly about: Words;
  /** `sandbox`: namespaces of its own, gone afterwards. `lab`: a running lab with at least so many workers. */
  readonly place: 'sandbox' | { readonly workers: number };
  readonly steps: readonly Step[];
  /** Run at the end of a lesson in a lab, also when it failed: takes away what the steps made. */
  readonly cleanup?: readonly string[];
}

export interface Place {
  /** Names that the steps can use from the start. */
  readonly seen: Seen;
  run(argv: readonly string[], signal: AbortSignal): Promise<Ran>;
  close(): Promise<void>;
}

/** Splits a line into words as a shell would one without variables: blanks part, '…' keeps them. */
export function splitWords(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|[^\s']+/g)].map(([word, quoted]) => quoted ?? word);
}

export const succeeds = (see: Words): Expectation => ({ see, holds: (r) => r.code === 0 });
export const shows = (pattern: RegExp, see: Words, keep?: RegExp): Expectation => ({ see, holds: (r) => pattern.test(r.output), ...(keep ? { keep } : {}) });

/** Of iputils' and busybox' last lines: `3 packets transmitted, 3 received, 0% packet loss`. */
export function packetLoss(output: string): number | undefined {
  const percent = /([\d.]+)% packet loss/.exec(output)?.[1];
  return percent === undefined ? undefined : Number(percent);
}
export const noLoss: Expectation = { see: { en: '0% packet loss', zh: '0% 丢包（0% packet loss）' }, holds: (r) => r.code === 0 && packetLoss(r.output) === 0 };
export const allLost: Expectation = { see: { en: 'no answer at all', zh: '完全没有应答' }, holds: (r) => r.code !== 0 && (packetLoss(r.output) ?? 100) === 100 };
