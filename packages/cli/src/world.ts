/** A running lab as a world, with the doors to its namespaces open. */
import { PodwayError } from '@podway/errors';
import type { ReadWorld, WorldPod } from '@podway/trace';
import { openLab } from './lab.js';

/** The caller closes `live`. */
export async function labWorld(name: string): Promise<ReadWorld> {
  const [{ worldSource, readRecords }, { readWorld }, { nodesWithRanges }] = await Promise.all([
    import('@podway/lab/client'), import('@podway/trace'), import('@podway/agent'),
  ]);
  const { state, layout, client } = await openLab(name);
  try {
    return readWorld(worldSource(layout, state, await nodesWithRanges(client), await readRecords(layout.pods)));
  } finally {
    client.close();
  }
}

/** Where something can be done: a pod, a node, or a part of the underlay. */
export type Target =
  | { readonly kind: 'pod'; readonly key: string; readonly pod: WorldPod; readonly dev: string }
  | { readonly kind: 'node'; readonly key: string; readonly node: string; readonly dev: string }
  | { readonly kind: 'underlay'; readonly key: string; readonly dev: string };

/**
 * `web-a`, `kube-system/dns`, `node/m1`, `outside`, each with `:DEVICE` behind it if one is meant.
 * @throws TARGET_NOT_FOUND with what there is
 */
export function findTarget({ world }: Pick<ReadWorld, 'world'>, word: string, devices: { pod: string; node: string }): Target {
  const m = /^(?:node\/([^:]+)|([^:]+))(?::(.+))?$/.exec(word);
  const [, nodeName, podName, dev] = m ?? [];
  const node = world.nodes.find((n) => n.name === (nodeName ?? podName));
  const pods = world.pods.filter((p) => p.name === podName || `${p.namespace}/${p.name}` === podName);
  const pod = pods.find((p) => p.namespace === 'default') ?? pods[0];
  if (nodeName === undefined && pod) return { kind: 'pod', key: pod.netns, pod, dev: dev ?? devices.pod };
  if (node) return { kind: 'node', key: node.netns, node: node.name, dev: dev ?? devices.node };
  const other = world.namespaces.find((n) => n.key === podName && n.role !== 'pod' && n.role !== 'node');
  if (nodeName === undefined && other) return { kind: 'underlay', key: other.key, dev: dev ?? devices.node };
  throw new PodwayError('TARGET_NOT_FOUND', `there is no pod or node ${nodeName ?? podName ?? word}`, {
    object: word,
    hint: `Pods: ${world.pods.map((p) => p.name).sort().join(', ') || 'none'}. Nodes: ${world.nodes.map((n) => `node/${n.name}`).join(', ')}. Others: ${world.namespaces.filter((n) => n.role !== 'pod' && n.role !== 'node').map((n) => n.key).join(', ')}.`,
  });
}
