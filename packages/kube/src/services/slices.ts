/**
 * Which EndpointSlices and Endpoints a Service should have, from the pods that its selector finds. Pure.
 *
 * Changes are kept few, since every slice that changes goes to every node: an endpoint stays in the slice
 * it is in, new ones fill the slices that have room, and a slice that is empty goes (all but the last).
 * Source: the EndpointSlice documentation, and KEP-752 (placement), KEP-1672 (terminating endpoints).
 */
import type { EndpointSlice, Endpoints, Node, Pod, Service } from '../objects.js';
import { familyOfIp, SERVICE_NAME_LABEL, type IpFamily } from './model.js';

export const SLICE_MANAGER = 'endpointslice-controller.k8s.io';
export const MANAGED_BY_LABEL = 'endpointslice.kubernetes.io/managed-by';
export const HEADLESS_LABEL = 'service.kubernetes.io/headless';
const MOST_ENDPOINTS = 100;
const ZONE_LABEL = 'topology.kubernetes.io/zone';

type SliceEndpoint = EndpointSlice['endpoints'][number];
type SlicePort = NonNullable<EndpointSlice['ports']>[number];

/** Whether a Service's endpoints are made from pods at all. */
export const hasSelector = (s: Service): boolean => s.spec?.type !== 'ExternalName' && Object.keys(s.spec?.selector ?? {}).length > 0;

export const selects = (s: Service, pod: Pod): boolean =>
  Object.entries(s.spec?.selector ?? {}).every(([k, v]) => pod.metadata?.labels?.[k] === v);

/** The families a Service has addresses of; of the pods' where it does not say. */
export function familiesOf(s: Service): readonly IpFamily[] {
  const families = (s.spec?.ipFamilies ?? []) as readonly IpFamily[];
  return families.length ? families : [familyOfIp(s.spec?.clusterIP === undefined || s.spec.clusterIP === 'None' ? '' : s.spec.clusterIP)];
}

/** A port's number in a pod; undefined when the pod has no port of that name. */
export function targetPortIn(pod: Pod, port: NonNullable<NonNullable<Service['spec']>['ports']>[number]): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target === 0 ? port.port : target;
  const all = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []).filter((c) => (c as { restartPolicy?: string }).restartPolicy === 'Always')];
  return all.flatMap((c) => c.ports ?? []).find((p) => p.name === target && (p.protocol ?? 'TCP') === (port.protocol ?? 'TCP'))?.containerPort;
}

const isReady = (pod: Pod): boolean => pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;
const hasEnded = (pod: Pod): boolean => ['Succeeded', 'Failed'].includes(pod.status?.phase ?? '');

/** A pod as an endpoint of one family; undefined when it has no address of it, or has ended. */
function endpointOf(service: Service, pod: Pod, family: IpFamily, zones: ReadonlyMap<string, string>): SliceEndpoint | undefined {
  const ips = pod.status?.podIPs?.map((i) => i.ip) ?? (pod.status?.podIP ? [pod.status.podIP] : []);
  const address = ips.find((ip): ip is string => ip !== undefined && ip !== '' && familyOfIp(ip) === family);
  if (address === undefined || hasEnded(pod)) return undefined;
  const terminating = pod.metadata?.deletionTimestamp !== undefined;
  const serving = isReady(pod);
  const node = pod.spec?.nodeName;
  const zone = node === undefined ? undefined : zones.get(node);
  const { hostname, subdomain } = pod.spec ?? {};
  return {
    addresses: [address],
    conditions: { ready: service.spec?.publishNotReadyAddresses === true || (serving && !terminating), serving: service.spec?.publishNotReadyAddresses === true || serving, terminating },
    ...(hostname && subdomain === service.metadata?.name ? { hostname } : {}),
    ...(node ? { nodeName: node } : {}),
    ...(zone ? { zone } : {}),
    targetRef: { kind: 'Pod', namespace: pod.metadata?.namespace ?? '', name: pod.metadata?.name ?? '', uid: pod.metadata?.uid ?? '' },
  };
}

function portsOf(service: Service, pod: Pod): SlicePort[] {
  return (service.spec?.ports ?? []).flatMap((p): SlicePort[] => {
    const port = targetPortIn(pod, p);
    return port === undefined ? [] : [{ name: p.name ?? '', port, protocol: p.protocol ?? 'TCP', ...(p.appProtocol ? { appProtocol: p.appProtocol } : {}) }];
  });
}

export interface SliceChanges {
  readonly create: readonly EndpointSlice[];
  readonly update: readonly EndpointSlice[];
  readonly remove: readonly EndpointSlice[];
}

