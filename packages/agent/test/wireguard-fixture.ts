/** Nodes with WireGuard in user space: each program in its node's network namespace, with a directory of its own for its sockets. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { spawnSync, type ChildProcess } from 'node:child_process';
import type { Netns } from '@podway/kernel';
import { join } from 'node:path';
import { ConfigMaps } from '@podway/kube';
import { observe, type NetnsState } from '@podway/netstate';
import { NETWORK_CONFIG_MAP, nodeEnds, Supervisor, type AgentOptions } from '../src/index.js';
import { Nodes } from '@podway/kube';
import { needsRoot, pathOf, until, withNetwork, type TestNetwork, type TestNode } from './network.js';

export const needsWireguard: string | false =
  needsRoot || (spawnSync('wireguard-go', ['--version']).error ? 'wireguard-go is not installed (Debian package wireguard-go)' : false);

export const netConf = (backend: object): string => JSON.stringify({ Network: '10.244.0.0/16', Backend: backend });
export const USERSPACE = { Type: 'wireguard', Implementation: 'userspace' };
export const WIREGUARD = netConf(USERSPACE);

/** Where this node's programs have their sockets. */
export const socketDir = (n: TestNode): string => join(n.net.dir, n.name, 'wireguard');

export function wireguardGo(n: TestNode): NonNullable<AgentOptions['wireguardGo']> {
  mkdirSync(socketDir(n), { recursive: true });
  const enter = 'mkdir -p /run/wireguard && mount --bind "$0" /run/wireguard && exec "$@"';
  return { directory: socketDir(n), wrap: ['nsenter', `--net=${pathOf(n.ns)}`, 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', enter, socketDir(n)] };
}

export const stateOf = (n: TestNode): NetnsState => observe(n.ns, { wireguardDir: socketDir(n) });
export const startWireguard = async (n: TestNode, more: Partial<AgentOptions> = {}): Promise<void> =>
  void (await n.start({ network: WIREGUARD, wireguardGo: wireguardGo(n), resyncMs: 200, ...more }));

/** What the node's agents started, whichever of them. */
export const pidsOf = (n: TestNode): number[] =>
  readdirSync(join(n.stateDir, 'daemons')).filter((f) => f.endsWith('.json')).map((f) => (JSON.parse(readFileSync(join(n.stateDir, 'daemons', f), 'utf8')) as { pid: number }).pid);

/** As `podway network set` writes it. */
export const setNetwork = (net: TestNetwork, text: string): void =>
  net.client.put(ConfigMaps, { metadata: { name: NETWORK_CONFIG_MAP.name, namespace: NETWORK_CONFIG_MAP.namespace }, data: { [NETWORK_CONFIG_MAP.key]: text } });

export const waysOf = async (net: TestNetwork): Promise<string[]> =>
  (await net.client.list(Nodes)).map((n) => {
    const ends = nodeEnds(n);
    return `${ends?.uses}: ${Object.keys(ends?.accepts ?? {}).sort().join(' ')}`;
  });

/** All nodes send by this way and take no other. */
export const changedTo = (net: TestNetwork, way: string): Promise<boolean> =>
  until(`all nodes use ${way} only`, async () => {
    const ways = await waysOf(net);
    assert.deepEqual(ways, ways.map(() => `${way}: ${way}`));
    return true;
  }, 30_000);

export async function withWireguard(count: number, more: Partial<AgentOptions>, use: (net: TestNetwork, nodes: TestNode[]) => Promise<void>): Promise<void> {
  await withNetwork(async (net) => {
    const nodes = Array.from({ length: count }, (_, n) => net.addNode(n));
    try {
      for (const n of nodes) await startWireguard(n, more);
      for (const n of nodes) await n.ready();
      await use(net, nodes);
    } finally {
      await endPrograms(nodes);
    }
  });
}

/** An agent that ends leaves its programs at work; a test does not. */
export async function endPrograms(nodes: readonly TestNode[]): Promise<void> {
  for (const n of nodes) {
    await n.stop();
    const daemons = new Supervisor({ dir: join(n.stateDir, 'daemons') });
    await daemons.stop();
    await daemons.close();
  }
}

/** ping(8) in a process of its own: a machine too busy for the rate gets fewer echoes, not bursts of them that no queue holds. */
export class PingProgram {
  private readonly child: ChildProcess;
  private readonly lines: Interface;
  private readonly answered = new Set<number>();

  constructor(net: TestNetwork, ns: Netns, address: string, perSecond: number) {
    this.child = net.spawn(ns, ['ping', '-n', '-i', String(1 / perSecond), address]);
    this.lines = createInterface({ input: this.child.stdout! }).on('line', (l) => {
      const seq = /icmp_seq=(\d+) ttl=/.exec(l)?.[1];
      if (seq !== undefined) this.answered.add(Number(seq));
    });
  }

  get answers(): number {
    return this.answered.size;
  }

  /** @returns numbers that were not answered, before the last that was */
  async stop(): Promise<{ sent: number; lost: number[] }> {
    const ended = once(this.lines, 'close');
    this.child.kill('SIGINT');
    await ended;
    const sent = Math.max(0, ...this.answered);
    return { sent, lost: Array.from({ length: sent }, (_, i) => i + 1).filter((n) => !this.answered.has(n)) };
  }
}
