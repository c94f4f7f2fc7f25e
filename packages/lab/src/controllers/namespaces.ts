/**
 * Empties a namespace that is being deleted, then lets it go.
 *
 * Pods get their grace like in any other deletion; the namespace goes when the last object has.
 */
import { Namespaces, type KubeObject, type Namespace, type ObjectClient, type ObjectKind, isNotFound } from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { WorkQueue } from './workqueue.js';

export interface NamespaceControllerOptions extends ControllerOptions {
  /** Every kind that lives in namespaces. */
  readonly kinds: readonly ObjectKind<KubeObject>[];
  /** Removes the finalizers of the namespace's spec (the `finalize` subresource). */
  readonly finalize: (namespace: Namespace) => void;
}

export function namespaceController(client: ObjectClient, options: NamespaceControllerOptions): Controller {
  const name = 'namespace-controller';
  const queue = new WorkQueue({
    reconcile: empty,
    failed: (key, e) => options.failed?.(name, key, e),
  });
  const terminating = new Set<string>();

  async function empty(key: string): Promise<void> {
    if (!terminating.has(key)) return;
    let left = 0;
    for (const kind of options.kinds) {
      for (const object of await client.list(kind, { namespace: key })) {
        left++;
        if (object.metadata?.deletionTimestamp !== undefined) continue;
        try {
          await client.delete(kind, { name: object.metadata?.name ?? '', namespace: key });
        } catch (e) {
          if (!isNotFound(e)) throw e;
        }
      }
    }
    if (left > 0) {
      // What was deleted at once is gone now; what has grace or finalizers tells by its own watch.
      if (await stillThere(key)) return;
    }
    let namespace: Namespace;
    try {
      namespace = await client.get(Namespaces, key);
    } catch (e) {
      if (isNotFound(e)) return;
      throw e;
    }
    if (namespace.metadata?.deletionTimestamp !== undefined) options.finalize(namespace);
  }

  async function stillThere(key: string): Promise<boolean> {
    for (const kind of options.kinds) if ((await client.list(kind, { namespace: key })).length > 0) return true;
    return false;
  }

  const stops = [
    client.watch(Namespaces, {}, {
      event(type, object) {
        const key = object.metadata?.name ?? '';
        if (type === 'DELETED') terminating.delete(key);
        else if (object.metadata?.deletionTimestamp !== undefined) {
          terminating.add(key);
          queue.add(key);
        }
      },
    }),
    ...options.kinds.map((kind) =>
      client.watch(kind, {}, {
        event(type, object) {
          const key = object.metadata?.namespace ?? '';
          if (terminating.has(key) && type !== 'MODIFIED') queue.add(key);
        },
      }),
    ),
  ];
  return {
    name,
    stop() {
      for (const s of stops) s();
      queue.stop();
    },
  };
}
