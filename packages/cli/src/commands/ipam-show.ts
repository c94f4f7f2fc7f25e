/** Ranges and blocks, and how much of each is given out. */
import type { RangeUse } from '@podway/agent';
import { defineCommand } from '../command.js';
import { readAddresses, withLab } from '../ipam.js';
import { labOption } from '../lab.js';

export const command = defineCommand({
  name: 'ipam show',
  summary: 'Show which node has which addresses, and how many are left',
  details: 'With IP pools one line a block, else one a range of a node. Addresses in use are counted from the records on the nodes.\nThe objects themselves: kubectl get ippools,ipblocks',
  arguments: {},
  options: { ...labOption },
  examples: [['podway ipam show', 'per node: range or block, used, free'], ['podway ipam show -o json', 'for programs']],
  needsRoot: true,
  view: {
    table: (rows: readonly RangeUse[]) => ({
      columns: ['NODE', 'RANGE', 'POOL', { title: 'USED', align: 'right' }, { title: 'FREE', align: 'right' }],
      rows: rows.map((r) => [r.node, r.cidr, r.pool, r.used, r.free]),
      empty: 'No node has addresses yet.',
    }),
    names: (rows) => rows.map((r) => r.cidr),
  },
  run: ({ options }) => withLab(options.lab, async (lab) => {
    const { rangeUses } = await import('@podway/agent');
    const { nodes, blocks, records } = await readAddresses(lab);
    return rangeUses(nodes, blocks, records);
  }),
});
