/**
 * A small network of scratch namespaces for the agent's tests: nodes on one underlay, a host
 * outside, pods. All namespaces are nameless and reached as /proc/PID/fd/N, so nothing of them
 * outlives the test process, however it ends, and any number of tests can run side by side.
 *
 *   node ── eth0 172.18.0.N ── underlay bridge 172.18.0.1 ── 203.0.113.2 outside
 *           fc00:18::N                          fc00:18::1   2001:db8:113::2
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildShim } from '@podway/cni';
import { Netns, RtNetlink, writeSysctl } from '@podway/kernel';
import { Nodes, type Node } from '@podway/kube';
import { observe, type NetnsState } from '@podway/netstate';
import { Agent, type AgentEvent, type AgentOptions } from '../src/index.js';
import { MemoryClient } from './memory-client.js';

export const needsRoot = process.getuid?.() === 0 ? false : 'needs root to make network namespaces';
export const NETWORK = JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } });
export const OUTSIDE = '203.0.113.2';

/** Which families a network has: the underlay, the pods and the outside. */
export type Families = '4' | '6' | 'both';
interface FamilyPlan {
  readonly cluster: string;
  readonly nodeAddress: (n: number) => string;
  readonly podCidr: (n: number) => string;
  readonly prefix: number;
  readonly router: string;
  readonly any: string;
  readonly outside: string;
  readonly outsidePrefix: number;
  readonly outsideRouter: string;
}
const V4: FamilyPlan = {
  cluster: '10.244.0.0/16', nodeAddress: (n) => `172.18.0.${n + 2}`, podCidr: (n) => `10.244.${n}.0/24`, prefix: 16, router: '172.18.0.1', any: '0.0.0.0/0',
  outside: OUTSIDE, outsidePrefix: 24, outsideRouter: '203.0.113.1',
};
const V6: FamilyPlan = {
  cluster: 'fd00:10:244::/56', nodeAddress: (n) => `fc00:18::${(n + 2).toString(16)}`, podCidr: (n) => (n === 0 ? 'fd00:10:244::/64' : `fd00:10:244:${n.toString(16)}::/64`), prefix: 64,
  router: 'fc00:18::1', any: '::/0', outside: '2001:db8:113::2', outsidePrefix: 64, outsideRouter: '2001:db8:113::1',
};
export const plansOf = (families: Families): readonly FamilyPlan[] => ({ '4': [V4], '6': [V6], both: [V4, V6] })[families];

/** The path by which every process can open the namespace while this one holds it. */
export const pathOf = (ns: Netns): string => `/proc/${process.pid}/fd/${ns.fd}`;

/** A tool run inside the namespace; its output. */
export const inNs = (ns: Netns, ...argv: string[]): string => execFileSync('nsenter', [`--net=${pathOf(ns)}`, ...argv], { encoding: 'utf8' });
export const lines = (text: string): string[] => text.split('\n').map((l) => l.trim().replace(/ +/g, ' ')).filter(Boolean);

/** Waits for a condition; what it never became is in the message. */
export async function until<T>(what: string, is: () => T | Promise<T>, ms = 10_000): Promise<NonNullable<Awaited<T>>> {
  const end = performance.now() + ms;
  let last: unknown;
  for (;;) {
    try {
      const value = await is();
      if (value) return value as NonNullable<Awaited<T>>;
      last = value;
    } catch (e) {
      last = e;
    }
    if (performance.now() > end) assert.fail(`never, in ${ms} ms: ${what} (last: ${last instanceof Error ? last.message : JSON.stringify(last)})`);
    await new Promise((r) => setTimeout(r, 2));
  }
}

export function nodeObject(name: string, n: number, families: Families = '4'): Node {
  const podCIDRs = plansOf(families).map((p) => p.podCidr(n));
  return {
    metadata: { name }, spec: { podCIDRs, podCIDR: podCIDRs[0] },
    status: { addresses: plansOf(families).map((p) => ({ type: 'InternalIP', address: p.nodeAddress(n) })) },
  } as Node;
}

export interface Answer {
  readonly code: number | null;
  /** The JSON on stdout; undefined for none. */
  readonly out: Record<string, unknown> | undefined;
  readonly stderr: string;
}

export const env = (command: string, more: Record<string, string> = {}): Record<string, string> => ({
  CNI_COMMAND: command, CNI_IFNAME: 'eth0', CNI_PATH: '/opt/cni/bin', ...more,
});
export const podArgs = (name: string): string => `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=${name}`;
export const conf = (cniVersion = '1.1.0', more: object = {}): string => JSON.stringify({ cniVersion, name: 'podway', type: 'podway-cni', ...more });

