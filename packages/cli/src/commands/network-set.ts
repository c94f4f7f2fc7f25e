/** Changes how pods of different nodes reach each other, while they do. */
import { choice, defineCommand, duration, flag, integer, required } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { changeNetwork, readNetwork, type NetworkView } from '../network.js';

const DEFAULT_TIMEOUT_MS = 30_000;

export const command = defineCommand({
  name: 'network set',
  summary: 'Change the backend of a running cluster, without restarting pods',
  details: 'Every node first makes the new way ready beside the old one, then sends by it, and takes the old one\ndown when nobody uses it any more. Pods keep their addresses and connections.',
  arguments: { backend: required('vxlan, host-gw, ipip, wireguard, bgp or none') },
  options: {
    ...labOption,
    crossSubnet: flag('encapsulate only between subnets (vxlan, ipip)'),
    implementation: choice('WHO', ['auto', 'kernel', 'userspace'], 'who encrypts (wireguard): the kernel, or wireguard-go in user space; auto: the kernel where it can'),
    port: integer('PORT', 'UDP port (wireguard); the next one is used while keys change', { min: 1, max: 65534 }),
    mtu: integer('BYTES', 'MTU of pods, instead of the derived one', { min: 576, max: 65535 }),
    timeout: duration('how long to wait for all nodes', { default: DEFAULT_TIMEOUT_MS }),
  },
  examples: [
    ['podway network set host-gw', 'plain routes, no tunnel'], ['podway network set vxlan --cross-subnet', 'a tunnel only where a router is between'],
    ['podway network set wireguard', 'everything between nodes encrypted'],
  ],
  needsRoot: true,
  view: { text: (n: NetworkView) => `All ${n.nodes.length} nodes use ${n.backend}${implementations(n)}.` },
  async run({ args, options, progress, signal }) {
    const { parseNetworkConfig, BACKEND_TYPES } = await import('@podway/agent');
    if (!(BACKEND_TYPES as string[]).includes(args.backend)) throw usageError(`"${args.backend}" is not a backend`, `It is the name alone, as in: podway network set host-gw --mtu 1400. There are: ${BACKEND_TYPES.join(', ')}.`);
    const lab = await openLab(options.lab);
    try {
      const before = await readNetwork(lab.client);
      const old = JSON.parse(before.text) as { Backend: Record<string, unknown> };
      // A device's name belongs to its backend: another one beside it needs another.
      const { Device, ...kept } = old.Backend;
      const text = JSON.stringify({
        ...old, ...(options.mtu === undefined ? {} : { MTU: options.mtu }),
        Backend: {
          ...kept, ...(Device !== undefined && before.backend === args.backend ? { Device } : {}), Type: args.backend, CrossSubnet: options.crossSubnet,
          ...(options.implementation === undefined ? {} : { Implementation: options.implementation }), ...(options.port === undefined ? {} : { ListenPort: options.port }),
        },
      });
      parseNetworkConfig(text);
      return await progress.phase(`change from ${before.backend} to ${args.backend}`, (status) =>
        changeNetwork({ lab: options.lab, client: lab.client, before, text, name: args.backend, timeoutMs: options.timeout, signal, status }));
    } finally {
      lab.client.close();
    }
  },
});

/** ` in user space (wireguard-go) on m1, m2`, where it is not the kernel's. */
function implementations(n: NetworkView): string {
  const inUserSpace = n.nodes.filter((x) => x.wireguard?.implementation.startsWith('user space'));
  if (inUserSpace.length === 0) return '';
  return `, in ${inUserSpace[0]!.wireguard!.implementation}${inUserSpace.length === n.nodes.length ? '' : ` on ${inUserSpace.map((x) => x.name).join(', ')}`}`;
}
