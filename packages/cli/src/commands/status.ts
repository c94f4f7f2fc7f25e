import type { LabMap } from '@podway/lab';
import { defineCommand } from '../command.js';
import { labOption, openLab } from '../lab.js';

interface Status {
  readonly lab: string;
  readonly phase: string;
  readonly pid: number;
  readonly started: string;
  readonly server: string | undefined;
  readonly kubeconfig: string;
  readonly agents: readonly { readonly node: string; readonly holderPid: number; readonly ready: boolean; readonly message: string }[];
  readonly map: LabMap;
  readonly drawing: string;
}

export const command = defineCommand({
  name: 'status',
  summary: 'Show how a lab is: its nodes, pods and processes',
  arguments: {},
  options: { ...labOption },
  examples: [['podway status', 'the default lab'], ['podway status -o json', 'for programs']],
  needsRoot: true,
  view: {
    text: (s: Status, { theme }) => [
      `Lab ${theme.name(s.lab)} is ${s.phase === 'ready' ? theme.good('ready') : theme.warn(s.phase)}  (process ${s.pid}, since ${s.started})`,
      `API server  ${s.server ?? '-'}`,
      `kubeconfig  ${s.kubeconfig}`,
      '',
      s.drawing,
      '',
      ...s.agents.map((a) => `  ${a.ready ? theme.good('✓') : theme.bad('✗')} node ${a.node} (holder ${a.holderPid}): ${a.message}`),
    ].join('\n'),
    json: ({ drawing: _, ...rest }: Status) => rest,
  },
  async run({ options, setExitCode }) {
    const [{ labMap, mapText }, { Pods }, { nodesWithRanges }] = await Promise.all([import('@podway/lab'), import('@podway/kube'), import('@podway/agent')]);
    const { state, layout, client } = await openLab(options.lab);
    try {
      const nodes = await nodesWithRanges(client);
      const map = labMap(state.config, nodes, await client.list(Pods));
      const agents = state.nodes.map((n) => {
        const ready = nodes.find((o) => o.metadata?.name === n.name)?.status?.conditions?.find((c) => c.type === 'Ready');
        return { node: n.name, holderPid: n.holderPid, ready: ready?.status === 'True', message: ready?.message ?? 'has not reported' };
      });
      if (agents.some((a) => !a.ready)) setExitCode(1);
      return {
        lab: state.name, phase: state.phase, pid: state.pid, started: state.started, server: state.server, kubeconfig: layout.kubeconfig,
        agents, map, drawing: mapText(map),
      };
    } finally {
      client.close();
    }
  },
});
