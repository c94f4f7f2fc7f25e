/** Changes how pods of different nodes reach each other, while they do. */
import { PodwayError } from '@podway/errors';
import { bgpKeys } from '../bgp-options.js';
import { defineCommand, duration, flag, integer, many, required } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import type { LabConfig } from '@podway/lab';
import { changedOver, readNetwork, type NetworkView } from '../network.js';

const DEFAULT_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

export const command = defineCommand({
  name: 'network set',
  summary: 'Change the backend of a running cluster, without restarting pods',
  details: 'What is not given for bgp stays as it was. Every node first makes the new way ready beside the old one, then sends by it, and takes the old one\ndown when nobody uses it any more. Pods keep their addresses and connections.',
  arguments: { backend: required('vxlan, host-gw, ipip, bgp or none') },
  options: {
    ...labOption,
    crossSubnet: flag('encapsulate only between subnets (vxlan, ipip)'),
    mtu: integer('BYTES', 'MTU of pods, instead of the derived one', { min: 576, max: 65535 }),
    asn: integer('N', 'bgp: AS number of the nodes', { min: 1, max: 4294967294 }),
    mesh: flag('bgp: every node with every other of its subnet again, without reflectors'),
    noMesh: flag('bgp: nodes do not speak with each other, only with --peer'),
    reflectors: many('NODE|SELECTOR', 'bgp: nodes that reflect routes; the others speak with them only'),
    peer: many('ADDRESS,asn=N[,KEY=VALUE]', 'bgp: a router; keys: asn, nodes (a label selector), password, import, multihop'),
    noPeers: flag('bgp: without the routers that were given before'),
    timeout: duration('how long to wait for all nodes', { default: DEFAULT_TIMEOUT_MS }),
  },
  examples: [
    ['podway network set host-gw', 'plain routes, no tunnel'],
    ['podway network set vxlan --cross-subnet', 'a tunnel only where a router is between'],
    ['podway network set bgp --reflectors m1 --reflectors m2', 'two sessions a node instead of one with each other'],
    ['podway network set bgp --no-mesh --peer 172.18.0.1,asn=65001', 'with a top-of-rack router only'],
    ['podway network set bgp --reflectors role=reflector --asn 64600', 'nodes with that label reflect'],
  ],
  needsRoot: true,
  view: { text: (n: NetworkView) => `All ${n.nodes.length} nodes use ${n.backend}.` },
  async run({ args, options, progress, signal }) {
    const [{ NETWORK_CONFIG_MAP, networkDigest, parseNetworkConfig, BACKEND_TYPES }, { ConfigMaps }] = await Promise.all([import('@podway/agent'), import('@podway/kube')]);
    if (!(BACKEND_TYPES as string[]).includes(args.backend)) throw usageError(`"${args.backend}" is not a backend`, `It is the name alone, as in: podway network set host-gw --mtu 1400. There are: ${BACKEND_TYPES.join(', ')}.`);
    const lab = await openLab(options.lab);
    try {
      const before = await readNetwork(lab.client);
      refuseHostGw(args.backend, lab.state.config, await import('@podway/lab/client'));
      const old = JSON.parse(before.text) as { Backend: Record<string, unknown> };
      const next = {
        ...old, ...(options.mtu === undefined ? {} : { MTU: options.mtu }),
        Backend: { ...old.Backend, Type: args.backend, CrossSubnet: options.crossSubnet, ...bgpKeys(args.backend, options, old.Backend) },
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

/** host-gw reaches neighbours only; every agent would refuse the nodes of other subnets, and nothing would change. */
function refuseHostGw(backend: string, config: LabConfig, { segmentOf }: Pick<typeof import('@podway/lab/client'), 'segmentOf'>): void {
  if (backend !== 'host-gw') return;
  const bySubnet = new Map<string, string[]>();
  for (const n of config.nodes) {
    const { subnet } = segmentOf(config, n);
    bySubnet.set(subnet, [...(bySubnet.get(subnet) ?? []), n.name]);
  }
  if (bySubnet.size < 2) return;
  throw new PodwayError('NETWORK_REFUSED', `host-gw needs all nodes on one subnet: ${[...bySubnet].map(([subnet, nodes]) => `${nodes.join(', ')} on ${subnet}`).join('; ')}`, {
    hint: 'Use vxlan --cross-subnet (a tunnel only between subnets), or bgp (routers learn where pods are).',
  });
}
