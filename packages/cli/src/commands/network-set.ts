/** Changes how pods of different nodes reach each other, while they do. */
import { PodwayError } from '@podway/errors';
import { defineCommand, duration, flag, integer, required } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { changedOver, readNetwork, type NetworkView } from '../network.js';

const DEFAULT_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

export const command = defineCommand({
  name: 'network set',
  summary: 'Change the backend of a running cluster, without restarting pods',
  details: 'Every node first makes the new way ready beside the old one, then sends by it, and takes the old one\ndown when nobody uses it any more. Pods keep their addresses and connections.',
  arguments: { backend: required('vxlan, host-gw, ipip, bgp or none') },
  options: {
    ...labOption,
    crossSubnet: flag('encapsulate only between subnets (vxlan, ipip)'),
    mtu: integer('BYTES', 'MTU of pods, instead of the derived one', { min: 576, max: 65535 }),
    timeout: duration('how long to wait for all nodes', { default: DEFAULT_TIMEOUT_MS }),
  },
  examples: [['podway network set host-gw', 'plain routes, no tunnel'], ['podway network set vxlan --cross-subnet', 'a tunnel only where a router is between']],
  needsRoot: true,
  view: { text: (n: NetworkView) => `All ${n.nodes.length} nodes use ${n.backend}.` },
  async run({ args, options, progress, signal }) {
    const [{ NETWORK_CONFIG_MAP, networkDigest, parseNetworkConfig, BACKEND_TYPES }, { ConfigMaps }] = await Promise.all([import('@podway/agent'), import('@podway/kube')]);
    if (!(BACKEND_TYPES as string[]).includes(args.backend)) throw usageError(`"${args.backend}" is not a backend`, `It is the name alone, as in: podway network set host-gw --mtu 1400. There are: ${BACKEND_TYPES.join(', ')}.`);
    const lab = await openLab(options.lab);
    try {
      const before = await readNetwork(lab.client);
      const old = JSON.parse(before.text) as { Backend: Record<string, unknown> };
      const next = {
        ...old, ...(options.mtu === undefined ? {} : { MTU: options.mtu }),
        Backend: { ...old.Backend, Type: args.backend, CrossSubnet: options.crossSubnet },
      };
      const text = JSON.stringify(next);
      parseNetworkConfig(text);
      const write = (network: string): Promise<unknown> =>
        lab.client.patch(ConfigMaps, { name: NETWORK_CONFIG_MAP.name, namespace: NETWORK_CONFIG_MAP.namespace },
          { data: { [NETWORK_CONFIG_MAP.key]: network } }, { type: 'merge' });
      const digest = networkDigest(text);
      await write(text);
      return await progress.phase(`change from ${before.backend} to ${args.backend}`, async (status) => {
        const until = performance.now() + options.timeout;
        for (;;) {
          signal.throwIfAborted();
          const now = await readNetwork(lab.client);
          const refused = now.nodes.filter((n) => n.judged === digest && n.problem !== undefined);
          if (refused.length) {
            await write(before.text);
            throw new PodwayError('NETWORK_REFUSED', `the network stays ${before.backend}: ${args.backend} was refused`, {
              said: [...new Set(refused.map((n) => n.problem))].join('; '), object: `nodes ${refused.map((n) => n.name).join(', ')}`,
            });
          }
          const late = now.nodes.filter((n) => n.judged !== digest || !changedOver(n, args.backend));
          if (late.length === 0) return now;
          status(`${now.nodes.length - late.length} of ${now.nodes.length} nodes`);
          if (performance.now() > until) {
            throw new PodwayError('NETWORK_NOT_CHANGED', `not all nodes use ${args.backend} after ${options.timeout / 1000} s`, {
              said: late.map((n) => `${n.name} sends by ${n.uses ?? 'nothing'} and takes ${n.accepts.join(', ')}`).join('; '),
              hint: `The agents say why: /run/podway/${options.lab}/log/agent-${late[0]!.name}.log`,
            });
          }
          await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        }
      });
    } finally {
      lab.client.close();
    }
  },
});
