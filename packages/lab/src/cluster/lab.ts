/**
 * A running lab: underlay, nodes, API server, kubelets and agents, in one process (and one more per
 * agent). Made to be started quickly: namespaces and holders while the certificate is made, agents
 * while the nodes register; nothing waits that does not have to.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { PodwayError, messageOf } from '@podway/errors';
import { listenTcp, Netns } from '@podway/kernel';
import { NETWORK_CONFIG_MAP } from '@podway/agent';
import { ConfigMaps, Nodes, Pods, type Node, type ObjectClient, type Pod } from '@podway/kube';
import { ApiServer, openLmdbStore } from '../apiserver/index.js';
import { startControllers } from '../controllers/index.js';
import { ImageStore } from '../images/index.js';
import { CniNetwork, execInContainer, NodeRuntime, startHold, type Resident } from '../runtime/index.js';
import { AgentProcess, IN_NODE, prepareNode } from './agents.js';
import { netConf, type LabConfig, type LabNode } from './config.js';
import type { LabEvent, PairReport } from './events.js';
import { labMark } from './belongings.js';
import { binary, LabLayout } from './layout.js';
import { checkPairs, type PairPod } from './pairs.js';
import { podLogs } from './pod-logs.js';
import { startOf, writeState, type LabState } from './state.js';
import { createNodeNetns, createUnderlay } from './underlay.js';

export const LAB_VERSION = '0.1.0';
const API_PORT = 6443;
const READY_TIMEOUT_MS = 60_000;

export interface LabOptions {
  readonly config: LabConfig;
  /** How this very program is started again, for agents: Node.js and its main module. */
  readonly program: readonly string[];
  readonly emit: (e: LabEvent) => void;
}

interface LabNodeParts {
  readonly node: LabNode;
  readonly holder: Resident;
  runtime?: NodeRuntime;
  agent?: AgentProcess;
}

export class Lab {
  private readonly layout: LabLayout;
  private readonly began = performance.now();
  private readonly parts: LabNodeParts[] = [];
  private readonly closers: (() => Promise<void> | void)[] = [];
  private server!: ApiServer;
  private client!: ObjectClient;
  private url: string | undefined;

  private constructor(private readonly o: LabOptions) {
    this.layout = new LabLayout(o.config.name);
  }

  /** Resolves when all nodes and pods are ready and every pair of sample pods has been asked. */
  static async start(o: LabOptions): Promise<Lab> {
    const lab = new Lab(o);
    await lab.up();
    return lab;
  }

  private async phase<T>(name: string, work: () => Promise<T>, detail?: (result: T) => string): Promise<T> {
    const began = performance.now();
    const result = await work();
    const now = performance.now();
    this.o.emit({ type: 'phase', name, ms: now - began, at: now - this.began, ...(detail ? { detail: detail(result) } : {}) });
    return result;
  }

  private async up(): Promise<void> {
    const { config } = this.o;
    this.folders();
    this.save('starting');
    await this.phase('underlay and nodes', () => this.machines(), () => `${config.nodes.length} nodes, underlay ${config.underlay.subnet}`);
    this.save('starting');
    await this.phase('API server', () => this.api(), () => this.url ?? '');
    this.save('starting');
    await this.phase('agents and kubelets', () => this.nodesReady(), () => `${config.nodes.length} nodes Ready`);
    const pods = await this.phase('pods', () => this.podsReady(), (p) => `${p.length} pods Ready`);
    const pairs = await this.phase('pod pairs', () => this.pairs(pods), (r) => `${r.ok} of ${r.total} pairs reach each other`);
    this.save('ready');
    this.o.emit({ type: 'ready', ms: performance.now() - this.began, pairs });
  }

  private folders(): void {
    const { layout } = this;
    for (const d of [layout.logs, layout.images, layout.pods]) mkdirSync(d, { recursive: true, mode: 0o700 });
    chmodSync(layout.dir, 0o700);
    for (const n of this.o.config.nodes) prepareNode(layout, n.name, netConf(this.o.config));
  }

  /** Namespaces and their holders. */
  private async machines(): Promise<void> {
    const { config } = this.o;
    createUnderlay(this.layout, config);
    config.nodes.forEach((n, i) => createNodeNetns(this.layout, config, n, i));
    const holders = await Promise.all(config.nodes.map((n) => this.hold(n)));
    config.nodes.forEach((node, i) => this.parts.push({ node, holder: holders[i]! }));
  }

