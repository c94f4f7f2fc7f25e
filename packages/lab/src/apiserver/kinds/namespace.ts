/** Namespaces: a name label, a phase, and the finalizer `kubernetes` that keeps them until empty. */
import { Namespaces, type Namespace } from '@podway/kube';
import { OBJECT_META } from '../http/protobuf.js';
import { since } from '../duration.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

export const namespaceKind: KindSpec = {
  kind: Namespaces,
  schema: 'core/v1.Namespace',
  categories: [],
  nameRule: 'label',
  subresources: ['status', 'finalize'],
  generation: false,
  protobuf: {
    1: ['metadata', { message: OBJECT_META }],
    2: ['spec', { message: { 1: ['finalizers', 'string', 'repeated'] } }],
    3: ['status', { message: { 1: ['phase', 'string'] } }],
  },
  columns: [NAME_COLUMN, column('Status', 0, 'string', 'The status of the namespace'), AGE_COLUMN],
  cells: (object, now) => [object.metadata.name, (object as Namespace).status?.phase ?? '', since(object.metadata.creationTimestamp, now)],
  prepareCreate(object) {
    object.spec = { finalizers: ['kubernetes'] };
    object.status = { phase: 'Active' };
  },
  prepareUpdate(object, before) {
    // Only the finalize subresource changes these.
    object.spec = { ...object.spec, ...(before.spec?.['finalizers'] === undefined ? {} : { finalizers: before.spec['finalizers'] }) };
  },
  defaults(object) {
    object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name };
  },
  terminating(object) {
    object.status = { ...object.status, phase: 'Terminating' };
  },
  held: (object) => ((object as Namespace).spec?.finalizers ?? []).length > 0,
  fields: (object) => ({ 'status.phase': (object as Namespace).status?.phase ?? '' }),
};
