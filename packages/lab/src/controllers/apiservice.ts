/**
 * The Service `kubernetes` in namespace default: the first address of the service range, and behind it the
 * address where the API server listens for the cluster. Pods reach the API by it.
 */
import { EndpointSlices, EndpointsKind, SERVICE_NAME_LABEL, Services, familyOfIp, isKubeError, isNotFound, type KubeObject, type ObjectClient, type ObjectKind } from '@podway/kube';
import type { Controller, ControllerOptions } from './controller.js';
import { WorkQueue } from './workqueue.js';

export interface ApiServiceOptions extends ControllerOptions {
  /** `10.96.0.1`. */
  readonly serviceAddress: string;
  /** Where the API server listens. */
  readonly address: string;
  readonly port: number;
}

const NAME = 'kubernetes';
const NAMESPACE = 'default';

export function apiServiceController(client: ObjectClient, o: ApiServiceOptions): Controller {
  const name = 'kubernetes-service-controller';
  const queue = new WorkQueue({ reconcile: bring, failed: (key, e) => o.failed?.(name, key, e) });
  const metadata = { name: NAME, namespace: NAMESPACE };
  const labels = { component: 'apiserver', provider: 'kubernetes' };

  async function bring(): Promise<void> {
    await there(Services, {
      apiVersion: 'v1', kind: 'Service', metadata: { ...metadata, labels },
      spec: { clusterIP: o.serviceAddress, ports: [{ name: 'https', port: 443, targetPort: o.port, protocol: 'TCP' }], type: 'ClusterIP', sessionAffinity: 'None' },
    });
    await there(EndpointSlices, {
      apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata: { ...metadata, labels: { [SERVICE_NAME_LABEL]: NAME } },
      addressType: familyOfIp(o.address), ports: [{ name: 'https', port: o.port, protocol: 'TCP' }], endpoints: [{ addresses: [o.address], conditions: { ready: true } }],
    });
    await there(EndpointsKind, {
      apiVersion: 'v1', kind: 'Endpoints', metadata, subsets: [{ addresses: [{ ip: o.address }], ports: [{ name: 'https', port: o.port, protocol: 'TCP' }] }],
    });
  }

  async function there<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<void> {
    try {
      await client.get(kind, NAME, NAMESPACE);
    } catch (e) {
      if (!isNotFound(e)) throw e;
      try {
        await client.create(kind, object);
      } catch (failed) {
        if (!isKubeError(failed, 'KUBE_ALREADY_EXISTS')) throw failed;
      }
    }
  }

  queue.add(NAME);
  const stops = ([Services, EndpointSlices, EndpointsKind] as ObjectKind<KubeObject>[]).map((kind) =>
    client.watch(kind, { namespace: NAMESPACE, fieldSelector: `metadata.name=${NAME}` }, { event: (type) => { if (type === 'DELETED') queue.add(NAME); } }));
  return {
    name,
    stop() {
      for (const s of stops) s();
      queue.stop();
    },
  };
}
