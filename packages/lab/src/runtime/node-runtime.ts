/**
 * The kubelet of one lab node: watches the pods bound to it, gives each a worker, keeps the Node
 * object's heartbeat. Runs in the lab's process and touches the kernel through podway-init only.
 */
import { join } from 'node:path';
import { PodwayError, isPodwayError } from '@podway/errors';
import { Nodes, Pods, type Node, type Pod } from '@podway/kube';
import { systemClock, type Clock } from './clock.js';
import { logDir } from './container.js';
import { readLog, type LogOptions } from './cri-log.js';
import { EventRecorder } from './events.js';
import { machineFacts, nodeLabels, nodeStatus } from './node-status.js';
import { PodWorker } from './pod-worker.js';
import type { PodRecord } from './record.js';
import type { RuntimeOptions } from './types.js';

const HEARTBEAT = 10_000;
/** While the network is not ready it is asked more often: pods wait for it. */
const UNREADY_POLL = 200;

export interface PodLogOptions extends LogOptions {
  readonly container?: string;
  /** The run before the present one. */
  readonly previous?: boolean;
}

export class NodeRuntime {
  private readonly workers = new Map<string, PodWorker>();
  private readonly clock: Clock;
  private readonly events: EventRecorder;
  private readonly facts = machineFacts();
  private readonly warn: (message: string, error: unknown) => void;
  private stopWatch: (() => void) | undefined;
  private cancelBeat: (() => void) | undefined;
  private node: Node | undefined;
  private closed = false;
  private beating: Promise<void> = Promise.resolve();

  constructor(private readonly options: RuntimeOptions) {
    this.clock = options.clock ?? systemClock;
    this.warn = options.warn ?? (() => undefined);
    this.events = new EventRecorder(options.client, { component: 'kubelet', host: options.node.name }, { clock: this.clock, warn: this.warn });
  }

  /** Registers the node (unless it is there) with its first heartbeat, and starts to work. */
  async start(): Promise<void> {
    const { client, node } = this.options;
    try {
      this.node = await client.create(Nodes, {
        apiVersion: 'v1', kind: 'Node', metadata: { name: node.name, labels: nodeLabels(node.name, this.facts) }, spec: {},
      });
    } catch (e) {
      if (!isPodwayError(e, 'KUBE_ALREADY_EXISTS')) throw e;
      this.node = await client.get(Nodes, node.name);
      const labels = { ...nodeLabels(node.name, this.facts), ...this.node.metadata?.labels };
      this.node = await client.patch(Nodes, { name: node.name }, { metadata: { labels } }, { type: 'merge' });
    }
    this.nodeEvent('Starting', 'Starting kubelet.');
    await this.heartbeat();
    this.stopWatch = client.watch(Pods, { fieldSelector: `spec.nodeName=${node.name}` }, { event: (type, pod) => this.podEvent(type, pod) });
  }

  private podEvent(type: 'ADDED' | 'MODIFIED' | 'DELETED', pod: Pod): void {
    const uid = pod.metadata?.uid ?? '';
    const worker = this.workers.get(uid);
    if (type === 'DELETED') {
      worker?.remove();
      return;
    }
    if (worker) {
      worker.update(pod);
      return;
    }
    const fresh = new PodWorker(pod, { options: this.options, clock: this.clock, events: this.events, warn: this.warn });
    this.workers.set(uid, fresh);
    void fresh.done.then(() => this.workers.delete(uid));
  }

  /** Says how the node is, now. Also called by whoever knows that the network just became ready. */
  heartbeat(): Promise<void> {
    this.beating = this.beating.then(() => this.beat()).catch((e: unknown) => this.warn(`heartbeat of node ${this.options.node.name}`, e));
    return this.beating;
  }

