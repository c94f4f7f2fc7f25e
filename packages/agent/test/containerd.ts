/**
 * A containerd of the test's own: in a mount namespace with a /run and /var/lib of its own and in the network
 * namespace of a test node, with everything it keeps in one folder and its control groups below one parent.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, symlinkSync, writeFileSync, openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { buildShim } from '@podway/cni';
import { Cri, inner, map, text, type Message } from './cri-client.js';
import { pathOf, until, type TestNode } from './network.js';

const IMAGE = 'podway.test/pause:1';
const PLUGINS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].find((d) => existsSync(join(d, 'loopback')));
const onPath = (name: string): string | undefined => (process.env['PATH'] ?? '').split(':').concat('/usr/sbin', '/sbin').map((d) => join(d, name)).find((p) => existsSync(p));

/** Why a containerd cannot be run here, or false. */
export function cannotRunContainerd(): string | false {
  const missing = ['containerd', 'containerd-shim-runc-v2', 'runc', 'ctr'].filter((p) => onPath(p) === undefined);
  if (missing.length) return `${missing.join(', ')} missing (Debian packages containerd and runc)`;
  if (PLUGINS === undefined) return 'the plugin loopback is missing (Debian package containernetworking-plugins)';
  const cgroups = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((l) => / - cgroup2? /.test(l));
  return cgroups.some((l) => /^\d+ \d+ \S+ \S+ \S+ rw\b/.test(l)) ? false : 'no control groups can be made here';
}

export interface SandboxSpec {
  readonly name: string;
  readonly ports?: readonly { readonly host: number; readonly container: number; readonly protocol?: 0 | 1 | 2 }[];
  readonly annotations?: Readonly<Record<string, string>>;
}

export class Containerd {
  private process: ChildProcess | undefined;
  private cri: Cri | undefined;
  private readonly socket: string;
  private readonly group = `podway-test-${process.pid}`;

  private constructor(private readonly dir: string, private readonly node: TestNode, readonly holder: ChildProcess) {
    this.socket = join(dir, 'containerd.sock');
  }

  static async create(dir: string, node: TestNode): Promise<Containerd> {
    for (const d of ['root', 'state', 'bin', 'image', 'logs']) mkdirSync(join(dir, d), { recursive: true });
    const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && echo ready && exec sleep infinity'], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    const c = new Containerd(dir, node, holder);
    await buildShim(join(dir, 'bin'));
    symlinkSync(join(PLUGINS ?? '', 'loopback'), join(dir, 'bin', 'loopback'));
    writeFileSync(join(dir, 'config.toml'), c.config());
    c.makeImage();
    await c.start();
    c.run(['ctr', '--address', c.socket, '--namespace', 'k8s.io', 'images', 'import', join(dir, 'image.tar')]);
    return c;
  }

  /** Runs in the mount namespace. */
  private readonly enter = (argv: readonly string[], network = false): string[] => ['nsenter', '-t', String(this.holder.pid), '--mount', ...(network ? [`--net=${pathOf(this.node.ns)}`] : []), '--', ...argv];
  private run(argv: readonly string[]): void {
    const [file = '', ...args] = this.enter([onPath(argv[0]!) ?? '', ...argv.slice(1)]);
    const r = spawnSync(file, args, { encoding: 'utf8' });
    assert.equal(r.status, 0, `${argv.join(' ')}: ${r.stderr}`);
  }

  /** What `spawn` is to be given for a program beside this containerd: the node's agent opens the paths that containerd gives. */
  beside(argv: readonly string[]): string[] {
    return this.enter(argv);
  }

  private config(): string {
    const cri = 'plugins."io.containerd.grpc.v1.cri"';
    return [
      'version = 2', `root = "${join(this.dir, 'root')}"`, `state = "${join(this.dir, 'state')}"`, '[grpc]', `address = "${this.socket}"`,
      `[${cri}]`, `sandbox_image = "${IMAGE}"`, 'disable_apparmor = true', 'restrict_oom_score_adj = true', 'netns_mounts_under_state_dir = true',
      `[${cri}.containerd]`, 'snapshotter = "native"',
      `[${cri}.containerd.runtimes.runc]`, 'runtime_type = "io.containerd.runc.v2"', `[${cri}.containerd.runtimes.runc.options]`, `BinaryName = "${onPath('runc')}"`,
      `[${cri}.cni]`, `bin_dir = "${join(this.dir, 'bin')}"`, `conf_dir = "${this.node.confDir}"`, '',
    ].join('\n');
  }

