/** Starts a lab and says what it looks like. */
import type { LabEvent, LabMap, PairReport } from '@podway/lab';
import { choice, defineCommand, flag, integer, text } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { formatDuration, type Progress } from '../progress.js';
import { readText } from '../read-text.js';

interface UpResult {
  readonly outcome: 'started' | 'running';
  readonly lab: string;
  readonly server: string | undefined;
  readonly kubeconfig: string;
  readonly ms: number | undefined;
  readonly phases: readonly { readonly name: string; readonly ms: number }[];
  readonly pairs: PairReport | undefined;
  readonly map: LabMap;
  /** What keys of the file mean something else here, or nothing. */
  readonly notes: readonly string[];
  readonly relays: readonly { readonly hostPort: number; readonly address: string; readonly port: number }[];
  /** The map as text, made where the lab package is loaded anyway. */
  readonly drawing: string;
}

/** Turns the lab's events into phases that the progress display knows. */
function follow(progress: Progress): { onEvent(e: LabEvent): void; phases: { name: string; ms: number }[]; end(failed: boolean): void; pairs: () => PairReport | undefined; ms: () => number | undefined } {
  const order = ['underlay and nodes', 'API server', 'agents and kubelets', 'pods', 'pod pairs'];
  const phases: { name: string; ms: number }[] = [];
  let status: (t: string) => void = () => undefined;
  let done: ((detail?: string) => void) | undefined;
  let fail: (() => void) | undefined;
  let pairs: PairReport | undefined;
  let ms: number | undefined;
  const begin = (): void => {
    const name = order[phases.length];
    if (name === undefined) return;
    void progress.phase(name, (say) => {
      status = say;
      return new Promise<string | undefined>((resolve, reject) => {
        done = resolve;
        fail = () => reject(new Error(name));
      });
    }).catch(() => undefined);
  };
  begin();
  return {
    phases, pairs: () => pairs, ms: () => ms,
    end: (failed) => (failed ? fail?.() : done?.()),
    onEvent(e) {
      if (e.type === 'phase') {
        phases.push({ name: e.name, ms: e.ms });
        done?.(e.detail);
        done = fail = undefined;
        begin();
      } else if (e.type === 'progress') status(`${e.done} of ${e.of} ${e.doing}`);
      else if (e.type === 'warning') progress.note(e.message);
      else if (e.type === 'agent-ended') progress.note(`agent of ${e.node} ${e.how}; starting it again`);
      else if (e.type === 'ready') {
        pairs = e.pairs;
        ms = e.ms;
      }
    },
  };
}

function view(r: UpResult): string {
  const flag = r.lab === 'default' ? '' : ` --lab ${r.lab}`;
  const [first] = r.map.nodes.flatMap((n) => n.pods);
  const last = r.map.nodes.flatMap((n) => n.pods).at(-1);
  const next: [string, string][] = [
    ...(first && last && first !== last ? [
      [`podway trace${flag} ${first.name} ${last.name}`, 'every hop of a packet, predicted and captured'],
      [`podway exec${flag} ${first.name} -- wget -qO- ${last.address.includes(':') ? `'http://[${last.address}]/'` : last.address}`, 'ask one pod from another'],
      ...(last.addresses.length > 1 ? [[`podway trace${flag} ${first.name} ${last.name} -6`, 'the same by IPv6'] as [string, string]] : []),
    ] as [string, string][] : []),
    ...(r.map.nodes.some((n) => n.ready) ? [] : [[`podway network install${flag}`, 'the nodes have no network yet: this is Podway\'s']] as [string, string][]),
    [`podway ui${flag}`, 'look at all of it in a browser'],
    [`podway get${flag} pods -o wide`, 'pods, their addresses and nodes'],
    [`podway node exec${flag} ${r.map.nodes[0]?.name ?? 'm1'} -- ip route`, 'look around on a node'],
    [`export KUBECONFIG=${r.kubeconfig}`, 'then kubectl works as well'],
    [`podway down${flag}`, 'take everything away'],
  ];
  const width = Math.max(...next.map(([c]) => c.length));
  const title = r.outcome === 'running'
    ? `Lab ${r.lab} is already running; nothing was changed.`
    : `Lab ${r.lab} is up${r.ms === undefined ? '' : ` after ${formatDuration(r.ms)}`}: ${r.map.nodes.length} ${r.map.nodes.length === 1 ? 'node' : 'nodes'}, backend ${r.map.backend}${r.map.wiring === 'bridge' ? '' : `, wiring ${r.map.wiring}`}, pods in ${r.map.clusterCIDRs.join(' and ')}.`;
  const pairs = r.pairs && r.pairs.total > 0
    ? r.pairs.failures.length === 0
      ? [`  All ${r.pairs.total / r.pairs.families.length} pod pairs reach each other${r.pairs.families.length > 1 ? ' by IPv4 and by IPv6' : ''}, each seen with its own address.`]
      : [`  ${r.pairs.failures.length} of ${r.pairs.total} pod pairs do NOT reach each other:`, ...r.pairs.failures.map((f) => `    ${f.from} → ${f.to}${r.pairs!.families.length > 1 ? ` by ${f.family}` : ''}: ${f.problem}`)]
    : [];
  const relays = r.relays.map((x) => `  127.0.0.1:${x.hostPort} leads to port ${x.port} of ${r.map.nodes.find((n) => n.address === x.address)?.name ?? `the API at ${x.address}`}.`);
  return [title, '', r.drawing, ...pairs, ...relays, '', 'Try next:', ...next.map(([c, what]) => `  ${c.padEnd(width)}   ${what}`)].join('\n');
}

