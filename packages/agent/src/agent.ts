/**
 * The node agent: one per node, in the node's own namespaces.
 *
 * Start: take over what is there (records, devices, addresses), learn this node and its peers from
 * the API, bring the namespace to the desired state, open the CNI socket, and only then put the
 * network configuration where the runtime looks for it: the node turns Ready when pods can really
 * be served. While the API is out of reach nothing is taken away; pods can still be added with what
 * was last known.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably, type Ip } from '@podway/cni';
import { isPodwayError, messageOf } from '@podway/errors';
import { LinkRemover, Netns, RtNetlink, WIREGUARD_SOCKET_DIR } from '@podway/kernel';
import { ConfigMaps, Nodes, Pods, type Node, type ObjectClient, type Pod } from '@podway/kube';
import { apply, nftTables, observe, type NetnsState, type NftObject } from '@podway/netstate';
import { Attachments } from './attachments.js';
import type { LocalNode, Peer } from './backends/backend.js';
import type { NetworkConfig } from './config.js';
import type { AgentEvent } from './events.js';
import { DiskStore, Ipam, setsOfPodCidrs } from './ipam/index.js';
import { HostPorts } from './hostports/index.js';
import { AddressPools, whoseRange } from './node/address-pools.js';
import { familiesOf } from './backends/routes.js';
import { desiredNode, podwayTable } from './node/desired.js';
import { CONFLIST_NAME, conflist, recall, remember, removeTemporaries } from './node/files.js';
import { BACKEND_ANNOTATION, localNode, peersOf } from './node/peers.js';
import { wayOf } from './backends/index.js';
import type { DaemonPlace } from './daemons/index.js';
import { NodeDaemons } from './node/node-daemons.js';
import { acceptNetwork, NETWORK_CONFIG_MAP, networkDigest } from './node/network-change.js';
import { NetworkMemory, type KnownNetwork } from './node/network-memory.js';
import { mtuDuring, planBackends, type BackendPlan } from './node/transition.js';
import { PodSides } from './node/pod-sides.js';
import { Reconciler } from './node/reconciler.js';
import { CniServer } from './server/index.js';
import { ServiceProxy, serviceSurroundings } from './services/index.js';
import { wiringOf } from './wiring/index.js';
import { bounded, deferred } from './waiting.js';
import { WireguardKeys, withWireguard, wireguardSecrets } from './wireguard/index.js';

export const VERSION = '0.1.0';

export interface AgentOptions {
  readonly node: string;
  readonly client: ObjectClient;
  /** Text of a net-conf.json: the cluster's network until the API says another. */
  readonly network: string;
  readonly socketPath: string;
  readonly stateDir: string;
  /** Where the runtime looks for network configurations; the agent's own is written there when it is ready. */
  readonly cniConfDir?: string;
  /** Full comparison with the kernel, in milliseconds. */
  readonly resyncMs?: number;
  /** How long a block of a pool is kept without pods, in milliseconds. */
  readonly blockIdleMs?: number;
  readonly emit: (e: AgentEvent) => void;
  /** The namespace to work in; this process's own by default. */
  readonly netns?: Netns;
  /** For WireGuard in user space outside the agent's own namespaces: words in front of the program, and where its sockets are then. */
  readonly wireguardGo?: { readonly wrap: readonly string[]; readonly directory: string };
  /** Where programs beside the agent run, when `netns` is not its own. */
  readonly daemons?: DaemonPlace;
}

const DEFAULT_RESYNC_MS = 30_000;
/** How long the old way between nodes stays after the last node has left it. */
const SETTLE_MS = 1000;
const CHANGING_MS = 300;
/** How long an ADD waits for the API when the pod is not known yet. */
const POD_LOOKUP_MS = 2000;

export class Agent {
  private readonly ns: Netns;
  private readonly netlink: RtNetlink;
  private readonly remover: LinkRemover;
  private config: NetworkConfig;
  /** Its text, to know whether another has come, and that of what was before. */
  private known: KnownNetwork;
  private readonly memory: NetworkMemory;
  /** What was before, until no node uses it any more. */
  private previous: NetworkConfig | undefined;
  private readonly wireguardDir: string;
  private readonly wireguardKeys: WireguardKeys;
  private readonly daemons: NodeDaemons;
  private plan: BackendPlan | undefined;
  private desired: NetnsState | undefined;
  private readonly reconciler: Reconciler;
  private readonly podSides: PodSides;
  private readonly hostPorts: HostPorts;
  private readonly nodes = new Map<string, Node>();
  /** Of this node. */
  private readonly pods = new Map<string, Pod>();
  private readonly stops: (() => void)[] = [];
  private ipam!: Ipam;
  private attachments!: Attachments;
  private server: CniServer | undefined;
  private local: LocalNode | undefined;
  private peers: readonly Peer[] = [];
  private knownProblems = new Map<string, string>();
  private synced = false;
  private standing = false;
  private pending = false;
  private published = '';
  private readonly recovered = deferred();
  private readonly began = performance.now();

