/** The network configuration in the API, and what the nodes have made of it. */
import { PodwayError } from '@podway/errors';
import type { ObjectClient } from '@podway/kube';

export interface NetworkView {
  readonly backend: string;
  /** What the nodes call it: `wireguard/2` is wireguard with its third set of keys. */
  readonly way: string;
  /** How pods are connected to their node. */
  readonly wiring: string;
  readonly gateway?: string;
  readonly clusterCidrs: readonly string[];
  /** Where nodes have their ranges from. */
  readonly ipam: 'podCIDR' | 'pools';
  /** Text of the net-conf.json. */
  readonly text: string;
  readonly nodes: readonly { readonly name: string; readonly publicIP: string | undefined; readonly secondIP?: string; readonly uses: string | undefined; readonly accepts: readonly string[]; readonly judged: string | undefined; readonly problem: string | undefined;
    /** With WireGuard: by what, its public key and its UDP port. */
    readonly wireguard?: { readonly implementation: string; readonly publicKey: string; readonly port: number } }[];
}

export async function readNetwork(client: ObjectClient): Promise<NetworkView> {
  const [{ implementationName, NETWORK_CONFIG_MAP, nodeEnds, parseNetworkConfig, wayOf }, { ConfigMaps, Nodes }] = await Promise.all([import('@podway/agent'), import('@podway/kube')]);
  const map = await client.get(ConfigMaps, NETWORK_CONFIG_MAP.name, NETWORK_CONFIG_MAP.namespace);
  const text = map.data?.[NETWORK_CONFIG_MAP.key] ?? '';
  const config = parseNetworkConfig(text);
  const nodes = (await client.list(Nodes)).map((n) => {
    const ends = nodeEnds(n);
    const end = ends?.accepts[ends.uses];
    const { implementation, publicKey, port } = end ?? {};
    const wireguard = implementation !== undefined && publicKey !== undefined ? { implementation: implementationName(implementation), publicKey, port: port ?? 0 } : undefined;
    return { ...(wireguard ? { wireguard } : {}), name: n.metadata?.name ?? '', publicIP: ends?.publicIP, ...(ends?.secondIP === undefined ? {} : { secondIP: ends.secondIP }), uses: ends?.uses, accepts: Object.keys(ends?.accepts ?? {}), judged: ends?.judged, problem: ends?.problem };
  });
  return {
    backend: config.backend.type, way: wayOf(config), wiring: config.wiring, ...(config.gateway === undefined ? {} : { gateway: config.gateway }), clusterCidrs: config.clusterCidrs,
    ipam: config.ipam ?? 'podCIDR', text, nodes: nodes.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })),
  };
}

/** A node has changed over when it sends by the new backend and takes nothing else any more. */
const changedOver = (n: NetworkView['nodes'][number], way: string): boolean => n.uses === way && n.accepts.length === 1 && n.accepts[0] === way;

export interface NetworkChange {
  readonly lab: string;
  readonly client: ObjectClient;
  readonly before: NetworkView;
  /** Text of the new net-conf.json. */
  readonly text: string;
  /** What it is called in messages. */
  readonly name: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly status: (text: string) => void;
}

const POLL_MS = 100;

/**
 * Writes a configuration and waits until every node has changed over to it.
 * @throws NETWORK_REFUSED when a node will not: what was before is written back; NETWORK_NOT_CHANGED when the time is over
 */
export async function changeNetwork(c: NetworkChange): Promise<NetworkView> {
  const [{ NETWORK_CONFIG_MAP, networkDigest, parseNetworkConfig, wayOf }, { ConfigMaps }] = await Promise.all([import('@podway/agent'), import('@podway/kube')]);
  const way = wayOf(parseNetworkConfig(c.text));
  const write = (network: string): Promise<unknown> =>
    c.client.patch(ConfigMaps, { name: NETWORK_CONFIG_MAP.name, namespace: NETWORK_CONFIG_MAP.namespace }, { data: { [NETWORK_CONFIG_MAP.key]: network } }, { type: 'merge' });
  const digest = networkDigest(c.text);
  await write(c.text);
  const until = performance.now() + c.timeoutMs;
  for (;;) {
    c.signal.throwIfAborted();
    const now = await readNetwork(c.client);
    const refused = now.nodes.filter((n) => n.judged === digest && n.problem !== undefined);
    if (refused.length) {
      await write(c.before.text);
      throw new PodwayError('NETWORK_REFUSED', `the network stays ${c.before.backend}: ${c.name} was refused`, {
        said: [...new Set(refused.map((n) => n.problem))].join('; '), object: `nodes ${refused.map((n) => n.name).join(', ')}`,
      });
    }
    const late = now.nodes.filter((n) => n.judged !== digest || !changedOver(n, way));
    if (late.length === 0) return now;
    c.status(`${now.nodes.length - late.length} of ${now.nodes.length} nodes`);
    if (performance.now() > until) {
      throw new PodwayError('NETWORK_NOT_CHANGED', `not all nodes use ${c.name} after ${c.timeoutMs / 1000} s`, {
        said: late.map((n) => `${n.name} sends by ${n.uses ?? 'nothing'} and takes ${n.accepts.join(', ')}`).join('; '),
        hint: `The agents say why: /run/podway/${c.lab}/log/agent-${late[0]!.name}.log`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
