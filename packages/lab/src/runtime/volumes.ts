/** Volumes and the files a runtime puts into every container: what is mounted where. */
import { chmod, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';
import { DEFAULT_PATH } from '../images/index.js';
import { resolvConf, type DnsWarning } from './dns.js';
import { hostnameOf, hostNetworkHostsFile, hostsFile, type Container } from './env.js';
import { runInit, type Mount } from './init.js';
import type { NodeDescriptor, ClusterDns } from './types.js';

export interface ContainerMounts {
  /** Sources on the machine. */
  readonly binds: readonly Mount[];
  /** Sources in the node's mount namespace. */
  readonly nodeBinds: readonly Mount[];
}

export const podDir = (node: NodeDescriptor, uid: string): string => join(node.dirs.pods, uid);

/**
 * /etc/hosts, /etc/hostname and /etc/resolv.conf of a pod.
 * @returns what was not made as it was asked for, for the pod's events.
 */
export async function writePodFiles(pod: Pod, node: NodeDescriptor, ips: readonly string[], dns: ClusterDns | undefined): Promise<readonly DnsWarning[]> {
  const dir = podDir(node, pod.metadata?.uid ?? '');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const [nodeResolv, nodeHosts] = await Promise.all(['/etc/resolv.conf', '/etc/hosts'].map((file) => nodeFile(node, file)));
  const resolv = resolvConf(pod, dns, nodeResolv ?? '');
  const hostNetwork = pod.spec?.hostNetwork === true;
  await Promise.all([
    writeFile(join(dir, 'hosts'), hostNetwork ? hostNetworkHostsFile(pod, nodeHosts ?? '') : hostsFile(pod, ips, dns?.domain)),
    writeFile(join(dir, 'hostname'), `${hostNetwork ? node.name : hostnameOf(pod)}\n`),
    writeFile(join(dir, 'resolv.conf'), resolv.text),
  ]);
  return resolv.warnings;
}

/** As the node has it. A link that leads into a /run that the node does not have leads to the machine's file. */
const nodeFile = (node: NodeDescriptor, file: string): Promise<string> =>
  readFile(`/proc/${node.holderPid}/root${file}`, 'utf8').catch(() => readFile(file, 'utf8')).catch(() => '');

const within = (path: string, base: string): boolean => path === base || path.startsWith(base.endsWith('/') ? base : `${base}/`);

/** Inside its volume: `..` in a subPath is refused by the API server, and here again. */
function inside(base: string, subPath: string | undefined): string {
  if (subPath === undefined || subPath === '') return base;
  const path = normalize(join(base, subPath));
  if (!within(path, base)) throw new PodwayError('VOLUME_PATH', `subPath ${subPath} leaves its volume`);
  return path;
}

/** Errors: PodwayError VOLUME_UNKNOWN for kinds that this lab does not provide, VOLUME_PATH. */
export async function containerMounts(
  pod: Pod,
  container: Container,
  context: { readonly node: NodeDescriptor; readonly init: string; readonly shm: string },
): Promise<ContainerMounts> {
  const { node } = context;
  const dir = podDir(node, pod.metadata?.uid ?? '');
  const binds: Mount[] = [
    { source: join(dir, 'hosts'), target: '/etc/hosts', readOnly: false },
    { source: join(dir, 'hostname'), target: '/etc/hostname', readOnly: false },
    { source: join(dir, 'resolv.conf'), target: '/etc/resolv.conf', readOnly: false },
  ];
  const nodeBinds: Mount[] = [{ source: context.shm, target: '/dev/shm', readOnly: false }];

  for (const mount of container.volumeMounts ?? []) {
    const volume = (pod.spec?.volumes ?? []).find((v) => v.name === mount.name);
    const readOnly = mount.readOnly === true;
    if (volume?.emptyDir) {
      const base = join(dir, 'volumes', volume.name);
      const source = inside(base, mount.subPath);
      await mkdir(source, { recursive: true });
      // A container may have put a link there that leads out of its volume.
      if (!within(await realpath(source), await realpath(base))) throw new PodwayError('VOLUME_PATH', `subPath ${mount.subPath} leaves its volume`);
      await chmod(base, 0o777);
      binds.push({ source, target: mount.mountPath, readOnly });
    } else if (volume?.hostPath) {
      const { path, type } = volume.hostPath;
      const source = inside(path, mount.subPath);
      if (type === 'DirectoryOrCreate' || type === 'FileOrCreate') {
        const make = type === 'FileOrCreate' ? ['touch', source] : ['mkdir', '-p', source];
        await runInit(context.init, ['exec', '--target', String(node.holderPid), '-m', '--', ...make], { env: { PATH: DEFAULT_PATH } });
      }
      nodeBinds.push({ source, target: mount.mountPath, readOnly });
    } else {
      const kind = Object.keys(volume ?? {}).find((k) => k !== 'name') ?? 'unknown';
      throw new PodwayError('VOLUME_UNKNOWN', `volume ${mount.name}: kind ${kind} is not provided by this lab (emptyDir and hostPath are)`, {
        object: `pod ${pod.metadata?.namespace}/${pod.metadata?.name}`,
      });
    }
  }
  return { binds, nodeBinds };
}
