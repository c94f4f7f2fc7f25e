/**
 * What is known of a running pod, on disk: `<lab>/pods/<uid>.json`, mode 0600, replaced whole.
 * `podway exec`, `podway down` and the doctor read it; they need nothing else to enter a pod.
 */
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { PodwayError } from '@podway/errors';
import { NETNS_DIR } from '@podway/kernel';
import { DEFAULT_PATH } from '../images/index.js';
import { identityArgs, type Identity } from './init.js';

export interface IdentityRecord {
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  /** Hexadecimal; absent: all. */
  readonly caps?: string;
  readonly noNewPrivileges?: boolean;
}

export interface ContainerRecord {
  readonly name: string;
  /** 64 hexadecimal digits. */
  readonly id: string;
  readonly image: string;
  readonly kind: 'init' | 'app' | 'ephemeral';
  /** PID 1 of the container, as the machine counts. */
  readonly pid: number;
  readonly monitorPid: number;
  readonly startedAt: string;
  readonly logPath: string;
  /** Socket of its monitor, for `podway-init attach`. */
  readonly attach: string;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly identity: IdentityRecord;
}

export interface PodRecord {
  readonly version: 1;
  readonly lab: string;
  readonly node: string;
  readonly nodePid: number;
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly sandbox: {
    readonly id: string;
    /** The pause process, as the machine counts. */
    readonly pid: number;
    /** CNI_NETNS, in the node's mount namespace; absent with hostNetwork. */
    readonly netns?: string;
    readonly shm: string;
    /** Inode number of the net namespace. */
    readonly netnsInode: number;
    readonly ips: readonly string[];
  };
  readonly containers: readonly ContainerRecord[];
}

export const recordPath = (podsDir: string, uid: string): string => join(podsDir, `${uid}.json`);

export async function writeRecord(podsDir: string, record: PodRecord): Promise<void> {
  await mkdir(podsDir, { recursive: true, mode: 0o700 });
  const path = recordPath(podsDir, record.uid);
  await writeFile(`${path}.new`, `${JSON.stringify(record, null, 1)}\n`, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

/** The record, and the name under /run/netns that the pod may have been given: it would point to nothing. */
export async function removeRecord(podsDir: string, uid: string): Promise<void> {
  const record = await readRecord(podsDir, uid);
  if (record) await rm(join(NETNS_DIR, exposedName(record)), { force: true });
  await rm(recordPath(podsDir, uid), { force: true });
}

async function readRecord(podsDir: string, uid: string): Promise<PodRecord | undefined> {
  const text = await readFile(recordPath(podsDir, uid), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as PodRecord);
}

/** All pods of a lab; an absent directory holds none, an unreadable file is left out. */
export async function readRecords(podsDir: string): Promise<PodRecord[]> {
  const names = await readdir(podsDir).catch(() => []);
  const records = await Promise.all(
    names.filter((n) => n.endsWith('.json')).map(async (n) =>
      readFile(join(podsDir, n), 'utf8').then((t) => JSON.parse(t) as PodRecord).catch(() => undefined)),
  );
  return records.filter((r) => r !== undefined);
}

/** The inode number behind /proc/PID/ns/KIND; undefined when the process is gone. */
export function namespaceInode(pid: number, kind: string): number | undefined {
  try {
    return Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/${kind}`))?.[1]);
  } catch {
    return undefined;
  }
}

/** True while the recorded sandbox process lives and still is that sandbox (pids are used again). */
export function sandboxAlive(record: PodRecord): boolean {
  return namespaceInode(record.sandbox.pid, 'net') === record.sandbox.netnsInode;
}

export const toRecord = (id: Identity): IdentityRecord => ({
  ...(id.uid === undefined ? {} : { uid: id.uid }),
  ...(id.gid === undefined ? {} : { gid: id.gid }),
  ...(id.groups === undefined ? {} : { groups: id.groups }),
  ...(id.caps === undefined ? {} : { caps: id.caps.toString(16) }),
  ...(id.noNewPrivileges === undefined ? {} : { noNewPrivileges: id.noNewPrivileges }),
});

const fromRecord = ({ caps, ...rest }: IdentityRecord): Identity =>
  caps === undefined ? rest : { ...rest, caps: BigInt(`0x${caps}`) };

export interface CommandLine {
  readonly file: string;
  readonly args: readonly string[];
  /** The whole environment of the command. */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * The process to spawn, with stdio inherited, for a command inside a container: all namespaces of
 * the container, its environment, user and capabilities.
 *
 * @param container the first app container when undefined.
 * @param stream for a caller that carries the streams elsewhere (podway-init exec --stream), with a terminal or without.
 * Errors: PodwayError CONTAINER_NOT_FOUND, with the names there are.
 */
export function execInContainer(
  init: string,
  record: PodRecord,
  command: readonly string[],
  options: { readonly container?: string; readonly env?: Readonly<Record<string, string>>; readonly stream?: { readonly tty: boolean } } = {},
): CommandLine {
  const running = record.containers;
  const c = options.container === undefined
    ? (running.find((x) => x.kind === 'app') ?? running[0])
    : running.find((x) => x.name === options.container);
  if (!c) {
    throw new PodwayError('CONTAINER_NOT_FOUND', `container ${options.container ?? ''} is not running`.replace('  ', ' '), {
      object: `pod ${record.namespace}/${record.name}`,
      hint: running.length ? `running: ${running.map((x) => x.name).join(', ')}` : 'no container of the pod runs: see podway get pods',
    });
  }
  return {
    file: init,
    args: ['exec', '--target', String(c.pid), '-a', ...(options.stream ? ['--stream', ...(options.stream.tty ? ['--tty'] : [])] : []), ...(c.cwd === undefined ? [] : ['--cwd', c.cwd]), ...identityArgs(fromRecord(c.identity)), '--', ...command],
    env: { ...c.env, ...options.env },
  };
}

/** Namespace letters as in nsenter(1). */
export type NamespaceLetter = 'n' | 'm' | 'p' | 'u' | 'i' | 'C' | 'U' | 'T' | 'a';

/**
 * A command of the node's own tools in some namespaces of a pod (`nsenter -t PID -n -- ss -lnt`).
 * Without `m` it sees the files of whoever calls, so an image without any tool can be looked into.
 */
export function execInNamespaces(
  init: string,
  pid: number,
  letters: readonly NamespaceLetter[],
  command: readonly string[],
  env: Readonly<Record<string, string>> = { PATH: DEFAULT_PATH },
): CommandLine {
  return { file: init, args: ['exec', '--target', String(pid), ...letters.map((l) => `-${l}`), '--', ...command], env };
}

/** `docker exec NODE` of a kind cluster: every namespace of the node. */
export function execInNode(init: string, holderPid: number, command: readonly string[], env?: Readonly<Record<string, string>>): CommandLine {
  return execInNamespaces(init, holderPid, ['a'], command, env);
}

/** The name under /run/netns that `podway netns expose` gives a pod. It carries the lab's name, and `down` removes it. */
export const exposedName = (r: Pick<PodRecord, 'lab' | 'namespace' | 'name'>): string => `podway-${r.lab}-pod-${r.namespace}-${r.name}`;
