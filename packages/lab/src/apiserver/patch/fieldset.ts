/**
 * Sets of fields, as managedFields records them: `{"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{}}}}}`.
 *
 * In memory a path is the list of its elements as one text, so that sets are JavaScript sets.
 * Source: structured-merge-diff, fieldpath/serialize.go.
 */
import { isObject, type JsonObject } from '../object.js';
import { KEY_DEFAULTS, type Shape } from './shape.js';

const SEP = '\u0000';
export type FieldSet = Set<string>;

/** Element of a keyed list: `k:{"name":"a"}`, keys in order. */
export function keyElement(keys: readonly string[], item: JsonObject): string {
  const id: JsonObject = {};
  for (const k of [...keys].sort()) {
    const v = item[k] ?? KEY_DEFAULTS[k];
    if (v !== undefined) id[k] = v;
  }
  return `k:${JSON.stringify(id)}`;
}

/** All fields an object has, with their values: leaf path -> value. Keyed elements map to themselves. */
export function leaves(shape: Shape, value: unknown): Map<string, unknown> {
  const out = new Map<string, unknown>();
  walk(shape, value, '', out);
  return out;
}

function walk(shape: Shape, value: unknown, at: string, out: Map<string, unknown>): void {
  if (value === undefined) return;
  const into = (element: string): string => (at === '' ? element : at + SEP + element);
  if (shape.is === 'map' && isObject(value)) {
    const entries = Object.entries(value).filter(([, v]) => v !== undefined);
    if (entries.length === 0 && at !== '') out.set(at, EMPTY);
    for (const [k, v] of entries) walk(shape.child(k, v), v, into(`f:${k}`), out);
  } else if (shape.is === 'keyed' && Array.isArray(value)) {
    if (value.length === 0) out.set(at, EMPTY);
    for (const item of value) {
      if (!isObject(item)) continue;
      const element = into(keyElement(shape.keys, item));
      out.set(element, EMPTY);
      walk(shape.item, item, element, out);
    }
  } else if (shape.is === 'set' && Array.isArray(value)) {
    if (value.length === 0) out.set(at, EMPTY);
    for (const item of value) out.set(into(`v:${JSON.stringify(item)}`), EMPTY);
  } else out.set(at, value);
}

/** Value of paths that only say "is there". */
const EMPTY = Symbol('present');

export function toFieldsV1(set: ReadonlySet<string>): JsonObject {
  const root: JsonObject = {};
  const paths = [...set].sort();
  for (const p of paths) {
    let node = root;
    for (const element of p.split(SEP)) {
      const next = node[element];
      if (isObject(next)) node = next;
      else node = node[element] = {};
    }
    node['.'] = {};
  }
  // A lone "." is written as {}.
  const tidy = (node: JsonObject): void => {
    for (const child of Object.values(node)) if (isObject(child)) tidy(child);
    if (Object.keys(node).length === 1) Reflect.deleteProperty(node, '.');
  };
  tidy(root);
  return root;
}

export function fromFieldsV1(fields: JsonObject | undefined): FieldSet {
  const out: FieldSet = new Set();
  const visit = (node: JsonObject, at: string): void => {
    const keys = Object.keys(node);
    if (keys.length === 0 && at !== '') out.add(at);
    for (const k of keys) {
      const child = node[k];
      if (k === '.') out.add(at);
      else if (isObject(child)) visit(child, at === '' ? k : at + SEP + k);
    }
  };
  visit(fields ?? {}, '');
  return out;
}

/** `.spec.containers[name="a"].image`, as conflicts are told. */
export function pathText(p: string): string {
  return p
    .split(SEP)
    .map((element) => {
      const rest = element.slice(2);
      if (element.startsWith('f:')) return `.${rest}`;
      if (element.startsWith('v:')) return `[=${rest}]`;
      const id = JSON.parse(rest) as JsonObject;
      return `[${Object.entries(id).map(([k, v]) => `${k}=${JSON.stringify(v)}`).join(',')}]`;
    })
    .join('');
}

/** True when the path lies in the given one or is it. */
export const within = (p: string, outer: string): boolean => p === outer || p.startsWith(outer + SEP);
