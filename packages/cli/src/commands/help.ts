import { defineCommand, variadic } from '../command.js';
import { EXIT_CODES } from '../exit-codes.js';
import { renderTable } from '../table.js';

export const command = defineCommand({
  name: 'help',
  summary: 'Show the help of a command, or a topic (exit-codes)',
  arguments: { words: variadic('a command, or the topic exit-codes') },
  options: {},
  examples: [
    ['podway help inspect netns', 'the same as podway inspect netns --help'],
    ['podway help exit-codes', 'what the exit code says'],
  ],
  view: {
    text: (o: { readonly text: string }) => o.text,
    json: (o: { readonly text: string; readonly exitCodes?: unknown }) => o.exitCodes ?? o,
  },
  async run({ args, setExitCode, style }) {
    if (args.words.join(' ') === 'exit-codes') {
      const rows = EXIT_CODES.map((e) => [e.code, e.meaning]);
      return { text: renderTable({ columns: [{ title: 'CODE', align: 'right' }, 'MEANING'], rows }, undefined, style.theme.strong), exitCodes: EXIT_CODES };
    }
    const [{ catalogue }, { runProgram }] = await Promise.all([import('../catalogue.js'), import('../program.js')]);
    let text = '';
    const screen = { write: (s: string | Uint8Array) => (text += s.toString()), columns: style.width };
    setExitCode(await runProgram(catalogue, [...args.words, '--help'], { out: screen, err: screen, env: {}, root: true }));
    return { text: text.trimEnd() };
  },
});
