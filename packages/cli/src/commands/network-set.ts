/** Changes how pods of different nodes reach each other, while they do. */
import { PodwayError } from '@podway/errors';
import { bgpKeys } from '../bgp-options.js';
import { choice, defineCommand, duration, flag, integer, many, required } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import type { LabConfig } from '@podway/lab';
import { changeNetwork, readNetwork, type NetworkView } from '../network.js';

const DEFAULT_TIMEOUT_MS = 30_000;

export const command = defineCommand({
  name: 'network set',
  summary: 'Change the backend of a running cluster, without restarting pods',
  details: 'What is not given for bgp stays as it was. Every node first makes the new way ready beside the old one, then sends by it, and takes the old one\ndown when nobody uses it any more. Pods keep their addresses and connections.',
  arguments: { backend: required('vxlan, host-gw, ipip, wireguard, bgp or none') },
  options: {
    ...labOption,
    crossSubnet: flag('encapsulate only between subnets (vxlan, ipip)'),
    df: choice('DF', ['unset', 'set', 'inherit'], 'DF of the outer header (vxlan); set: what does not fit the path is dropped, not fragmented'),
    implementation: choice('WHO', ['auto', 'kernel', 'userspace'], 'who encrypts (wireguard): the kernel, or wireguard-go in user space; auto: the kernel where it can'),
    port: integer('PORT', 'UDP port (wireguard); the next one is used while keys change', { min: 1, max: 65534 }),
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
    ['podway network set wireguard', 'everything between nodes encrypted'],
    ['podway network set vxlan --df set', 'the tunnel\'s packets may not be fragmented'],
    ['podway network set bgp --reflectors m1 --reflectors m2', 'two sessions a node instead of one with each other'],
    ['podway network set bgp --no-mesh --peer 172.18.0.1,asn=65001', 'with a top-of-rack router only'],
    ['podway network set bgp --reflectors role=reflector --asn 64600', 'nodes with that label reflect'],
  ],
  needsRoot: true,
  view: { text: (n: NetworkView) => `All ${n.nodes.length} nodes use ${n.backend}${implementations(n)}.` },
  async run({ args, options, progress, signal }) {
    const { parseNetworkConfig, BACKEND_TYPES } = await import('@podway/agent');
    if (!(BACKEND_TYPES as string[]).includes(args.backend)) throw usageError(`"${args.backend}" is not a backend`, `It is the name alone, as in: podway network set host-gw --mtu 1400. There are: ${BACKEND_TYPES.join(', ')}.`);
    const lab = await openLab(options.lab);
    try {
      const before = await readNetwork(lab.client);
      refuseHostGw(args.backend, lab.state.config, await import('@podway/lab/client'));
      const old = JSON.parse(before.text) as { Backend: Record<string, unknown> };
      // A device's name belongs to its backend: another one beside it needs another.
      const { Device, ...kept } = old.Backend;
      const text = JSON.stringify({
        ...old, ...(options.mtu === undefined ? {} : { MTU: options.mtu }),
        Backend: {
          ...kept, ...(Device !== undefined && before.backend === args.backend ? { Device } : {}), Type: args.backend, CrossSubnet: options.crossSubnet, ...(options.df === undefined ? {} : { DF: options.df }),
          ...(options.implementation === undefined ? {} : { Implementation: options.implementation }), ...(options.port === undefined ? {} : { ListenPort: options.port }),
          ...bgpKeys(args.backend, options, old.Backend),
        },
      });
      parseNetworkConfig(text);
      return await progress.phase(before.backend === args.backend ? `settings of ${args.backend}` : `change from ${before.backend} to ${args.backend}`, (status) =>
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