  /** One static program that waits for ever, as an image in Docker's archive form. */
  private makeImage(): void {
    const at = (name: string): string => join(this.dir, 'image', name);
    execFileSync('cc', ['-static', '-Os', '-o', at('pause'), '-x', 'c', '-'], { input: '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' });
    execFileSync('tar', ['-C', join(this.dir, 'image'), '-cf', at('layer.tar'), 'pause']);
    const digest = createHash('sha256').update(readFileSync(at('layer.tar'))).digest('hex');
    writeFileSync(at('config.json'), JSON.stringify({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch, os: 'linux', config: { Entrypoint: ['/pause'] }, rootfs: { type: 'layers', diff_ids: [`sha256:${digest}`] },
    }));
    writeFileSync(at('manifest.json'), JSON.stringify([{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }]));
    execFileSync('tar', ['-C', join(this.dir, 'image'), '-cf', join(this.dir, 'image.tar'), 'manifest.json', 'config.json', 'layer.tar']);
  }

  async start(): Promise<void> {
    const [file = '', ...args] = this.enter([onPath('containerd') ?? '', '--config', join(this.dir, 'config.toml')], true);
    const log = openSync(join(this.dir, 'containerd.log'), 'a');
    this.process = spawn(file, args, { stdio: ['ignore', log, log], env: { ...process.env, PODWAY_AGENT_SOCKET: this.node.socket } });
    closeSync(log);
    await until(`containerd answers (${join(this.dir, 'containerd.log')})`, async () => {
      assert.equal(this.process?.exitCode, null, readFileSync(join(this.dir, 'containerd.log'), 'utf8').slice(-2000));
      const cri = Cri.open(this.socket);
      try {
        await cri.call('Version', { 1: 'v1' });
      } catch (e) {
        cri.close();
        throw e;
      }
      this.cri = cri;
      return true;
    }, 30_000);
  }

  /** Ends containerd, not what it runs. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.cri?.close();
    const ended = this.process && this.process.exitCode === null ? once(this.process, 'close') : undefined;
    this.process?.kill(signal);
    await ended;
  }

  private api(): Cri {
    assert.ok(this.cri);
    return this.cri;
  }

  /** Type, whether it holds, and why not. */
  async conditions(): Promise<string[]> {
    const status = inner(await this.api().call('Status', {}), 1);
    return (status.get(1) ?? []).map((c) => inner(new Map([[1, [c]]]), 1)).map((c) => `${text(c, 1)} ${c.get(2)?.[0] === 1}${text(c, 4) && `: ${text(c, 4)}`}`);
  }

  async runSandbox(s: SandboxSpec): Promise<string> {
    const config: Message = {
      1: { 1: s.name, 2: `uid-${s.name}`, 3: 'default', 4: 0 }, 2: s.name, 3: join(this.dir, 'logs'),
      5: (s.ports ?? []).map((p) => ({ 1: p.protocol ?? 0, 2: p.container, 3: p.host })), 7: map(s.annotations ?? {}), 8: { 1: `/${this.group}` },
    };
    return text(await this.api().call('RunPodSandbox', { 1: config }), 1);
  }

  async status(id: string): Promise<{ ready: boolean; ip: string }> {
    const s = inner(await this.api().call('PodSandboxStatus', { 1: id }), 1);
    return { ready: (s.get(3)?.[0] ?? 0) === 0, ip: text(inner(s, 5), 1) };
  }

  async removeSandbox(id: string): Promise<void> {
    await this.api().call('StopPodSandbox', { 1: id });
    await this.api().call('RemovePodSandbox', { 1: id });
  }

  /** Processes that this containerd started and that still run: their command line or control group names what is ours alone. */
  private leftovers(): number[] {
    return readdirSync('/proc').filter((d) => /^\d+$/.test(d)).map(Number).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.socket) || readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/${this.group}/`);
      } catch {
        return false;
      }
    });
  }

  async close(): Promise<void> {
    await this.stop().catch(() => undefined);
    for (const pid of this.leftovers()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // ended in between
      }
    }
    await until('what containerd ran has ended', () => this.leftovers().length === 0);
    const ended = once(this.holder, 'close');
    this.holder.kill('SIGKILL');
    await ended;
    for (const root of ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map((d) => join('/sys/fs/cgroup', d))]) removeGroups(join(root, this.group));
  }
}

function removeGroups(dir: string): void {
  if (!existsSync(dir)) return;
  for (const e of readdirSync(dir, { withFileTypes: true })) if (e.isDirectory()) removeGroups(join(dir, e.name));
  rmdirSync(dir);
}