/** @param existing those of this Service that this controller made */
export function sliceChanges(service: Service, pods: readonly Pod[], existing: readonly EndpointSlice[], nodes: readonly Node[] = []): SliceChanges {
  const zones = new Map(nodes.flatMap((n): [string, string][] => (n.metadata?.labels?.[ZONE_LABEL] ? [[n.metadata.name ?? '', n.metadata.labels[ZONE_LABEL]]] : [])));
  const families = familiesOf(service);
  const create: EndpointSlice[] = [];
  const update: EndpointSlice[] = [];
  const remove = existing.filter((s) => !families.includes(s.addressType as IpFamily));
  for (const family of families) {
    // Where a named port has different numbers in different pods, each set of numbers has slices of its own.
    const groups = new Map<string, { ports: SlicePort[]; endpoints: Map<string, SliceEndpoint> }>();
    for (const pod of pods) {
      const e = endpointOf(service, pod, family, zones);
      const ports = portsOf(service, pod);
      // Only a headless Service may do without ports.
      if (!e || (ports.length === 0 && (service.spec?.ports ?? []).length > 0)) continue;
      const key = JSON.stringify(ports);
      const group = groups.get(key) ?? { ports, endpoints: new Map() };
      group.endpoints.set(`${e.targetRef?.uid ?? ''}`, e);
      groups.set(key, group);
    }
    const mine = existing.filter((s) => s.addressType === family);
    for (const { ports, endpoints } of groups.values()) place(mine, ports, endpoints, family);
    const empty = mine.filter((s) => !groups.has(portsKey(s)));
    const placeholder = groups.size === 0 ? empty[0] : undefined;
    if (placeholder) changed(placeholder, []);
    else if (groups.size === 0) create.push(newSlice(service, family, [], []));
    remove.push(...empty.filter((s) => s !== placeholder));
  }
  return { create, update, remove };

  function place(mine: readonly EndpointSlice[], ports: readonly SlicePort[], endpoints: Map<string, SliceEndpoint>, family: IpFamily): void {
    const slices = mine.filter((s) => portsKey(s) === JSON.stringify(ports));
    const wanted = new Map(endpoints);
    const kept = slices.map((slice) => ({
      slice,
      list: slice.endpoints.flatMap((e) => {
        const uid = e.targetRef?.uid ?? '';
        const now = wanted.get(uid);
        wanted.delete(uid);
        return now ? [now] : [];
      }),
    }));
    const fresh = [...wanted.values()];
    for (const k of kept) while (fresh.length && k.list.length < MOST_ENDPOINTS) k.list.push(fresh.shift()!);
    for (const { slice, list } of kept) if (list.length) changed(slice, list); else remove.push(slice);
    while (fresh.length) create.push(newSlice(service, family, ports, fresh.splice(0, MOST_ENDPOINTS)));
  }

  function changed(slice: EndpointSlice, endpoints: readonly SliceEndpoint[]): void {
    const labels = { ...slice.metadata?.labels, ...labelsFor(service) };
    if (!isHeadless(service)) Reflect.deleteProperty(labels, HEADLESS_LABEL);
    if (same(slice.endpoints, endpoints) && same(slice.metadata?.labels, labels)) return;
    update.push({ ...slice, metadata: { ...slice.metadata, labels }, endpoints: [...endpoints] });
  }
}

const isHeadless = (s: Service): boolean => s.spec?.clusterIP === 'None';

const labelsFor = (s: Service): Record<string, string> => ({
  ...s.metadata?.labels, [SERVICE_NAME_LABEL]: s.metadata?.name ?? '', [MANAGED_BY_LABEL]: SLICE_MANAGER, ...(isHeadless(s) ? { [HEADLESS_LABEL]: '' } : {}),
});

const portsKey = (s: EndpointSlice): string =>
  JSON.stringify((s.ports ?? []).map((p) => ({ name: p.name ?? '', port: p.port, protocol: p.protocol ?? 'TCP', ...(p.appProtocol ? { appProtocol: p.appProtocol } : {}) })));

function newSlice(s: Service, addressType: IpFamily, ports: readonly SlicePort[], endpoints: readonly SliceEndpoint[]): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice',
    metadata: {
      generateName: `${s.metadata?.name ?? ''}-`, namespace: s.metadata?.namespace ?? '', labels: labelsFor(s),
      ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name: s.metadata?.name ?? '', uid: s.metadata?.uid ?? '', controller: true, blockOwnerDeletion: true }],
    },
    addressType, ports: [...ports], endpoints: [...endpoints],
  };
}

/** The same in the older form, of the Service's first family. */
export function endpointsObject(service: Service, pods: readonly Pod[], nodes: readonly Node[] = []): Endpoints {
  const { create } = sliceChanges({ ...service, spec: { ...service.spec, ipFamilies: [familiesOf(service)[0]!] } }, pods, [], nodes);
  const subsets = create.filter((s) => s.endpoints.length > 0).map((s) => {
    const of = (ready: boolean) => s.endpoints.filter((e) => (e.conditions?.ready ?? true) === ready && (ready || e.conditions?.terminating !== true))
      .map((e) => ({ ip: e.addresses[0]!, ...(e.hostname ? { hostname: e.hostname } : {}), ...(e.nodeName ? { nodeName: e.nodeName } : {}), ...(e.targetRef ? { targetRef: e.targetRef } : {}) }))
      .sort((a, b) => (a.ip < b.ip ? -1 : 1));
    const [addresses, notReadyAddresses] = [of(true), of(false)];
    return {
      ...(addresses.length ? { addresses } : {}), ...(notReadyAddresses.length ? { notReadyAddresses } : {}),
      ports: (s.ports ?? []).map((p) => ({ ...(p.name ? { name: p.name } : {}), port: p.port!, protocol: p.protocol ?? 'TCP' })),
    };
  }).filter((s) => 'addresses' in s || 'notReadyAddresses' in s);
  return {
    apiVersion: 'v1', kind: 'Endpoints',
    metadata: { name: service.metadata?.name ?? '', namespace: service.metadata?.namespace ?? '', labels: { ...service.metadata?.labels, ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}) } },
    subsets,
  };
}

/** Equal as JSON: the order of keys does not count, absent and undefined are the same. */
function same(a: unknown, b: unknown): boolean {
  const sorted = (v: unknown): unknown =>
    Array.isArray(v) ? v.map(sorted)
    : v !== null && typeof v === 'object' ? Object.fromEntries(Object.entries(v).filter(([, x]) => x !== undefined).sort(([x], [y]) => (x < y ? -1 : 1)).map(([k, x]) => [k, sorted(x)]))
    : v;
  return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}
