/**
 * The command tree as commander knows it, made from the command modules, and the run of one
 * command line from words to exit code.
 */
import { Command, CommanderError, Option as CommanderOption, Argument as CommanderArgument } from 'commander';
import type { EventEmitter } from 'node:events';
import { nearest, PodwayError } from '@podway/errors';
import { optionName, type CommandModule, type Surroundings } from './command.js';
import { errorJson, renderError, usageError } from './errors.js';
import { EXIT, exitCodeOf } from './exit-codes.js';
import { Interrupts } from './interrupts.js';
import { FORMATS, toJson, type Format, type Style } from './output.js';
import { plainReporter, Progress, terminalReporter, type Reporter } from './progress.js';
import { makeTheme, wantsColour } from './theme.js';

export interface Screen {
  write(chunk: string | Uint8Array): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

/** The world outside, so that tests can be it. */
export interface Outside {
  readonly out: Screen;
  readonly err: Screen;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly root: boolean;
  /** Where signals come from. */
  readonly signals?: EventEmitter;
}

export interface Catalogue {
  readonly name: string;
  readonly summary: string;
  readonly version: string;
  readonly commands: readonly CommandModule[];
  /** Summary of each first word that several commands share. */
  readonly groups: Readonly<Record<string, string>>;
  /** Shown under the list of commands. */
  readonly footer?: string;
}

type Runner = (command: CommandModule, args: Record<string, unknown>, options: Record<string, unknown>) => Promise<void>;

/** Runs one command line. @returns the exit code; nothing is thrown. */
export async function runProgram(catalogue: Catalogue, words: readonly string[], outside: Outside): Promise<number> {
  const theme = makeTheme(wantsColour(outside.env, outside.out.isTTY ?? false));
  const errTheme = makeTheme(wantsColour(outside.env, outside.err.isTTY ?? false));
  const style: Style = { theme, width: outside.out.isTTY ? outside.out.columns : undefined };
  let format = askedFormat(words);
  let exitCode: number = EXIT.ok;
  const run: Runner = async (command, args, options) => {
    const { output, quiet, ...own } = options;
    format = output as Format | undefined;
    if (format && !command.formats.includes(format)) {
      throw usageError(`podway ${command.name} has no -o ${format}`, `It has: ${command.formats.join(', ')}`);
    }
    if (command.needsRoot && !outside.root) {
      throw new PodwayError('NEEDS_ROOT', `podway ${command.name} needs root`, { hint: `sudo podway ${words.join(' ')}` });
    }
    exitCode = await execute(command, args, own, quiet === true, { outside, style, format });
  };
  const program = buildProgram(catalogue, outside, run);
  try {
    await program.parseAsync([...words], { from: 'user' });
    return exitCode;
  } catch (e) {
    if (e instanceof CommanderError && e.exitCode === 0) return EXIT.ok;
    const error = e instanceof CommanderError ? fromCommander(e, commandIn(program, words)) : e;
    // Programs that asked for JSON get the error as JSON, where they read the answer.
    if (format === 'json') outside.out.write(`${toJson(errorJson(error))}\n`);
    else outside.err.write(`${renderError(error, errTheme)}\n`);
    return exitCodeOf(error, outside.root);
  }
}

async function execute(
  command: CommandModule, args: Record<string, unknown>, options: Record<string, unknown>, quiet: boolean,
  at: { readonly outside: Outside; readonly style: Style; readonly format: Format | undefined },
): Promise<number> {
  const { outside, style, format } = at;
  let exitCode: number = EXIT.ok;
  const interrupts = new Interrupts(command.ownSignals ? undefined : outside.signals);
  const errTheme = makeTheme(wantsColour(outside.env, outside.err.isTTY ?? false));
  const reporter: Reporter = quiet
    ? { listener: () => undefined, close: () => undefined }
    : (outside.err.isTTY ? terminalReporter : plainReporter)(outside.err, errTheme);
  const around: Surroundings = {
    progress: new Progress(reporter.listener),
    signal: interrupts.signal,
    onExit: (cleanup) => interrupts.onExit(cleanup),
    setExitCode: (code) => (exitCode = code),
    write: (chunk) => void outside.out.write(chunk),
    style, format, env: outside.env,
  };
  try {
    const text = await interrupts.race(command.execute(args, options, around));
    reporter.close();
    if (text) outside.out.write(`${text}\n`);
  } finally {
    reporter.close();
    for (const failure of await interrupts.finish()) outside.err.write(`${renderError(failure, errTheme)}\n`);
  }
  return exitCode;
}

/** -o as far as it can be seen before the words are understood: for errors in the words themselves. */
function askedFormat(words: readonly string[]): Format | undefined {
  for (const [i, word] of words.entries()) {
    if (word === '--') return undefined;
    const value = word === '-o' || word === '--output' ? words[i + 1] : /^(?:-o=?|--output=)(.+)$/.exec(word)?.[1];
    if (value !== undefined && (FORMATS as readonly string[]).includes(value)) return value as Format;
  }
  return undefined;
}

/** The command that the first words name, as far as they name one. */
function commandIn(program: Command, words: readonly string[]): Command {
  const next = program.commands.find((c) => c.name() === words[0] || c.aliases().includes(words[0] ?? ''));
  return next ? commandIn(next, words.slice(1)) : program;
}

/** Commander's sentence, with its suggestion as the hint, or the help of the command that it is about. */
function fromCommander(e: CommanderError, about: Command): PodwayError {
  const [first = '', ...rest] = e.message.replace(/^error: /, '').split('\n');
  const meant = /Did you mean (?:one of )?(.+?)\?/.exec(rest.join(' '))?.[1];
  return usageError(first, meant ? `Did you mean ${meant}?` : `See: ${['podway', ...pathOf(about), '--help'].join(' ')}`);
}

export function buildProgram(catalogue: Catalogue, outside: Outside, run: Runner): Command {
  const program = new Command(catalogue.name);
  const settle = (c: Command): Command =>
    c
      .exitOverride()
      .configureOutput({ writeOut: (s) => void outside.out.write(s), writeErr: () => undefined, getOutHelpWidth: () => outside.out.columns ?? 100 })
      .configureHelp({ sortSubcommands: false, showGlobalOptions: false })
      .helpOption('-h, --help', 'show this help')
      .showSuggestionAfterError();
  settle(program)
    .description(catalogue.summary)
    .version(catalogue.version, '-V, --version', 'show the version')
    .enablePositionalOptions()
    .helpCommand(false)
    .usage('COMMAND [ARGUMENTS] [OPTIONS]')
    .addHelpText('after', catalogue.footer ? `\n${catalogue.footer}` : '');
  const groups = new Map<string, Command>();
  for (const command of catalogue.commands) {
    const words = command.name.split(' ');
    let parent = program;
    for (const word of words.slice(0, -1)) {
      const key = parent === program ? word : `${parent.name()} ${word}`;
      let group = groups.get(key);
      if (!group) {
        group = settle(parent.command(word)).description(catalogue.groups[key] ?? '').usage('COMMAND').helpCommand(false);
        groups.set(key, group);
      }
      parent = group;
    }
    addCommand(settle(parent.command(words.at(-1)!, { hidden: command.hidden ?? false })), command, run);
  }
  // Without a command (or with the first word of one only): its help, as an answer.
  for (const c of [program, ...groups.values()]) {
    c.allowExcessArguments().allowUnknownOption().action(() => (c.args.length ? unknownCommand(c) : c.outputHelp()));
  }
  return program;
}

function unknownCommand(parent: Command): never {
  const word = parent.args[0]!;
  const isOption = word.startsWith('-');
  const names = isOption ? ['--help', ...(parent.parent ? [] : ['--version'])] : parent.commands.flatMap((c) => (c.name().startsWith('_') ? [] : [c.name(), ...c.aliases()]));
  const near = nearest(word, names);
  const path = ['podway', ...pathOf(parent)];
  throw usageError(
    isOption ? `unknown option "${word}"` : `unknown command "${[...pathOf(parent), word].join(' ')}"`,
    near ? `Did you mean ${[...path, near].join(' ')}?` : `See: ${[...path, '--help'].join(' ')}`,
  );
}

const pathOf = (c: Command): string[] => (c.parent ? [...pathOf(c.parent), c.name()] : []);

function addCommand(c: Command, command: CommandModule, run: Runner): void {
  c.summary(command.summary).description(command.details ? `${command.summary}.\n\n${command.details}` : `${command.summary}.`);
  c.aliases([...(command.aliases ?? [])]);
  if (command.passThrough) c.passThroughOptions();
  const names = Object.keys(command.arguments);
  for (const [name, a] of Object.entries(command.arguments)) {
    const word = name.replace(/[A-Z]/g, (ch) => `-${ch.toLowerCase()}`);
    const form = a.kind === 'required' ? `<${word}>` : a.kind === 'optional' ? `[${word}]` : `[${word}...]`;
    const made = new CommanderArgument(form, a.description);
    if (a.choices) made.choices([...a.choices]);
    c.addArgument(made);
  }
  for (const [key, o] of Object.entries(command.options)) {
    const flags = `${o.short ? `${o.short}, ` : ''}${optionName(key)}${o.value ? ` <${o.value}>` : ''}`;
    const made = new CommanderOption(flags, describeOption(o.description, o.choices, o.value ? o.default : undefined));
    if (o.value) made.argParser((word: string, before: unknown) => parsed(optionName(key), o, word, before));
    c.addOption(made);
  }
  if (command.formats.length) {
    c.addOption(new CommanderOption('-o, --output <FORMAT>', `print as ${command.formats.join(', ')}`).choices([...FORMATS]));
    c.addOption(new CommanderOption('-q, --quiet', 'no progress'));
  }
  c.addHelpText('after', `\nExamples:\n${examples(command.examples)}${command.needsRoot ? '\n\nNeeds root.' : ''}`);
  c.action(async (...received: unknown[]) => {
    const given = received.slice(0, names.length);
    const options = c.opts<Record<string, unknown>>();
    const values: Record<string, unknown> = { output: options['output'], quiet: options['quiet'] };
    for (const [key, o] of Object.entries(command.options)) values[key] = options[key] ?? o.default;
    // `exec POD -- CMD`: the dashes end podway's own words and are no word of the other program.
    const last = given.at(-1);
    if (command.passThrough && Array.isArray(last) && last[0] === '--') given[given.length - 1] = last.slice(1) as string[];
    await run(command, Object.fromEntries(names.map((name, i) => [name, given[i]])), values);
  });
}

const describeOption = (description: string, choices: readonly string[] | undefined, preset: unknown): string =>
  `${description}${choices ? ` (${choices.join(', ')})` : ''}${preset === undefined || (Array.isArray(preset) && preset.length === 0) ? '' : ` [${String(preset)}]`}`;

/** An error in a value names the option it was given to. */
function parsed(name: string, o: { readonly parse: (word: string) => unknown; readonly repeat?: boolean }, word: string, before: unknown): unknown {
  try {
    const value = o.parse(word);
    return o.repeat ? [...((before as unknown[] | undefined) ?? []), ...(value as unknown[])] : value;
  } catch (e) {
    if (e instanceof PodwayError) throw new PodwayError('USAGE', `${name}: ${e.message}`, e.hint === undefined ? {} : { hint: e.hint });
    throw e;
  }
}

function examples(list: readonly (readonly [string, string])[]): string {
  const width = Math.max(...list.map(([line]) => line.length));
  return list.map(([line, what]) => `  ${line.padEnd(width)}   ${what}`).join('\n');
}
