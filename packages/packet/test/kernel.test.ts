/**
 * Packets of the real kernel: two namespaces, a veth, a VXLAN device over IPv4 and one over IPv6, a TCP connection through each, captured on
 * VTEP and uplink at once. Shows what no made-up packet can: that checksums which Linux leaves open, inside and outside, are told from bad
 * ones, and that a packet has one identity at both points.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { decode, encapsulationOverhead, identity, innermost, readCapture, TCP_FLAGS, type DecodedPacket } from '../src/index.js';
import { missing } from './oracle.js';

const A = `podway-packet-${process.pid}-a`;
const B = `podway-packet-${process.pid}-b`;
const PORT = 7000;

function run(...argv: readonly string[]): void {
  const done = spawnSync(argv[0] as string, argv.slice(1), { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(`${argv.join(' ')}: ${done.error?.message ?? done.stderr}`);
}

function reasonToSkip(): string | false {
  if (process.getuid?.() !== 0) return 'needs root, to make network namespaces';
  const program = missing('tcpdump') || (spawnSync('ip', ['-V']).error !== undefined && 'ip is not installed');
  if (program !== false) return program;
  const probe = spawnSync('ip', ['netns', 'add', `${A}-probe`], { encoding: 'utf8' });
  if (probe.status !== 0) return `cannot make a network namespace: ${probe.stderr.trim()}`;
  run('ip', 'netns', 'del', `${A}-probe`);
  return false;
}

function build(): void {
  for (const ns of [A, B]) run('ip', 'netns', 'add', ns);
  run('ip', '-n', A, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', B);
  [A, B].forEach((ns, i) => {
    const [own, peer] = i === 0 ? ['1', '2'] : ['2', '1'];
    const ip = (...argv: string[]): void => run('ip', '-n', ns, ...argv);
    ip('link', 'set', 'lo', 'up');
    ip('addr', 'add', `172.31.0.${own}/24`, 'dev', 'eth0');
    ip('addr', 'add', `fc00:31::${own}/64`, 'dev', 'eth0', 'nodad');
    ip('link', 'set', 'eth0', 'up');
    for (const [dev, id, port, local, remote, net] of [
      ['vx4', '1', '8472', `172.31.0.${own}`, `172.31.0.${peer}`, '10.99.4'],
      ['vx6', '2', '4789', `fc00:31::${own}`, `fc00:31::${peer}`, '10.99.6'],
    ] as const) {
      const mac = (n: string): string => `0a:00:00:00:0${id}:0${n}`;
      ip('link', 'add', dev, 'address', mac(own), 'type', 'vxlan', 'id', id, 'dstport', port, 'local', local, 'dev', 'eth0', 'nolearning');
      ip('addr', 'add', `${net}.${own}/24`, 'dev', dev);
      ip('link', 'set', dev, 'up');
      ip('neigh', 'add', `${net}.${peer}`, 'lladdr', mac(peer), 'dev', dev, 'nud', 'permanent');
      run('bridge', '-n', ns, 'fdb', 'add', mac(peer), 'dev', dev, 'dst', remote);
    }
  });
}

/** A capture that runs; `packets` grows as they come. */
class Capture {
  private bytes = Buffer.alloc(0);
  private readonly child: ChildProcess;
  readonly ready: Promise<void>;

  constructor(device: string) {
    this.child = spawn('ip', ['netns', 'exec', A, 'tcpdump', '--immediate-mode', '-U', '-w', '-', '-i', device], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.on('data', (chunk: Buffer) => (this.bytes = Buffer.concat([this.bytes, chunk])));
    this.ready = new Promise((resolve, reject) => {
      let said = '';
      this.child.stderr?.on('data', (chunk: Buffer) => ((said += chunk.toString()), said.includes('listening on') && resolve()));
      this.child.once('exit', () => reject(new Error(`tcpdump ended: ${said}`)));
    });
  }

  packets(): DecodedPacket[] {
    return [...readCapture(this.bytes)].map((r) => decode(r.bytes, r.linkType, { originalLength: r.originalLength }));
  }

  /** Resolves when `done` holds for the packets so far. */
  async until(done: (packets: DecodedPacket[]) => boolean, signal: AbortSignal): Promise<DecodedPacket[]> {
    for (;;) {
      const packets = this.packets();
      if (done(packets)) return packets;
      await once(this.child.stdout as NodeJS.EventEmitter, 'data', { signal });
    }
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null) return;
    this.child.kill('SIGTERM');
    await once(this.child, 'exit');
  }
}

const inNode = (ns: string, program: string): ChildProcess => spawn('ip', ['netns', 'exec', ns, process.execPath, '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });

function tcpOf(packets: readonly DecodedPacket[], net: string): DecodedPacket[] {
  return packets.filter((p) => {
    const inner = innermost(p);
    return inner?.transport?.type === 'tcp' && inner.ip.src.startsWith(net);
  });
}

const fins = (packets: readonly DecodedPacket[], net: string): number =>
  tcpOf(packets, net).filter((p) => {
    const t = innermost(p)?.transport;
    return t?.type === 'tcp' && (t.flags & TCP_FLAGS.fin) !== 0;
  }).length;

test('TCP through VXLAN over IPv4 and IPv6, as the kernel sends it', { skip: reasonToSkip(), timeout: 30_000 }, async (t) => {
  const captures: Record<string, Capture> = {};
  const children: ChildProcess[] = [];
  try {
    build();
    for (const device of ['eth0', 'vx4', 'vx6']) captures[device] = new Capture(device);
    await Promise.all(Object.values(captures).map((c) => c.ready));
    const server = inNode(B, `require('net').createServer((c) => c.resume().on('end', () => c.end('bye'))).listen(${PORT}, () => console.log('ready'))`);
    children.push(server);
    await once(server.stdout as NodeJS.EventEmitter, 'data', { signal: t.signal });
    for (const [net, device, overhead] of [['10.99.4.', 'vx4', 50], ['10.99.6.', 'vx6', 70]] as const) {
      const client = inNode(A, `const c = require('net').connect(${PORT}, '${net}2', () => c.end(Buffer.alloc(3000, 'x'))); c.resume()`);
      children.push(client);
      await once(client, 'exit', { signal: t.signal });
      const inside = tcpOf(await (captures[device] as Capture).until((p) => fins(p, net) === 2, t.signal), net);
      const outside = tcpOf(await (captures['eth0'] as Capture).until((p) => fins(p, net) === 2, t.signal), net);
      for (const packet of [...inside, ...outside]) {
        assert.deepEqual(packet.problems, []);
        assert.equal(innermost(packet)?.transport?.checksumState, 'offloaded');
      }
      for (const packet of outside) {
        assert.equal(encapsulationOverhead(packet), overhead);
        const udp = packet.layers.find((l) => l.type === 'udp');
        assert.equal(udp?.checksumState, 'offloaded', 'the outer sum is right for the packet as it will be, or left to the device as well');
      }
      const seen = new Set(outside.map(identity));
      const both = inside.map(identity).filter((id) => seen.has(id));
      assert.ok(both.length >= Math.min(inside.length, outside.length) - 1, `${both.length} of ${inside.length} packets were recognised at the uplink`);
      assert.equal(new Set(both).size, both.length, 'identities are unique');
    }
  } finally {
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(Object.values(captures).map((c) => c.stop()));
    for (const ns of [A, B]) spawnSync('ip', ['netns', 'del', ns]);
  }
});
