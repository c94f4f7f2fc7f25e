/**
 * EndpointSlices (and Endpoints, their older form) of every Service that selects pods, from the pods and
 * their readiness. What to change is `sliceChanges` of @podway/kube; this watches and writes.
 *
 * Cost: a pod that changes makes its namespace's Services be looked at; a Service is looked at once for all
 * that happened since.
 */
import {
  EndpointSlices, EndpointsKind, MANAGED_BY_LABEL, Nodes, Pods, SERVICE_NAME_LABEL, SLICE_MANAGER, Services, endpointsObject, hasSelector, isKubeError, isNotFound,
  selects, serviceKey, serviceKeyOfSlice, sliceChanges, type EndpointSlice, type Endpoints, type Node, type ObjectClient, type Pod, type Service,
} from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { WorkQueue } from './workqueue.js';

const keyOf = (o: { metadata?: { namespace?: string; name?: string } }): string => `${o.metadata?.namespace ?? ''}/${o.metadata?.name ?? ''}`;

export function endpointSliceController(client: ObjectClient, options: ControllerOptions): Controller {
  const name = 'endpointslice-controller';
  const services = new Map<string, Service>();
  const pods = new Map<string, Map<string, Pod>>();
  const nodes = new Map<string, Node>();
  const slices = new Map<string, Map<string, EndpointSlice>>();
  const endpoints = new Map<string, Endpoints>();
  let unsynced = 5;
  const queue = new WorkQueue({ reconcile: bring, failed: (key, e) => options.failed?.(name, `service ${key}`, e) });
  const ready = (): void => {
    if (--unsynced === 0) for (const key of services.keys()) queue.add(key);
  };

  async function bring(key: string): Promise<void> {
    const service = services.get(key);
    // A Service that is gone takes its slices along through their owner reference.
    if (unsynced > 0 || !service || service.metadata?.deletionTimestamp !== undefined || !hasSelector(service)) return;
    const namespace = service.metadata?.namespace ?? '';
    const chosen = [...(pods.get(namespace)?.values() ?? [])].filter((p) => selects(service, p));
    const mine = [...(slices.get(key)?.values() ?? [])].filter((s) => s.metadata?.labels?.[MANAGED_BY_LABEL] === SLICE_MANAGER);
    const list = [...nodes.values()];
    const { create, update, remove } = sliceChanges(service, chosen, mine, list);
    try {
      for (const s of update) seen(await client.update(EndpointSlices, s));
      for (const s of create) seen(await client.create(EndpointSlices, s));
      for (const s of remove) await client.delete(EndpointSlices, { name: s.metadata?.name ?? '', namespace });
      await bringEndpoints(service, endpointsObject(service, chosen, list));
    } catch (e) {
      // Somebody was faster, or the namespace ends: the watch tells, and it is looked at again.
      if (isNotFound(e)) return;
      if (!isKubeError(e, 'KUBE_CONFLICT') && !isKubeError(e, 'KUBE_FORBIDDEN')) throw e;
      if (isKubeError(e, 'KUBE_CONFLICT')) queue.addAfter(key, 20);
    }
  }

  /** What was just written counts at once: the watch may bring it only after the next look. */
  function seen(slice: EndpointSlice): void {
    const key = serviceKeyOfSlice(slice);
    if (key === undefined) return;
    const of = slices.get(key) ?? new Map<string, EndpointSlice>();
    slices.set(key, of.set(slice.metadata?.name ?? '', slice));
  }

  async function bringEndpoints(service: Service, wanted: Endpoints): Promise<void> {
    const have = endpoints.get(serviceKey(service));
    const { ownerReferences } = { ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name: service.metadata?.name ?? '', uid: service.metadata?.uid ?? '' }] };
    const object: Endpoints = { ...wanted, metadata: { ...wanted.metadata, ownerReferences } };
    if (!have) {
      endpoints.set(serviceKey(service), await client.create(EndpointsKind, object));
      return;
    }
    if (JSON.stringify([have.subsets ?? [], have.metadata?.labels ?? {}]) === JSON.stringify([wanted.subsets ?? [], wanted.metadata?.labels ?? {}])) return;
    endpoints.set(serviceKey(service), await client.update(EndpointsKind, { ...object, metadata: { ...object.metadata, ...(have.metadata?.uid === undefined ? {} : { uid: have.metadata.uid }) } }));
  }

  function podChanged(type: string, pod: Pod): void {
    const namespace = pod.metadata?.namespace ?? '';
    const of = pods.get(namespace) ?? new Map<string, Pod>();
    pods.set(namespace, of);
    const before = of.get(keyOf(pod));
    if (type === 'DELETED') of.delete(keyOf(pod));
    else of.set(keyOf(pod), pod);
    for (const [key, s] of services) {
      if (s.metadata?.namespace === namespace && hasSelector(s) && (selects(s, pod) || (before && selects(s, before)))) queue.add(key);
    }
  }

  const stops = [
    client.watch(Services, {}, {
      event(type, s) {
        if (type === 'DELETED') {
          services.delete(serviceKey(s));
          return;
        }
        services.set(serviceKey(s), s);
        queue.add(serviceKey(s));
      },
      synced: ready,
    }),
    client.watch(Pods, {}, { event: podChanged, synced: ready }),
    client.watch(Nodes, {}, { event: (type, n) => void (type === 'DELETED' ? nodes.delete(n.metadata?.name ?? '') : nodes.set(n.metadata?.name ?? '', n)), synced: ready }),
    client.watch(EndpointSlices, { labelSelector: SERVICE_NAME_LABEL }, {
      event(type, s) {
        const key = serviceKeyOfSlice(s) ?? '';
        if (type === 'DELETED') slices.get(key)?.delete(s.metadata?.name ?? '');
        else seen(s);
        // Somebody changed or removed one of ours: it is put right.
        if (type !== 'ADDED' && s.metadata?.labels?.[MANAGED_BY_LABEL] === SLICE_MANAGER) queue.add(key);
      },
      synced: ready,
    }),
    client.watch(EndpointsKind, {}, {
      event(type, e) {
        if (type === 'DELETED') {
          endpoints.delete(keyOf(e));
          queue.add(keyOf(e));
        } else endpoints.set(keyOf(e), e);
      },
      synced: ready,
    }),
  ];
  return {
    name,
    stop() {
      for (const s of stops) s();
      queue.stop();
    },
  };
}
