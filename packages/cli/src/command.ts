/**
 * What a verb is: one file in commands/ exports one of these, and the list in commands/index.ts
 * names it. A verb's file imports nothing heavy: what it works with is imported inside `run`, so
 * that `podway --help` loads no kernel, no client and no lab.
 *
 * The handler returns data and prints nothing; `view` says how the data looks. Tests call `run`.
 *
 *   export const command = defineCommand({
 *     name: 'netns list',
 *     summary: 'List every network namespace on the machine',
 *     arguments: { pod: required('name of the pod', 'pods') },
 *     options: { all: flag('also empty ones'), count: integer('N', 'how many', { default: 3 }) },
 *     examples: [['podway netns list', 'all of them']],
 *     view: { table: (rows) => ({ columns: ['NAME'], rows: rows.map((r) => [r.name]) }) },
 *     async run({ args, options }) { … args.pod: string, options.count: number … },
 *   });
 */
import type { Cleanup } from './interrupts.js';
import { formatsOf, render, type Format, type Style, type View } from './output.js';
import type { Progress } from './progress.js';
import { usageError } from './errors.js';

/** Names of things that the shell can complete by asking: see completion-sources.ts. */
export type CompletionSource = 'pods' | 'nodes' | 'netns' | 'labs' | 'lessons' | 'files';

export interface Option<T> {
  readonly description: string;
  /** Name of the value in help; without one it is a switch. */
  readonly value?: string;
  /** `-x` */
  readonly short?: string;
  readonly default?: T;
  readonly choices?: readonly string[];
  readonly repeat?: boolean;
  readonly complete?: CompletionSource;
  /** From the word on the command line. @throws a usage error */
  readonly parse: (word: string) => T;
}
interface Extras<T> {
  readonly short?: string;
  readonly default?: T;
  readonly complete?: CompletionSource;
}
/** With a default the value is always there. */
type Maybe<T, E> = E extends { readonly default: T } ? T : T | undefined;

export const flag = (description: string, extras: { readonly short?: string } = {}): Option<boolean> => ({
  description, ...extras, default: false, parse: () => true,
});

export const text = <const E extends Extras<string>>(value: string, description: string, extras?: E): Option<Maybe<string, E>> =>
  ({ description, value, ...extras, parse: (word: string) => word }) as Option<Maybe<string, E>>;

export const choice = <const C extends readonly string[], const E extends Extras<C[number]>>(
  value: string, choices: C, description: string, extras?: E,
): Option<Maybe<C[number], E>> =>
  ({
    description, value, choices, ...extras,
    parse(word: string) {
      if (choices.includes(word)) return word;
      throw usageError(`"${word}" is not one of ${choices.join(', ')}`);
    },
  }) as Option<Maybe<C[number], E>>;

