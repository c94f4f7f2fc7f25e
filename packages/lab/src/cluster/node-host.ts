/**
 * One node of a lab: its folder, its namespaces with their holder, its kubelet and its agent. Made in two
 * steps, since the machine can stand before there is an API to join.
 */
import { watch, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '@podway/errors';
import { Netns } from '@podway/kernel';
import type { ApiServer } from '../apiserver/index.js';
import type { ImageStore } from '../images/index.js';
import { CniNetwork, NodeRuntime, startHold, type Resident } from '../runtime/index.js';
import { AgentProcess, IN_NODE, prepareNode } from './agents.js';
import { labMark } from './belongings.js';
import { nodeAddresses, type LabConfig, type LabNode } from './config.js';
import type { LabEvent } from './events.js';
import { binary, type LabLayout } from './layout.js';
import { createNodeNetns, unplugNode } from './underlay.js';

/** What the nodes of a lab have in common. */
export interface HostContext {
  readonly layout: LabLayout;
  readonly config: LabConfig;
  /** How this very program is started again, for agents: Node.js and its main module. */
  readonly program: readonly string[];
  readonly emit: (e: LabEvent) => void;
}

export class NodeHost {
  private constructor(
    readonly node: LabNode, readonly holder: Resident,
    private readonly context: HostContext,
    /** Number of its port at the switch. */
    readonly port: number,
  ) {}

  private agent: AgentProcess | undefined;
  private kubelet: NodeRuntime | undefined;
  private watcher: FSWatcher | undefined;

  /** A machine with its cable in the switch. @param network the cluster's net-conf.json @throws NETNS_EXISTS when its name is taken on this machine */
  static async build(context: HostContext, node: LabNode, port: number, network: string): Promise<NodeHost> {
    const { layout, config } = context;
    prepareNode(layout, node.name, network, [...config.nodes.filter((n) => n.name !== node.name), node].map((n) => ({ name: n.name, addresses: nodeAddresses(n) })));
    createNodeNetns(layout, config, { node, port });
    const dirs = layout.node(node.name);
    const holder = await startHold(binary('podway-init'), {
      hostname: node.name,
      title: `${labMark(layout)} node ${node.name}`,
      netnsFile: `/run/netns/${layout.netns(node.name)}`,
      tmpfs: ['/run'],
      overlays: ['/etc', '/opt', '/var'].map((target) => ({ target, dir: join(dirs.overlay, target.slice(1)) })),
      binds: [
        { source: dirs.cniConf, target: IN_NODE.cniConf, readOnly: false },
        { source: dirs.cniBin, target: IN_NODE.cniBin, readOnly: false },
        { source: dirs.state, target: IN_NODE.state, readOnly: false },
        { source: dirs.logs, target: '/var/log/pods', readOnly: false },
      ],
    });
    return new NodeHost(node, holder, context, port);
  }

  /** The agent: a process of its own, the slow part of a start. It waits until its kubeconfig is there. */
  startAgent(): void {
    const { layout, program, emit } = this.context;
    this.agent = new AgentProcess({ layout, node: this.node.name, holderPid: this.holder.pid, program, emit });
  }

  /** The kubelet: registers the node and runs its pods. */
  async startKubelet(server: ApiServer, images: ImageStore): Promise<void> {
    const { layout, config, emit } = this.context;
    const { name } = this.node;
    const dirs = layout.node(name);
    const init = binary('podway-init');
    this.kubelet = new NodeRuntime({
      node: { lab: config.name, name, holderPid: this.holder.pid, addresses: nodeAddresses(this.node), dirs: { pods: layout.pods, logs: dirs.logs } },
      client: server.inProcessClient('kubelet'),
      network: new CniNetwork({
        init, holderPid: this.holder.pid, confDir: dirs.cniConf, cacheDir: join(dirs.root, 'cni-cache'),
        path: [{ inNode: IN_NODE.cniBin, onMachine: dirs.cniBin }],
      }),
      images, init,
      warn: (message, error) => emit({ type: 'warning', message: `${name}: ${message}: ${messageOf(error)}` }),
    });
    // The agent puts its configuration there when pods can be served: the kubelet need not find out by asking.
    this.watcher = watch(dirs.cniConf, () => void this.kubelet?.heartbeat());
    this.watcher.on('error', () => undefined); // the node is being taken away
    await this.kubelet.start();
  }

  get runtime(): NodeRuntime | undefined {
    return this.kubelet;
  }

  /** Ends the lab's own work on the node. What runs there goes on. */
  async leave(): Promise<void> {
    this.agent?.stop();
    this.watcher?.close();
    await this.kubelet?.close();
  }

  /** Pulls the plug: all that runs on the node ends, and its namespaces with it. */
  async demolish(): Promise<void> {
    await this.leave();
    process.kill(this.holder.pid, 'SIGKILL');
    await this.holder.gone;
    unplugNode(this.context.layout, this.context.config, { node: this.node, port: this.port });
    Netns.remove(this.context.layout.netns(this.node.name));
  }
}
