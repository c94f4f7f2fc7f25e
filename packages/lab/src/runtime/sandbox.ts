/**
 * Pod sandboxes: made in the order pause process -> netns -> network ADD, each step with its undo;
 * removed in the reverse order. Absence counts as success on removal.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { PodwayError, messageOf } from '@podway/errors';
import type { Pod } from '@podway/kube';
import { bandwidthOf, type BandwidthArgs } from './bandwidth.js';
import { hostnameOf } from './env.js';
import { startPause, unmountInNode, type Resident } from './init.js';
import { namespaceInode, sandboxAlive, type PodRecord } from './record.js';
import type { NodeDescriptor, PodNetwork, PortMapping, RuntimeOptions, SandboxAttachment } from './types.js';

export interface Sandbox {
  readonly id: string;
  readonly resident: Resident;
  /** In the node's mount namespace; undefined with hostNetwork. */
  readonly netns: string | undefined;
  readonly shm: string;
  readonly netnsInode: number;
  readonly ips: readonly string[];
  readonly attachment: SandboxAttachment | undefined;
}

type Context = Pick<RuntimeOptions, 'init' | 'network' | 'timing'> & { readonly node: NodeDescriptor };

/** containerd's defaults: ports below 1024 and ICMP sockets need no capability inside a pod. */
const sandboxSysctls = { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' };

/** Pure. */
export function portMappingsOf(pod: Pod): PortMapping[] {
  return (pod.spec?.containers ?? []).flatMap((c) => c.ports ?? []).filter((p) => p.hostPort).map((p) => ({
    hostPort: p.hostPort ?? 0, containerPort: p.containerPort, protocol: (p.protocol ?? 'TCP').toLowerCase() as PortMapping['protocol'],
    ...(p.hostIP ? { hostIP: p.hostIP } : {}),
  }));
}

function attachmentOf(pod: Pod, id: string, netns: string, bandwidth?: BandwidthArgs): SandboxAttachment {
  return {
    sandboxId: id, netns,
    namespace: pod.metadata?.namespace ?? 'default', name: pod.metadata?.name ?? '', uid: pod.metadata?.uid ?? '',
    portMappings: portMappingsOf(pod), ...(bandwidth ? { bandwidth } : {}),
  };
}

/** Errors: PodwayError SANDBOX_FAILED; nothing is left behind then. */
export async function createSandbox(pod: Pod, context: Context): Promise<Sandbox> {
  const { init, network, node } = context;
  const undo: (() => Promise<void>)[] = [];
  const id = randomBytes(32).toString('hex');
  const hostNetwork = pod.spec?.hostNetwork === true;
  const netns = hostNetwork ? undefined : `/var/run/netns/cni-${randomUUID()}`;
  const shm = `/run/podway/sandboxes/${id}/shm`;
  const title = `${pod.metadata?.namespace}/${pod.metadata?.name}`;
  // Looked at before anything is made: what is wrong with it is wrong for good.
  const bandwidth = hostNetwork ? undefined : bandwidthOf(pod);
  const own = Object.fromEntries((pod.spec?.securityContext?.sysctls ?? []).map((s) => [s.name, s.value]));
  try {
    const begin = performance.now();
    undo.push(() => unmountInNode(init, node.holderPid, [...(netns === undefined ? [] : [netns]), shm]));
    const resident = await startPause(init, {
      nodePid: node.holderPid, hostname: hostNetwork ? node.name : hostnameOf(pod), title, shm, hostNetwork,
      ...(netns === undefined ? {} : { netns }),
      sysctls: hostNetwork ? {} : { ...sandboxSysctls, ...own },
    });
    undo.push(() => endResident(resident));
    const netnsInode = namespaceInode(resident.pid, 'net');
    if (netnsInode === undefined) throw new PodwayError('SANDBOX_FAILED', `sandbox process ${resident.pid} died`);
    context.timing?.(title, 'sandbox', performance.now() - begin);

    if (netns === undefined) return { id, resident, netns, shm, netnsInode, ips: [...node.addresses], attachment: undefined };
    const attachment = attachmentOf(pod, id, netns, bandwidth);
    const wired = performance.now();
    undo.push(() => network.del(attachment));
    const { ips } = await network.add(attachment).catch((e: unknown) => {
      throw new PodwayError('SANDBOX_FAILED', `failed to setup network for sandbox "${id}": ${messageOf(e)}`, { object: `pod ${title}`, cause: e });
    });
    context.timing?.(title, 'network', performance.now() - wired);
    return { id, resident, netns, shm, netnsInode, ips, attachment };
  } catch (e) {
    for (const step of undo.reverse()) await step().catch(() => undefined); // the first error is the one to tell
    throw e;
  }
}

async function endResident(resident: Resident): Promise<void> {
  if (!resident.isGone()) {
    try {
      process.kill(resident.pid, 'SIGKILL');
    } catch {
      // gone in between
    }
  }
  await resident.gone;
}

/** Network DEL while the netns is still there, then the process, then its mounts. */
export async function removeSandbox(sandbox: Sandbox, context: Context): Promise<void> {
  if (sandbox.attachment) await context.network.del(sandbox.attachment);
  await endResident(sandbox.resident);
  await unmountInNode(context.init, context.node.holderPid, [...(sandbox.netns === undefined ? [] : [sandbox.netns]), sandbox.shm]);
}

/** What an earlier process of the lab left of a pod; its containers end with their monitors. */
export async function reclaim(record: PodRecord, pod: Pod, context: { readonly init: string; readonly network: PodNetwork }): Promise<void> {
  for (const c of record.containers) if (isMonitor(c.monitorPid, record.uid)) process.kill(c.monitorPid, 'SIGKILL');
  const { netns, shm, id, pid } = record.sandbox;
  if (netns !== undefined) await context.network.del(attachmentOf(pod, id, netns));
  if (sandboxAlive(record)) process.kill(pid, 'SIGKILL');
  await unmountInNode(context.init, record.nodePid, [...(netns === undefined ? [] : [netns]), shm]);
}

/** True when pid is the monitor of a container of this pod, and not a later process with its number. */
function isMonitor(pid: number, uid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(uid);
  } catch {
    return false;
  }
}