  private constructor(private readonly o: AgentOptions) {
    this.memory = new NetworkMemory(o.stateDir, o.network);
    ({ known: this.known, config: this.config, previous: this.previous } = this.memory.recall());
    this.ns = o.netns ?? Netns.current();
    this.netlink = RtNetlink.open(this.ns);
    this.remover = new LinkRemover(this.ns);
    this.podSides = new PodSides(o.emit);
    this.wireguardDir = o.wireguardGo?.directory ?? WIREGUARD_SOCKET_DIR;
    this.wireguardKeys = new WireguardKeys(join(o.stateDir, 'wireguard'), o.node);
    const secrets = wireguardSecrets(this.wireguardKeys, () => [this.config, this.previous]);
    this.reconciler = new Reconciler(this.ns, this.netlink, this.config.clusterCidrs, o.emit, { directory: this.wireguardDir, secrets });
    this.daemons = new NodeDaemons({
      stateDir: o.stateDir, wireguardDir: this.wireguardDir, wrap: o.wireguardGo?.wrap ?? [], place: o.daemons, emit: o.emit,
      make: (device) => this.desired && this.reconciler.prepare(this.desired, [device]),
      unset: () => void (this.synced && this.reconcile('full')),
    });
    this.hostPorts = new HostPorts({ node: this.ns, netlink: this.netlink, families: () => familiesOf(this.config.clusterCidrs), mend: (why) => this.mendTable(why) });
  }

  /** Resolves when the CNI socket is open; the network stands as soon as the API has said what it is. */
  static async start(o: AgentOptions): Promise<Agent> {
    o.emit({ type: 'starting', node: o.node, version: VERSION });
    const agent = new Agent(o);
    try {
      await agent.takeOver();
      agent.watch();
      return agent;
    } catch (e) {
      await agent.stop();
      throw e;
    }
  }

  /**
   * The socket first: whoever holds it is the node's agent, and only that one may roll back what
   * looks unfinished. Requests that come in meanwhile wait.
   */
  private async takeOver(): Promise<void> {
    const { o } = this;
    await mkdir(o.stateDir, { recursive: true, mode: 0o700 });
    const taken = this.recovered;
    const after = <A extends unknown[], R>(work: (...a: A) => Promise<R>) => async (...a: A): Promise<R> => {
      await taken.promise;
      return work(...a);
    };
    this.server = new CniServer({
      socketPath: o.socketPath,
      onEvent: (e) => {
        o.emit({ type: 'cni', ...e });
        if (e.command === 'ADD' || e.command === 'DEL') this.pools?.tendSoon((work) => (this.working = this.working.then(work)));
      },
      handler: {
        add: after((r) => this.attachments.add(r)), del: after((r) => this.attachments.del(r)), check: after((r) => this.attachments.check(r)),
        gc: after((r) => this.attachments.gc(r)), status: after((r) => this.attachments.status(r)),
      },
    });
    await this.server.listen();
    try {
      for (const file of ['node.json', 'network.json']) await removeTemporaries(o.stateDir, file);
      if (o.cniConfDir !== undefined) await removeTemporaries(o.cniConfDir, CONFLIST_NAME);
      const remembered = await recall(o.stateDir, o.node);
      this.ipam = await Ipam.open({
        store: new DiskStore(join(o.stateDir, 'attachments')),
        sets: setsOfPodCidrs(remembered?.podCidrs ?? []),
        elsewhere: (ip) => (this.pools ? this.pools.whose(ip) : whoseRange(this.nodes.values(), ip)),
      });
      for (const p of this.ipam.problems) o.emit({ type: 'damaged-record', file: p.file, reason: p.reason });
      this.attachments = new Attachments({
        node: this.ns, netlink: this.netlink, remover: this.remover, ipam: this.ipam, emit: o.emit,
        hostPorts: this.hostPorts, table: () => this.table(),
        ready: () => this.readiness(),
        annotations: (pod) => this.annotations(pod),
        grow: (wanted) => this.grow(wanted),
        networks: this.config.furtherInterfaces ? { client: o.client, stateDir: o.stateDir } : undefined,
      });
      await this.attachments.recover();
      // What the agent before this one made goes on working; with what it knew, so does ADD.
      if (remembered && this.standsFor(remembered)) {
        this.local = remembered;
        this.standing = true;
      }
      taken.resolve();
    } catch (e) {
      taken.reject(e);
      throw e;
    }
  }