export const integer = <const E extends Extras<number> & { readonly min?: number; readonly max?: number }>(
  value: string, description: string, extras?: E,
): Option<Maybe<number, E>> => {
  const { min = 0, max = Number.MAX_SAFE_INTEGER, ...rest } = extras ?? {};
  return {
    description, value, ...rest,
    parse(word: string) {
      const n = /^-?\d+$/.test(word) ? Number(word) : Number.NaN;
      if (n >= min && n <= max) return n;
      throw usageError(`"${word}" is not a whole number ${max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`}`);
    },
  } as Option<Maybe<number, E>>;
};

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `500ms`, `10s`, `2m`; a bare number counts seconds. The value is in milliseconds. */
export const duration = <const E extends Extras<number>>(description: string, extras?: E): Option<Maybe<number, E>> =>
  ({
    description, value: 'TIME', ...extras,
    parse(word: string) {
      const m = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(word);
      if (m) return Number(m[1]) * UNITS[m[2] ?? 's']!;
      throw usageError(`"${word}" is not a time`, 'Write it like 500ms, 10s or 2m.');
    },
  }) as Option<Maybe<number, E>>;

/** An option that may be given several times. */
export const many = (value: string, description: string, extras: { readonly short?: string; readonly complete?: CompletionSource } = {}): Option<readonly string[]> => ({
  description, value, ...extras, repeat: true, default: [], parse: (word) => [word],
});

export interface Argument<T> {
  readonly description: string;
  readonly kind: 'required' | 'optional' | 'variadic';
  readonly complete?: CompletionSource;
  readonly choices?: readonly string[];
  /** Never there; carries the type. */
  readonly type?: T;
}
interface ArgumentExtras {
  readonly choices?: readonly string[];
}
const argument = <T>(kind: Argument<T>['kind'], description: string, complete?: CompletionSource, extras: ArgumentExtras = {}): Argument<T> => ({
  description, kind, ...(complete === undefined ? {} : { complete }), ...extras,
});
export const required = (description: string, complete?: CompletionSource, extras?: ArgumentExtras): Argument<string> => argument('required', description, complete, extras);
export const optional = (description: string, complete?: CompletionSource, extras?: ArgumentExtras): Argument<string | undefined> => argument('optional', description, complete, extras);
/** All words that are left; at least one when `least` is 1. */
export const variadic = (description: string, complete?: CompletionSource): Argument<readonly string[]> => argument('variadic', description, complete);

// The tables hold rows of different value types; each row's own type is kept by inference below.
export type OptionTable = Readonly<Record<string, Option<unknown>>>;
export type ArgumentTable = Readonly<Record<string, Argument<unknown>>>;
export type OptionValues<O> = { readonly [K in keyof O]: O[K] extends Option<infer T> ? T : never };
export type ArgumentValues<A> = { readonly [K in keyof A]: A[K] extends Argument<infer T> ? T : never };

/** What a handler has at hand besides its arguments. */
export interface Surroundings {
  readonly progress: Progress;
  /** Aborted at Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
  /** To be undone when the command ends, however it ends. */
  onExit(cleanup: Cleanup): () => void;
  /** For an answer of "no" that is not an error. */
  setExitCode(code: number): void;
  /** For commands that stream (logs, capture): straight to stdout. Everything else returns its data. */
  write(chunk: string | Uint8Array): void;
  readonly style: Style;
  readonly format: Format | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface Context<A, O> extends Surroundings {
  readonly args: ArgumentValues<A>;
  readonly options: OptionValues<O>;
}

export interface CommandText {
  /** The words of the verb: `netns list`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  /** One line, imperative, no full stop. */
  readonly summary: string;
  /** More, under the summary. */
  readonly details?: string;
  /** Command line and what it does. At least one. */
  readonly examples: readonly (readonly [string, string])[];
  /** Checked before the handler is called. */
  readonly needsRoot?: boolean;
  /** Words behind the last argument belong to another program and are not read as options. */
  readonly passThrough?: boolean;
  /** Signals are for the child that the command runs (exec). */
  readonly ownSignals?: boolean;
  readonly hidden?: boolean;
}

export interface CommandSpec<A, O, D> extends CommandText {
  readonly arguments: A;
  readonly options: O;
  readonly view: View<D>;
  run(context: Context<A, O>): Promise<D> | D;
}

/** A command with its types closed over: what the program is made of. */
export interface CommandModule extends CommandText {
  readonly arguments: ArgumentTable;
  readonly options: OptionTable;
  readonly formats: readonly Format[];
  /** Runs the handler on values that were parsed already and renders what it returned. */
  execute(args: Readonly<Record<string, unknown>>, options: Readonly<Record<string, unknown>>, around: Surroundings): Promise<string>;
}

export function defineCommand<const A extends ArgumentTable, const O extends OptionTable, D>(
  spec: CommandSpec<A, O, D>,
): CommandModule & CommandSpec<A, O, D> {
  return {
    ...spec,
    formats: formatsOf(spec.view),
    async execute(args, options, around) {
      // The values were made by the very tables that the types come from.
      const context = { ...around, args: args as ArgumentValues<A>, options: options as OptionValues<O> };
      const data = await spec.run(context);
      return render(data, spec.view, around.format, around.style);
    },
  };
}

/** `dryRun` → `--dry-run` */
export const optionName = (key: string): string => `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
