/** The lab file: every key, or what one file would become, without starting anything. */
import { defineCommand, optional } from '../command.js';
import { readText } from '../read-text.js';

interface Checked {
  /** Every key, when no file was given. */
  readonly reference?: string;
  readonly form?: 'lab' | 'kind';
  readonly drawing?: string;
  readonly notes?: readonly string[];
  readonly config?: unknown;
}

export const command = defineCommand({
  name: 'lab-file',
  summary: 'Show every key of the lab file, or check a file',
  details: 'Without FILE: the lab file with all keys, their defaults and what they mean; it can be used as it is. With FILE (a lab file, or\na cluster configuration of kind): what is wrong with line and column, or the lab that it would be. Nothing is started.',
  arguments: { file: optional('a lab file, or one of kind', 'files') },
  options: {},
  examples: [['podway lab-file', 'every key'], ['podway lab-file examples/two-racks.yaml', 'what it would be'], ['podway lab-file kind.yaml -o json', 'with everything filled in']],
  view: {
    text: (c: Checked) => c.reference?.trimEnd() ?? [`A ${c.form === 'kind' ? "cluster configuration of kind's" : 'lab file'} that can be used.`, ...(c.notes ?? []).map((n) => `  ${n}`), '', c.drawing].join('\n'),
    json: ({ drawing: _, ...rest }) => rest,
  },
  async run({ args }): Promise<Checked> {
    const lab = await import('@podway/lab');
    if (args.file === undefined) return { reference: lab.LAB_FILE_TEXT };
    const { config, notes, form } = lab.readLabFile(await readText(args.file), args.file);
    return { form, notes, config, drawing: lab.mapText(lab.plannedMap(config)) };
  },
});
