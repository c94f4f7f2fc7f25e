/**
 * The agents of a lab: one process per node, inside the node's namespaces, restarted when it ends.
 * They are children of the lab's process but do not die with it: pods keep their network.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync, openSync, closeSync, writeFileSync, chmodSync } from 'node:fs';
import { join } from 'node:path';
import { binary, type LabLayout } from './layout.js';
import type { LabEvent } from './events.js';

const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;
/** An agent that ran this long was well: the next restart is quick again. */
const WELL_AFTER_MS = 30_000;

/** Paths as the node sees them. */
export const IN_NODE = {
  state: '/var/lib/podway',
  cniConf: '/etc/cni/net.d',
  cniBin: '/opt/cni/bin',
  cniCache: '/var/lib/cni',
  socket: '/run/podway/agent.sock',
  kubeconfig: '/var/lib/podway/kubeconfig',
  network: '/var/lib/podway/net-conf.json',
} as const;

/** What an agent finds in its node: shim, configuration, the way to the API. */
/** @param hosts all nodes: the node knows them by name, as a machine of a cluster does. */
export function prepareNode(layout: LabLayout, node: string, network: string, hosts: readonly { readonly name: string; readonly addresses: readonly string[] }[]): void {
  const dirs = layout.node(node);
  for (const d of [dirs.root, dirs.cniConf, dirs.cniBin, dirs.state, dirs.logs, dirs.overlay]) mkdirSync(d, { recursive: true, mode: 0o700 });
  // Readable by whoever looks into the node; the runtime and its plugins run as root anyway.
  for (const d of [dirs.cniConf, dirs.cniBin]) chmodSync(d, 0o755);
  copyFileSync(binary('podway-cni'), join(dirs.cniBin, 'podway-cni'));
  chmodSync(join(dirs.cniBin, 'podway-cni'), 0o755);
  writeFileSync(join(dirs.state, 'net-conf.json'), network, { mode: 0o600 });
  // What lies in the upper layer is what the node sees instead of the machine's.
  const etc = join(dirs.overlay, 'etc', 'upper');
  mkdirSync(etc, { recursive: true, mode: 0o755 });
  const names = hosts.flatMap((h) => h.addresses.map((a) => `${a} ${h.name}`));
  writeFileSync(join(etc, 'hosts'), `${['127.0.0.1 localhost', '::1 localhost ip6-localhost', ...names].join('\n')}\n`, { mode: 0o644 });
  writeFileSync(join(etc, 'hostname'), `${node}\n`, { mode: 0o644 });
}

export interface AgentProcessOptions {
  readonly layout: LabLayout;
  readonly node: string;
  readonly holderPid: number;
  /** How this very program is started again: Node.js and its main module. */
  readonly program: readonly string[];
  readonly emit: (e: LabEvent) => void;
}

export class AgentProcess {
  private child: ChildProcess | undefined;
  private timer: NodeJS.Timeout | undefined;
  private delay = FIRST_DELAY_MS;
  private stopped = false;

  constructor(private readonly o: AgentProcessOptions) {
    this.launch();
  }

  private launch(): void {
    const { layout, node, holderPid, program } = this.o;
    const log = openSync(join(layout.logs, `agent-${node}.log`), 'a', 0o600);
    const began = performance.now();
    const child = spawn(
      binary('podway-init'),
      ['exec', '--target', String(holderPid), '-a', '--', ...program, 'agent', '--node', node, '--kubeconfig', IN_NODE.kubeconfig,
        '--network', IN_NODE.network, '--socket', IN_NODE.socket, '--state', IN_NODE.state, '--cni-conf', IN_NODE.cniConf],
      { stdio: ['ignore', log, log], detached: true, env: { PATH: process.env['PATH'], HOME: '/root', NODE_OPTIONS: '--max-old-space-size=256' } },
    );
    closeSync(log);
    this.child = child;
    child.once('error', (e) => this.ended(began, e.message));
    child.once('exit', (code, signal) => this.ended(began, signal ? `was killed by ${signal}` : `exited with ${code}`));
  }

  private ended(began: number, how: string): void {
    if (this.stopped || this.child === undefined) return;
    this.child = undefined;
    this.delay = performance.now() - began > WELL_AFTER_MS ? FIRST_DELAY_MS : Math.min(this.delay * 2, LONGEST_DELAY_MS);
    this.o.emit({ type: 'agent-ended', node: this.o.node, how, againInMs: this.delay });
    this.timer = setTimeout(() => this.launch(), this.delay);
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}
