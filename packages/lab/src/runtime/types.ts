/** The seams of the node runtime: what it is given. */
import type { ObjectClient } from '@podway/kube';
import type { ImageStore } from '../images/index.js';
import type { BandwidthArgs } from './bandwidth.js';
import type { Clock } from './clock.js';

/** One lab node, as whoever made it describes it. */
export interface NodeDescriptor {
  readonly lab: string;
  readonly name: string;
  /** The holder's pid as the machine counts: PID 1 of the node. */
  readonly holderPid: number;
  /** Node addresses, the first is the InternalIP and hostIP. */
  readonly addresses: readonly string[];
  readonly dirs: {
    /** `<lab>/pods`: `<uid>.json` and `<uid>/` per pod. On the machine. */
    readonly pods: string;
    /** On the machine; bound to /var/log/pods in the node. */
    readonly logs: string;
  };
}

/** What a network plugin is told about a sandbox. Paths are those of the node's mount namespace. */
export interface SandboxAttachment {
  readonly sandboxId: string;
  /** CNI_NETNS. */
  readonly netns: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** hostPorts, for plugins with the portMappings capability. */
  readonly portMappings?: readonly PortMapping[];
  /** The two annotations, for plugins with the bandwidth capability. */
  readonly bandwidth?: BandwidthArgs;
}

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostIP?: string;
}

export interface NetworkStatus {
  readonly ready: boolean;
  /** Why not, in the words of whoever knows (`cni plugin not initialized`). */
  readonly message?: string;
}

/** The conflist runner, seen from the runtime. All calls are idempotent. */
export interface PodNetwork {
  /** Errors: any; the message goes into the pod's FailedCreatePodSandBox event. */
  add(sandbox: SandboxAttachment): Promise<{ readonly ips: readonly string[] }>;
  /** Succeeds when there is nothing to remove. */
  del(sandbox: SandboxAttachment): Promise<void>;
  status(): Promise<NetworkStatus>;
}

/** What a pod's /etc/resolv.conf says with dnsPolicy ClusterFirst. */
export interface ClusterDns {
  readonly nameservers: readonly string[];
  readonly domain: string;
}

export interface RuntimeOptions {
  readonly node: NodeDescriptor;
  readonly client: ObjectClient;
  readonly network: PodNetwork;
  readonly images: ImageStore;
  /** Path of podway-init. */
  readonly init: string;
  readonly dns?: ClusterDns;
  readonly clock?: Clock;
  /** Told of what went wrong and is tried again: for the lab's log. */
  readonly warn?: (message: string, error: unknown) => void;
  /** Told of each step of a pod's start with its time (milliseconds): for `up`'s phases and tests. */
  readonly timing?: (pod: string, step: 'sandbox' | 'network' | 'container', ms: number) => void;
  readonly log?: { readonly maxBytes: number; readonly files: number };
}
