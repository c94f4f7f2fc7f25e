/** The network configuration in the API, and what the nodes have made of it. */
import type { ObjectClient } from '@podway/kube';

export interface NetworkView {
  readonly backend: string;
  /** How pods are connected to their node. */
  readonly wiring: string;
  readonly gateway?: string;
  readonly clusterCidrs: readonly string[];
  /** Where nodes have their ranges from. */
  readonly ipam: 'podCIDR' | 'pools';
  /** Text of the net-conf.json. */
  readonly text: string;
  readonly nodes: readonly { readonly name: string; readonly publicIP: string | undefined; readonly secondIP?: string; readonly uses: string | undefined; readonly accepts: readonly string[]; readonly judged: string | undefined; readonly problem: string | undefined }[];
}

export async function readNetwork(client: ObjectClient): Promise<NetworkView> {
  const [{ NETWORK_CONFIG_MAP, nodeEnds, parseNetworkConfig }, { ConfigMaps, Nodes }] = await Promise.all([import('@podway/agent'), import('@podway/kube')]);
  const map = await client.get(ConfigMaps, NETWORK_CONFIG_MAP.name, NETWORK_CONFIG_MAP.namespace);
  const text = map.data?.[NETWORK_CONFIG_MAP.key] ?? '';
  const config = parseNetworkConfig(text);
  const nodes = (await client.list(Nodes)).map((n) => {
    const ends = nodeEnds(n);
    return { name: n.metadata?.name ?? '', publicIP: ends?.publicIP, ...(ends?.secondIP === undefined ? {} : { secondIP: ends.secondIP }), uses: ends?.uses, accepts: Object.keys(ends?.accepts ?? {}), judged: ends?.judged, problem: ends?.problem };
  });
  return { backend: config.backend.type, wiring: config.wiring, ...(config.gateway === undefined ? {} : { gateway: config.gateway }), clusterCidrs: config.clusterCidrs, ipam: config.ipam ?? 'podCIDR', text, nodes: nodes.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true })) };
}

/** A node has changed over when it sends by the new backend and takes nothing else any more. */
export const changedOver = (n: NetworkView['nodes'][number], backend: string): boolean =>
  n.uses === backend && n.accepts.length === 1 && n.accepts[0] === backend;
