/**
 * What kube-apiserver fills in when a pod leaves it out.
 * Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go, the DefaultTolerationSeconds admission
 * plug-in. The service account's token volume is left out: nothing in a lab's pod may call the API.
 */
import type { Pod } from '@podway/kube';
import type { ApiObject } from '../object.js';

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type PodSpec = Writable<NonNullable<Pod['spec']>>;
type Container = PodSpec['containers'][number];
type Probe = NonNullable<Container['livenessProbe']>;

export function defaultPodSpec(spec: PodSpec): void {
  spec.restartPolicy ??= 'Always';
  spec.terminationGracePeriodSeconds ??= 30;
  spec.dnsPolicy ??= 'ClusterFirst';
  spec.schedulerName ??= 'default-scheduler';
  spec.securityContext ??= {};
  spec.enableServiceLinks ??= true;
  for (const c of spec.containers ?? []) defaultContainer(c, spec.hostNetwork === true);
  for (const c of spec.initContainers ?? []) defaultContainer(c, spec.hostNetwork === true);
  for (const c of spec.ephemeralContainers ?? []) defaultContainer(c, false);
  for (const v of spec.volumes ?? []) {
    const sources = Object.keys(v).filter((k) => k !== 'name');
    if (sources.length === 0) v.emptyDir = {};
    if (v.configMap !== undefined) v.configMap.defaultMode ??= 0o644;
    if (v.secret !== undefined) v.secret.defaultMode ??= 0o644;
    if (v.downwardAPI !== undefined) v.downwardAPI.defaultMode ??= 0o644;
    if (v.projected !== undefined) v.projected.defaultMode ??= 0o644;
    if (v.hostPath !== undefined) v.hostPath.type ??= '';
  }
}

export function defaultContainer(c: Pick<Container, 'name'> & Partial<Container>, hostNetwork: boolean): void {
  c.imagePullPolicy ??= pullPolicy(c.image ?? '');
  c.resources ??= {};
  c.terminationMessagePath ??= '/dev/termination-log';
  c.terminationMessagePolicy ??= 'File';
  for (const p of c.ports ?? []) {
    p.protocol ??= 'TCP';
    if (hostNetwork) p.hostPort ??= p.containerPort;
  }
  for (const probe of [c.livenessProbe, c.readinessProbe, c.startupProbe]) if (probe !== undefined) defaultProbe(probe);
  for (const e of c.env ?? []) if (e.valueFrom?.fieldRef !== undefined) e.valueFrom.fieldRef.apiVersion ??= 'v1';
  // A limit without a request is also the request.
  const { limits } = c.resources;
  if (limits !== undefined) c.resources.requests = { ...limits, ...c.resources.requests };
}

function defaultProbe(p: Probe): void {
  p.timeoutSeconds ??= 1;
  p.periodSeconds ??= 10;
  p.successThreshold ??= 1;
  p.failureThreshold ??= 3;
  if (p.httpGet !== undefined) {
    p.httpGet.path ??= '/';
    p.httpGet.scheme ??= 'HTTP';
  }
  if (p.grpc !== undefined) p.grpc.service ??= '';
}

/** Always for `:latest` and for no tag, IfNotPresent otherwise. */
export function pullPolicy(image: string): string {
  if (image.includes('@')) return 'IfNotPresent';
  const last = image.slice(image.lastIndexOf('/') + 1);
  const tag = last.includes(':') ? last.slice(last.indexOf(':') + 1) : 'latest';
  return tag === 'latest' ? 'Always' : 'IfNotPresent';
}

/** Pods stay five minutes on a node that went away, unless they say otherwise. */
export function defaultTolerations(spec: PodSpec): void {
  for (const key of ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable']) {
    const tolerated = spec.tolerations?.some((t) => (t.key === key || (t.key ?? '') === '') && (t.effect === 'NoExecute' || (t.effect ?? '') === ''));
    if (tolerated !== true) spec.tolerations = [...(spec.tolerations ?? []), { key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 }];
  }
}

/** Guaranteed, Burstable or BestEffort, from requests and limits. */
export function qosClass(spec: PodSpec): string {
  const all = [...spec.containers, ...(spec.initContainers ?? [])];
  const amount = (list: Record<string, unknown> | undefined, k: string): string => String(list?.[k] ?? '');
  const kinds = ['cpu', 'memory'];
  if (all.every((c) => kinds.every((k) => amount(c.resources?.requests, k) === '' && amount(c.resources?.limits, k) === ''))) return 'BestEffort';
  const guaranteed = all.every((c) => kinds.every((k) => amount(c.resources?.limits, k) !== '' && amount(c.resources?.limits, k) === amount(c.resources?.requests, k)));
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

export const podSpecOf = (object: ApiObject): PodSpec => (object.spec ?? {}) as unknown as PodSpec;
