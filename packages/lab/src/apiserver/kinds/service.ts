/**
 * Services (core/v1): defaults, columns, what status may hold. Rules are in servicevalidation.ts, addresses
 * and node ports in serviceallocation.ts.
 * Source: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go, pkg/printers/internalversion (printService).
 */
import { Services, type Service } from '@podway/kube';
import { OBJECT_META } from '../http/protobuf.js';
import { since } from '../duration.js';
import type { ApiObject } from '../object.js';
import { allocateService, type ServiceRanges } from './serviceallocation.js';
import { prepareServiceUpdate, validateService, validateServiceStatus, validateServiceUpdate, warningsOfService } from './servicevalidation.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

export { Services };

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Spec = Writable<NonNullable<Service['spec']>>;
export const serviceSpecOf = (o: ApiObject): Spec => (o.spec ?? {}) as unknown as Spec;

function defaults(object: ApiObject): void {
  object.spec ??= {};
  object.status ??= { loadBalancer: {} };
  const spec = serviceSpecOf(object);
  spec.type ??= 'ClusterIP';
  spec.sessionAffinity ??= 'None';
  if (spec.sessionAffinity === 'None') Reflect.deleteProperty(spec, 'sessionAffinityConfig');
  else spec.sessionAffinityConfig = { clientIP: { timeoutSeconds: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800 } };
  for (const p of spec.ports ?? []) {
    p.protocol ??= 'TCP';
    if (p.targetPort === undefined || p.targetPort === 0 || p.targetPort === '') p.targetPort = p.port;
  }
  const reached = spec.type === 'NodePort' || spec.type === 'LoadBalancer';
  if (reached) spec.externalTrafficPolicy ??= 'Cluster';
  else if (spec.externalTrafficPolicy !== undefined && (spec.externalIPs ?? []).length === 0) Reflect.deleteProperty(spec, 'externalTrafficPolicy');
  if (spec.type !== 'ExternalName') spec.internalTrafficPolicy ??= 'Cluster';
  if (spec.type === 'LoadBalancer') spec.allocateLoadBalancerNodePorts ??= true;
}

function externalAddress(s: Service): string {
  const ips = s.spec?.externalIPs ?? [];
  if (s.spec?.type === 'ExternalName') return s.spec.externalName ?? '';
  if (s.spec?.type === 'LoadBalancer') {
    const given = (s.status?.loadBalancer?.ingress ?? []).map((i) => i.ip ?? i.hostname ?? '').filter(Boolean);
    const all = [...given, ...ips];
    return all.length ? all.join(',') : '<pending>';
  }
  return ips.length ? ips.join(',') : '<none>';
}

const portsText = (s: Service): string =>
  (s.spec?.ports ?? []).map((p) => `${String(p.port)}${p.nodePort ? `:${String(p.nodePort)}` : ''}/${p.protocol ?? 'TCP'}`).join(',') || '<none>';

export const serviceKind = (ranges: ServiceRanges): KindSpec => ({
  kind: Services,
  schema: 'core/v1.Service',
  categories: ['all'],
  nameRule: 'label1035',
  subresources: ['status'],
  generation: false,
  protobuf: {
    1: ['metadata', { message: OBJECT_META }],
    2: ['spec', { message: {
      1: ['ports', { message: {
        1: ['name', 'string'], 2: ['protocol', 'string'], 3: ['port', 'int'],
        4: ['targetPort', 'intOrString'],
        5: ['nodePort', 'int'], 6: ['appProtocol', 'string'],
      } }, 'repeated'],
      2: ['selector', 'stringMap'], 3: ['clusterIP', 'string'], 4: ['type', 'string'], 5: ['externalIPs', 'string', 'repeated'],
      7: ['sessionAffinity', 'string'], 8: ['loadBalancerIP', 'string'], 9: ['loadBalancerSourceRanges', 'string', 'repeated'],
      10: ['externalName', 'string'], 11: ['externalTrafficPolicy', 'string'], 12: ['healthCheckNodePort', 'int'],
      13: ['publishNotReadyAddresses', 'bool'],
      14: ['sessionAffinityConfig', { message: { 1: ['clientIP', { message: { 1: ['timeoutSeconds', 'int'] } }] } }],
      17: ['ipFamilyPolicy', 'string'], 18: ['clusterIPs', 'string', 'repeated'], 19: ['ipFamilies', 'string', 'repeated'],
      20: ['allocateLoadBalancerNodePorts', 'bool'], 21: ['loadBalancerClass', 'string'], 22: ['internalTrafficPolicy', 'string'], 23: ['trafficDistribution', 'string'],
    } }],
  },
  columns: [
    NAME_COLUMN,
    column('Type', 0, 'string', 'Type determines how the Service is exposed.'),
    column('Cluster-IP', 0, 'string', 'The IP address of the service inside the cluster.'),
    column('External-IP', 0, 'string', 'Addresses by which the service is reached from outside the cluster.'),
    column('Port(s)', 0, 'string', 'The ports that are exposed by this service.'),
    AGE_COLUMN,
    column('Selector', 1, 'string', 'Route service traffic to pods with label keys and values matching this selector.'),
  ],
  cells(object, now) {
    const s = object as unknown as Service;
    return [
      object.metadata.name, s.spec?.type ?? '', s.spec?.clusterIP === undefined || s.spec.clusterIP === '' ? '<none>' : s.spec.clusterIP, externalAddress(s), portsText(s),
      since(object.metadata.creationTimestamp, now),
      Object.entries(s.spec?.selector ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(',') || '<none>',
    ];
  },
  prepareCreate(object) {
    object.status = { loadBalancer: {} };
    withoutZeros(object);
  },
  prepareUpdate(object, before) {
    withoutZeros(object);
    prepareServiceUpdate(object, before);
  },
  defaults,
  validate: (object) => validateService(object, ranges),
  validateUpdate: validateServiceUpdate,
  validateStatusUpdate: validateServiceStatus,
  warnings: warningsOfService,
  allocate: (object, before, others) => allocateService(object, before, others, ranges),
  fields: (object) => ({ 'spec.clusterIP': serviceSpecOf(object).clusterIP ?? '', 'spec.type': serviceSpecOf(object).type ?? '' }),
});

/** Over protobuf, numbers that were left out come as zeros. */
function withoutZeros(object: ApiObject): void {
  const spec = serviceSpecOf(object);
  for (const p of spec.ports ?? []) if (p.nodePort === 0) Reflect.deleteProperty(p, 'nodePort');
  if (spec.healthCheckNodePort === 0) Reflect.deleteProperty(spec, 'healthCheckNodePort');
  if (spec.publishNotReadyAddresses === false) Reflect.deleteProperty(spec, 'publishNotReadyAddresses');
}
