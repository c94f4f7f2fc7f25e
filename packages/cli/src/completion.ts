/**
 * Completion for shells. The shells' scripts are a few lines each: they hand the words typed so
 * far to `podway __complete`, which answers from the same command modules the program is made of,
 * so completion cannot fall behind. Cost: one start of podway, about 0.1 s.
 */
import { optionName, type CommandModule, type CompletionSource } from './command.js';
import { FORMATS } from './output.js';
import type { Catalogue } from './program.js';

export interface Candidate {
  readonly word: string;
  readonly description?: string;
}
export type Lookup = (source: CompletionSource, options: { readonly lab: string }) => Promise<readonly string[]>;

/**
 * What may stand where the last word is.
 * @param words the words behind `podway`, the last one (perhaps empty) being typed.
 */
export async function complete(catalogue: Catalogue, words: readonly string[], lookup: Lookup): Promise<Candidate[]> {
  const partial = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const found = findCommand(catalogue.commands, before);
  const candidates = found ? await inCommand(found.command, found.rest, partial, lookup) : nextWords(catalogue, before);
  return candidates.filter((c) => c.word.startsWith(partial));
}

function findCommand(commands: readonly CommandModule[], words: readonly string[]): { command: CommandModule; rest: readonly string[] } | undefined {
  for (const command of commands) {
    const own = command.name.split(' ');
    const matches = (last: string): boolean => words.length >= own.length && [...own.slice(0, -1), last].every((w, i) => w === words[i]);
    if ([own.at(-1)!, ...(command.aliases ?? [])].some(matches)) return { command, rest: words.slice(own.length) };
  }
  return undefined;
}

/** The verbs, or the second words behind a first one. */
function nextWords(catalogue: Catalogue, before: readonly string[]): Candidate[] {
  const seen = new Map<string, Candidate>();
  for (const command of catalogue.commands) {
    const words = command.name.split(' ');
    if (command.hidden || words.length <= before.length || !before.every((w, i) => w === words[i])) continue;
    const word = words[before.length]!;
    const last = words.length === before.length + 1;
    if (!seen.has(word)) seen.set(word, { word, description: last ? command.summary : (catalogue.groups[words.slice(0, before.length + 1).join(' ')] ?? '') });
  }
  return [...seen.values()];
}

async function inCommand(command: CommandModule, rest: readonly string[], partial: string, lookup: Lookup): Promise<Candidate[]> {
  const options = Object.entries(command.options).map(([key, o]) => ({ ...o, name: optionName(key) }));
  const takesValue = (word: string) =>
    ['-o', '--output'].includes(word) ? { choices: command.formats } : options.find((o) => o.value && (o.name === word || o.short === word));
  const labAt = rest.indexOf('--lab');
  const lab = (labAt >= 0 ? rest[labAt + 1] : undefined) ?? 'default';
  const previous = rest.at(-1);
  const valued = previous === undefined ? undefined : takesValue(previous);
  if (valued) {
    if (valued.choices) return valued.choices.map((word) => ({ word }));
    return 'complete' in valued && valued.complete ? asked(await lookup(valued.complete, { lab })) : [];
  }
  const positionals: string[] = [];
  for (let i = 0; i < rest.length; i++) {
    if (rest[i] === '--') {
      positionals.push(...rest.slice(i + 1));
      break;
    }
    if (!rest[i]!.startsWith('-')) positionals.push(rest[i]!);
    else if (takesValue(rest[i]!)) i++;
  }
  const table = Object.values(command.arguments);
  const argument = table[positionals.length] ?? (table.at(-1)?.kind === 'variadic' ? table.at(-1) : undefined);
  if (partial.startsWith('-') && !rest.includes('--')) {
    return [
      ...options.map((o) => ({ word: o.name, description: o.description })),
      ...(command.formats.length ? [{ word: '--output', description: `print as ${FORMATS.join(', ')}` }, { word: '--quiet', description: 'no progress' }] : []),
      { word: '--help', description: 'show help' },
    ];
  }
  if (argument?.choices) return argument.choices.map((word) => ({ word }));
  return argument?.complete ? asked(await lookup(argument.complete, { lab })) : [];
}

const asked = (names: readonly string[]): Candidate[] => names.map((word) => ({ word }));

/** One line a candidate: word, tab, description. */
export const candidateLines = (candidates: readonly Candidate[]): string =>
  candidates.map((c) => (c.description ? `${c.word}\t${c.description}` : c.word)).join('\n');

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# podway completion for bash. Load it with: source <(podway completion bash)
_podway() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("\${line%%$'\\t'*}")
  done < <("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _podway podway`,
  zsh: `#compdef podway
# podway completion for zsh. Load it with: source <(podway completion zsh)
_podway() {
  local -a candidates
  local line
  while IFS= read -r line; do
    line=\${line//:/\\\\:}
    candidates+=("\${line/$'\\t'/:}")
  done < <("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  (( \${#candidates} )) && _describe podway candidates || _files
}
compdef _podway podway`,
  fish: `# podway completion for fish. Load it with: podway completion fish | source
function __podway_complete
  set -l words (commandline -opc)
  set -l partial (commandline -ct)
  $words[1] __complete -- $words[2..-1] "$partial" 2>/dev/null
end
complete -c podway -f -a '(__podway_complete)'`,
};

export const completionScript = (shell: Shell): string => SCRIPTS[shell];
