import { defineCommand, flag } from '../command.js';
import { labOption } from '../lab.js';

export const command = defineCommand({
  name: 'down',
  summary: 'Take a lab away, whatever state it is in',
  details: 'Ends its processes and removes its namespaces, devices, mounts and files. Nothing else is touched.\nOn a lab that is not there it says so.',
  arguments: {},
  options: { ...labOption, all: flag('every lab of this machine') },
  examples: [
    ['podway down', 'the default lab'],
    ['podway down --lab other', 'another one'],
    ['podway down --all', 'all of them'],
  ],
  needsRoot: true,
  view: {
    text: (labs: readonly { lab: string; processes: number; namespaces: readonly string[]; folder: boolean }[]) =>
      labs.length === 0 ? 'There is no lab.' : labs.map((l) => l.folder || l.processes || l.namespaces.length
        ? `Lab ${l.lab} is gone: ${l.processes} processes ended, ${l.namespaces.length} namespaces removed.`
        : `There is no lab ${l.lab}; nothing was done.`).join('\n'),
  },
  async run({ options, progress }) {
    const { down, labNames } = await import('@podway/lab/client');
    const names = options.all ? labNames() : [options.lab];
    const results = [];
    for (const name of names) {
      results.push(await progress.phase(`lab ${name}`, async () => ({ lab: name, ...(await down(name)) })));
    }
    return results;
  },
});
