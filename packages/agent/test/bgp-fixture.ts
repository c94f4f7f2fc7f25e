/**
 * Real speakers for the tests of BGP: nodes and routers in nameless namespaces, BIRD in each, under a supervisor of its own.
 * What the namespaces hold goes with the test process; BIRDs are ended by `close`.
 *
 *   node ── eth0 ── switch (bridge) ── r1 ── router …
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Netns, ProbeSocket, RtNetlink, writeSysctl } from '@podway/kernel';
import { apply, describe, diff, mergeStates, observe, podwayOwnership, type Change } from '@podway/netstate';
import { parseCidr, cidrNth, formatIp } from '@podway/cni';
import { bgp, type BgpLocal, type BgpPeer } from '../src/backends/bgp.js';
import { birdDaemon, birdDaemonControl, BirdControl, birdPaths, routerSpeaker, timersOf, type BgpSettings, type RouterInput } from '../src/bgp/index.js';
import { Supervisor, type DaemonEvent, type DaemonSpec } from '../src/daemons/index.js';

const has = (program: string): boolean => {
  try {
    execFileSync('which', [program], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};
export const needsBird: string | false = process.getuid?.() !== 0 ? 'needs root to make network namespaces' : has('bird') ? false : 'needs bird (Debian: bird2)';

export const CLUSTER = ['10.244.0.0/16', 'fd00:10:244::/48'];
export const pathOf = (ns: Netns): string => `/proc/${process.pid}/fd/${ns.fd}`;
export const inNs = (ns: Netns, ...argv: string[]): string => execFileSync('nsenter', [`--net=${pathOf(ns)}`, ...argv], { encoding: 'utf8' });
export const routesOf = (ns: Netns, ...more: string[]): string[] =>
  inNs(ns, 'ip', ...more, 'route').split('\n').map((l) => l.trim().replace(/ +/g, ' ')).filter(Boolean);

export async function until<T>(what: string, is: () => T | Promise<T>, ms = 15_000): Promise<NonNullable<Awaited<T>>> {
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
    await new Promise((r) => setTimeout(r, 20));
  }
}

/** Short times, as a lab has them. */
export const SETTINGS: BgpSettings = { type: 'bgp', asn: 64512, mesh: true, reflectors: [], peers: [], holdTime: 6, keepaliveTime: 2 };

export class Member {
  readonly events: DaemonEvent[] = [];
  readonly dir: string;
  supervisor: Supervisor;
  constructor(readonly name: string, readonly ns: Netns, root: string) {
    this.dir = join(root, name);
    this.supervisor = this.newSupervisor();
  }
  newSupervisor(): Supervisor {
    return new Supervisor({ dir: this.dir, controls: { bird: birdDaemonControl }, emit: (e) => this.events.push(e) });
  }
  get socket(): string {
    return birdPaths(this.dir).socket;
  }
  get wrap(): string[] {
    return ['nsenter', `--net=${pathOf(this.ns)}`];
  }
  get pid(): number {
    const pid = this.supervisor.running()['bird'];
    assert.ok(pid, `no bird on ${this.name}: ${JSON.stringify(this.events)}`);
    return pid;
  }
  async run(specs: readonly DaemonSpec[]): Promise<void> {
    await this.supervisor.apply(specs);
    assert.ok(this.pid);
  }
  async ask<T>(use: (c: BirdControl) => Promise<T>): Promise<T> {
    return BirdControl.with(this.socket, use);
  }
  async established(count: number, ms?: number): Promise<void> {
    await until(`${this.name} has ${count} sessions`, async () => {
      const states = (await this.ask((c) => c.sessions())).map((s) => `${s.address} ${s.state} ${s.lastError ?? ''}`);
      if (states.filter((s) => s.includes('Established')).length !== count) throw new Error(states.join('; '));
      return true;
    }, ms);
  }
}

export class NodeMember extends Member {
  local: BgpLocal;
  constructor(name: string, ns: Netns, root: string, local: BgpLocal) {
    super(name, ns, root);
    this.local = local;
  }
  get peer(): BgpPeer {
    const { addresses, labels, blocks } = this.local;
    return {
      name: this.name, podCidrs: this.local.podCidrs, ends: { publicIP: this.local.uplink.address, uses: 'bgp', accepts: { bgp: {} } },
      ...(addresses === undefined ? {} : { addresses }), ...(labels === undefined ? {} : { labels }), ...(blocks === undefined ? {} : { blocks }),
    };
  }
  spec(settings: BgpSettings, nodes: readonly NodeMember[]): DaemonSpec[] {
    return bgp.daemons({ clusterCidrs: CLUSTER, backend: settings }, this.local, nodes.filter((n) => n !== this).map((n) => n.peer), { dir: this.dir, wrap: this.wrap });
  }
  private changes(settings: BgpSettings): Change[] {
    const desired = mergeStates(this.name, bgp.desired({ clusterCidrs: CLUSTER, backend: settings }, this.local));
    return diff(desired, observe(this.ns), podwayOwnership());
  }
  /** What of the backend's part of the namespace is not as it should be. */
  drift(settings: BgpSettings): string[] {
    return this.changes(settings).map(describe);
  }
  /** The backend's part of the namespace, as the agent applies it. */
  wire(settings: BgpSettings): void {
    const { failed } = apply(this.ns, this.changes(settings));
    assert.deepEqual(failed.map((f) => f.error.message), []);
  }
}

