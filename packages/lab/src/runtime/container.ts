/** Starts one container of a pod in its sandbox. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pod } from '@podway/kube';
import type { PreparedImage } from '../images/index.js';
import { commandLine, environment, type Container } from './env.js';
import { startContainer, type Mount, type RunningContainer } from './init.js';
import { toRecord, type ContainerRecord } from './record.js';
import type { Sandbox } from './sandbox.js';
import { identityOf } from './security.js';
import type { RuntimeOptions } from './types.js';
import { containerMounts, podDir } from './volumes.js';

/** `<namespace>_<name>_<uid>/<container>`, as the kubelet lays out /var/log/pods. */
export function logDir(logs: string, pod: Pod, container: string): string {
  const m = pod.metadata ?? {};
  return join(logs, `${m.namespace ?? 'default'}_${m.name ?? ''}_${m.uid ?? ''}`, container);
}

export interface Launch {
  readonly record: ContainerRecord;
  readonly process: RunningContainer;
}

/**
 * Everything that can be wrong with the configuration, before anything runs.
 * Errors: PodwayError FIELD_UNKNOWN, ENV_SOURCE_UNKNOWN, CAPABILITY_UNKNOWN, RUN_AS_NON_ROOT, VOLUME_*.
 */
export async function configure(pod: Pod, container: Container, image: PreparedImage, sandbox: Sandbox, options: RuntimeOptions) {
  const addresses = { podIPs: sandbox.ips, hostIPs: options.node.addresses };
  const env = environment(pod, container, image.definition, addresses);
  return {
    env,
    identity: identityOf(pod, container),
    command: commandLine(container, image.definition, env),
    mounts: await containerMounts(pod, container, { node: options.node, init: options.init, shm: sandbox.shm }),
  };
}

export type Configuration = Awaited<ReturnType<typeof configure>>;

export interface LaunchInput {
  readonly pod: Pod;
  readonly container: Container;
  readonly kind: 'init' | 'app' | 'ephemeral';
  /** PID 1 of the container whose processes it shall see, as the machine counts. */
  readonly pidOf?: number;
  readonly image: PreparedImage;
  readonly sandbox: Sandbox;
  readonly configuration: Configuration;
  readonly restartCount: number;
  /** RFC 3339, of now. */
  readonly startedAt: string;
}

/** Errors: PodwayError INIT_EXEC, INIT_FAILED. */
export async function launch(input: LaunchInput, options: RuntimeOptions): Promise<Launch> {
  const { pod, container, image, sandbox, configuration } = input;
  const { identity, env, command, mounts } = configuration;
  const uid = pod.metadata?.uid ?? '';
  const dir = logDir(options.node.dirs.logs, pod, container.name);
  await mkdir(dir, { recursive: true });
  await dropOldLogs(dir, input.restartCount);
  const logPath = join(dir, `${input.restartCount}.log`);
  // A name of its own per run, and a short one: the path of a socket has room for 107 bytes.
  const attach = join(podDir(options.node, uid), `a-${randomBytes(4).toString('hex')}`);
  const imageBinds: Mount[] = image.binds.map((b) => ({ ...b }));
  const process = await startContainer(options.init, {
    nodePid: options.node.holderPid,
    sandboxPid: sandbox.resident.pid,
    root: image.root,
    binds: [...imageBinds, ...mounts.binds],
    nodeBinds: mounts.nodeBinds,
    tmpfs: [],
    ...(container.workingDir ? { cwd: container.workingDir } : {}),
    ...identity,
    sharePid: pod.spec?.shareProcessNamespace === true,
    ...(input.pidOf === undefined ? {} : { pidOf: input.pidOf }),
    stdin: container.stdin === true, stdinOnce: container.stdinOnce === true, tty: container.tty === true, attach,
    log: { path: logPath, maxBytes: options.log?.maxBytes ?? 10 * 1024 * 1024, files: options.log?.files ?? 5 },
    exitFile: join(podDir(options.node, uid), `${container.name}.exit`),
    env,
    command,
  });
  return {
    process,
    record: {
      name: container.name,
      id: randomBytes(32).toString('hex'),
      image: container.image ?? '',
      kind: input.kind,
      pid: process.pid,
      monitorPid: process.monitorPid,
      startedAt: input.startedAt,
      logPath,
      attach,
      env,
      ...(container.workingDir ? { cwd: container.workingDir } : {}),
      identity: toRecord(identity),
    },
  };
}

/** Keeps the log of the run before this one (`kubectl logs --previous`) and drops older ones. */
async function dropOldLogs(dir: string, restartCount: number): Promise<void> {
  const names = await readdir(dir);
  await Promise.all(names.filter((n) => Number.parseInt(n, 10) < restartCount - 1).map((n) => rm(join(dir, n), { force: true })));
}
