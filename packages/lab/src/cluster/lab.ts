/**
 * A running lab: underlay, nodes, API server, kubelets and agents, in one process (and one more per
 * agent). Made to be started quickly: namespaces and holders while the certificate is made, agents
 * while the nodes register; nothing waits that does not have to.
 */
import { chmodSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, PodwayError } from '@podway/errors';
import { listenTcp, Netns } from '@podway/kernel';
import { NETWORK_CONFIG_MAP } from '@podway/agent';
import { ConfigMaps, IPPools, Nodes, Pods, type ConfigMap, type Node, type ObjectClient, type Pod } from '@podway/kube';
import { ApiServer, apiServiceAddress, DEFAULT_SERVICE_RANGES, openLmdbStore } from '../apiserver/index.js';
import { startControllers } from '../controllers/index.js';
import { ImageStore } from '../images/index.js';
import { execInContainer } from '../runtime/index.js';
import { clusterRanges, netConf, serviceCidrs, type LabConfig, type LabNode, type LabPod } from './config.js';
import { serveControl, type InstallResult, type Step } from './control.js';
import type { LabEvent, PairReport } from './events.js';
import { binary, LabLayout } from './layout.js';
import { addNode, isReady, removeNode, type MembershipContext } from './membership.js';
import { NodeHost } from './node-host.js';
import { checkPairs, type PairPod } from './pairs.js';
import { podSubresources } from './pod-subresources.js';
import { openRelay, type OpenRelay } from './port-relay.js';
import { apiAddress, coreName, segments } from './racks.js';
import { Routers } from './routers.js';
import { startOf, writeConfig, writeState, type LabState } from './state.js';
import { createUnderlay } from './underlay.js';

export const LAB_VERSION = '0.1.0';
const API_PORT = 6443;
const READY_TIMEOUT_MS = 60_000;
/** A pod that gets no address for so long does not hold up those after it. */
const ADDRESS_PATIENCE_MS = 1_000;

export interface LabOptions {
  readonly config: LabConfig;
  /** How this very program is started again, for agents: Node.js and its main module. */
  readonly program: readonly string[];
  readonly emit: (e: LabEvent) => void;
}

/** The pool of a lab with ipam pools. */
const DEFAULT_POOL = 'default';

export class Lab {
  private readonly layout: LabLayout;
  private readonly began = performance.now();
  private readonly hosts: NodeHost[] = [];
  private readonly images: ImageStore;
  private config: LabConfig;
  private ports = 0;
  private phaseNow: LabState['phase'] = 'starting';
  private readonly startedAt = new Date().toISOString();
  private readonly closers: (() => Promise<void> | void)[] = [];
  private server!: ApiServer;
  private client!: ObjectClient;
  private url: string | undefined;
  private readonly routers: Routers;
  private readonly relays: OpenRelay[] = [];

  private constructor(private readonly o: LabOptions) {
    this.config = o.config;
    this.layout = new LabLayout(o.config.name);
    this.images = new ImageStore({ dir: this.layout.images, map: o.config.images });
    this.routers = new Routers({
      layout: this.layout,
      emit: (router, e) => {
        if (e.type === 'daemon-failed' || e.type === 'daemon-ended') this.o.emit({ type: 'warning', message: `${router}: BIRD ${e.type === 'daemon-failed' ? `${e.doing}: ${e.error}` : e.how}` });
      },
    });
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
    await this.phase('underlay and nodes', () => this.machines(), () => `${config.nodes.length} nodes, ${config.underlay.racks.length ? `${config.underlay.racks.length} racks: ${segments(config.underlay).map((r) => r.subnet).join(', ')}` : `underlay ${[config.underlay.subnet, ...(config.second ? [config.second.subnet] : [])].join(' and ')}`}`);
    this.save('starting');
    await this.phase('API server', () => this.api(), () => this.url ?? '');
    this.save('starting');
    await this.phase('agents and kubelets', () => this.nodesReady(), () => `${config.nodes.length} nodes ${hasAgents(config) ? 'Ready' : 'NotReady, without a network: podway network install'}`);
    const pods = await this.phase('pods', () => this.podsReady(), (p) => `${p.length} pods Ready`);
    const pairs = await this.phase('pod pairs', () => this.pairs(pods), (r) => `${r.ok} of ${r.total} pairs reach each other`);
    await this.relay();
    await this.listen();
    this.save('ready');
    this.o.emit({ type: 'ready', ms: performance.now() - this.began, pairs });
  }

