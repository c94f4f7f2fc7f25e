/** A running lab as the tracer sees it: who is there, and how to get in. */
import type { Node } from '@podway/kube';
import type { WorldSource } from '@podway/trace';
import type { PodRecord } from '../runtime/record.js';
import type { LabLayout } from './layout.js';
import { underlayParts } from './racks.js';
import type { LabState } from './state.js';

/** Where a node's WireGuard programs have their sockets, as seen from outside: by way of a process of the node. */
export const wireguardDirOf = (holderPid: number): string => `/proc/${holderPid}/root/run/wireguard`;

/** Pods are those that run now, from the records of the kubelets: the API may be a moment behind. */
export function worldSource(layout: LabLayout, state: LabState, nodes: readonly Node[], records: readonly PodRecord[]): WorldSource {
  return {
    nodes: state.nodes.map((n) => {
      const spec = nodes.find((o) => o.metadata?.name === n.name)?.spec;
      return { name: n.name, addresses: [n.address, ...(n.second === undefined ? [] : [n.second])], podCIDRs: spec?.podCIDRs ?? (spec?.podCIDR === undefined ? [] : [spec.podCIDR]), netns: { pid: n.holderPid }, wireguardDir: wireguardDirOf(n.holderPid) };
    }),
    pods: records.map((r) => ({
      namespace: r.namespace, name: r.name, node: r.node, ips: r.sandbox.ips,
      // A pod with hostNetwork has no namespace of its own.
      ...(r.sandbox.netns === undefined ? {} : { netns: { pid: r.sandbox.pid } }),
      containers: r.containers.map((c) => ({ name: c.name, pid: c.pid })),
    })),
    underlay: underlayParts(state.config.underlay).map((p) => ({ name: p.name, role: p.role, netns: { name: layout.netns(p.name) } })),
  };
}
