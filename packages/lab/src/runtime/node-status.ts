/**
 * What a kubelet says about its node: conditions, addresses, capacity, nodeInfo. Pure, but for
 * machineFacts().
 */
import { readFileSync } from 'node:fs';
import { arch, cpus, release, totalmem } from 'node:os';
import type { Node } from '@podway/kube';
import { kubeTime } from './clock.js';
import type { NetworkStatus, NodeDescriptor } from './types.js';

type NodeStatus = NonNullable<Node['status']>;
type Condition = NonNullable<NodeStatus['conditions']>[number];

export interface MachineFacts {
  readonly cpus: number;
  readonly memoryKi: number;
  readonly kernelVersion: string;
  readonly osImage: string;
  readonly architecture: string;
  readonly bootID: string;
  readonly machineID: string;
}

const text = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
};

export function machineFacts(): MachineFacts {
  return {
    cpus: cpus().length,
    memoryKi: Math.floor(totalmem() / 1024),
    kernelVersion: release(),
    osImage: /^PRETTY_NAME="?([^"\n]*)/m.exec(text('/etc/os-release'))?.[1] ?? 'Linux',
    architecture: arch() === 'x64' ? 'amd64' : arch(),
    bootID: text('/proc/sys/kernel/random/boot_id'),
    machineID: text('/etc/machine-id'),
  };
}

export const MAX_PODS = 110;
export const RUNTIME_VERSION = 'podway://0.1.0';
const KUBELET_VERSION = 'v1.32.0';

/** The sentence a kubelet repeats in events and conditions while the network plugin is not there. */
export function networkNotReady(message: string): string {
  return `container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: ${message}`;
}

export function nodeConditions(network: NetworkStatus, old: readonly Condition[], now: number): Condition[] {
  const ready = network.ready
    ? { status: 'True', reason: 'KubeletReady', message: 'kubelet is posting ready status' }
    : { status: 'False', reason: 'KubeletNotReady', message: networkNotReady(network.message ?? 'cni plugin not initialized') };
  const fresh = [
    { type: 'MemoryPressure', status: 'False', reason: 'KubeletHasSufficientMemory', message: 'kubelet has sufficient memory available' },
    { type: 'DiskPressure', status: 'False', reason: 'KubeletHasNoDiskPressure', message: 'kubelet has no disk pressure' },
    { type: 'PIDPressure', status: 'False', reason: 'KubeletHasSufficientPID', message: 'kubelet has sufficient PID available' },
    { type: 'Ready', ...ready },
  ];
  const foreign = old.filter((c) => !fresh.some((f) => f.type === c.type));
  return [
    ...foreign,
    ...fresh.map((f) => {
      const before = old.find((c) => c.type === f.type);
      return {
        ...f,
        lastHeartbeatTime: kubeTime(now),
        lastTransitionTime: (before?.status === f.status && before.lastTransitionTime) || kubeTime(now),
      } as Condition;
    }),
  ];
}

export function nodeStatus(node: NodeDescriptor, facts: MachineFacts, network: NetworkStatus, before: Node | undefined, now: number): NodeStatus {
  const resources = { cpu: String(facts.cpus), memory: `${facts.memoryKi}Ki`, pods: String(MAX_PODS) };
  return {
    addresses: [...node.addresses.map((address) => ({ type: 'InternalIP', address })), { type: 'Hostname', address: node.name }],
    capacity: resources,
    allocatable: resources,
    conditions: nodeConditions(network, before?.status?.conditions ?? [], now),
    nodeInfo: {
      architecture: facts.architecture, operatingSystem: 'linux', osImage: facts.osImage, kernelVersion: facts.kernelVersion,
      containerRuntimeVersion: RUNTIME_VERSION, kubeletVersion: KUBELET_VERSION, kubeProxyVersion: KUBELET_VERSION,
      machineID: facts.machineID, systemUUID: facts.machineID, bootID: facts.bootID,
    },
  };
}

export function nodeLabels(name: string, facts: MachineFacts): Record<string, string> {
  return {
    'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': facts.architecture,
    'beta.kubernetes.io/os': 'linux', 'beta.kubernetes.io/arch': facts.architecture,
  };
}
