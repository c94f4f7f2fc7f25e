/**
 * Server-side apply and the book-keeping of who owns which field.
 *
 * `applied` merges what a manager sends into the live object: fields it sent before and sends no
 * more go away unless another manager owns them; fields that another manager owns with another
 * value are conflicts (409) unless forced. `tracked` keeps managedFields right for every other
 * write. Pure: the clock is passed in.
 *
 * Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/ and structured-merge-diff.
 */
import { ApiError, badRequest } from '../errors.js';
import { clone, isObject, same, type ApiObject, type JsonObject, type ManagedFieldsEntry } from '../object.js';
import type { Schemas } from '../schema/types.js';
import { fromFieldsV1, keyElement, leaves, pathText, toFieldsV1, within, type FieldSet } from './fieldset.js';
import { structShape, type Shape } from './shape.js';

export interface Writer {
  readonly manager: string;
  readonly subresource?: string | undefined;
  /** RFC 3339. */
  readonly time: string;
}

const METADATA = 'f:metadata\u0000';
const SERVER_OWNED: ReadonlySet<string> = new Set(['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'selfLink', 'managedFields', 'generateName']);

function owned(shape: Shape, object: unknown): Map<string, unknown> {
  const all = leaves(shape, object);
  for (const p of [...all.keys()]) {
    if (p === 'f:apiVersion' || p === 'f:kind' || p === 'f:metadata') all.delete(p);
    else if (p.startsWith(METADATA)) {
      const field = p.slice(METADATA.length + 2).split('\u0000', 1)[0] ?? '';
      if (SERVER_OWNED.has(field)) all.delete(p);
    }
  }
  return all;
}

interface Owner {
  readonly entry: ManagedFieldsEntry;
  fields: FieldSet;
}

const ownersOf = (object: ApiObject | undefined): Owner[] =>
  (object?.metadata.managedFields ?? []).map((entry) => ({ entry, fields: fromFieldsV1(entry.fieldsV1) }));

function write(owners: readonly Owner[]): ManagedFieldsEntry[] | undefined {
  const entries = owners.filter((o) => o.fields.size > 0).map(({ entry, fields }) => ({ ...entry, fieldsType: 'FieldsV1' as const, fieldsV1: toFieldsV1(fields) }));
  return entries.length === 0 ? undefined : entries;
}

function entryFor(operation: 'Apply' | 'Update', object: ApiObject, writer: Writer): ManagedFieldsEntry {
  return {
    manager: writer.manager,
    operation,
    apiVersion: object.apiVersion,
    time: writer.time,
    ...(writer.subresource === undefined ? {} : { subresource: writer.subresource }),
  };
}

const isOf = (o: Owner, operation: 'Apply' | 'Update', writer: Writer): boolean =>
  o.entry.manager === writer.manager && o.entry.operation === operation && (o.entry.subresource ?? '') === (writer.subresource ?? '');

/** managedFields after a create, update or patch that made `after` out of `before`. */
export function tracked(schemas: Schemas, typeName: string, before: ApiObject | undefined, after: ApiObject, writer: Writer): ManagedFieldsEntry[] | undefined {
  const shape = structShape(schemas, typeName);
  const old = owned(shape, before ?? {});
  const now = owned(shape, after);
  const changed: string[] = [];
  for (const [p, v] of now) if (!old.has(p) || !same(old.get(p), v)) changed.push(p);
  const removed = [...old.keys()].filter((p) => !now.has(p));
  // A client may edit managedFields itself (kubectl does, to move from client-side apply); an empty
  // list resets it.
  const owners = ownersOf(after.metadata.managedFields === undefined ? before : after);
  if (changed.length === 0 && removed.length === 0) return write(owners);
  for (const o of owners) {
    for (const p of removed) o.fields.delete(p);
    if (!isOf(o, 'Update', writer)) for (const p of changed) o.fields.delete(p);
  }
  if (changed.length > 0) {
    const mine = owners.find((o) => isOf(o, 'Update', writer));
    const entry = entryFor('Update', after, writer);
    if (mine === undefined) owners.push({ entry, fields: new Set(changed) });
    else owners[owners.indexOf(mine)] = { entry, fields: new Set([...mine.fields, ...changed]) };
  }
  return write(owners);
}

/**
 * The object after `config` was applied by the writer, with managedFields set. Throws ApiError 409
 * naming every field in conflict and its owner.
 */
export function applied(schemas: Schemas, typeName: string, live: ApiObject | undefined, config: ApiObject, writer: Writer, force: boolean): ApiObject {
  if ((config.metadata.managedFields ?? []).length > 0) throw badRequest('metadata.managedFields must be nil');
  const shape = structShape(schemas, typeName);
  const wanted = owned(shape, config);
  const current = owned(shape, live ?? {});
  const owners = ownersOf(live);
  const mine = owners.find((o) => isOf(o, 'Apply', writer));
  const others = owners.filter((o) => o !== mine);

  const conflicts: { owner: Owner; path: string }[] = [];
  for (const owner of others) {
    for (const p of wanted.keys()) {
      if (owner.fields.has(p) && current.has(p) && !same(current.get(p), wanted.get(p))) conflicts.push({ owner, path: p });
    }
  }
  if (conflicts.length > 0 && !force) throw conflictError(conflicts);
  for (const { owner, path: p } of conflicts) owner.fields.delete(p);

  const fields: FieldSet = new Set(wanted.keys());
  const gone = [...(mine?.fields ?? [])].filter((p) => !fields.has(p) && !isKey(p) && !others.some((o) => o.fields.has(p)));
  let result = merge(shape, live === undefined ? {} : clone(live), config) as ApiObject;
  // Whole elements first, unless something in them is still owned; then what is left of them.
  for (const p of gone.sort((a, b) => a.length - b.length)) result = removeAt(shape, result, p, [...fields, ...others.flatMap((o) => [...o.fields])]) as ApiObject;

  const entry = entryFor('Apply', result, writer);
  const unchanged = mine !== undefined && sameSet(mine.fields, fields) && live !== undefined && same(withoutManaged(live), withoutManaged(result));
  const updated: Owner = { entry: unchanged ? mine.entry : entry, fields };
  const all = mine === undefined ? [...owners, updated] : owners.map((o) => (o === mine ? updated : o));
  const managedFields = write(all);
  result.metadata = { ...result.metadata };
  delete result.metadata.managedFields;
  if (managedFields !== undefined) result.metadata.managedFields = managedFields;
  return result;
}

/** The keys of a list's element go with the element only: without them it would be another one. */
function isKey(p: string): boolean {
  const [element, field] = p.split('\u0000').slice(-2);
  return element?.startsWith('k:') === true && field !== undefined && field.slice(2) in (JSON.parse(element.slice(2)) as JsonObject);
}

const sameSet = (a: FieldSet, b: FieldSet): boolean => a.size === b.size && [...a].every((p) => b.has(p));

const withoutManaged = (o: ApiObject): JsonObject => ({ ...o, metadata: { ...o.metadata, managedFields: undefined } });

function conflictError(conflicts: readonly { owner: Owner; path: string }[]): ApiError {
  const by = new Map<string, string[]>();
  const nameOf = ({ entry }: Owner): string => `"${entry.manager ?? ''}"${entry.subresource === undefined ? '' : ` with subresource "${entry.subresource}"`} using ${entry.apiVersion ?? ''}`;
  for (const c of conflicts) by.set(nameOf(c.owner), [...(by.get(nameOf(c.owner)) ?? []), pathText(c.path)]);
  const told = [...by].map(([who, paths]) => (paths.length === 1 ? `conflict with ${who}: ${paths[0] ?? ''}` : `conflicts with ${who}:\n${paths.map((p) => `- ${p}`).join('\n')}`));
  const n = conflicts.length;
  return new ApiError(409, 'Conflict', `Apply failed with ${String(n)} conflict${n === 1 ? '' : 's'}: ${told.join('\n')}`, {
    causes: conflicts.map((c) => ({ reason: 'FieldManagerConflict', message: `conflict with ${nameOf(c.owner)}`, field: pathText(c.path) })),
  });
}

/** `wanted` laid over `live`; lists that are keyed or sets keep what only `live` has. */
function merge(shape: Shape, live: unknown, wanted: unknown): unknown {
  if (wanted === undefined) return live;
  if (shape.is === 'map' && isObject(wanted)) {
    const out: JsonObject = isObject(live) ? { ...live } : {};
    for (const [k, v] of Object.entries(wanted)) if (v !== null) out[k] = merge(shape.child(k, v), out[k], v);
    return out;
  }
  if (shape.is === 'set' && Array.isArray(wanted)) {
    const kept = Array.isArray(live) ? (live as unknown[]).filter((l) => !wanted.some((w) => same(w, l))) : [];
    return [...(wanted as unknown[]), ...kept];
  }
  if (shape.is === 'keyed' && Array.isArray(wanted)) {
    const keyOf = (v: unknown): string => (isObject(v) ? keyElement(shape.keys, v) : '');
    const old = new Map((Array.isArray(live) ? (live as unknown[]) : []).map((v) => [keyOf(v), v]));
    const out = (wanted as unknown[]).map((v) => merge(shape.item, old.get(keyOf(v)), v));
    const names = new Set(wanted.map(keyOf));
    return [...out, ...[...old].filter(([k]) => !names.has(k)).map(([, v]) => v)];
  }
  return clone(wanted);
}

/** Removes what lies at the path, unless it holds fields that are still owned. */
function removeAt(shape: Shape, value: unknown, p: string, stillOwned: readonly string[]): unknown {
  if (stillOwned.some((o) => within(o, p))) return value;
  const go = (at: Shape, v: unknown, elements: readonly string[]): unknown => {
    const [head, ...rest] = elements;
    if (head === undefined) return undefined;
    const name = head.slice(2);
    if (at.is === 'map' && isObject(v)) {
      const out = { ...v };
      const next = go(at.child(name, v[name]), v[name], rest);
      if (next === undefined) Reflect.deleteProperty(out, name);
      else out[name] = next;
      return out;
    }
    if (at.is === 'keyed' && Array.isArray(v)) {
      const items = (v as unknown[]).map((item) => (isObject(item) && keyElement(at.keys, item) === head ? go(at.item, item, rest) : item)).filter((i) => i !== undefined);
      return items.length === 0 ? undefined : items;
    }
    if (at.is === 'set' && Array.isArray(v)) {
      const items = (v as unknown[]).filter((i) => JSON.stringify(i) !== name);
      return items.length === 0 ? undefined : items;
    }
    return v;
  };
  return go(shape, value, p.split('\u0000'));
}
