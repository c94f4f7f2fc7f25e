/**
 * Deletes what its owners left behind, and serves the `foregroundDeletion` and `orphan` finalizers.
 *
 * The graph (owner uid -> dependents) is kept from watches; a dependent goes when none of its
 * owners exists any more.
 */
import { isNotFound, isKubeError, type KubeObject, type ObjectClient, type ObjectKind } from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { WorkQueue } from './workqueue.js';

export interface GarbageOptions extends ControllerOptions {
  readonly kinds: readonly ObjectKind<KubeObject>[];
}

interface Item {
  readonly kind: ObjectKind<KubeObject>;
  readonly object: KubeObject;
}

export function garbageCollector(client: ObjectClient, options: GarbageOptions): Controller {
  const name = 'garbage-collector';
  const items = new Map<string, Item>();
  const dependents = new Map<string, Set<string>>();
  let unsynced = options.kinds.length;
  const queue = new WorkQueue({ reconcile: look, failed: (key, e) => options.failed?.(name, key, e) });

  const owners = (o: KubeObject): readonly { uid: string; kind: string }[] => o.metadata?.ownerReferences ?? [];
  const served = new Set(options.kinds.map((k) => k.kind));
  /** An owner of a kind that nobody serves here cannot be known to be gone. */
  const absent = (r: { uid: string; kind: string }): boolean => served.has(r.kind) && !items.has(r.uid);
  const target = (o: KubeObject): { name: string; namespace?: string } => ({
    name: o.metadata?.name ?? '',
    ...(o.metadata?.namespace === undefined ? {} : { namespace: o.metadata.namespace }),
  });

  async function look(uid: string): Promise<void> {
    const item = items.get(uid);
    if (unsynced > 0 || item === undefined) return;
    const { kind, object } = item;
    try {
      const refs = owners(object);
      if (refs.length > 0 && object.metadata?.deletionTimestamp === undefined && refs.every(absent)) {
        await client.delete(kind, target(object), { uid });
        return;
      }
      const finalizers = object.metadata?.finalizers ?? [];
      if (object.metadata?.deletionTimestamp === undefined) return;
      const children = [...(dependents.get(uid) ?? [])].map((u) => items.get(u)).filter((i) => i !== undefined);
      if (finalizers.includes('orphan')) {
        for (const child of children) {
          const left = owners(child.object).filter((r) => r.uid !== uid);
          await client.patch(child.kind, target(child.object), { metadata: { ownerReferences: left.length === 0 ? null : left } }, { type: 'merge', fieldManager: name });
        }
        await release(item, 'orphan');
      } else if (finalizers.includes('foregroundDeletion')) {
        for (const child of children) {
          if (child.object.metadata?.deletionTimestamp === undefined && owners(child.object).every((r) => r.uid === uid || absent(r))) {
            await client.delete(child.kind, target(child.object));
          }
        }
        const blocking = children.filter((c) => items.has(c.object.metadata?.uid ?? '') && owners(c.object).some((r) => r.uid === uid));
        if (blocking.length === 0) await release(item, 'foregroundDeletion');
      }
    } catch (e) {
      if (!isNotFound(e) && !isKubeError(e, 'KUBE_CONFLICT')) throw e;
      if (isKubeError(e, 'KUBE_CONFLICT')) queue.addAfter(uid, 20);
    }
  }

  async function release({ kind, object }: Item, finalizer: string): Promise<void> {
    const left = (object.metadata?.finalizers ?? []).filter((f) => f !== finalizer);
    const patch = { metadata: { resourceVersion: object.metadata?.resourceVersion, finalizers: left.length === 0 ? null : left } };
    await client.patch(kind, target(object), patch, { type: 'merge', fieldManager: name });
  }

  const stops = options.kinds.map((kind) =>
    client.watch(kind, {}, {
      event(type, object) {
        const uid = object.metadata?.uid ?? '';
        for (const r of owners(items.get(uid)?.object ?? {})) dependents.get(r.uid)?.delete(uid);
        if (type === 'DELETED') {
          items.delete(uid);
          for (const r of owners(object)) queue.add(r.uid);
          for (const child of dependents.get(uid) ?? []) queue.add(child);
          return;
        }
        items.set(uid, { kind, object });
        for (const r of owners(object)) {
          const set = dependents.get(r.uid) ?? new Set();
          set.add(uid);
          dependents.set(r.uid, set);
        }
        if (owners(object).length > 0 || object.metadata?.deletionTimestamp !== undefined) queue.add(uid);
      },
      synced() {
        unsynced--;
        if (unsynced === 0) for (const uid of items.keys()) queue.add(uid);
      },
    }),
  );
  return {
    name,
    stop() {
      for (const s of stops) s();
      queue.stop();
    },
  };
}
