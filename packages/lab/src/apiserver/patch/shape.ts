/**
 * How a value is divided into fields that can be owned separately (server-side apply): structs and
 * maps by key, keyed lists by element, sets by value, everything else as one.
 */
import { isObject } from '../object.js';
import { ATOMIC, LIST_RULES } from '../schema/lists.js';
import type { Schemas, TypeRef } from '../schema/types.js';

export type Shape =
  | { readonly is: 'leaf' }
  | { readonly is: 'set' }
  | { readonly is: 'keyed'; readonly keys: readonly string[]; readonly item: Shape }
  | { readonly is: 'map'; child(key: string, value: unknown): Shape };

const LEAF: Shape = { is: 'leaf' };
const SET: Shape = { is: 'set' };

/** Fields of which the declarations know nothing: objects by key, lists whole. */
const OPEN: Shape = { is: 'map', child: (_, value) => (isObject(value) ? OPEN : LEAF) };

/** Values that a key of a keyed list has when it is left out. */
export const KEY_DEFAULTS: Readonly<Record<string, string>> = { protocol: 'TCP' };

export function structShape(schemas: Schemas, typeName: string): Shape {
  const type = schemas.type(typeName);
  if (type === undefined) return OPEN;
  if (type.open) return LEAF;
  return {
    is: 'map',
    child(key, value) {
      const field = type.fields.get(key);
      if (field === undefined) return isObject(value) ? OPEN : LEAF;
      const name = `${typeName}.${key}`;
      if (ATOMIC.has(name)) return LEAF;
      if (field.type.is === 'array') {
        const rule = LIST_RULES[name];
        if (rule?.applySet === true) return SET;
        if (rule?.applyKeys === undefined || field.type.of.is !== 'ref') return LEAF;
        return { is: 'keyed', keys: rule.applyKeys, item: structShape(schemas, field.type.of.name) };
      }
      return shapeOf(schemas, field.type);
    },
  };
}

function shapeOf(schemas: Schemas, type: TypeRef): Shape {
  switch (type.is) {
    case 'ref':
      return structShape(schemas, type.name);
    case 'map':
      return { is: 'map', child: () => shapeOf(schemas, type.of) };
    case 'array':
    case 'scalar':
      return LEAF;
  }
}
