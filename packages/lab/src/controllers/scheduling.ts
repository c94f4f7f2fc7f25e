/**
 * Where a pod goes, as a pure function that returns its reasons: the fitting node with the fewest
 * pods, by name among equals; otherwise why each node does not fit, in kube-scheduler's words.
 */
import type { Node, Pod } from '@podway/kube';

export interface Placement {
  readonly node?: string;
  /** `0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.` */
  readonly message: string;
}

type Toleration = NonNullable<NonNullable<Pod['spec']>['tolerations']>[number];
type Taint = NonNullable<NonNullable<Node['spec']>['taints']>[number];

export function tolerates(tolerations: readonly Toleration[], taint: Taint): boolean {
  return tolerations.some(
    (t) =>
      ((t.effect ?? '') === '' || t.effect === taint.effect) &&
      ((t.key ?? '') === '' ? t.operator === 'Exists' : t.key === taint.key) &&
      (t.operator === 'Exists' || (t.value ?? '') === (taint.value ?? '')),
  );
}

/** Why the node cannot take the pod; undefined when it can. */
export function unfit(pod: Pod, node: Node, there: readonly Pod[] = []): string | undefined {
  const tolerations = pod.spec?.tolerations ?? [];
  if (node.spec?.unschedulable === true && !tolerates(tolerations, { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' })) {
    return 'node(s) were unschedulable';
  }
  if (node.status?.conditions?.find((c) => c.type === 'Ready')?.status !== 'True') return 'node(s) were not ready';
  const taint = node.spec?.taints?.find((t) => t.effect !== 'PreferNoSchedule' && !tolerates(tolerations, t));
  if (taint !== undefined) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`;
  const labels = node.metadata?.labels ?? {};
  const selector = Object.entries(pod.spec?.nodeSelector ?? {});
  if (!selector.every(([k, v]) => labels[k] === v)) return "node(s) didn't match Pod's node affinity/selector";
  if (portsOf(pod).some((p) => there.some((o) => portsOf(o).some((q) => samePort(p, q))))) return "node(s) didn't have free ports for the requested pod ports";
  return undefined;
}

interface HostPort {
  readonly port: number;
  readonly protocol: string;
  readonly ip: string;
}

/** What a pod takes of its node: with hostNetwork every container port is one. */
const portsOf = (pod: Pod): HostPort[] =>
  [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []).filter((c) => c.restartPolicy === 'Always')].flatMap((c) => c.ports ?? []).flatMap((p) => {
    const port = p.hostPort || (pod.spec?.hostNetwork ? p.containerPort : 0);
    return port ? [{ port, protocol: p.protocol ?? 'TCP', ip: p.hostIP && p.hostIP !== '::' ? p.hostIP : '0.0.0.0' }] : [];
  });

const samePort = (a: HostPort, b: HostPort): boolean =>
  a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || a.ip === '0.0.0.0' || b.ip === '0.0.0.0');

/** `load`: pods per node. `pods`: those that run on a node, or will, where the pod asks for ports of it. */
export function place(pod: Pod, nodes: readonly Node[], load: ReadonlyMap<string, number>, pods: ReadonlyMap<string, readonly Pod[]> = new Map()): Placement {
  const reasons = new Map<string, number>();
  let best: { name: string; load: number } | undefined;
  for (const node of nodes) {
    const name = node.metadata?.name ?? '';
    const reason = unfit(pod, node, pods.get(name));
    if (reason !== undefined) {
      reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      continue;
    }
    const at = { name, load: load.get(name) ?? 0 };
    if (best === undefined || at.load < best.load || (at.load === best.load && at.name < best.name)) best = at;
  }
  if (best !== undefined) {
    return { node: best.name, message: `Successfully assigned ${pod.metadata?.namespace ?? ''}/${pod.metadata?.name ?? ''} to ${best.name}` };
  }
  if (nodes.length === 0) return { message: 'no nodes available to schedule pods' };
  const said = [...reasons].map(([why, n]) => `${String(n)} ${why}`).sort();
  return { message: `0/${String(nodes.length)} nodes are available: ${said.join(', ')}.` };
}