  /** Is what all pods of the node share in the kernel? */
  private standsFor(local: LocalNode): boolean {
    const { links = [], routes = [] } = wiringOf(this.config).nodeState(this.config, local, 0);
    const there = new Set(this.netlink.routes().map((r) => r.dst));
    return links.every((l) => this.netlink.link(l.name)) && routes.every((r) => there.has(r.dst));
  }

  private readiness(): { config: NetworkConfig; mtu: number } | { reason: string } {
    if (this.local && this.standing) return { config: this.config, mtu: this.plan?.mtu ?? mtuDuring(this.config, this.previous, this.local) };
    return { reason: this.local ? 'the devices that pods rest on could not be made; see the agent log' : (this.noAddresses ?? `node ${this.o.node} has no pod CIDR or no uplink yet`) };
  }

  private table(): NftObject[] {
    return podwayTable(this.config, this.local?.podCidrs ?? [], this.ipam.list());
  }

  /** For an ADD whose host ports the table would not take: it was altered, or taken away. */
  private mendTable(why: string): void {
    const [desired] = nftTables(this.table());
    if (!desired) return;
    const { failed } = apply(this.ns, [{ kind: 'nft', op: 'change', key: `${desired.family} ${desired.name}`, desired, reason: why }]);
    if (failed[0]) throw failed[0].error;
    this.o.emit({ type: 'changed', change: `make nftables table ${desired.name} anew: ${why}` });
  }

  /** From the watch, which costs nothing; a pod that it has not brought yet is asked for. */
  private async annotations(pod: { namespace: string; name: string; uid?: string | undefined }): Promise<Readonly<Record<string, string>>> {
    const known = this.pods.get(`${pod.namespace}/${pod.name}`)?.metadata;
    if (known && (pod.uid === undefined || pod.uid === known.uid)) return known.annotations ?? {};
    try {
      return (await bounded(this.o.client.get(Pods, pod.name, pod.namespace), POD_LOOKUP_MS)).metadata?.annotations ?? {};
    } catch (e) {
      // A pod that the API does not know (a plugin run by hand) has none.
      if (isPodwayError(e, 'KUBE_NOT_FOUND')) return {};
      if (!isPodwayError(e, 'KUBE_UNAVAILABLE')) throw e;
      // Pods are more urgent than wishes: without the API this one gets the next address, and the log says so.
      this.o.emit({ type: 'failed', doing: `ask for the annotations of pod ${pod.namespace}/${pod.name}; it gets the next free address`, error: messageOf(e) });
      return {};
    }
  }

  /** More addresses for an ADD; they can be used when the node's devices know them. */
  private async grow(wanted: readonly Ip[]): Promise<boolean> {
    const self = this.nodes.get(this.o.node);
    if (!this.pools || !self || !(await this.pools.grow(self, wanted))) return false;
    await this.reconcile('incremental');
    return true;
  }

  private pools: AddressPools | undefined;
  private noAddresses: string | undefined;

  private watch(): void {
    if (this.config.ipam === 'pools') {
      const { node, client, emit, blockIdleMs } = this.o;
      this.pools = new AddressPools({
        node, client, emit, clusterCidrs: this.config.clusterCidrs, ipam: this.ipam, changed: () => this.soon(), ...(blockIdleMs === undefined ? {} : { idleMs: blockIdleMs }),
      });
      this.stops.push(() => this.pools?.close());
    }
    this.o.emit({ type: 'waiting', for: `node ${this.o.node} in the API` });
    this.stops.push(
      this.o.client.watch(Nodes, {}, {
        event: (type, node) => {
          const name = node.metadata?.name ?? '';
          if (type === 'DELETED') this.nodes.delete(name);
          else this.nodes.set(name, node);
          if (this.synced) this.soon();
        },
        synced: () => {
          this.synced = true;
          this.soon();
        },
        lost: (e) => this.o.emit({ type: 'api-lost', error: messageOf(e) }),
      }),
    );
    this.stops.push(
      this.o.client.watch(Pods, { fieldSelector: `spec.nodeName=${this.o.node}` }, {
        event: (type, pod) => {
          const key = `${pod.metadata?.namespace ?? ''}/${pod.metadata?.name ?? ''}`;
          if (type === 'DELETED') this.pods.delete(key);
          else this.pods.set(key, pod);
        },
      }),
    );
    this.stops.push(
      this.o.client.watch(ConfigMaps, { namespace: NETWORK_CONFIG_MAP.namespace, fieldSelector: `metadata.name=${NETWORK_CONFIG_MAP.name}` }, {
        event: (type, map) => {
          const text = map.data?.[NETWORK_CONFIG_MAP.key];
          if (type !== 'DELETED' && text !== undefined) this.changeNetwork(text);
        },
      }),
    );
    const timer = setInterval(() => this.synced && void this.reconcile('full'), this.o.resyncMs ?? DEFAULT_RESYNC_MS);
    // During a change routes may be learned at any time, and nobody tells.
    const changing = setInterval(() => this.previous && this.synced && void this.reconcile('full'), CHANGING_MS);
    this.stops.push(() => clearInterval(changing));
    this.stops.push(() => clearInterval(timer));
  }

