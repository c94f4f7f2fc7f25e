/** The network of a lab that was started without one. */
import type { InstallResult } from '@podway/lab/client';
import { defineCommand } from '../command.js';
import { labOption } from '../lab.js';
import { formatDuration } from '../progress.js';

export const command = defineCommand({
  name: 'network install',
  summary: 'Give a lab that was started without a network Podway\'s',
  details: 'For labs whose file says `network: {cni: none}`, or `disableDefaultCNI: true` in a file of kind: their nodes stay\nNotReady (NetworkPluginNotReady) until a CNI plugin is there. Starts the agent on every node and waits until all are Ready.',
  arguments: {},
  options: { ...labOption },
  examples: [['podway network install --lab huari-test', 'all nodes become Ready']],
  needsRoot: true,
  view: { text: (r: InstallResult) => `All ${r.nodes.length} nodes are Ready after ${formatDuration(r.ms)}.`, names: (r) => r.nodes.map((n) => `node/${n}`) },
  async run({ options, progress, signal }) {
    const { askLab, LabLayout, mustRun } = await import('@podway/lab/client');
    mustRun(options.lab);
    return progress.phase('agents', (status) => askLab(new LabLayout(options.lab), { verb: 'install-network' }, (s) => status(s.name), signal));
  },
});
