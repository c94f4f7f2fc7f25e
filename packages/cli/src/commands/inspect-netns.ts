/** Equivalent: `ip -d link`, `ip addr`, `ip route show table all`, `ip rule`, `ip neigh`, `bridge fdb` inside, in one go. */
import type { NetnsState } from '@podway/netstate';
import { defineCommand, required } from '../command.js';
import type { Style } from '../output.js';

/** The sections that a text view has, filled in by `run` so that rendering needs no heavy import. */
interface Inspection {
  readonly state: NetnsState;
  readonly sections: readonly { readonly command: string; readonly lines: readonly string[] }[];
}

function text({ state, sections }: Inspection, { theme }: Style): string {
  const shown = sections.filter((s) => s.lines.length);
  return [
    `${theme.strong('network namespace')} ${theme.name(state.netns.name)}  net:[${state.netns.id}]`,
    ...shown.flatMap((s) => ['', theme.dim(`# ${s.command}`), ...s.lines]),
    ...(state.unread.length ? ['', ...state.unread.map((u) => theme.warn(`not read: ${u}`))] : []),
  ].join('\n');
}

export const command = defineCommand({
  name: 'inspect netns',
  summary: 'Show the whole network state of a namespace, as ip and bridge print it',
  details: 'NETNS is a name of `ip netns`, a process id, a path, net:[INODE] as in `podway netns list`,\nor the last part of a path under which any process has it mounted (cni-…).',
  arguments: { netns: required('name, pid, path or net:[INODE]', 'netns') },
  options: {},
  examples: [
    ['podway inspect netns podway-default-m1', 'a node of the lab'],
    ['podway inspect netns 4242', 'the namespace process 4242 is in'],
    ['podway inspect netns net:[4026532281] -o json', 'the state as data (NetnsState)'],
  ],
  needsRoot: true,
  view: { text, json: (i: Inspection) => i.state },
  async run({ args }) {
    const [{ findNetns }, { observe, formatState }] = await Promise.all([import('../find-netns.js'), import('@podway/netstate')]);
    const ns = findNetns(args.netns);
    try {
      const state = observe(ns);
      return { state, sections: formatState(state) };
    } finally {
      ns.close();
    }
  },
});