export class BgpLab {
  readonly root = mkdtempSync(join(tmpdir(), 'pwbgp-'));
  readonly nodes: NodeMember[] = [];
  readonly routers: Member[] = [];
  private readonly held: Netns[] = [];

  namespace(label: string): Netns {
    const ns = Netns.createNameless(label);
    RtNetlink.with(ns, (nl) => nl.setLink(1, { up: true }));
    this.held.push(ns);
    return ns;
  }

  switch(label: string): Netns {
    const ns = this.namespace(label);
    RtNetlink.with(ns, (nl) => nl.setLink(nl.createLink({ kind: 'bridge', name: 'br0' }).index, { up: true }));
    return ns;
  }

  /** A port of the switch, whose other end is a device in `ns` with these addresses. */
  plug(at: Netns, port: string, ns: Netns, dev: string, addresses: readonly string[]): void {
    RtNetlink.with(at, (nl) => {
      nl.createLink({ kind: 'veth', name: port, master: nl.mustLink('br0').index, peer: { name: dev, netnsFd: ns.fd } });
      nl.setLink(port, { up: true });
    });
    for (const a of addresses) if (a.includes(':')) writeSysctl(ns, `net.ipv6.conf.${dev}.accept_dad`, '0');
    RtNetlink.with(ns, (nl) => {
      const { index } = nl.mustLink(dev);
      nl.setLink(index, { up: true });
      for (const a of addresses) nl.addAddr({ index, address: a.split('/')[0]!, prefix: Number(a.split('/')[1]) });
    });
  }

  /** A node with bridge `cni0` on its (first IPv4) range; `addresses` with their prefix, IPv4 first. */
  addNode(at: Netns, name: string, addresses: readonly string[], podCidrs: readonly string[], labels?: Readonly<Record<string, string>>): NodeMember {
    const ns = this.namespace(name);
    this.plug(at, name, ns, 'eth0', addresses);
    RtNetlink.with(ns, (nl) => {
      const bridge = nl.createLink({ kind: 'bridge', name: 'cni0' });
      nl.setLink(bridge.index, { up: true });
      for (const c of podCidrs) nl.addAddr({ index: bridge.index, address: formatIp(cidrNth(parseCidr(c), 1)), prefix: parseCidr(c).prefix });
    });
    const [address = '', prefix = ''] = addresses[0]!.split('/');
    const node = new NodeMember(name, ns, this.root, {
      name, podCidrs, uplink: { dev: 'eth0', address, prefix: Number(prefix), mtu: 1500 }, addresses: addresses.map((a) => a.split('/')[0]!), subnets: addresses,
      ...(labels === undefined ? {} : { labels }),
    });
    this.nodes.push(node);
    return node;
  }

  /** The first address of the range that is no gateway, in a namespace behind `cni0`. */
  addPod(node: NodeMember, nth = 2): { ns: Netns; address: string; addresses: string[] } {
    const ns = this.namespace(`pod on ${node.name}`);
    const addresses = node.local.podCidrs.map((c) => `${formatIp(cidrNth(parseCidr(c), nth))}/${parseCidr(c).prefix}`);
    this.plugBridge(node, `p${nth}`, ns, addresses);
    return { ns, address: addresses[0]!.split('/')[0]!, addresses: addresses.map((a) => a.split('/')[0]!) };
  }

  private plugBridge(node: NodeMember, port: string, ns: Netns, addresses: readonly string[]): void {
    RtNetlink.with(node.ns, (nl) => {
      nl.createLink({ kind: 'veth', name: port, master: nl.mustLink('cni0').index, peer: { name: 'eth0', netnsFd: ns.fd } });
      nl.setLink(port, { up: true });
    });
    for (const a of addresses) if (a.includes(':')) writeSysctl(ns, 'net.ipv6.conf.eth0.accept_dad', '0');
    RtNetlink.with(ns, (nl) => {
      const { index } = nl.mustLink('eth0');
      nl.setLink(index, { up: true });
      for (const a of addresses) {
        nl.addAddr({ index, address: a.split('/')[0]!, prefix: Number(a.split('/')[1]) });
        const v6 = a.includes(':');
        nl.addRoute({ dst: v6 ? '::/0' : '0.0.0.0/0', index, gateway: formatIp(cidrNth(parseCidr(a), 1)) });
      }
    });
  }