  /** Events of one turn are handled together: a burst of nodes is one batch. */
  private soon(): void {
    if (this.pending) return;
    this.pending = true;
    setImmediate(() => {
      this.pending = false;
      void this.reconcile('incremental');
    });
  }

  /** One at a time, in the order they were asked for; what waits already is enough. */
  private reconcile(how: 'full' | 'incremental'): Promise<void> {
    if (this.waiting.has(how)) return this.working;
    this.waiting.add(how);
    this.working = this.working.then(() => {
      this.waiting.delete(how);
      return this.reconcileNow(how);
    });
    return this.working;
  }

  private working: Promise<void> = Promise.resolve();
  private readonly waiting = new Set<'full' | 'incremental'>();

  private async reconcileNow(how: 'full' | 'incremental'): Promise<void> {
    try {
      const registered = this.nodes.get(this.o.node);
      if (!registered) return;
      this.noAddresses = await this.pools?.ensure(registered);
      const nodes = this.pools ? this.pools.nodes(this.nodes.values()) : [...this.nodes.values()];
      const self = nodes.find((n) => n.metadata?.name === this.o.node)!;
      const state = observe(this.ns, { nft: false, wireguardDir: this.wireguardDir });
      const bare = localNode(self, state);
      if (!bare) return;
      // What is not written down would be forgotten by the next agent while it is in use already.
      await this.memory.save(this.known);
      const local = await withWireguard(bare, this.wireguardKeys, [this.config, this.previous]);
      const moved = local.podCidrs.join() !== this.local?.podCidrs.join();
      if (moved) this.ipam.setRanges(setsOfPodCidrs(local.podCidrs));
      if (moved || JSON.stringify(local.uplink) !== JSON.stringify(this.local?.uplink)) await remember(this.o.stateDir, local);
      this.local = local;
      this.serve(local, how);
      const began = performance.now();
      const before = this.peers;
      const { peers: all, problems } = peersOf(nodes, this.o.node);
      const plan = planBackends(this.config, this.previous, local, all, state);
      this.plan = plan;
      const peers = plan.parts.flatMap((p) => p.peers);
      this.peers = peers;
      this.tellProblems([...problems, ...plan.problems]);
      const desired = desiredNode({ config: this.config, local, plan, attachments: this.ipam.list() });
      const specs = this.daemons.specs(local, plan);
      this.desired = desired;
      const started = await this.daemons.serveDevices(specs);
      const applied = how === 'full' || !this.announced || started ? this.reconciler.full(desired) : this.reconciler.incremental(desired);
      this.standing = !applied.failed.some((f) => f.change.kind === 'link' || f.change.kind === 'address');
      await this.daemons.apply(specs);
      if (how === 'full') this.podSides.adapt(plan.mtu, this.ipam.list());
      if (how === 'full') await this.pools?.tend();
      const joined = peers.filter((p) => !before.some((b) => b.name === p.name)).map((p) => p.name);
      const left = before.filter((b) => !peers.some((p) => p.name === b.name)).map((b) => b.name);
      if (joined.length || left.length) {
        this.o.emit({ type: 'peers', joined, left, changes: applied.done.length, ms: performance.now() - began });
      }
      await this.publish(self, plan);
      this.settle(plan);
      if (this.standing && !this.announced) await this.announce(local, applied.done.length);
    } catch (e) {
      this.o.emit({ type: 'failed', doing: 'bring the node to its desired state', error: messageOf(e) });
    }
  }