let built: Promise<string> | undefined;
/** One build of the shim for all tests of a process. */
export function shim(): Promise<string> {
  if (!built) {
    const dir = mkdtempSync(join(tmpdir(), 'podway-shim-'));
    process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
    built = buildShim(dir);
  }
  return built;
}

export async function runShim(socket: string, vars: Record<string, string>, stdin: string): Promise<Answer> {
  const path = await shim();
  return new Promise((resolve, reject) => {
    const child = spawn(path, [], { env: { PODWAY_AGENT_SOCKET: socket, ...vars }, stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (d: Buffer) => (stdout += d.toString()));
    child.stderr.on('data', (d: Buffer) => (stderr += d.toString()));
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, out: stdout === '' ? undefined : (JSON.parse(stdout) as Record<string, unknown>), stderr }));
  });
}

export class TestNode {
  readonly events: AgentEvent[] = [];
  readonly socket: string;
  readonly stateDir: string;
  readonly confDir: string;
  agent: Agent | undefined;

  constructor(readonly net: TestNetwork, readonly name: string, readonly ns: Netns, dir: string) {
    this.socket = join(dir, 'run', 'agent.sock');
    this.stateDir = join(dir, 'state');
    this.confDir = join(dir, 'net.d');
  }

  async start(more: Partial<AgentOptions> = {}): Promise<Agent> {
    this.agent = await Agent.start({
      node: this.name, client: this.net.client, network: NETWORK, socketPath: this.socket, stateDir: this.stateDir, cniConfDir: this.confDir,
      netns: this.ns, emit: (e) => this.events.push(e), ...more,
    });
    return this.agent;
  }

  async stop(): Promise<void> {
    await this.agent?.stop();
    this.agent = undefined;
    this.events.length = 0;
  }

  seen<T extends AgentEvent['type']>(type: T): Extract<AgentEvent, { type: T }>[] {
    return this.events.filter((e): e is Extract<AgentEvent, { type: T }> => e.type === type);
  }

  async ready(): Promise<this> {
    await until(`${this.name} is ready (${JSON.stringify(this.events)})`, () => this.seen('ready').length > 0);
    return this;
  }

  cni(command: string, vars: Record<string, string> = {}, stdin = conf()): Promise<Answer> {
    return runShim(this.socket, env(command, vars), stdin);
  }

  state(): NetnsState {
    return observe(this.ns);
  }

  /** Everything a failed or undone request could leave: host ends, records, temporary files. */
  async leavings(): Promise<{ links: string[]; files: string[] }> {
    const links = RtNetlink.with(this.ns, (nl) => nl.links().filter((l) => l.kind === 'veth' && l.name !== 'eth0').map((l) => l.name));
    const files = await readdir(this.stateDir, { recursive: true });
    return { links: links.sort(), files: files.filter((f) => f.endsWith('.json') && !['node.json', 'network.json'].includes(f) || f.includes('.tmp-')).sort() };
  }
}

export interface TestPod {
  readonly name: string;
  readonly ns: Netns;
  readonly vars: Record<string, string>;
}

export class TestNetwork {
  readonly client = new MemoryClient();
  readonly dir = mkdtempSync(join(tmpdir(), 'podway-agent-'));
  readonly nodes: TestNode[] = [];
  private readonly held: Netns[] = [];
  private readonly children: ChildProcess[] = [];
  readonly underlay = this.namespace('underlay');
  readonly outside = this.namespace('outside');
  private readonly plans: readonly FamilyPlan[];

  constructor(readonly families: Families = '4') {
    this.plans = plansOf(families);
    RtNetlink.with(this.underlay, (nl) => {
      const bridge = nl.createLink({ kind: 'bridge', name: 'br0' });
      nl.setLink(bridge.index, { up: true });
      nl.createLink({ kind: 'veth', name: 'out', peer: { name: 'eth0', netnsFd: this.outside.fd } });
      const out = nl.mustLink('out');
      nl.setLink(out.index, { up: true });
      for (const p of this.plans) {
        nl.addAddr({ index: bridge.index, address: p.router, prefix: p.prefix });
        nl.addAddr({ index: out.index, address: p.outsideRouter, prefix: p.outsidePrefix });
      }
    });
    writeSysctl(this.underlay, 'net.ipv4.ip_forward', '1');
    if (families !== '4') writeSysctl(this.underlay, 'net.ipv6.conf.all.forwarding', '1');
    // The outside knows the nodes' network and no pod's: an answer to a pod address would be lost.
    for (const p of this.plans) this.uplink(this.outside, p.outside, p.outsidePrefix, p.outsideRouter, p.any);
  }

