/** New WireGuard keys for a running cluster, without a lost packet. */
import { PodwayError } from '@podway/errors';
import { defineCommand, duration, variadic } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { changeNetwork, readNetwork, type NetworkView } from '../network.js';

const DEFAULT_TIMEOUT_MS = 30_000;

interface Rotated {
  readonly way: string;
  readonly nodes: readonly { readonly name: string; readonly before: string | undefined; readonly after: string | undefined }[];
}

const keys = (n: NetworkView): Map<string, string | undefined> => new Map(n.nodes.map((x) => [x.name, x.wireguard?.publicKey]));

export const command = defineCommand({
  name: 'network rotate-keys',
  summary: 'Give nodes new WireGuard keys, while pods talk',
  details: [
    'Every node makes a second WireGuard device with the new keys, on the next UDP port, beside the first one. Nodes',
    'shake hands by it, then send by it, and take the first one down when nobody uses it any more: no packet is lost.',
    'A change of keys goes from one of the two devices and ports to the other; a firewall must let both ports through.',
    'Private keys are made on the nodes and stay there; the old ones are erased.',
  ].join('\n'),
  arguments: { nodes: variadic('the nodes that get a new key; all when none is named', 'nodes') },
  options: { ...labOption, timeout: duration('how long to wait for all nodes', { default: DEFAULT_TIMEOUT_MS }) },
  examples: [['podway network rotate-keys', 'every node'], ['podway network rotate-keys m2', 'm2 alone: its key may be known to somebody']],
  needsRoot: true,
  view: {
    text: (r: Rotated) => [
      ...r.nodes.map((n) => `  ${n.name}  ${n.before === n.after ? `keeps ${n.after ?? '-'}` : `${n.before ?? '-'} → ${n.after ?? '-'}`}`),
      `All ${r.nodes.length} nodes use ${r.way}.`,
    ].join('\n'),
  },
  async run({ args, options, progress, signal }) {
    const { parseNetworkConfig } = await import('@podway/agent');
    const lab = await openLab(options.lab);
    try {
      const before = await readNetwork(lab.client);
      const { backend } = parseNetworkConfig(before.text);
      if (backend.type !== 'wireguard') {
        throw new PodwayError('NETWORK_HAS_NO_KEYS', `the backend is ${backend.type}, which has no keys`, { object: `lab ${options.lab}`, hint: 'Encrypt with: podway network set wireguard' });
      }
      const unknown = args.nodes.filter((n) => !before.nodes.some((x) => x.name === n));
      if (unknown.length) throw usageError(`there is no node ${unknown.join(', ')}`, `Nodes: ${before.nodes.map((n) => n.name).join(', ')}`);
      const old = JSON.parse(before.text) as { Backend: Record<string, unknown> };
      const { KeyNodes: _, ...kept } = old.Backend;
      const text = JSON.stringify({ ...old, Backend: { ...kept, KeyGeneration: backend.generation + 1, ...(args.nodes.length ? { KeyNodes: args.nodes } : {}) } });
      const after = await progress.phase('change keys', (status) =>
        changeNetwork({ lab: options.lab, client: lab.client, before, text, name: 'the new keys', timeoutMs: options.timeout, signal, status }));
      const [was, is] = [keys(before), keys(after)];
      return { way: after.way, nodes: after.nodes.map((n) => ({ name: n.name, before: was.get(n.name), after: is.get(n.name) })) };
    } finally {
      lab.client.close();
    }
  },
});
