/** Pods: defaults, phases, columns, graceful deletion. */
import { Pods, type Pod } from '@podway/kube';
import { since } from '../duration.js';
import { clone, type ApiObject } from '../object.js';
import { noneAtCreation } from './ephemeral.js';
import { defaultPodSpec, defaultTolerations, podSpecOf, qosClass } from './poddefaults.js';
import { podSummary } from './podstatus.js';
import { validatePodSpec, validatePodUpdate } from './podvalidation.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

const none = (value: string | undefined): string => (value === undefined || value === '' ? '<none>' : value);

export const podKind: KindSpec = {
  kind: Pods,
  schema: 'core/v1.Pod',
  categories: ['all'],
  nameRule: 'subdomain',
  subresources: ['status', 'binding', 'log', 'exec', 'attach', 'portforward', 'ephemeralcontainers'],
  generation: false,
  columns: [
    NAME_COLUMN,
    column('Ready', 0, 'string', 'The aggregate readiness state of this pod for accepting traffic.'),
    column('Status', 0, 'string', 'The aggregate status of the containers in this pod.'),
    column('Restarts', 0, 'string', 'The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.'),
    AGE_COLUMN,
    column('IP', 1, 'string', 'IP address allocated to the pod.'),
    column('Node', 1, 'string', 'Name of the node the pod runs on.'),
    column('Nominated Node', 1, 'string', 'Node the pod is nominated to run on by preemption.'),
    column('Readiness Gates', 1, 'string', 'Conditions that are also evaluated for pod readiness.'),
  ],
  cells(object, now) {
    const pod = object as unknown as Pod;
    const s = podSummary(pod, now);
    const gates = pod.spec?.readinessGates ?? [];
    const met = gates.filter((g) => pod.status?.conditions?.some((c) => c.type === g.conditionType && c.status === 'True'));
    return [
      object.metadata.name,
      s.ready,
      s.status,
      s.restarts,
      since(object.metadata.creationTimestamp, now),
      none(pod.status?.podIP ?? pod.status?.podIPs?.[0]?.ip),
      none(pod.spec?.nodeName),
      none(pod.status?.nominatedNodeName),
      gates.length === 0 ? '<none>' : `${String(met.length)}/${String(gates.length)}`,
    ];
  },
  prepareCreate(object) {
    const spec = podSpecOf(object);
    defaultTolerations(spec);
    spec.serviceAccountName ??= 'default';
    spec.serviceAccount ??= spec.serviceAccountName;
    spec.priority ??= 0;
    spec.preemptionPolicy ??= 'PreemptLowerPriority';
    object.status = { phase: 'Pending', qosClass: qosClass({ ...spec, containers: spec.containers ?? [] }) };
  },
  // The admission plug-in runs on every write, so that a manifest without them replaces one with.
  prepareUpdate(object) {
    defaultTolerations(podSpecOf(object));
  },
  defaults: (object) => {
    object.spec ??= {};
    defaultPodSpec(podSpecOf(object));
  },
  validate: (object) => validatePodSpec(podSpecOf(object), 'spec'),
  validateCreate: noneAtCreation,
  validateUpdate: validatePodUpdate,
  fields(object) {
    const pod = object as unknown as Pod;
    return {
      'spec.nodeName': pod.spec?.nodeName ?? '',
      'spec.restartPolicy': pod.spec?.restartPolicy ?? '',
      'spec.schedulerName': pod.spec?.schedulerName ?? '',
      'spec.serviceAccountName': pod.spec?.serviceAccountName ?? '',
      'spec.hostNetwork': String(pod.spec?.hostNetwork ?? false),
      'status.phase': pod.status?.phase ?? '',
      'status.podIP': pod.status?.podIP ?? '',
      'status.nominatedNodeName': pod.status?.nominatedNodeName ?? '',
    };
  },
  grace(object, { gracePeriodSeconds }) {
    const pod = object as unknown as Pod;
    // Nobody is there to finish a pod that no node has; and a pod that ended needs no time.
    if ((pod.spec?.nodeName ?? '') === '') return 0;
    if (['Failed', 'Succeeded'].includes(pod.status?.phase ?? '')) return 0;
    return gracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30;
  },
};

/** Assigns a pod to a node, as the `binding` subresource does. Returns the changed pod. */
export function bound(pod: ApiObject, node: string, annotations: Record<string, string> | undefined, time: string): ApiObject {
  const out = clone(pod);
  out.spec = { ...out.spec, nodeName: node };
  if (annotations !== undefined) out.metadata.annotations = { ...out.metadata.annotations, ...annotations };
  const status = (out as unknown as Pod).status ?? {};
  const others = (status.conditions ?? []).filter((c) => c.type !== 'PodScheduled');
  out.status = { ...status, conditions: [...others, { type: 'PodScheduled', status: 'True', lastProbeTime: null, lastTransitionTime: time }] };
  return out;
}
