/**
 * Gives every node that has none its part of the cluster's address range (spec.podCIDR and
 * spec.podCIDRs), in the order in which nodes appear. What a node once has, it keeps.
 */
import { Nodes, allocatePodCidrs, isNotFound, podCidrsOf, type ClusterRange, type Node, type ObjectClient } from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { WorkQueue } from './workqueue.js';

export interface PodCidrControllerOptions extends ControllerOptions {
  /** `[{ cidr: '10.244.0.0/16' }]`; a second range of the other family for dual stack. */
  readonly ranges: readonly ClusterRange[];
}

export function nodePodCidrController(client: ObjectClient, options: PodCidrControllerOptions): Controller {
  const name = 'node-ipam-controller';
  const nodes = new Map<string, Node>();
  let synced = false;
  const queue = new WorkQueue({ reconcile: assign, failed: (key, e) => options.failed?.(name, `node ${key}`, e) });

  async function assign(key: string): Promise<void> {
    const node = nodes.get(key);
    if (node === undefined || podCidrsOf(node).length > 0) return;
    const podCIDRs = allocatePodCidrs(options.ranges, [...nodes.values()].flatMap(podCidrsOf));
    try {
      // The version makes it fail when somebody else was faster; the watch then tells.
      const patch = { metadata: { resourceVersion: node.metadata?.resourceVersion }, spec: { podCIDR: podCIDRs[0], podCIDRs } };
      const changed = await client.patch(Nodes, { name: key }, patch, { type: 'merge', fieldManager: name });
      if (nodes.has(key)) nodes.set(key, changed);
    } catch (e) {
      if (!isNotFound(e)) throw e;
    }
  }

  const stop = client.watch(Nodes, {}, {
    event(type, node) {
      const key = node.metadata?.name ?? '';
      if (type === 'DELETED') {
        nodes.delete(key);
        // A range that was full may have room again.
        for (const k of nodes.keys()) if (synced) queue.add(k);
        return;
      }
      nodes.set(key, node);
      // Not before all nodes are known: a block in use might be given again.
      if (synced) queue.add(key);
    },
    synced() {
      synced = true;
      // The list is by name; versions of objects that were just made are in the order in which they were made.
      const age = (n: Node): number => Number(n.metadata?.resourceVersion ?? 0);
      for (const [k] of [...nodes].sort(([, a], [, b]) => age(a) - age(b))) queue.add(k);
    },
  });
  return {
    name,
    stop() {
      stop();
      queue.stop();
    },
  };
}