  addRouter(name: string): Member {
    const ns = this.namespace(name);
    writeSysctl(ns, 'net.ipv4.ip_forward', '1');
    const router = new Member(name, ns, this.root);
    this.routers.push(router);
    return router;
  }

  routerSpec(router: Member, o: Omit<RouterInput, 'name' | 'clusterCidrs' | 'timers'>): DaemonSpec[] {
    return [birdDaemon(routerSpeaker({ name: router.name, clusterCidrs: CLUSTER, timers: timersOf(SETTINGS), ...o }), { dir: router.dir, wrap: router.wrap })];
  }

  async start(settings: BgpSettings = SETTINGS): Promise<void> {
    for (const n of this.nodes) n.wire(settings);
    await Promise.all(this.nodes.map((n) => n.run(n.spec(settings, this.nodes))));
  }

  async close(): Promise<void> {
    for (const m of [...this.nodes, ...this.routers]) {
      await m.supervisor.stop();
      await m.supervisor.close();
    }
    for (const ns of this.held) ns.close();
    rmSync(this.root, { recursive: true, force: true });
  }
}

export async function withLab(use: (lab: BgpLab) => Promise<void>): Promise<void> {
  const lab = new BgpLab();
  try {
    await use(lab);
  } finally {
    await lab.close();
  }
}

/** ICMP echoes at a fixed rate, and what became of them. */
export class PingStream {
  private readonly socket: ProbeSocket;
  private readonly id = 1 + Math.floor(Math.random() * 0xfffe);
  private readonly answered = new Set<number>();
  private readonly timer: NodeJS.Timeout;
  sent = 0;

  constructor(ns: Netns, address: string, perSecond = 100, ttl?: number) {
    this.socket = ProbeSocket.open(ns, 'icmp', ttl === undefined ? {} : { ttl });
    this.socket.connect(address, 0);
    const began = performance.now();
    // By the clock: a late timer is made up for.
    this.timer = setInterval(() => {
      this.collect();
      while (this.sent < ((performance.now() - began) * perSecond) / 1000) this.echo();
    }, 1000 / perSecond / 2);
  }

  private echo(): void {
    const b = Buffer.from([8, 0, 0, 0, this.id >> 8, this.id & 0xff, (this.sent >> 8) & 0xff, this.sent & 0xff]);
    let sum = 0;
    for (let i = 0; i < b.length; i += 2) sum += b.readUInt16BE(i);
    b.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 2);
    this.socket.send(b);
    this.sent++;
  }

  private collect(): void {
    for (let got = this.socket.receive(); got !== undefined; got = this.socket.receive()) {
      if (typeof got !== 'string' && got[20] === 0 && got.readUInt16BE(24) === this.id) this.answered.add(got.readUInt16BE(26));
    }
  }

  get answers(): number {
    this.collect();
    return this.answered.size;
  }

  /** @returns the numbers that were never answered. */
  async stop(): Promise<{ sent: number; lost: number[] }> {
    clearInterval(this.timer);
    const end = performance.now() + 1000;
    while (this.answers < this.sent && performance.now() < end) await new Promise((r) => setTimeout(r, 5));
    this.socket.close();
    return { sent: this.sent, lost: Array.from({ length: this.sent }, (_, i) => i).filter((i) => !this.answered.has(i)) };
  }
}

/** One answer to an echo, within `ms`. */
export async function reaches(ns: Netns, address: string, ms = 5000): Promise<boolean> {
  const stream = new PingStream(ns, address, 50);
  const end = performance.now() + ms;
  while (stream.answers === 0 && performance.now() < end) await new Promise((r) => setTimeout(r, 10));
  const ok = stream.answers > 0;
  await stream.stop();
  return ok;
}

/** tcpdump inside a namespace until `stop`, which gives its lines. */
export async function tcpdump(ns: Netns, dev: string, ...filter: string[]): Promise<{ stop(): Promise<string>; seen(): string }> {
  const child = spawn('nsenter', [`--net=${pathOf(ns)}`, 'tcpdump', '-l', '-n', '-v', '-U', '-i', dev, ...filter], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (b: Buffer) => (out += b.toString()));
  child.stderr.on('data', (b: Buffer) => (err += b.toString()));
  await until('tcpdump listens', () => err.includes('listening on'));
  return {
    seen: () => out,
    stop: () => new Promise((resolve) => {
      child.once('close', () => resolve(out));
      child.kill('SIGTERM');
    }),
  };
}
