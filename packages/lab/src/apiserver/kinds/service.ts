/**
 * Services, to be listed only: a lab of this slice realises none, so none can be made, and clients
 * that merely ask which there are (kubectl cluster-info, get all) hear the truth: none.
 */
import type { ObjectKind, KubeObject } from '@podway/kube';
import { since } from '../duration.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

export const Services: ObjectKind<KubeObject> = {
  group: '', version: 'v1', kind: 'Service', plural: 'services', singular: 'service', shortNames: ['svc'], namespaced: true,
};

export const serviceKind: KindSpec = {
  kind: Services,
  schema: 'core/v1.Service',
  categories: ['all'],
  nameRule: 'label',
  subresources: [],
  readOnly: 'this lab realises no Services',
  generation: false,
  columns: [NAME_COLUMN, column('Type'), column('Cluster-IP'), AGE_COLUMN],
  cells: (object, now) => [object.metadata.name, String(object.spec?.['type'] ?? ''), String(object.spec?.['clusterIP'] ?? '<none>'), since(object.metadata.creationTimestamp, now)],
};
