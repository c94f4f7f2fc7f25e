/** The controllers of a lab's control plane, started together. */
import type { ClusterRange, KubeObject, ObjectKind, Pod } from '@podway/kube';
import type { ApiServer } from '../apiserver/server.js';
import { translate } from '../apiserver/inprocess.js';
import type { Controller, ControllerOptions } from './controller.js';
import { apiServiceController, type ApiServiceOptions } from './apiservice.js';
import { endpointSliceController } from './endpointslices.js';
import { garbageCollector } from './garbage.js';
import { namespaceController } from './namespaces.js';
import { nodePodCidrController } from './podcidrs.js';
import { Scheduler } from './scheduler.js';

export * from './controller.js';
export * from './apiservice.js';
export * from './endpointslices.js';
export * from './events.js';
export * from './garbage.js';
export * from './namespaces.js';
export * from './podcidrs.js';
export * from './scheduler.js';
export * from './scheduling.js';
export * from './workqueue.js';

export interface ControlPlaneOptions extends ControllerOptions {
  readonly clusterRanges: readonly ClusterRange[];
  /** Where pods find the API: Service `kubernetes`. Left out where nothing listens. */
  readonly api?: Omit<ApiServiceOptions, keyof ControllerOptions>;
}

/** All of them on one API server, in this process. */
export function startControllers(server: ApiServer, options: ControlPlaneOptions): Controller[] {
  const { operations } = server;
  const kinds: ObjectKind<KubeObject>[] = operations.registry.all().map((s) => s.kind);
  const manager = (name: string) => server.inProcessClient(name);
  const namespaces = operations.registry.find('', 'v1', 'namespaces');
  const pods = operations.registry.find('', 'v1', 'pods');
  return [
    namespaceController(manager('namespace-controller'), {
      ...options,
      kinds: kinds.filter((k) => k.namespaced),
      finalize: (namespace) => {
        if (namespaces !== undefined) operations.finalize(namespaces, { name: namespace.metadata?.name ?? '' }, { spec: { finalizers: [] } });
      },
    }),
    // None: nodes get their ranges otherwise.
    ...(options.clusterRanges.length ? [nodePodCidrController(manager('node-ipam-controller'), { ...options, ranges: options.clusterRanges })] : []),
    garbageCollector(manager('garbage-collector'), { ...options, kinds }),
    endpointSliceController(manager('endpointslice-controller'), options),
    ...(options.api ? [apiServiceController(manager('kube-apiserver'), { ...options, ...options.api })] : []),
    new Scheduler(manager('default-scheduler'), {
      ...options,
      bind: (pod: Pod, node) => {
        if (pods === undefined) return;
        const { name = '', namespace, uid } = pod.metadata ?? {};
        try {
          operations.bind(pods, { name, namespace }, { target: { kind: 'Node', name: node }, metadata: { uid } }, { fieldManager: 'default-scheduler' });
        } catch (e) {
          throw translate(e, 'bind', pods.kind, name, namespace);
        }
      },
    }),
  ];
}
