/**
 * Events as the kubelet writes them. The same event again raises its count instead of making a
 * new object. Writing never disturbs the work it tells about: a failure is reported and dropped.
 */
import { randomBytes } from 'node:crypto';
import { Events, type Event, type KubeObject, type ObjectClient } from '@podway/kube';
import { kubeTime, type Clock } from './clock.js';

export type EventType = 'Normal' | 'Warning';

export interface EventSource {
  readonly component: string;
  readonly host: string;
}

export class EventRecorder {
  private readonly known = new Map<string, Event>();
  private tail: Promise<void> = Promise.resolve();

  constructor(
    private readonly client: ObjectClient,
    private readonly source: EventSource,
    private readonly options: { readonly clock: Clock; readonly warn: (message: string, error: unknown) => void },
  ) {}

  /** @param fieldPath which part of the object: `spec.containers{web}`. */
  record(about: KubeObject & { kind: string }, type: EventType, reason: string, message: string, fieldPath?: string): void {
    this.tail = this.tail.then(() => this.write(about, { type, reason, message, fieldPath })).catch((e: unknown) => this.options.warn(`event ${reason}`, e));
  }

  /** Settles when all events so far are written. */
  flush(): Promise<void> {
    return this.tail;
  }

  private async write(about: KubeObject & { kind: string }, e: { type: EventType; reason: string; message: string; fieldPath: string | undefined }): Promise<void> {
    const now = kubeTime(this.options.clock.now());
    const key = [about.metadata?.uid ?? about.metadata?.name, e.reason, e.message, e.fieldPath].join('\0');
    const before = this.known.get(key);
    if (before?.metadata?.name !== undefined && before.metadata.namespace !== undefined) {
      const count = (before.count ?? 1) + 1;
      before.count = count;
      await this.client.patch(Events, { name: before.metadata.name, namespace: before.metadata.namespace }, { count, lastTimestamp: now }, { type: 'merge' });
      return;
    }
    const namespace = about.metadata?.namespace ?? 'default';
    const event: Event = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: `${about.metadata?.name ?? 'unknown'}.${randomBytes(8).toString('hex')}`, namespace },
      involvedObject: {
        apiVersion: about.apiVersion ?? 'v1', kind: about.kind, name: about.metadata?.name ?? '',
        ...(about.metadata?.namespace === undefined ? {} : { namespace: about.metadata.namespace }),
        ...(about.metadata?.uid === undefined ? {} : { uid: about.metadata.uid }),
        ...(e.fieldPath === undefined ? {} : { fieldPath: e.fieldPath }),
      },
      type: e.type, reason: e.reason, message: e.message, source: { ...this.source },
      firstTimestamp: now, lastTimestamp: now, count: 1,
      reportingComponent: this.source.component, reportingInstance: this.source.host,
    };
    this.known.set(key, event);
    if (this.known.size > 2000) this.known.delete(this.known.keys().next().value ?? '');
    await this.client.create(Events, event);
  }
}
