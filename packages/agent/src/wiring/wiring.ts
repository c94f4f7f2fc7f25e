/**
 * The seam between a pod and its node: how a pod is wired. A wiring is one small file: pure functions say what
 * is to be on the node's side and in the pod, `wire` makes exactly that. What the functions say is compared
 * with the kernel by CHECK, by a repeated ADD, by the full comparison and by a restart, so there is one truth.
 */
import type { CniResult } from '@podway/cni';
import type { LinkInfo, Netns, RtNetlink } from '@podway/kernel';
import type { NetnsState } from '@podway/netstate';
import type { LocalNode } from '../backends/backend.js';
import type { NetworkConfig, WiringType } from '../config.js';
import type { AttachmentRecord } from '../ipam/index.js';

export interface WiringContext {
  readonly config: NetworkConfig;
  readonly mtu: number;
  readonly node: Netns;
  /** The node's own socket, kept open by the agent. */
  readonly netlink: RtNetlink;
  /** The device that all pods of the node share, if this wiring has one. */
  readonly shared: LinkInfo | undefined;
}

export interface Wiring {
  readonly type: WiringType;
  /** The device that all pods of the node share, by name. */
  sharedDevice(config: NetworkConfig): string | undefined;
  /** What all pods of the node share. Pure. */
  nodeState(config: NetworkConfig, local: LocalNode, mtu: number): Partial<NetnsState>;
  /** A pod's part of the node's namespace: the host end and what hangs on it. Pure. */
  hostState(config: NetworkConfig, r: AttachmentRecord, mtu: number): HostState;
  /** The pod's side. Pure. */
  podState(config: NetworkConfig, r: AttachmentRecord, mtu: number): NetnsState;
  /**
   * Makes both ends and configures them.
   * @throws CniError 103 when the interface name is taken in the pod, or the host end's on the node. On any error, `unwire` takes back what was made.
   */
  wire(c: WiringContext, pod: Netns, r: AttachmentRecord): void;
  /** What ADD answers, known before it is made. */
  resultOf(c: WiringContext, r: AttachmentRecord): CniResult;
}

export type HostState = Pick<NetnsState, 'links'> & Partial<Pick<NetnsState, 'addresses' | 'routes' | 'sysctls'>>;
