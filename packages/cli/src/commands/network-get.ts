/** How the pods of a cluster reach each other, as the cluster has it and as each node does it. */
import { defineCommand } from '../command.js';
import { labOption, openLab } from '../lab.js';
import { readNetwork, type NetworkView } from '../network.js';

export const command = defineCommand({
  name: 'network get',
  summary: 'Show how pods of different nodes reach each other',
  arguments: {},
  options: { ...labOption },
  examples: [['podway network get', 'backend and state of each node']],
  needsRoot: true,
  view: {
    text: (n: NetworkView) => [
      `backend ${n.backend}, wiring ${n.wiring}${n.gateway === undefined ? '' : ` with a ${n.gateway} gateway`}, pods in ${n.clusterCidrs.join(', ')}`,
      '',
      ...n.nodes.map((x) => `  ${x.name}  ${[x.publicIP ?? '-', x.secondIP ?? ''].filter(Boolean).join(' ')}  sends by ${x.uses ?? '-'}  takes ${x.accepts.join(', ') || '-'}${x.wireguard ? `  ${x.wireguard.implementation}, UDP ${x.wireguard.port}, public key ${x.wireguard.publicKey}` : ''}${x.problem === undefined ? '' : `\n      has not taken over the cluster's configuration: ${x.problem}`}`),
    ].join('\n'),
  },
  async run({ options }) {
    const lab = await openLab(options.lab);
    try {
      return await readNetwork(lab.client);
    } finally {
      lab.client.close();
    }
  },
});