  /** A namespace that ends with this network. */
  namespace(label: string): Netns {
    const ns = Netns.createNameless(label);
    RtNetlink.with(ns, (nl) => nl.setLink(1, { up: true }));
    this.held.push(ns);
    return ns;
  }

  private uplink(ns: Netns, address: string, prefix: number, gateway: string, any: string): void {
    RtNetlink.with(ns, (nl) => {
      const eth0 = nl.mustLink('eth0');
      nl.setLink(eth0.index, { up: true });
      nl.addAddr({ index: eth0.index, address, prefix });
      nl.addRoute({ dst: any, index: eth0.index, gateway });
    });
  }

  /** A node with its uplink, in the API; its agent is not started yet. */
  addNode(n: number, o: { mtu?: number; register?: boolean } = {}): TestNode {
    const name = `m${n + 1}`;
    const ns = this.namespace(name);
    const mtu = o.mtu ?? 1500;
    RtNetlink.with(this.underlay, (nl) => {
      nl.createLink({ kind: 'veth', name: `u${n}`, mtu, master: nl.mustLink('br0').index, peer: { name: 'eth0', netnsFd: ns.fd, mtu } });
      nl.setLink(`u${n}`, { up: true });
    });
    for (const p of this.plans) this.uplink(ns, p.nodeAddress(n), p.prefix, p.router, p.any);
    if (o.register !== false) this.client.put(Nodes, nodeObject(name, n, this.families));
    const node = new TestNode(this, name, ns, join(this.dir, name));
    this.nodes.push(node);
    return node;
  }

  /** A way through the underlay to addresses that a node takes for its own. */
  routeOnUnderlay(dst: string, gateway: string): void {
    RtNetlink.with(this.underlay, (nl) => nl.addRoute({ dst, gateway, index: nl.mustLink('br0').index }));
  }

  pod(name: string): TestPod {
    const ns = Netns.createNameless(name);
    this.held.push(ns);
    return { name, ns, vars: { CNI_CONTAINERID: name, CNI_NETNS: pathOf(ns), CNI_ARGS: podArgs(name) } };
  }

  /** ADD through the shim; the pod's first address. */
  async added(node: TestNode, pod: TestPod): Promise<string> {
    return (await this.addedAll(node, pod))[0] ?? '';
  }

  /** ADD through the shim; the pod's addresses, one a family. */
  async addedAll(node: TestNode, pod: TestPod): Promise<string[]> {
    const { code, out } = await node.cni('ADD', pod.vars);
    assert.equal(code, 0, JSON.stringify(out));
    return ((out as { ips: { address: string }[] }).ips).map((i) => i.address.split('/')[0] ?? '');
  }

  /** A program of this test inside a namespace, killed at the end at the latest. */
  spawn(ns: Netns, argv: readonly string[]): ChildProcess {
    const child = spawn('nsenter', [`--net=${pathOf(ns)}`, ...argv], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.children.push(child);
    return child;
  }

  async close(): Promise<void> {
    for (const c of this.children) c.kill('SIGKILL');
    for (const n of this.nodes) await n.stop();
    for (const ns of this.held) ns.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export const addressIn = (out: unknown): string => ((out as { ips: { address: string }[] }).ips[0]?.address ?? '').split('/')[0] ?? '';

/** One network, closed afterwards. */
export async function withNetwork(use: (net: TestNetwork) => Promise<void>, families: Families = '4'): Promise<void> {
  const net = new TestNetwork(families);
  try {
    await use(net);
  } finally {
    await net.close();
  }
}

/** A network of one node that is ready. */
export const withNode = (use: (node: TestNode, net: TestNetwork) => Promise<void>, more: Partial<AgentOptions> = {}): Promise<void> =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    await node.start(more);
    await use(await node.ready(), net);
  });

/** What a node with the VXLAN backend publishes, as its annotation has it. */
export const vxlanEnds = (publicIP: string, vtepMAC: string): string =>
  JSON.stringify({ publicIP, uses: 'vxlan', accepts: { vxlan: { vtepMAC, vni: 1, port: 8472 } } });