export const command = defineCommand({
  name: 'up',
  summary: 'Start a lab: a cluster of several nodes on this machine',
  details: 'Without a file: three nodes m1, m2, m3 and four sample pods that answer HTTP.\nOn a lab that runs it says so and changes nothing.',
  arguments: {},
  options: {
    ...labOption,
    file: text('FILE', 'a lab file, or a cluster configuration of kind (YAML)', { short: '-f', complete: 'files' }),
    nodes: integer('N', 'how many nodes, when there is no file', { min: 1, max: 100 }),
    ipFamily: choice('FAMILY', ['ipv4', 'ipv6', 'dual'], 'addresses of nodes and pods, when there is no file (default: ipv4)'),
    wiring: choice('WIRING', ['bridge', 'ptp'], 'how pods are connected to their node'),
    gateway: choice('FORM', ['host', 'link-local'], "ptp: the pods' next hop, an address on the node or 169.254.1.1"),
    ipam: choice('SOURCE', ['podCIDR', 'pools'], 'ranges of pods: one a node, or blocks of IP pools as they are needed'),
    retain: flag('leave what was built when the start fails'),
  },
  examples: [
    ['podway up', 'three nodes, four sample pods'],
    ['podway up --nodes 5', 'five nodes'],
    ['podway up --ip-family dual', 'every node and pod has an IPv4 and an IPv6 address'],
    ['podway up -f examples/two-nodes.yaml', 'a lab of your own'],
    ['podway up --wiring ptp --gateway link-local', 'no bridge: a route to each pod, as Calico does'],
    ['podway up -f examples/kind.yaml --lab huari-test', 'from a file of kind, under another name'],
    ['podway up --lab other', 'a second one beside it'],
  ],
  needsRoot: true,
  view: { text: view, json: ({ drawing: _, ...rest }: UpResult) => rest },
  async run({ options, progress, signal, setExitCode, onExit }) {
    if (options.file !== undefined && options.nodes !== undefined) throw usageError('--nodes and --file exclude each other', 'The file says how many nodes there are.');
    if (options.file !== undefined && options.ipFamily !== undefined) throw usageError('--ip-family and --file exclude each other', 'The file says it: network.ipFamily.');
    const lab = await import('@podway/lab');
    const { config: fromFile, notes } = options.file === undefined
      ? { config: lab.defaultLab(options.lab, options.nodes ?? 3, options.ipFamily ?? 'ipv4'), notes: [] }
      // A name on the command line wins over the file's.
      : lab.readLabFile(await readText(options.file), options.file, options.lab === 'default' ? undefined : options.lab);
    for (const n of notes) progress.note(n);
    const config = lab.withWiring(fromFile, { wiring: options.wiring, gateway: options.gateway, ipam: options.ipam });
    const following = follow(progress);
    let launched;
    try {
      const launching = lab.launch({ config, program: lab.thisProgram(), onEvent: following.onEvent, signal, retain: options.retain });
      // After Ctrl-C it takes away what was made: the program ends when that is done.
      const waited = onExit(() => launching.then(() => undefined, () => undefined));
      launched = await launching;
      waited();
    } catch (e) {
      following.end(true);
      throw e;
    }
    const { state } = launched;
    const { client, layout } = await openLab(state.name);
    try {
      const [{ Pods }, { nodesWithRanges }] = await Promise.all([import('@podway/kube'), import('@podway/agent')]);
      const map = lab.labMap(state.config, await nodesWithRanges(client), await client.list(Pods));
      if (launched.outcome === 'started' && launched.cleanedUp) progress.note('what an earlier lab of that name had left was taken away first');
      const pairs = following.pairs();
      if (pairs && pairs.failures.length) setExitCode(1);
      return {
        outcome: launched.outcome, lab: state.name, server: state.server, kubeconfig: layout.kubeconfig, ms: following.ms(),
        phases: following.phases, pairs, map, notes, relays: state.relays ?? [], drawing: lab.mapText(map),
      };
    } finally {
      client.close();
    }
  },
});
