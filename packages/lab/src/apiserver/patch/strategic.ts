/**
 * Strategic merge patch: a merge patch that knows which lists are keyed.
 *
 * Directives: `$patch` (merge, replace, delete), `$setElementOrder/x`, `$deleteFromPrimitiveList/x`,
 * `$retainKeys`. Pure; the result shares nothing with the patch.
 * Source: kubernetes/community, sig-api-machinery/strategic-merge-patch.md.
 */
import { badRequest } from '../errors.js';
import { clone, isObject, same, type JsonObject } from '../object.js';
import { LIST_RULES } from '../schema/lists.js';
import type { Schemas, TypeRef } from '../schema/types.js';

const ORDER = '$setElementOrder/';
const DELETE_FROM = '$deleteFromPrimitiveList/';

/** The object after the patch; throws ApiError 400 for a patch that makes no sense. */
export function strategicMerge(schemas: Schemas, typeName: string, target: JsonObject, patch: JsonObject): JsonObject {
  return mergeStruct(schemas, typeName, clone(target), patch);
}

function mergeStruct(schemas: Schemas, typeName: string | undefined, target: JsonObject, patch: JsonObject): JsonObject {
  const directive = patch['$patch'];
  if (directive === 'replace') return strip(patch);
  if (directive === 'delete') return {};
  if (directive !== undefined && directive !== 'merge') throw badRequest(`Unknown patch type found: ${JSON.stringify(directive)}`);
  const retain = patch['$retainKeys'];
  const out = target;
  if (Array.isArray(retain)) for (const key of Object.keys(out)) if (!retain.includes(key)) Reflect.deleteProperty(out, key);

  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(DELETE_FROM)) {
      const name = key.slice(DELETE_FROM.length);
      const list = out[name];
      if (Array.isArray(list) && Array.isArray(value)) out[name] = list.filter((v) => !value.some((d) => same(d, v)));
    }
    if (key.startsWith('$')) continue;
    if (value === null) {
      Reflect.deleteProperty(out, key);
      continue;
    }
    const type = fieldType(schemas, typeName, key);
    if (isObject(value)) {
      const before = out[key];
      out[key] = mergeStruct(schemas, type?.is === 'ref' ? type.name : undefined, isObject(before) ? before : {}, value);
      if (value['$patch'] === 'delete') Reflect.deleteProperty(out, key);
    } else if (Array.isArray(value)) {
      out[key] = mergeList(schemas, typeName, key, type, out[key], value);
    } else out[key] = value;
  }
  for (const [key, order] of Object.entries(patch)) {
    if (!key.startsWith(ORDER) || !Array.isArray(order)) continue;
    const name = key.slice(ORDER.length);
    const list = out[name];
    const mergeKey = LIST_RULES[`${typeName ?? ''}.${name}`]?.mergeKey;
    const patched = patch[name];
    if (Array.isArray(list)) out[name] = inOrder(list, order, mergeKey, Array.isArray(patched) ? patched : []);
  }
  return out;
}

function mergeList(schemas: Schemas, typeName: string | undefined, key: string, type: TypeRef | undefined, before: unknown, patch: readonly unknown[]): unknown[] {
  const rule = LIST_RULES[`${typeName ?? ''}.${key}`];
  const old: unknown[] = Array.isArray(before) ? before : [];
  if (rule?.mergeSet === true) return [...old, ...patch.filter((v, i) => !old.some((o) => same(o, v)) && patch.findIndex((p) => same(p, v)) === i)];
  const mergeKey = rule?.mergeKey;
  const items = patch.filter((v) => !(isObject(v) && v['$patch'] === 'replace' && Object.keys(v).length === 1));
  const replace = items.length < patch.length;
  if (mergeKey === undefined || replace) return items.map((v) => (isObject(v) ? strip(v) : v));
  const itemType = type?.is === 'array' && type.of.is === 'ref' ? type.of.name : undefined;
  let out = [...old];
  for (const item of items) {
    if (!isObject(item)) throw badRequest(`map: expected an object in the list "${key}", got ${JSON.stringify(item)}`);
    const id = item[mergeKey];
    if (id === undefined) throw badRequest(`map: ${JSON.stringify(item)} does not contain declared merge key: ${mergeKey}`);
    const matches = (v: unknown): boolean => isObject(v) && same(v[mergeKey], id);
    if (item['$patch'] === 'delete') {
      out = out.filter((v) => !matches(v));
      continue;
    }
    const at = out.findIndex(matches);
    const existing = out[at];
    if (at < 0) out.push(mergeStruct(schemas, itemType, {}, item));
    else out[at] = mergeStruct(schemas, itemType, isObject(existing) ? existing : {}, item);
  }
  return out;
}

/**
 * Elements named in the order come in that order; the others (which only the server has) keep
 * their place behind the element they followed.
 */
function inOrder(list: readonly unknown[], order: readonly unknown[], mergeKey: string | undefined, patched: readonly unknown[]): unknown[] {
  const idOf = (v: unknown): string => JSON.stringify(mergeKey !== undefined && isObject(v) ? v[mergeKey] : v);
  const wanted = order.map(idOf);
  for (const item of patched) {
    if (isObject(item) && item['$patch'] !== undefined) continue;
    if (!wanted.includes(idOf(item))) throw badRequest(`The order in patch list:\n${JSON.stringify(patched)}\n doesn't match $setElementOrder list:\n${JSON.stringify(order)}\n`);
  }
  const named = list.filter((v) => wanted.includes(idOf(v))).sort((a, b) => wanted.indexOf(idOf(a)) - wanted.indexOf(idOf(b)));
  const out: unknown[] = [];
  let next = 0;
  for (const v of list) out.push(wanted.includes(idOf(v)) ? named[next++] : v);
  return out;
}

function fieldType(schemas: Schemas, typeName: string | undefined, key: string): TypeRef | undefined {
  return typeName === undefined ? undefined : schemas.type(typeName)?.fields.get(key)?.type;
}

/** A patch value as a value: directives and nulls gone. */
function strip(value: JsonObject): JsonObject {
  const out: JsonObject = {};
  for (const [k, v] of Object.entries(value)) {
    if (k.startsWith('$') || v === null) continue;
    out[k] = isObject(v) ? strip(v) : Array.isArray(v) ? v.map((i: unknown) => (isObject(i) ? strip(i) : i)) : v;
  }
  return out;
}
