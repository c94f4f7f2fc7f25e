import { isPodwayError } from '@podway/errors';
import { defineCommand, flag, required, variadic } from '../command.js';
import { usageError } from '../errors.js';
import { kindOf } from '../kinds.js';
import { labOption, named, namespaceOption, openLab } from '../lab.js';

export const command = defineCommand({
  name: 'delete',
  summary: 'Delete objects of a lab and wait until they are gone',
  arguments: { kind: required('pods, nodes, namespaces or events'), names: variadic('their names', 'pods') },
  options: { ...labOption, ...namespaceOption, now: flag('without a grace period') },
  examples: [['podway delete pod web-e', 'one pod'], ['podway delete pods a b --now', 'two, at once']],
  needsRoot: true,
  view: { text: (names: readonly string[]) => names.map((n) => `${n} deleted`).join('\n'), names: (n) => n },
  async run({ args, options, progress, signal }) {
    if (args.names.length === 0) throw usageError('no name was given', `podway delete ${args.kind} NAME`);
    const kind = await kindOf(args.kind);
    const lab = await openLab(options.lab);
    try {
      const at = kind.namespaced ? { namespace: options.namespace } : {};
      for (const name of args.names) {
        await named(kind.singular, name, at.namespace, lab.client.delete(kind, { name, ...at }, options.now ? { gracePeriodSeconds: 0 } : {}));
        await progress.phase(`delete ${kind.singular} ${name}`, async () => {
          // Condition: the API no longer has it.
          while (!signal.aborted) {
            try {
              await lab.client.get(kind, name, at.namespace);
            } catch (e) {
              if (isPodwayError(e, 'KUBE_NOT_FOUND')) return;
              throw e;
            }
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        });
      }
      return args.names.map((n) => `${kind.singular} "${n}"`);
    } finally {
      lab.client.close();
    }
  },
});
