/** What the runtime's tests share: a node, an object store, a network that only knows addresses. */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PodwayError } from '@podway/errors';
import type { DeleteOptions, KubeObject, ObjectClient, ObjectKind, PatchOptions, Pod, Selection, WatchHandlers } from '@podway/kube';
import { ImageStore } from '../src/images/index.js';
import { namespaceInode, NodeRuntime, startHold, type HoldOptions, type NetworkStatus, type NodeDescriptor, type PodNetwork, type Resident, type RuntimeOptions, type SandboxAttachment } from '../src/runtime/index.js';

const packageDir = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Builds the helper once per test process, in the process's own directory. */
let binary: string | undefined;
export function initBinary(): string {
  if (binary === undefined) {
    const dir = mkdtempSync(join(tmpdir(), 'podway-init-'));
    process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
    binary = join(dir, 'podway-init');
    execFileSync(process.execPath, [join(packageDir, 'native/build.mjs'), dir]);
  }
  return binary;
}

export const needsRoot = process.getuid?.() === 0 ? false : 'needs root: makes namespaces and mounts';

/** The machine's mounts, without those of labs that come and go meanwhile. */
export function machineMounts(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((l) => !/ \/run\/(netns|podway)\b/.test(l));
}

/** Looks until the answer is not undefined or false. The interval is a poll, not a guess of duration. */
export async function until<T>(what: string, ask: () => T | undefined | false | Promise<T | undefined | false>, ms = 10_000): Promise<T> {
  const end = Date.now() + ms;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((r) => setTimeout(r, 10));
  }
}

/** True while a process with this pid runs; a zombie does not. */
export function runs(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Every running process (a zombie still names its pid namespace) that has a given net, mnt or pid namespace, by pid. */
export function membersOf(kind: string, inode: number): number[] {
  return readdirSync('/proc').filter((d) => /^\d+$/.test(d)).map(Number).filter((pid) => namespaceInode(pid, kind) === inode && runs(pid));
}

type Stored = KubeObject & { status?: unknown; spec?: { nodeName?: string } };

/** Enough of an API server for one node: the in-process contract with merge patches. */
export class MemoryClient implements ObjectClient {
  private readonly objects = new Map<string, Stored>();
  private readonly watchers = new Set<(type: 'ADDED' | 'MODIFIED' | 'DELETED', key: string, o: Stored) => void>();
  private version = 0;

  private key(plural: string, name: string, namespace = ''): string {
    return `${plural}/${namespace}/${name}`;
  }
  private tell(type: 'ADDED' | 'MODIFIED' | 'DELETED', key: string, o: Stored): void {
    for (const w of this.watchers) queueMicrotask(() => w(type, key, structuredClone(o)));
  }
  private need(key: string): Stored {
    const o = this.objects.get(key);
    if (!o) throw new PodwayError('KUBE_NOT_FOUND', `${key} not found`);
    return o;
  }
  async get<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): Promise<T> {
    return structuredClone(this.need(this.key(kind.plural, name, namespace))) as T;
  }
  async list<T extends KubeObject>(kind: ObjectKind<T>, s: Selection = {}): Promise<T[]> {
    return [...this.objects].filter(([k]) => k.startsWith(`${kind.plural}/${s.namespace ?? ''}`)).map(([, o]) => structuredClone(o) as T);
  }
  async create<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    const key = this.key(kind.plural, object.metadata?.name ?? '', object.metadata?.namespace);
    if (this.objects.has(key)) throw new PodwayError('KUBE_ALREADY_EXISTS', `${key} already exists`);
    const o = structuredClone(object) as Stored;
    o.metadata = { ...o.metadata, uid: randomUUID(), resourceVersion: String(++this.version) };
    this.objects.set(key, o);
    this.tell('ADDED', key, o);
    return structuredClone(o) as T;
  }
  async update<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    return this.patch(kind, { name: object.metadata?.name ?? '', ...(object.metadata?.namespace ? { namespace: object.metadata.namespace } : {}) }, object, { type: 'merge' });
  }
  async patch<T extends KubeObject>(kind: ObjectKind<T>, target: { name: string; namespace?: string }, patch: unknown, options: PatchOptions): Promise<T> {
    if (options.type !== 'merge') throw new PodwayError('KUBE_INVALID', `patch type ${options.type}`);
    const key = this.key(kind.plural, target.name, target.namespace);
    const o = merge(this.need(key), patch) as Stored;
    o.metadata = { ...o.metadata, resourceVersion: String(++this.version) };
    this.objects.set(key, o);
    this.tell('MODIFIED', key, o);
    return structuredClone(o) as T;
  }
  async delete<T extends KubeObject>(kind: ObjectKind<T>, target: { name: string; namespace?: string }, options: DeleteOptions = {}): Promise<void> {
    const key = this.key(kind.plural, target.name, target.namespace);
    const o = this.need(key);
    if (options.uid !== undefined && options.uid !== o.metadata?.uid) throw new PodwayError('KUBE_CONFLICT', 'uid differs');
    const grace = options.gracePeriodSeconds ?? (o as Pod).spec?.terminationGracePeriodSeconds ?? 30;
    if (kind.plural === 'pods' && grace > 0) {
      o.metadata = { ...o.metadata, deletionTimestamp: new Date().toISOString(), deletionGracePeriodSeconds: grace };
      this.tell('MODIFIED', key, o);
      return;
    }
    this.objects.delete(key);
    this.tell('DELETED', key, o);
  }
  watch<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection, handlers: WatchHandlers<T>): () => void {
    const node = /^spec\.nodeName=(.*)$/.exec(selection.fieldSelector ?? '')?.[1];
    const wanted = (key: string, o: Stored): boolean => key.startsWith(`${kind.plural}/`) && (node === undefined || o.spec?.nodeName === node);
    for (const [key, o] of this.objects) if (wanted(key, o)) queueMicrotask(() => handlers.event('ADDED', structuredClone(o) as T));
    const w = (type: 'ADDED' | 'MODIFIED' | 'DELETED', key: string, o: Stored): void => {
      if (wanted(key, o)) handlers.event(type, o as T);
    };
    this.watchers.add(w);
    return () => this.watchers.delete(w);
  }
}

