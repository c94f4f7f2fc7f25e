/**
 * Decoding as kube-apiserver does it: what has the wrong type is refused, what is unknown is
 * reported (a warning, or a refusal with fieldValidation=Strict) and dropped.
 *
 * Source: the messages of sigs.k8s.io/json (strict errors) and of Go's decoder.
 */
import { isObject, type JsonObject } from '../object.js';
import type { Scalar, Schemas, TypeRef } from './types.js';

export interface Checked {
  /** `unknown field "spec.foo"`. */
  readonly unknown: string[];
  /** `json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool`. */
  readonly wrong: string[];
}

/** Drops unknown fields from `value` in place, and nulls, which mean the same as absent. */
export function checkAgainst(schemas: Schemas, typeName: string, value: JsonObject): Checked {
  const found: Checked = { unknown: [], wrong: [] };
  struct(schemas, typeName, value, '', found);
  return found;
}

function struct(schemas: Schemas, typeName: string, value: JsonObject, at: string, found: Checked): void {
  const type = schemas.type(typeName);
  if (type === undefined || type.open) return;
  for (const [key, item] of Object.entries(value)) {
    const where = at === '' ? key : `${at}.${key}`;
    const field = type.fields.get(key);
    if (field === undefined) {
      found.unknown.push(`unknown field "${where}"`);
      Reflect.deleteProperty(value, key);
    } else if (item === null) Reflect.deleteProperty(value, key);
    else if (!matches(schemas, field.type, item, where, found)) {
      found.wrong.push(
        `json: cannot unmarshal ${jsonType(item)} into Go struct field ${typeName.slice(typeName.lastIndexOf('.') + 1)}.${where} of type ${goType(field.type)}`,
      );
    }
  }
}

function matches(schemas: Schemas, type: TypeRef, value: unknown, at: string, found: Checked): boolean {
  switch (type.is) {
    case 'scalar':
      return scalar(type.scalar, value);
    case 'ref':
      if (!isObject(value)) return false;
      struct(schemas, type.name, value, at, found);
      return true;
    case 'array':
      return Array.isArray(value) && value.every((v, i) => matches(schemas, type.of, v, `${at}[${String(i)}]`, found));
    case 'map':
      return isObject(value) && Object.entries(value).every(([k, v]) => matches(schemas, type.of, v, `${at}.${k}`, found));
  }
}

function scalar(type: Scalar, value: unknown): boolean {
  switch (type) {
    case 'string':
      return typeof value === 'string';
    case 'time':
    case 'microTime':
      return typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'integer':
      return Number.isSafeInteger(value);
    case 'number':
      return typeof value === 'number';
    case 'quantity':
      return typeof value === 'number' || (typeof value === 'string' && QUANTITY.test(value));
    case 'intOrString':
      return Number.isSafeInteger(value) || typeof value === 'string';
    case 'any':
      return true;
  }
}

const QUANTITY = /^[+-]?(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?$/;

function jsonType(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'number' && !Number.isInteger(value)) return `number ${String(value)}`;
  return typeof value;
}

function goType(type: TypeRef): string {
  switch (type.is) {
    case 'array':
      return `[]${goType(type.of)}`;
    case 'map':
      return `map[string]${goType(type.of)}`;
    case 'ref':
      return type.name.replace('/', '').replace('core', '');
    case 'scalar': {
      const names: Record<Scalar, string> = {
        string: 'string',
        integer: 'int32',
        number: 'float64',
        boolean: 'bool',
        any: 'interface {}',
        quantity: 'resource.Quantity',
        intOrString: 'intstr.IntOrString',
        time: 'v1.Time',
        microTime: 'v1.MicroTime',
      };
      return names[type.scalar];
    }
  }
}
