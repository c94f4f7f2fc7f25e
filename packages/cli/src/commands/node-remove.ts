/** A node leaves a running lab, with its pods. */
import type { MembershipResult } from '@podway/lab/client';
import { defineCommand, flag, required } from '../command.js';
import { labOption } from '../lab.js';
import { stepsText } from './node-add.js';

export const command = defineCommand({
  name: 'node remove',
  summary: 'Take a node out of a running lab',
  details: 'Deletes its pods and waits for their end, as a drain does; then its Node object, its cable and its namespaces.',
  arguments: { name: required('name of the node', 'nodes') },
  options: { ...labOption, now: flag('without a grace period for its pods') },
  examples: [['podway node remove m4', 'drain it and take it away']],
  needsRoot: true,
  view: { text: (r: MembershipResult) => stepsText(`Node ${r.node} is gone.`, r, 'has forgotten it'), names: (r) => [`node/${r.node}`] },
  async run({ args, options, progress, signal }) {
    const { askLab, LabLayout, mustRun } = await import('@podway/lab/client');
    mustRun(options.lab);
    return progress.phase(`node ${args.name}`, (status) =>
      askLab(new LabLayout(options.lab), { verb: 'remove-node', name: args.name, graceSeconds: options.now ? 0 : undefined }, (s) => status(s.name), signal));
  },
});
