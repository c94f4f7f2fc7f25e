import type { LabMap } from '@podway/lab';
import { defineCommand } from '../command.js';
import { labOption, openLab } from '../lab.js';
import { readNetwork } from '../network.js';

interface Status {
  readonly lab: string;
  readonly phase: string;
  readonly pid: number;
  readonly started: string;
  readonly server: string | undefined;
  readonly kubeconfig: string;
  readonly agents: readonly { readonly node: string; readonly holderPid: number; readonly ready: boolean; readonly message: string }[];
  /** How many there are, how many of their ports have endpoints, and how many have none. */
  readonly services: { readonly total: number; readonly served: number; readonly empty: readonly string[] };
  readonly map: LabMap;
  /** What carries packets between nodes now. */
  readonly network: { readonly backend: string; readonly nodes: readonly { readonly name: string; readonly uses: string | undefined; readonly implementation?: string }[] };
  readonly drawing: string;
}

function inUserSpace(n: Status['network']): string {
  const some = n.nodes.filter((x) => x.implementation?.startsWith('user space'));
  return some.length ? `, in ${some[0]!.implementation} on ${some.map((x) => x.name).join(', ')}` : '';
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
      `network     ${s.network.backend}${inUserSpace(s.network)}`,
      `Services    ${s.services.total}${s.services.empty.length ? `, without endpoints: ${s.services.empty.join(', ')}` : ''}`,
      '',
      s.drawing,
      '',
      ...s.agents.map((a) => `  ${a.ready ? theme.good('✓') : theme.bad('✗')} node ${a.node} (holder ${a.holderPid}): ${a.message}`),
    ].join('\n'),
    json: ({ drawing: _, ...rest }: Status) => rest,
  },
  async run({ options, setExitCode }) {
    const [{ labMap, mapText }, { EndpointSlices, Pods, Services, serviceKey, serviceKeyOfSlice, serviceModel, usableEndpoints }, { nodesWithRanges }] = await Promise.all([import('@podway/lab'), import('@podway/kube'), import('@podway/agent')]);
    const { state, layout, client } = await openLab(options.lab);
    try {
      const [nodes, network] = await Promise.all([nodesWithRanges(client), readNetwork(client)]);
      const map = labMap(state.config, nodes, await client.list(Pods));
      const agents = state.nodes.map((n) => {
        const ready = nodes.find((o) => o.metadata?.name === n.name)?.status?.conditions?.find((c) => c.type === 'Ready');
        return { node: n.name, holderPid: n.holderPid, ready: ready?.status === 'True', message: ready?.message ?? 'has not reported' };
      });
      const slices = await client.list(EndpointSlices);
      const models = (await client.list(Services)).filter((o) => o.spec?.type !== 'ExternalName').map((o) => serviceModel(o, slices.filter((e) => serviceKeyOfSlice(e) === serviceKey(o))));
      const empty = models.filter((m) => !m.ports.some((p) => usableEndpoints([...p.endpoints.IPv4, ...p.endpoints.IPv6]).length)).map((m) => `${m.namespace}/${m.name}`);
      if (agents.some((a) => !a.ready)) setExitCode(1);
      return {
        lab: state.name, phase: state.phase, pid: state.pid, started: state.started, server: state.server, kubeconfig: layout.kubeconfig,
        services: { total: models.length, served: models.length - empty.length, empty },
        agents, network: { backend: network.backend, nodes: network.nodes.map((n) => ({ name: n.name, uses: n.uses, ...(n.wireguard ? { implementation: n.wireguard.implementation } : {}) })) },
        map, drawing: mapText(map),
      };
    } finally {
      client.close();
    }
  },
});
