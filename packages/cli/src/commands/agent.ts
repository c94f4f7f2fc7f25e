/** The node agent, as a lab starts it in each node and a real node runs it as a service. */
import { defineCommand, text } from '../command.js';
import { usageError } from '../errors.js';

export const command = defineCommand({
  name: 'agent',
  summary: 'Run the node agent in this network namespace',
  details: 'It wires pods for the CNI shim and keeps the ways to the other nodes. A lab starts one in every node by itself.',
  arguments: {},
  options: {
    node: text('NAME', 'name of this node in the API'),
    kubeconfig: text('FILE', 'how the API server is reached (in a cluster: its service account); waits until the file is there', { complete: 'files' }),
    network: text('FILE', 'net-conf.json of the cluster', { default: '/etc/podway/net-conf.json', complete: 'files' }),
    socket: text('PATH', 'socket for the CNI shim', { default: '/run/podway/agent.sock' }),
    state: text('DIR', 'where attachments are recorded', { default: '/var/lib/podway' }),
    cniConf: text('DIR', 'where the network configuration is put when all is ready', { default: '/etc/cni/net.d' }),
  },
  examples: [['podway agent --node m1 --kubeconfig /var/lib/podway/kubeconfig --network /var/lib/podway/net-conf.json', 'as in a lab']],
  needsRoot: true,
  view: { text: () => '' },
  async run({ options, signal, write, onExit }) {
    if (options.node === undefined) throw usageError('--node is missing', 'The name this node has in the API: kubectl get nodes');
    const [{ Agent, eventLine }, { RemoteClient }, { readFile }] = await Promise.all([import('@podway/agent'), import('@podway/kube'), import('node:fs/promises')]);
    if (options.kubeconfig !== undefined) await present(options.kubeconfig, signal);
    const client = await RemoteClient.load(options.kubeconfig === undefined ? {} : { kubeconfig: options.kubeconfig });
    onExit(() => client.close());
    const agent = await Agent.start({
      node: options.node, client, network: await readFile(options.network, 'utf8'), socketPath: options.socket, stateDir: options.state,
      cniConfDir: options.cniConf,
      emit: (e) => write(`${new Date().toISOString()} ${eventLine(e)}\n`),
    });
    onExit(() => agent.stop());
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));
  },
});

const LOOK_MS = 10;

/** A lab starts its agents before its API: what takes longest, loading the program, is done by then. */
async function present(file: string, signal: AbortSignal): Promise<void> {
  const { existsSync } = await import('node:fs');
  while (!existsSync(file)) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
