/**
 * What every object goes through on its way in, whatever its kind: decoding against the schema,
 * names, labels, the metadata that only the server may set. Pure but for the name generator.
 */
import { labelValueErrors, nameErrors, qualifiedNameErrors } from '@podway/kube';
import { apiVersionOf } from '@podway/kube';
import { badRequest, invalid, invalidObject, required, type FieldError } from './errors.js';
import type { KindSpec } from './kinds/spec.js';
import { isObject, type ApiObject, type JsonObject, type Meta } from './object.js';
import { checkAgainst } from './schema/check.js';
import type { Schemas } from './schema/types.js';

export type FieldValidation = 'Ignore' | 'Warn' | 'Strict';

/** Turns a request body into an object of the kind. Throws 400; returns warnings. */
export function decode(schemas: Schemas, spec: KindSpec, body: unknown, validation: FieldValidation): { object: ApiObject; warnings: string[] } {
  const version = apiVersionOf(spec.kind);
  const { kind } = spec.kind;
  if (!isObject(body)) throw badRequest(`the object provided is unrecognized (must be of type ${kind}): couldn't get version/kind; json parse error: expected an object`);
  const given = { apiVersion: body['apiVersion'] ?? version, kind: body['kind'] ?? kind };
  if (given.apiVersion !== version || given.kind !== kind) {
    throw badRequest(`${String(given.kind)} in version "${String(given.apiVersion)}" cannot be handled as a ${kind}: no kind "${String(given.kind)}" is registered for version "${String(given.apiVersion)}" here`);
  }
  const object: JsonObject = { ...body, ...given };
  const metadata = object['metadata'];
  if (metadata !== undefined && metadata !== null && !isObject(metadata)) {
    throw badRequest(`${kind} in version "${version}" cannot be handled as a ${kind}: json: cannot unmarshal into Go struct field ${kind}.metadata of type v1.ObjectMeta`);
  }
  object['metadata'] = isObject(metadata) ? metadata : {};
  const { unknown, wrong } = checkAgainst(schemas, spec.schema, object);
  const cannot = `${kind} in version "${version}" cannot be handled as a ${kind}`;
  if (wrong.length > 0) throw badRequest(`${cannot}: ${wrong[0] ?? ''}`);
  if (unknown.length > 0 && validation === 'Strict') throw badRequest(`${cannot}: strict decoding error: ${unknown.join(', ')}`);
  return { object: object as ApiObject, warnings: validation === 'Warn' ? unknown : [] };
}

/** Errors of the parts of metadata that clients set. */
export function metadataErrors(spec: KindSpec, metadata: Meta): FieldError[] {
  const errors: FieldError[] = [];
  const { name, generateName } = metadata;
  if ((name ?? '') === '') errors.push(required('metadata.name', 'name or generateName is required'));
  else errors.push(...nameErrors(spec.nameRule, name).map((e) => invalid('metadata.name', name, e)));
  if (generateName !== undefined && generateName !== '') {
    errors.push(...nameErrors(spec.nameRule, generateName.replace(/-$/, 'a')).map((e) => invalid('metadata.generateName', generateName, e)));
  }
  for (const [k, v] of Object.entries(metadata.labels ?? {})) {
    errors.push(...qualifiedNameErrors(k).map((e) => invalid('metadata.labels', k, e)));
    errors.push(...labelValueErrors(v).map((e) => invalid('metadata.labels', v, e)));
  }
  let size = 0;
  for (const [k, v] of Object.entries(metadata.annotations ?? {})) {
    errors.push(...qualifiedNameErrors(k.toLowerCase()).map((e) => invalid('metadata.annotations', k, e)));
    size += k.length + v.length;
  }
  if (size > 256 * 1024) errors.push({ field: 'metadata.annotations', type: 'toolong', detail: 'may not be more than 262144 bytes' });
  for (const f of metadata.finalizers ?? []) {
    errors.push(...qualifiedNameErrors(f).map((e) => invalid('metadata.finalizers', f, e)));
    if (!f.includes('/') && !['foregroundDeletion', 'orphan', 'kubernetes'].includes(f)) {
      errors.push(invalid('metadata.finalizers', f, 'name is neither a standard finalizer name nor is it fully qualified'));
    }
  }
  for (const [i, o] of (metadata.ownerReferences ?? []).entries()) {
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const) {
      if ((o[field] ?? '') === '') errors.push(invalid(`metadata.ownerReferences[${String(i)}].${field}`, o[field] ?? '', `${field === 'apiVersion' ? 'version' : field} must not be empty`));
    }
  }
  return errors;
}

/** What a client may not change: back to what it was, or refused where Kubernetes refuses. */
export function keepServerMetadata(spec: KindSpec, object: ApiObject, before: ApiObject): void {
  const { metadata: now } = object;
  const old = before.metadata;
  const keep: Partial<Meta> = {};
  for (const field of ['uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'generation', 'generateName'] as const) {
    if (old[field] !== undefined) Object.assign(keep, { [field]: old[field] });
  }
  const rest: Meta = { ...now, name: old.name };
  for (const field of ['uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'generation', 'selfLink'] as const) Reflect.deleteProperty(rest, field);
  object.metadata = { ...rest, ...(old.namespace === undefined ? {} : { namespace: old.namespace }), ...keep };
  if (old.deletionTimestamp !== undefined) {
    const added = (now.finalizers ?? []).filter((f) => !(old.finalizers ?? []).includes(f));
    if (added.length > 0) {
      throw invalidObject(spec.kind, old.name, [
        { field: 'metadata.finalizers', type: 'forbidden', detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((f) => `"${f}"`).join(', ')}}` },
      ]);
    }
  }
}

const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/** `prefix` and five characters without vowels, as kube-apiserver makes names. */
export function generatedName(prefix: string, random: () => number = Math.random): string {
  let tail = '';
  for (let i = 0; i < 5; i++) tail += ALPHABET[Math.floor(random() * ALPHABET.length)] ?? 'x';
  return prefix.slice(0, 58) + tail;
}