  private folders(): void {
    const { layout } = this;
    for (const d of [layout.logs, layout.images, layout.pods]) mkdirSync(d, { recursive: true, mode: 0o700 });
    chmodSync(layout.dir, 0o700);
  }

  /** Namespaces and their holders. */
  private async machines(): Promise<void> {
    createUnderlay(this.layout, this.config);
    this.hosts.push(...await Promise.all(this.config.nodes.map((n) => this.build(n))));
    // The slowest part, Node.js processes that load a program: while the API server is made.
    if (hasAgents(this.config)) for (const h of this.hosts) h.startAgent();
    await this.routers.apply(this.config);
  }

  private build(node: LabNode, network = netConf(this.config)): Promise<NodeHost> {
    return NodeHost.build({ layout: this.layout, config: this.config, program: this.o.program, emit: this.o.emit }, node, this.ports++, network);
  }

  private async api(): Promise<void> {
    const { config } = this.o;
    const gateway = apiAddress(config);
    const services = { ...DEFAULT_SERVICE_RANGES, serviceCidrs: serviceCidrs(config) };
    this.server = await ApiServer.open({ lab: config.name, store: await openLmdbStore(this.layout.store), services });
    this.client = this.server.inProcessClient('podway-lab');
    const local = await this.server.listen({ host: '127.0.0.1', port: config.api?.port ?? 0 }, { names: [gateway] });
    this.url = `https://127.0.0.1:${local.port}`;
    const underlay = Netns.open({ name: this.layout.netns(coreName(config)) });
    const fd = listenTcp(underlay, gateway, API_PORT);
    underlay.close();
    await this.server.listen({ fd });
    await this.server.writeKubeconfig(this.layout.kubeconfig, this.url, [config.name, `kind-${config.name}`]);
    for (const n of config.nodes) await this.register(n);
    await this.client.create(ConfigMaps, {
      apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: NETWORK_CONFIG_MAP.name, namespace: NETWORK_CONFIG_MAP.namespace },
      data: { [NETWORK_CONFIG_MAP.key]: netConf(config) },
    });
    const pools = config.network.ipam === 'pools';
    for (const { cidr } of pools ? clusterRanges(config) : []) {
      const six = cidr.includes(':');
      await this.client.create(IPPools, {
        apiVersion: 'podway.io/v1alpha1', kind: 'IPPool', metadata: { name: six && config.second ? `${DEFAULT_POOL}-ipv6` : DEFAULT_POOL },
        spec: { cidr, ...(six ? {} : { blockSize: config.network.blockSize }) },
      });
    }
    const controllers = startControllers(this.server, {
      clusterRanges: pools ? [] : clusterRanges(config),
      api: { serviceAddress: apiServiceAddress(services), address: gateway, port: API_PORT },
    });
    this.closers.push(...controllers.map((c) => () => c.stop()));
    // Nobody else writes to the Nodes before: they get their ranges in the order of the lab file.
    if (!pools) await this.until(Nodes, config.nodes.length, 'pod ranges', (n: Node) => n.spec?.podCIDR !== undefined, () => 'it has no podCIDR');
    for (const n of config.nodes) this.admit(n);
  }

  /** What the node's agent needs to reach the API, and the Node object. */
  private async register(n: LabNode): Promise<void> {
    // Its agent begins when the file has its name: it is never there by half, and not before the object.
    await this.server.writeKubeconfig(`${this.agentKubeconfig(n)}.new`, `https://${inUrl(apiAddress(this.config))}:${API_PORT}`);
    await this.client.create(Nodes, {
      apiVersion: 'v1', kind: 'Node', metadata: { name: n.name, labels: { ...n.labels } },
      spec: {
        ...(n.podCIDR === undefined ? {} : { podCIDR: n.podCIDR, podCIDRs: [n.podCIDR, ...(n.second?.podCIDR === undefined ? [] : [n.second.podCIDR])] }),
        ...(n.taints === undefined ? {} : { taints: n.taints.map(({ key, effect, value }) => ({ key, effect, ...(value === undefined ? {} : { value }) })) }),
      },
    });
  }

  /** Lets the node's agent begin. */
  private admit(n: LabNode): void {
    const file = this.agentKubeconfig(n);
    renameSync(`${file}.new`, file);
  }

  private agentKubeconfig(n: LabNode): string {
    return join(this.layout.node(n.name).state, 'kubeconfig');
  }

  private async nodesReady(): Promise<void> {
    this.server.attachRuntime(podSubresources(binary('podway-init'), (pod) => this.hosts.find((h) => h.node.name === pod.spec?.nodeName)?.runtime));
    await Promise.all(this.hosts.map((h) => h.startKubelet(this.server, this.images)));
    if (hasAgents(this.config)) await this.allReady();
  }

  private async allReady(): Promise<void> {
    await this.until(Nodes, this.config.nodes.length, 'nodes', isReady, (n: Node) => n.status?.conditions?.find((c) => c.type === 'Ready')?.message ?? 'it has not reported yet');
  }

  /** Pods of one node get their addresses in the order of the lab file: each when the one before has its own. */
  private async createPods(): Promise<void> {
    const { pods } = this.o.config;
    const nodes = [...new Set(pods.map((p) => p.node))];
    await Promise.all(nodes.map(async (node) => {
      const runtime = this.hosts.find((h) => h.node.name === node)?.runtime;
      for (const p of pods.filter((q) => q.node === node)) {
        const created = await this.createPod(p);
        const until = performance.now() + ADDRESS_PATIENCE_MS;
        while (runtime && performance.now() < until && !runtime.records().some((r) => r.uid === created.metadata?.uid)) {
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      }
    }));
  }

  private createPod(p: LabPod): Promise<Pod> {
    return this.client.create(Pods, {
      apiVersion: 'v1', kind: 'Pod',
      metadata: {
        name: p.name, namespace: p.namespace ?? 'default', ...(p.labels === undefined ? {} : { labels: p.labels }),
        ...(p.address === undefined ? {} : { annotations: { 'podway.io/ip-addrs': JSON.stringify(p.address) } }),
      },
      spec: {
        ...(p.node === undefined ? {} : { nodeName: p.node }),
        containers: [{ name: p.name, image: p.image, ...(p.command === undefined ? {} : { command: [...p.command] }) }],
      },
    });
  }

  private async podsReady(): Promise<Pod[]> {
    const wanted = this.o.config.pods.length;
    if (wanted === 0) return [];
    // Not before: a pod on a node without a network would fail, wait, and be tried again.
    await this.createPods();
    return this.until(Pods, wanted, 'pods', isReady,
      (p: Pod) => p.status?.containerStatuses?.map((c) => c.state?.waiting?.message ?? c.state?.waiting?.reason).find(Boolean) ?? p.status?.phase ?? 'Pending');
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
    const records = this.hosts.flatMap((h) => h.runtime!.records());
    const asked = pods.filter((p) => p.spec?.containers[0]?.image === 'podway/web' && !p.spec.hostNetwork).flatMap((p): PairPod[] => {
      const record = records.find((r) => r.uid === p.metadata?.uid);
      const addresses = p.status?.podIPs?.map((i) => i.ip ?? '').filter(Boolean) ?? [];
      return record && addresses.length ? [{ name: p.metadata?.name ?? '', addresses, run: (command) => execInContainer(init, record, command) }] : [];
    });
    return checkPairs(asked, (done, of) => this.o.emit({ type: 'progress', doing: 'pairs', done, of }));
  }

  private save(phase: LabState['phase']): void {
    this.phaseNow = phase;
    writeState(this.layout, {
      name: this.config.name, version: LAB_VERSION, pid: process.pid, pidStart: startOf(process.pid) ?? '', started: this.startedAt, phase,
      server: this.url, nodes: this.hosts.map((h) => ({ name: h.node.name, address: h.node.address, ...(h.node.second ? { second: h.node.second.address } : {}), holderPid: h.holder.pid })), config: this.config,
      ...(this.relays.length ? { relays: this.relays.map(({ hostPort, address, port }) => ({ hostPort, address, port })) } : {}),
    });
  }

  /** The nodes are others now; both files say so, whatever comes between. */
  private remember(config: LabConfig): void {
    this.config = config;
    writeConfig(this.layout, config);
    this.save(this.phaseNow);
  }

  private get membership(): MembershipContext {
    return {
      layout: this.layout, client: this.client, hosts: this.hosts, config: () => this.config,
      remember: (config) => this.remember(config),
      route: async (config) => this.routers.apply(config, await this.network()),
      build: async (node) => {
        // As it is now, which may be another than the lab began with.
        const network = await this.network();
        const host = await this.build(node, network);
        this.hosts.push(host);
        if (hasAgents(this.config)) host.startAgent();
        await this.routers.apply(this.config, network);
        await this.register(node);
        this.admit(node);
        await host.startKubelet(this.server, this.images);
        return host;
      },
    };
  }

  /** Requests of other processes, one after the other. */
  private async listen(): Promise<void> {
    const server = await serveControl(this.layout.control, (request, tell) => {
      if (request.verb === 'install-network') return this.installNetwork(tell);
      if (request.verb === 'add-node') return addNode(this.membership, request.node, tell);
      return removeNode(this.membership, request, tell);
    });
    this.closers.push(() => server.close(), () => this.routers.close());
    this.watchNetwork();
  }

  /** Ports of this machine that lead to nodes. That of the API leads to where it listens. */
  private async relay(): Promise<void> {
    const core = this.layout.netns(coreName(this.config));
    for (const n of this.config.nodes) {
      for (const { hostPort, containerPort } of n.ports ?? []) {
        const api = containerPort === API_PORT;
        const relay = await openRelay(core, { hostPort, address: api ? apiAddress(this.config) : n.address, port: containerPort });
        this.relays.push(relay);
        this.closers.push(() => relay.close());
      }
    }
  }

  /** The agents begin, on a lab that was started without. */
  private async installNetwork(tell: (s: Step) => void): Promise<InstallResult> {
    const began = performance.now();
    if (hasAgents(this.config)) throw new PodwayError('NETWORK_INSTALLED', `lab ${this.config.name} has its network already`, { object: `lab ${this.config.name}`, hint: 'To change it: podway network set' });
    for (const h of this.hosts) h.startAgent();
    tell({ name: `${this.hosts.length} agents started`, at: performance.now() - began });
    const { cni: _, ...network } = this.config.network;
    this.remember({ ...this.config, network });
    await this.allReady();
    return { nodes: this.hosts.map((h) => h.node.name), ms: performance.now() - began };
  }

  /** The cluster's net-conf.json, as it is now. */
  private async network(): Promise<string> {
    const map = await this.client.get(ConfigMaps, NETWORK_CONFIG_MAP.name, NETWORK_CONFIG_MAP.namespace);
    return map.data?.[NETWORK_CONFIG_MAP.key] ?? netConf(this.config);
  }

  /** Routers speak with nodes by the AS number that the cluster's network has. */
  private watchNetwork(): void {
    if (this.config.underlay.racks.every((r) => r.asn === undefined)) return;
    this.closers.push(this.client.watch(ConfigMaps, { namespace: NETWORK_CONFIG_MAP.namespace, fieldSelector: `metadata.name=${NETWORK_CONFIG_MAP.name}` }, {
      event: (type, object) => {
        const text = (object as ConfigMap).data?.[NETWORK_CONFIG_MAP.key];
        if (type === 'DELETED' || text === undefined) return;
        this.routers.apply(this.config, text).catch((e: unknown) => this.o.emit({ type: 'warning', message: `routers: ${messageOf(e)}` }));
      },
    }));
  }

  /** Ends the lab's own work. Nodes and pods go on until `down`. */
  async close(): Promise<void> {
    for (const close of this.closers.splice(0)) await close();
    await Promise.all(this.hosts.map((h) => h.leave()));
    await this.server.close();
  }
}

/** Without, its nodes wait for `podway network install`, or for another plugin. */
const hasAgents = (c: LabConfig): boolean => c.network.cni !== 'none';
/** As a URL has it. */
const inUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address);

/** The main module this process was started with, to start it again for agents. */
export function thisProgram(): string[] {
  const main = process.argv[1];
  if (main === undefined) throw new PodwayError('LAB_PROGRAM', 'it cannot be told how this program was started');
  return [process.execPath, main];
}
