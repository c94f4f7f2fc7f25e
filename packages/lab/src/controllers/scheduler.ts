/**
 * Binds pods without a node to one. Decides by `place`; every decision and every failure to find
 * a node is an event on the pod, and a PodScheduled condition where it waits.
 *
 * Latency: one turn of the event loop from the pod's creation to its binding.
 */
import { Nodes, Pods, isNotFound, type Node, type ObjectClient, type Pod } from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { eventRecorder } from './events.js';
import { place } from './scheduling.js';
import { WorkQueue } from './workqueue.js';

export interface SchedulerOptions extends ControllerOptions {
  /** Writes the binding (the `binding` subresource). Throws when the pod is gone or bound. */
  readonly bind: (pod: Pod, node: string) => void;
  readonly now?: () => number;
}

const NAME = 'default-scheduler';

export class Scheduler implements Controller {
  readonly name = NAME;
  private readonly nodes = new Map<string, Node>();
  private readonly pods = new Map<string, Pod>();
  /** Bound by us, not yet seen so in the watch. */
  private readonly assumed = new Map<string, string>();
  private readonly queue: WorkQueue;
  private readonly stops: (() => void)[];
  private readonly recorder;
  private readonly synced = { nodes: false, pods: false };

  constructor(
    private readonly client: ObjectClient,
    private readonly options: SchedulerOptions,
  ) {
    const failed = (object: string, e: unknown): void => options.failed?.(NAME, object, e);
    this.recorder = eventRecorder(client, {
      component: NAME,
      ...(options.now === undefined ? {} : { now: options.now }),
      failed: (e) => {
        failed('event', e);
      },
    });
    this.queue = new WorkQueue({ reconcile: (key) => this.schedule(key), failed: (key, e) => { failed(`pod ${key}`, e); } });
    this.stops = [
      client.watch(Nodes, {}, {
        event: (type, node) => {
          if (type === 'DELETED') this.nodes.delete(node.metadata?.name ?? '');
          else this.nodes.set(node.metadata?.name ?? '', node);
          this.retryAll();
        },
        synced: () => {
          this.synced.nodes = true;
          this.retryAll();
        },
      }),
      client.watch(Pods, {}, {
        event: (type, pod) => {
          const key = keyOf(pod);
          if (type === 'DELETED') {
            this.pods.delete(key);
            this.assumed.delete(key);
            this.retryAll(); // what it had of its node is free
            return;
          }
          this.pods.set(key, pod);
          if (isBound(pod)) this.assumed.delete(key);
          else if (type === 'ADDED') this.queue.add(key);
          if (type === 'MODIFIED' && hasEnded(pod)) this.retryAll();
        },
        synced: () => {
          this.synced.pods = true;
          this.retryAll();
        },
      }),
    ];
  }

  stop(): void {
    for (const s of this.stops) s();
    this.queue.stop();
  }

  private retryAll(): void {
    for (const [key, pod] of this.pods) if (this.waits(key, pod)) this.queue.add(key);
  }

  private waits(key: string, pod: Pod): boolean {
    return !isBound(pod) && !this.assumed.has(key) && pod.metadata?.deletionTimestamp === undefined && (pod.spec?.schedulerName ?? NAME) === NAME;
  }

  private async schedule(key: string): Promise<void> {
    const pod = this.pods.get(key);
    if (!this.synced.nodes || !this.synced.pods || pod === undefined || !this.waits(key, pod)) return;
    const load = new Map<string, number>();
    const there = new Map<string, Pod[]>();
    for (const [k, p] of this.pods) {
      const node = p.spec?.nodeName ?? this.assumed.get(k);
      if (node === undefined || node === '' || hasEnded(p)) continue;
      load.set(node, (load.get(node) ?? 0) + 1);
      if (k !== key) there.set(node, [...(there.get(node) ?? []), p]);
    }
    const { node, message } = place(pod, [...this.nodes.values()], load, there);
    if (node === undefined) {
      await this.unschedulable(pod, message);
      return;
    }
    try {
      this.options.bind(pod, node);
    } catch (e) {
      if (isNotFound(e)) return;
      throw e;
    }
    this.assumed.set(key, node);
    await this.recorder.record(pod, 'Normal', 'Scheduled', message);
  }

  private async unschedulable(pod: Pod, message: string): Promise<void> {
    const condition = pod.status?.conditions?.find((c) => c.type === 'PodScheduled');
    // Said once per reason, not once per look.
    if (condition?.status === 'False' && condition.message === message) return;
    const time = new Date((this.options.now ?? Date.now)()).toISOString().replace(/\.\d+Z$/, 'Z');
    const conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message, lastProbeTime: null, lastTransitionTime: time }];
    try {
      await this.client.patch(Pods, { name: pod.metadata?.name ?? '', namespace: pod.metadata?.namespace ?? '' }, { status: { conditions } }, { type: 'strategic', subresource: 'status', fieldManager: NAME });
    } catch (e) {
      if (isNotFound(e)) return;
      throw e;
    }
    await this.recorder.record(pod, 'Warning', 'FailedScheduling', message);
  }
}

const keyOf = (pod: Pod): string => `${pod.metadata?.namespace ?? ''}/${pod.metadata?.name ?? ''}`;
const hasEnded = (pod: Pod): boolean => ['Failed', 'Succeeded'].includes(pod.status?.phase ?? '');
const isBound = (pod: Pod): boolean => (pod.spec?.nodeName ?? '') !== '';
