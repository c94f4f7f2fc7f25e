/**
 * What a Service is to whoever realises or explains it: its ports, the addresses it is reached by,
 * and for each port the endpoints behind it. Pure: from objects as they travel on the wire to plain data.
 *
 * Source: https://kubernetes.io/docs/reference/networking/virtual-ips/ and the field documentation of
 * core/v1 Service and discovery/v1 EndpointSlice.
 */
import type { EndpointSlice, Service } from '../objects.js';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type TrafficPolicy = 'Cluster' | 'Local';
export type IpFamily = 'IPv4' | 'IPv6';

export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
export const DEFAULT_AFFINITY_SECONDS = 10_800;

export interface ServiceEndpoint {
  readonly address: string;
  readonly port: number;
  /** Takes new connections. */
  readonly ready: boolean;
  /** Answers, whether it is ending or not. */
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly node?: string;
  readonly zone?: string;
  /** `namespace/name` of the pod. */
  readonly pod?: string;
}

export interface ServicePort {
  /** Empty when the Service has one port without a name. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  readonly nodePort?: number;
  /** Of each family, in a stable order: by address, then port. */
  readonly endpoints: Readonly<Record<IpFamily, readonly ServiceEndpoint[]>>;
}

export interface ServiceModel {
  readonly namespace: string;
  readonly name: string;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName';
  readonly headless: boolean;
  readonly externalName?: string;
  readonly clusterIPs: readonly string[];
  readonly externalIPs: readonly string[];
  /** Addresses of a load balancer that leads to the nodes and keeps the destination (ipMode VIP, or not said). */
  readonly loadBalancerIPs: readonly string[];
  /** Undefined: everybody. */
  readonly loadBalancerSourceRanges?: readonly string[];
  readonly ports: readonly ServicePort[];
  readonly internalTrafficPolicy: TrafficPolicy;
  readonly externalTrafficPolicy: TrafficPolicy;
  readonly healthCheckNodePort?: number;
  /** Seconds that a client stays with its endpoint; undefined: no affinity. */
  readonly affinitySeconds?: number;
}

export const familyOfIp = (address: string): IpFamily => (address.includes(':') ? 'IPv6' : 'IPv4');

/** `default/web`, from the object or from its label. */
export const serviceKey = (s: Service): string => `${s.metadata?.namespace ?? ''}/${s.metadata?.name ?? ''}`;

/** Undefined: a slice that belongs to no Service. */
export const serviceKeyOfSlice = (s: EndpointSlice): string | undefined => {
  const name = s.metadata?.labels?.[SERVICE_NAME_LABEL];
  return name === undefined ? undefined : `${s.metadata?.namespace ?? ''}/${name}`;
};

/** The label by which another proxy is named for a Service: this one then leaves it alone. */
export const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name';

export function serviceModel(service: Service, slices: readonly EndpointSlice[]): ServiceModel {
  const spec = service.spec ?? {};
  const { namespace = '', name = '' } = service.metadata ?? {};
  const given = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : [];
  const headless = given[0] === 'None';
  const type = (spec.type ?? 'ClusterIP') as ServiceModel['type'];
  const external = type === 'NodePort' || type === 'LoadBalancer';
  const ranges = spec.loadBalancerSourceRanges?.map((r) => r.trim()).filter(Boolean);
  return {
    namespace, name, type, headless,
    ...(spec.externalName ? { externalName: spec.externalName } : {}),
    clusterIPs: headless || type === 'ExternalName' ? [] : given,
    externalIPs: spec.externalIPs ?? [],
    loadBalancerIPs: type === 'LoadBalancer' ? loadBalancerAddresses(service) : [],
    ...(type === 'LoadBalancer' && ranges?.length ? { loadBalancerSourceRanges: ranges } : {}),
    ports: (spec.ports ?? []).map((p): ServicePort => {
      const protocol = (p.protocol ?? 'TCP') as Protocol;
      return {
        name: p.name ?? '', protocol, port: p.port, ...(external && p.nodePort ? { nodePort: p.nodePort } : {}),
        endpoints: { IPv4: endpointsIn(slices, 'IPv4', p.name ?? '', protocol), IPv6: endpointsIn(slices, 'IPv6', p.name ?? '', protocol) },
      };
    }),
    internalTrafficPolicy: spec.internalTrafficPolicy === 'Local' ? 'Local' : 'Cluster',
    externalTrafficPolicy: spec.externalTrafficPolicy === 'Local' ? 'Local' : 'Cluster',
    ...(type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local' && spec.healthCheckNodePort ? { healthCheckNodePort: spec.healthCheckNodePort } : {}),
    ...(spec.sessionAffinity === 'ClientIP' ? { affinitySeconds: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS } : {}),
  };
}

/** With ipMode Proxy the balancer delivers to the node by itself: short-cutting it here would go around it. */
function loadBalancerAddresses(service: Service): string[] {
  const ingress = (service.status?.loadBalancer?.ingress ?? []) as readonly { readonly ip?: string; readonly ipMode?: string }[];
  return ingress.flatMap((i) => (i.ip && (i.ipMode ?? 'VIP') === 'VIP' ? [i.ip] : []));
}

function endpointsIn(slices: readonly EndpointSlice[], family: IpFamily, portName: string, protocol: Protocol): ServiceEndpoint[] {
  const found = new Map<string, ServiceEndpoint>();
  for (const slice of slices) {
    if (slice.addressType !== family) continue;
    const port = slice.ports?.find((p) => (p.name ?? '') === portName && (p.protocol ?? 'TCP') === protocol)?.port;
    if (port === undefined) continue;
    for (const e of slice.endpoints ?? []) {
      // "All are equivalent; consumers use the first" (discovery/v1).
      const address = e.addresses[0];
      if (address === undefined) continue;
      // Absent means true (ready, serving) and false (terminating), as the fields' documentation says.
      const ready = e.conditions?.ready ?? true;
      const is: ServiceEndpoint = {
        address, port, ready, serving: e.conditions?.serving ?? ready, terminating: e.conditions?.terminating ?? false,
        ...(e.nodeName ? { node: e.nodeName } : {}), ...(e.zone ? { zone: e.zone } : {}),
        ...(e.targetRef?.kind === 'Pod' ? { pod: `${e.targetRef.namespace ?? ''}/${e.targetRef.name ?? ''}` } : {}),
      };
      const key = `${address} ${port}`;
      // An endpoint may be in two slices while it moves from one to the other: the better one counts.
      const before = found.get(key);
      if (!before || (!before.ready && is.ready)) found.set(key, is);
    }
  }
  return [...found.values()].sort((a, b) => (a.address === b.address ? a.port - b.port : a.address < b.address ? -1 : 1));
}