function merge(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return structuredClone(patch);
  const result: Record<string, unknown> = target !== null && typeof target === 'object' && !Array.isArray(target) ? { ...(target as object) } : {};
  for (const [k, v] of Object.entries(patch)) {
    if (v === null) delete result[k];
    else result[k] = merge(result[k], v);
  }
  return result;
}

/** Hands out loopback addresses, and remembers what it was asked: a network without wires. */
export class AddressBook implements PodNetwork {
  readonly calls: string[] = [];
  readonly attached = new Map<string, SandboxAttachment>();
  private readonly addresses = new Map<string, string>();
  state: NetworkStatus = { ready: true };
  failure: Error | undefined;

  async add(s: SandboxAttachment): Promise<{ ips: string[] }> {
    this.calls.push(`ADD ${s.name}`);
    if (this.failure) throw this.failure;
    this.attached.set(s.sandboxId, s);
    const ip = this.addresses.get(s.uid) ?? `127.0.1.${this.addresses.size + 1}`;
    this.addresses.set(s.uid, ip);
    return { ips: [ip] };
  }
  async del(s: SandboxAttachment): Promise<void> {
    this.calls.push(`DEL ${s.name}`);
    this.attached.delete(s.sandboxId);
  }
  async status(): Promise<NetworkStatus> {
    return this.state;
  }
}

export interface TestNode {
  readonly dir: string;
  readonly holder: Resident;
  readonly descriptor: NodeDescriptor;
  readonly client: MemoryClient;
  readonly network: AddressBook;
  readonly runtime: NodeRuntime;
  readonly warnings: string[];
  readonly timings: { pod: string; step: string; ms: number }[];
  /** Creates a pod on the node. */
  pod(name: string, spec: Partial<NonNullable<Pod['spec']>>): Promise<Pod>;
  get(name: string): Promise<Pod>;
  events(name: string): Promise<{ reason: string; message: string; count: number }[]>;
  close(): Promise<void>;
}

/** A node of its own with a runtime; close() kills the holder and removes the files. */
export async function testNode(
  extra: Partial<RuntimeOptions> = {},
  machine: Pick<HoldOptions, 'binds' | 'overlays'> & { network?: (holderPid: number) => PodNetwork } = {},
): Promise<TestNode> {
  const init = initBinary();
  const dir = mkdtempSync(join(tmpdir(), 'podway-runtime-'));
  for (const d of ['pods', 'logs', 'images']) mkdirSync(join(dir, d), { mode: 0o700 });
  const name = 'm1';
  const holder = await startHold(init, {
    hostname: name, title: `test/${name}`, tmpfs: ['/run'],
    overlays: machine.overlays ?? [],
    binds: [{ source: join(dir, 'logs'), target: '/var/log/pods', readOnly: false }, ...(machine.binds ?? [])],
  });
  const descriptor: NodeDescriptor = { lab: 'test', name, holderPid: holder.pid, addresses: ['172.18.0.2'], dirs: { pods: join(dir, 'pods'), logs: join(dir, 'logs') } };
  const client = new MemoryClient();
  const network = new AddressBook();
  const warnings: string[] = [];
  const timings: { pod: string; step: string; ms: number }[] = [];
  const runtime = new NodeRuntime({
    node: descriptor, client, network: machine.network?.(holder.pid) ?? network, init, images: new ImageStore({ dir: join(dir, 'images') }),
    warn: (m, e) => warnings.push(`${m}: ${String(e)}`), timing: (pod, step, ms) => timings.push({ pod, step, ms }), ...extra,
  });
  await runtime.start();
  const podKind = (await import('@podway/kube')).Pods;
  const eventKind = (await import('@podway/kube')).Events;
  return {
    dir, holder, descriptor, client, network, runtime, warnings, timings,
    pod: (podName, spec) => client.create(podKind, { apiVersion: 'v1', kind: 'Pod', metadata: { name: podName, namespace: 'default' }, spec: { nodeName: name, containers: [], terminationGracePeriodSeconds: 1, ...spec } }),
    get: (podName) => client.get(podKind, podName, 'default'),
    events: async (podName) => {
      await runtime.flushEvents();
      return (await client.list(eventKind)).filter((e) => e.involvedObject.name === podName).map((e) => ({ reason: e.reason ?? '', message: e.message ?? '', count: e.count ?? 1 }));
    },
    close: async () => {
      await runtime.close();
      if (runs(holder.pid)) process.kill(holder.pid, 'SIGKILL');
      await holder.gone;
      await until('the node to be empty', () => !runs(holder.pid));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