  private async beat(): Promise<void> {
    if (this.closed) return;
    this.cancelBeat?.();
    const { client, node, network } = this.options;
    const state = await network.status().catch((e: unknown) => ({ ready: false, message: e instanceof Error ? e.message : String(e) }));
    if (this.closed) return;
    this.cancelBeat = this.clock.after(state.ready ? HEARTBEAT : UNREADY_POLL, () => void this.heartbeat());
    const readyBefore = conditionOf(this.node, 'Ready');
    const status = nodeStatus(node, this.facts, state, this.node, this.clock.now());
    const readyNow = conditionOf({ status }, 'Ready');
    const due = this.clock.now() - Date.parse(String(readyBefore?.lastHeartbeatTime ?? 0)) >= HEARTBEAT - 1000;
    if (!due && readyBefore?.status === readyNow?.status && readyBefore?.message === readyNow?.message) return;
    this.node = await client.patch(Nodes, { name: node.name }, { status }, { type: 'merge', subresource: 'status', fieldManager: 'kubelet' });
    if (state.ready && readyBefore?.status !== 'True') this.nodeEvent('NodeReady', `Node ${node.name} status is now: NodeReady`);
    if (!state.ready && readyBefore?.status === 'True') this.nodeEvent('NodeNotReady', `Node ${node.name} status is now: NodeNotReady`);
  }

  private nodeEvent(reason: string, message: string): void {
    const { name } = this.options.node;
    this.events.record({ apiVersion: 'v1', kind: 'Node', metadata: { name, uid: this.node?.metadata?.uid ?? name } }, 'Normal', reason, message);
  }

  /** What runs on this node now; the same is in `pods/<uid>.json`. */
  records(): PodRecord[] {
    return [...this.workers.values()].map((w) => w.record).filter((r) => r !== undefined);
  }

  /** Errors: PodwayError POD_NOT_FOUND (no such pod on this node). */
  private worker(namespace: string, name: string): PodWorker {
    const found = [...this.workers.values()].find((w) => w.object.metadata?.namespace === namespace && w.object.metadata.name === name);
    if (!found) throw new PodwayError('POD_NOT_FOUND', `pod ${namespace}/${name} is not on node ${this.options.node.name}`, { object: `pod ${namespace}/${name}` });
    return found;
  }

  /** What exec, attach and the tracer need. Errors: POD_NOT_FOUND, POD_NOT_RUNNING. */
  record(namespace: string, name: string): PodRecord {
    const record = this.worker(namespace, name).record;
    if (!record) throw new PodwayError('POD_NOT_RUNNING', `pod ${namespace}/${name} has no sandbox`, { object: `pod ${namespace}/${name}` });
    return record;
  }

  /**
   * The log of a container as `kubectl logs` prints it, in pieces of text. With `follow` it ends
   * when the container has ended.
   * Errors: PodwayError POD_NOT_FOUND, CONTAINER_NOT_FOUND, LOG_NOT_FOUND (previous without one).
   */
  log(namespace: string, name: string, options: PodLogOptions = {}): AsyncGenerator<string> {
    const worker = this.worker(namespace, name);
    const pod = worker.object;
    const names = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []), ...(pod.spec?.ephemeralContainers ?? [])].map((c) => c.name);
    const container = options.container ?? names[0] ?? '';
    const count = worker.restartCount(container);
    const object = `pod ${namespace}/${name}`;
    if (count === undefined) throw new PodwayError('CONTAINER_NOT_FOUND', `container ${container} is not valid for pod ${name}`, { object, hint: `containers: ${names.join(', ')}` });
    if (options.previous && count === 0) throw new PodwayError('LOG_NOT_FOUND', `previous terminated container "${container}" in pod "${name}" not found`, { object });
    const run = options.previous ? count - 1 : count;
    const ended = (): boolean => options.previous === true || this.closed || worker.restartCount(container) !== run || !worker.running(container);
    return readLog(join(logDir(this.options.node.dirs.logs, pod, container), `${run}.log`), { ...options, ended });
  }

  /** Settles when every event so far is written. */
  flushEvents(): Promise<void> {
    return this.events.flush();
  }

  /** Stops working. What runs goes on running: it ends with the node's holder. */
  async close(): Promise<void> {
    this.closed = true;
    this.stopWatch?.();
    this.cancelBeat?.();
    for (const w of this.workers.values()) w.detach();
    await this.beating;
    await this.events.flush();
  }
}

function conditionOf(node: Pick<Node, 'status'> | undefined, type: string) {
  return node?.status?.conditions?.find((c) => c.type === type);
}