  /** Services: by this agent, or not at all. Rules that are there go on while it starts. */
  private serve(local: LocalNode, how: 'full' | 'incremental'): void {
    if (this.config.proxy === 'none') {
      this.proxy?.close();
      const began = this.proxy !== undefined || !this.proxyRemoved;
      this.proxy = undefined;
      if (began && ServiceProxy.remove(this.ns)) this.o.emit({ type: 'changed', change: 'remove the rules of Services: Proxy is none' });
      this.proxyRemoved = true;
      return;
    }
    if (!this.proxy) {
      this.proxy = new ServiceProxy({ ns: this.ns, client: this.o.client, emit: (e) => this.o.emit(e) });
      this.proxy.start();
    } else if (how === 'full') this.proxy.compare();
    this.proxy.place(serviceSurroundings(this.config, local));
  }

  private proxy: ServiceProxy | undefined;
  private proxyRemoved = false;

  private announced = false;

  private async announce(local: LocalNode, changes: number): Promise<void> {
    this.announced = true;
    const attachments = this.ipam.list().length;
    if (attachments) this.o.emit({ type: 'took-over', attachments, changes });
    if (this.o.cniConfDir !== undefined) {
      await mkdir(this.o.cniConfDir, { recursive: true });
      await writeDurably(join(this.o.cniConfDir, CONFLIST_NAME), conflist());
    }
    this.o.emit({
      type: 'ready', node: local.name, podCidrs: local.podCidrs, mtu: this.plan?.mtu ?? 0, backend: this.config.backend.type, ms: performance.now() - this.began,
    });
  }

  private tellProblems(problems: readonly { node: string; reason: string }[]): void {
    for (const p of problems) if (this.knownProblems.get(p.node) !== p.reason) this.o.emit({ type: 'peer-problem', ...p });
    this.knownProblems = new Map(problems.map((p) => [p.node, p.reason]));
  }

  /** Our ends into our Node object, when they are not there already. */
  private async publish(self: Node, plan: BackendPlan): Promise<void> {
    const data = JSON.stringify({ ...plan.ends, ...(this.judged === undefined ? {} : { judged: this.judged }), ...(this.problem === undefined ? {} : { problem: this.problem }) });
    if (self.metadata?.annotations?.[BACKEND_ANNOTATION] === data || this.published === data) return;
    await this.o.client.patch(Nodes, { name: this.o.node }, { metadata: { annotations: { [BACKEND_ANNOTATION]: data } } }, { type: 'merge' });
    this.published = data;
  }

  /** The wanted network: the file's, until the cluster says otherwise. */
  private changeNetwork(text: string): void {
    this.judged = networkDigest(text);
    if (text === this.known.network) {
      // Back to what is in force: whatever was wrong with another one is over.
      this.problem = undefined;
      if (this.synced) void this.reconcile('incremental');
      return;
    }
    try {
      const next = acceptNetwork(text, this.config, this.local);
      this.problem = undefined;
      // Back to what was before while that is still in place: nothing to keep beside it.
      if (wayOf(next) !== wayOf(this.config)) {
        this.previous = this.config;
        this.known = { network: text, previous: this.known.network };
      } else {
        this.known = { ...this.known, network: text };
      }
      this.config = next;
      this.o.emit({ type: 'network-changed', backend: wayOf(next) });
    } catch (e) {
      this.problem = messageOf(e);
      this.o.emit({ type: 'failed', doing: 'take over the new network configuration; the old one stays', error: messageOf(e) });
    }
    if (this.synced) void this.reconcile('full');
  }

  /** When nobody uses what was before, it is taken down, a moment later: packets may be on their way. */
  private settle(plan: BackendPlan): void {
    if (!this.previous || !plan.settled || this.settling) return;
    const previous = this.previous;
    this.settling = setTimeout(() => {
      this.settling = undefined;
      if (this.previous !== previous) return;
      this.previous = undefined;
      this.known = { network: this.known.network };
      this.o.emit({ type: 'network-settled', backend: wayOf(this.config), left: wayOf(previous) });
      void this.reconcile('full').then(() => this.wireguardKeys.keepOnly([this.config, this.previous].flatMap((c) => (c?.backend.type === 'wireguard' ? [c.backend.generation] : []))));
    }, SETTLE_MS);
  }

  private settling: NodeJS.Timeout | undefined;
  private judged: string | undefined;
  /** Why the cluster's present configuration was not taken over. */
  private problem: string | undefined;

  /** Pods and what connects them stay as they are: a stopped agent harms no traffic. */
  async stop(): Promise<void> {
    for (const stop of this.stops.splice(0)) stop();
    clearTimeout(this.settling);
    await this.working;
    this.proxy?.close();
    await this.server?.close();
    await this.daemons.close();
    await this.remover.close();
    this.hostPorts.close();
    await (this.ipam as Ipam | undefined)?.close();
    this.netlink.close();
    this.o.emit({ type: 'stopped' });
  }
}
