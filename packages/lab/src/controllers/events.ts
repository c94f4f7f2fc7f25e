/**
 * Events about objects, as components of Kubernetes record them: the same one again raises the
 * count of the one that is there.
 */
import { Events, Namespaces, isKubeError, isNotFound, type Event, type KubeObject, type ObjectClient } from '@podway/kube';

export interface EventRecorder {
  /** Never rejects: an event that cannot be recorded is told to `failed`. */
  record(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): Promise<void>;
}

export interface RecorderOptions {
  readonly component: string;
  readonly host?: string;
  readonly now?: () => number;
  readonly failed?: (error: unknown) => void;
}

/** Remembers so many events for counting. */
const REMEMBERED = 4096;

export function eventRecorder(client: ObjectClient, options: RecorderOptions): EventRecorder {
  const now = options.now ?? Date.now;
  const known = new Map<string, { name: string; namespace: string; count: number }>();
  const source = { component: options.component, ...(options.host === undefined ? {} : { host: options.host }) };
  /** A namespace that is being deleted takes no events, which is no failure. */
  const terminating = (namespace: string): Promise<boolean> =>
    client.get(Namespaces, namespace).then(
      (n) => n.metadata?.deletionTimestamp !== undefined,
      (e: unknown) => isNotFound(e),
    );
  return {
    async record(about, type, reason, message) {
      const meta = about.metadata ?? {};
      const namespace = meta.namespace ?? 'default';
      const key = [about.kind, meta.uid, type, reason, message].join('\u0000');
      const time = new Date(now()).toISOString().replace(/\.\d+Z$/, 'Z');
      try {
        const before = known.get(key);
        if (before !== undefined) {
          before.count++;
          try {
            await client.patch(Events, before, { count: before.count, lastTimestamp: time }, { type: 'merge' });
            return;
          } catch {
            // Gone meanwhile: recorded anew below.
            known.delete(key);
          }
        }
        const event: Event = {
          metadata: { name: `${meta.name ?? 'object'}.${(BigInt(Math.trunc(now())) * 1_000_000n + BigInt(Math.floor(Math.random() * 1e6))).toString(16)}`, namespace },
          involvedObject: {
            kind: about.kind ?? '',
            apiVersion: about.apiVersion ?? '',
            name: meta.name ?? '',
            ...(meta.namespace === undefined ? {} : { namespace: meta.namespace }),
            ...(meta.uid === undefined ? {} : { uid: meta.uid }),
            ...(meta.resourceVersion === undefined ? {} : { resourceVersion: meta.resourceVersion }),
          },
          type,
          reason,
          message,
          source,
          reportingComponent: options.component,
          reportingInstance: options.host ?? '',
          count: 1,
          firstTimestamp: time,
          lastTimestamp: time,
        };
        const made = await client.create(Events, event);
        known.set(key, { name: made.metadata?.name ?? '', namespace, count: 1 });
        for (const old of known.keys()) if (known.size > REMEMBERED) known.delete(old);
      } catch (e) {
        if (isKubeError(e, 'KUBE_FORBIDDEN') && (await terminating(namespace))) return;
        options.failed?.(e);
      }
    },
  };
}
