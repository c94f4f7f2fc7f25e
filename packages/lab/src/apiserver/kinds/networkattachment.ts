/** NetworkAttachmentDefinitions (k8s.cni.cncf.io/v1): further networks of pods. */
import { parseNetworkList } from '@podway/cni';
import { messageOf } from '@podway/errors';
import { NetworkAttachmentDefinitions, type NetworkAttachmentDefinition } from '@podway/kube';
import { since } from '../duration.js';
import { invalid } from '../errors.js';
import { AGE_COLUMN, NAME_COLUMN, type KindSpec } from './spec.js';

export const networkAttachmentKind: KindSpec = {
  kind: NetworkAttachmentDefinitions,
  schema: 'k8s.cni.cncf.io/v1.NetworkAttachmentDefinition',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: true,
  columns: [NAME_COLUMN, AGE_COLUMN],
  cells: (object, now) => [object.metadata.name, since(object.metadata.creationTimestamp, now)],
  validate(object) {
    const config = (object as NetworkAttachmentDefinition).spec?.config;
    // Said when the object is made, not when the first pod asks for it.
    if (config === undefined || config === '') return [];
    try {
      parseNetworkList(JSON.stringify({ name: object.metadata.name, ...(JSON.parse(config) as object) }));
      return [];
    } catch (e) {
      return [invalid('spec.config', config, messageOf(e))];
    }
  },
};
