/** A node joins a running lab: the steps, as the kernel shows them, with their times. */
import type { MembershipResult } from '@podway/lab/client';
import { defineCommand, many, required, text } from '../command.js';
import { keyValues } from '../kinds.js';
import { labOption } from '../lab.js';

export const command = defineCommand({
  name: 'node add',
  summary: 'Let a new node join a running lab',
  details: 'Waits until the node is Ready and every other node has the way to its pods in its kernel.',
  arguments: { name: required('name of the new node') },
  options: {
    ...labOption,
    address: text('IP', 'its address in the underlay, of two families with a comma between; the next free ones when not given'),
    podCidr: text('CIDR', 'the range of its pods, of two families with a comma between; the next free ones when not given'),
    rack: text('NAME', 'where its cable is plugged in; the rack with the fewest nodes when not given'),
    label: many('KEY=VALUE', 'a label of the node', { short: '-l' }),
  },
  examples: [['podway node add m4', 'one more'], ['podway node add edge --address 172.18.9.1 -l zone=edge', 'with an address and a label'], ['podway node add m5 --rack r2', 'in a lab with racks']],
  needsRoot: true,
  view: { text: (r: MembershipResult) => stepsText(`Node ${r.node} joined: ${(r.addresses ?? [r.address]).join(' ')}, pods ${(r.podCIDRs ?? [r.podCIDR]).join(' ')}.`, r, 'has the way to it'), names: (r) => [`node/${r.node}`] },
  async run({ args, options, progress, signal }) {
    const { askLab, LabLayout, mustRun } = await import('@podway/lab/client');
    mustRun(options.lab);
    const labels = keyValues(options.label);
    return progress.phase(`node ${args.name}`, (status) => askLab(new LabLayout(options.lab), {
      verb: 'add-node',
      node: {
        name: args.name, labels,
        ...(options.address === undefined ? {} : { address: oneOrMore(options.address) }), ...(options.podCidr === undefined ? {} : { podCIDR: oneOrMore(options.podCidr) }),
        ...(options.rack === undefined ? {} : { rack: options.rack }),
      },
    }, (s) => status(s.name), signal));
  },
});

/** `172.18.0.9` or `172.18.0.9,fd18::9`. */
const oneOrMore = (text: string): string | string[] => (text.includes(',') ? text.split(',').map((t) => t.trim()) : text);

/** Steps with the milliseconds since the request, and when each peer's kernel was right. Pure. */
export function stepsText(title: string, r: MembershipResult, peer: string): string {
  const at = (ms: number) => `${ms.toFixed(0).padStart(6)} ms`;
  return [title, ...r.steps.map((s) => `${at(s.at)}  ${s.name}`), ...r.peers.map((p) => `  ${p.node} ${peer} after ${p.ms.toFixed(0)} ms`)].join('\n');
}
