/** A lab's own process. `podway up` starts it, follows it over its channel, and lets go of it. */
import { messageOf, PodwayError } from '@podway/errors';
import type { LabConfig, LabEvent } from '@podway/lab';
import { defineCommand, required } from '../command.js';

export const command = defineCommand({
  name: '__lab',
  summary: 'Be the process of a lab',
  hidden: true,
  arguments: { lab: required('name of the lab'), mark: required('what `podway down` knows it by') },
  options: {},
  examples: [['podway __lab default podway-lab=default', 'what podway up runs']],
  needsRoot: true,
  view: { text: () => '' },
  async run({ args, signal, write, onExit }) {
    const [{ Lab, LabLayout, thisProgram }, { readFile }] = await Promise.all([import('@podway/lab'), import('node:fs/promises')]);
    const config = JSON.parse(await readFile(new LabLayout(args.lab).config, 'utf8')) as LabConfig;
    const emit = (e: LabEvent): void => {
      if (e.type !== 'progress') write(`${new Date().toISOString()} ${JSON.stringify(e)}\n`);
      // Whoever started us may have gone (it does when all is ready).
      if (process.connected) process.send?.(e, undefined, undefined, () => undefined);
    };
    try {
      const lab = await Lab.start({ config, program: thisProgram(), emit });
      onExit(() => lab.close());
    } catch (e) {
      const error = e instanceof PodwayError
        ? { code: e.code, message: e.message, ...(e.object === undefined ? {} : { object: e.object }), ...(e.hint === undefined ? {} : { hint: e.hint }) }
        : { code: 'LAB_FAILED', message: messageOf(e) };
      emit({ type: 'failed', error });
      throw e;
    }
    if (process.connected) process.disconnect();
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
  },
});
