import { defineCommand, flag, integer, duration, required, text } from '../command.js';
import { labOption, named, namespaceOption, openLab } from '../lab.js';

const FOLLOWING_MS = 24 * 3_600_000;

export const command = defineCommand({
  name: 'logs',
  summary: 'Print what a container wrote',
  arguments: { pod: required('name of the pod', 'pods') },
  options: {
    ...labOption, ...namespaceOption,
    container: text('NAME', 'which container, when there are several', { short: '-c' }),
    follow: flag('go on with what comes', { short: '-f' }),
    previous: flag('of the run before the present one', { short: '-p' }),
    timestamps: flag('with the time of each line'),
    tail: integer('N', 'only the last lines', { min: 0 }),
    since: duration('only what is not older than this'),
  },
  examples: [['podway logs web-a', 'all of it'], ['podway logs web-a -f --tail 10', 'the last ten lines, and what comes']],
  needsRoot: true,
  view: { text: () => '' },
  async run({ args, options, signal, write }) {
    const lab = await openLab(options.lab);
    try {
      const { Pods, resourcePath } = await import('@podway/kube');
      const path = resourcePath(Pods, { namespace: options.namespace, name: args.pod, subresource: 'log' });
      const response = await named('pod', args.pod, options.namespace, lab.client.open(path, {
        accept: '*/*', signal, ...(options.follow ? { idleMs: FOLLOWING_MS } : {}),
        query: {
          container: options.container, follow: options.follow ? 'true' : undefined, previous: options.previous ? 'true' : undefined,
          timestamps: options.timestamps ? 'true' : undefined, tailLines: options.tail === undefined ? undefined : String(options.tail),
          sinceSeconds: options.since === undefined ? undefined : String(Math.max(1, Math.ceil(options.since / 1000))),
        },
      }));
      for await (const chunk of response as AsyncIterable<Buffer>) write(chunk);
    } finally {
      lab.client.close();
    }
  },
});
