/** ConfigMaps (core/v1): text by key. */
import { ConfigMaps, type ConfigMap } from '@podway/kube';
import { since } from '../duration.js';
import { invalid, type FieldError } from '../errors.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

const LARGEST = 1024 * 1024;
const KEY = /^[-._a-zA-Z0-9]{1,253}$/;

export const configMapKind: KindSpec = {
  kind: ConfigMaps,
  schema: 'core/v1.ConfigMap',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: false,
  columns: [NAME_COLUMN, column('Data', 0, 'integer', 'The number of keys'), AGE_COLUMN],
  cells(object, now) {
    const { data = {}, binaryData = {} } = object as unknown as ConfigMap;
    return [object.metadata.name, Object.keys(data).length + Object.keys(binaryData).length, since(object.metadata.creationTimestamp, now)];
  },
  validate(object) {
    const { data = {}, binaryData = {} } = object as unknown as ConfigMap;
    const errors: FieldError[] = [...Object.keys(data).map((k) => ['data', k]), ...Object.keys(binaryData).map((k) => ['binaryData', k])]
      .filter(([, k]) => !KEY.test(k!) || k === '.' || k === '..')
      .map(([field, k]) => invalid(`${field}[${k}]`, k, 'a valid config key must consist of alphanumeric characters, \'-\', \'_\' or \'.\''));
    const size = [...Object.values(data), ...Object.values(binaryData)].reduce((n, v) => n + Buffer.byteLength(v), 0);
    return size > LARGEST ? [...errors, invalid('', size, `Too long: must have at most ${LARGEST} bytes`)] : errors;
  },
  validateUpdate(object, before) {
    const [now, was] = [object as unknown as ConfigMap, before as unknown as ConfigMap];
    const changed = JSON.stringify([now.data, now.binaryData]) !== JSON.stringify([was.data, was.binaryData]);
    return was.immutable === true && (changed || now.immutable !== true) ? [invalid('data', '', 'field is immutable when `immutable` is set')] : [];
  },
};