  private hold(node: LabNode): Promise<Resident> {
    const dirs = this.layout.node(node.name);
    return startHold(binary('podway-init'), {
      hostname: node.name,
      title: `${labMark(this.layout)} node ${node.name}`,
      netnsFile: `/run/netns/${this.layout.netns(node.name)}`,
      tmpfs: ['/run'],
      overlays: ['/etc', '/opt', '/var'].map((target) => ({ target, dir: join(dirs.overlay, target.slice(1)) })),
      binds: [
        { source: dirs.cniConf, target: IN_NODE.cniConf, readOnly: false },
        { source: dirs.cniBin, target: IN_NODE.cniBin, readOnly: false },
        { source: dirs.state, target: IN_NODE.state, readOnly: false },
        { source: dirs.logs, target: '/var/log/pods', readOnly: false },
      ],
    });
  }

  private async api(): Promise<void> {
    const { config } = this.o;
    const gateway = config.underlay.gateway;
    this.server = await ApiServer.open({ lab: config.name, store: await openLmdbStore(this.layout.store) });
    this.client = this.server.inProcessClient('podway-lab');
    const local = await this.server.listen({ host: '127.0.0.1', port: 0 }, { names: [gateway] });
    this.url = `https://127.0.0.1:${local.port}`;
    const underlay = Netns.open({ name: this.layout.netns('underlay') });
    const fd = listenTcp(underlay, gateway, API_PORT);
    underlay.close();
    await this.server.listen({ fd });
    await this.server.writeKubeconfig(this.layout.kubeconfig, this.url);
    await Promise.all(config.nodes.map((n) =>
      this.server.writeKubeconfig(join(this.layout.node(n.name).state, 'kubeconfig'), `https://${gateway}:${API_PORT}`)));
    for (const n of config.nodes) {
      await this.client.create(Nodes, {
        apiVersion: 'v1', kind: 'Node', metadata: { name: n.name, labels: { ...n.labels } },
        spec: n.podCIDR === undefined ? {} : { podCIDR: n.podCIDR, podCIDRs: [n.podCIDR] },
      });
    }
    await this.client.create(ConfigMaps, {
      apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: NETWORK_CONFIG_MAP.name, namespace: NETWORK_CONFIG_MAP.namespace },
      data: { [NETWORK_CONFIG_MAP.key]: netConf(config) },
    });
    const controllers = startControllers(this.server, { clusterRanges: [{ cidr: config.network.clusterCIDR, nodePrefix: config.network.nodeMask }] });
    this.closers.push(...controllers.map((c) => () => c.stop()));
  }

  private async nodesReady(): Promise<void> {
    const { config } = this.o;
    const images = new ImageStore({ dir: this.layout.images });
    // The agents are the slow part: three Node.js processes. The kubelets register meanwhile.
    for (const p of this.parts) {
      p.agent = new AgentProcess({ layout: this.layout, node: p.node.name, holderPid: p.holder.pid, program: this.o.program, emit: this.o.emit });
    }
    const init = binary('podway-init');
    for (const p of this.parts) {
      const dirs = this.layout.node(p.node.name);
      p.runtime = new NodeRuntime({
        node: {
          lab: config.name, name: p.node.name, holderPid: p.holder.pid, addresses: [p.node.address], dirs: { pods: this.layout.pods, logs: dirs.logs },
        },
        client: this.server.inProcessClient('kubelet'),
        network: new CniNetwork({
          init, holderPid: p.holder.pid, confDir: dirs.cniConf, cacheDir: join(dirs.root, 'cni-cache'),
          path: [{ inNode: IN_NODE.cniBin, onMachine: dirs.cniBin }],
        }),
        images, init,
        warn: (message, error) => this.o.emit({ type: 'warning', message: `${p.node.name}: ${message}: ${messageOf(error)}` }),
      });
    }
    this.server.attachRuntime(podLogs((pod) => this.parts.find((p) => p.node.name === pod.spec?.nodeName)?.runtime));
    await Promise.all(this.parts.map((p) => p.runtime!.start()));
    await this.until(Nodes, config.nodes.length, 'nodes', (n: Node) => n.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false,
      (n) => n.status?.conditions?.find((c) => c.type === 'Ready')?.message ?? 'it has not reported yet');
  }

  private async createPods(): Promise<void> {
    for (const p of this.o.config.pods) {
      await this.client.create(Pods, {
        apiVersion: 'v1', kind: 'Pod',
        metadata: {
          name: p.name, namespace: p.namespace ?? 'default', ...(p.labels === undefined ? {} : { labels: p.labels }),
          ...(p.address === undefined ? {} : { annotations: { 'podway.io/ip-addrs': JSON.stringify([p.address]) } }),
        },
        spec: {
          ...(p.node === undefined ? {} : { nodeName: p.node }),
          containers: [{ name: p.name, image: p.image, ...(p.command === undefined ? {} : { command: [...p.command] }) }],
        },
      });
    }
  }

  private async podsReady(): Promise<Pod[]> {
    const wanted = this.o.config.pods.length;
    if (wanted === 0) return [];
    // Not before: a pod on a node without a network would fail, wait, and be tried again.
    await this.createPods();
    return this.until(Pods, wanted, 'pods', (p: Pod) => p.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false,
      (p) => p.status?.containerStatuses?.map((c) => c.state?.waiting?.message ?? c.state?.waiting?.reason).find(Boolean) ?? p.status?.phase ?? 'Pending');
  }

  /** Watches until enough objects are as wished. @throws LAB_NOT_READY naming those that are not, with their own words. */
  private until<T extends Node | Pod>(
    kind: Parameters<ObjectClient['list']>[0], wanted: number, what: string, good: (o: T) => boolean, why: (o: T) => string,
  ): Promise<T[]> {
    const have = new Map<string, T>();
    return new Promise((resolve, reject) => {
      const finish = (act: () => void) => {
        clearTimeout(timer);
        queueMicrotask(() => stop());
        act();
      };
      const timer = setTimeout(() => finish(() => {
        const late = [...have.values()].filter((o) => !good(o)).map((o) => `${o.metadata?.name}: ${why(o)}`);
        reject(new PodwayError('LAB_NOT_READY', `not all ${what} became ready within ${READY_TIMEOUT_MS / 1000} s`, {
          object: `lab ${this.o.config.name}`, said: late.join('; '), hint: `Logs: ${this.layout.logs}`,
        }));
      }), READY_TIMEOUT_MS);
      const stop = this.client.watch(kind, {}, {
        event: (type, object) => {
          const o = object as T;
          if (type === 'DELETED') have.delete(o.metadata?.uid ?? '');
          else have.set(o.metadata?.uid ?? '', o);
          const ready = [...have.values()].filter(good);
          this.o.emit({ type: 'progress', doing: what, done: ready.length, of: wanted });
          if (ready.length >= wanted) finish(() => resolve(ready));
        },
      });
    });
  }

  private pairs(pods: readonly Pod[]): Promise<PairReport> {
    const init = binary('podway-init');
    const records = this.parts.flatMap((p) => p.runtime!.records());
    const asked = pods.filter((p) => p.spec?.containers[0]?.image === 'podway/web' && !p.spec.hostNetwork).flatMap((p): PairPod[] => {
      const record = records.find((r) => r.uid === p.metadata?.uid);
      return record && p.status?.podIP ? [{ name: p.metadata?.name ?? '', address: p.status.podIP, run: (command) => execInContainer(init, record, command) }] : [];
    });
    return checkPairs(asked, (done, of) => this.o.emit({ type: 'progress', doing: 'pairs', done, of }));
  }

  private save(phase: LabState['phase']): void {
    writeState(this.layout, {
      name: this.o.config.name, version: LAB_VERSION, pid: process.pid, pidStart: startOf(process.pid) ?? '', started: new Date().toISOString(), phase,
      server: this.url, nodes: this.parts.map((p) => ({ name: p.node.name, address: p.node.address, holderPid: p.holder.pid })), config: this.o.config,
    });
  }

  /** Ends the lab's own work. Nodes and pods go on until `down`. */
  async close(): Promise<void> {
    for (const p of this.parts) p.agent?.stop();
    await Promise.all(this.parts.flatMap((p) => (p.runtime ? [p.runtime.close()] : [])));
    for (const close of this.closers.splice(0)) await close();
    await this.server.close();
  }
}

/** The main module this process was started with, to start it again for agents. */
export function thisProgram(): string[] {
  const main = process.argv[1];
  if (main === undefined) throw new PodwayError('LAB_PROGRAM', 'it cannot be told how this program was started');
  return [process.execPath, main];
}
