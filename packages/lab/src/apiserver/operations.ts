/**
 * The verbs of the API on any kind: what a request means, with Kubernetes' rules, on storage.
 *
 * Each write is one synchronous stretch from reading the object to the store's commit, so there is
 * no other writer in between and no lock. Both the HTTP handler and the in-process client stand on
 * this. Objects returned are the stored ones and must not be changed.
 */
import { randomUUID } from 'node:crypto';
import type { PatchType } from '@podway/kube';
import { decode, generatedName, keepServerMetadata, metadataErrors, type FieldValidation } from './admission.js';
import { ApiError, STALE, alreadyExists, badRequest, conflict, forbidden, gone, invalidObject, notFound, type FieldError } from './errors.js';
import { validateEphemeralContainers, validateEphemeralUpdate, withEphemeralContainers } from './kinds/ephemeral.js';
import { bound } from './kinds/pod.js';
import { kindKey, type Registry } from './kinds/registry.js';
import type { KindSpec } from './kinds/spec.js';
import { clone, isObject, same, timestamp, type ApiObject } from './object.js';
import { applied, tracked, type Writer } from './patch/apply.js';
import { jsonPatch, mergePatch } from './patch/patches.js';
import { strategicMerge } from './patch/strategic.js';
import type { Schemas } from './schema/types.js';
import { predicate, type SelectionRequest } from './selection.js';
import type { Storage } from './storage.js';
import { startWatch, type WatchRequest, type WatchSink } from './watching.js';

export interface Target {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface WriteOptions {
  readonly dryRun?: boolean;
  readonly fieldManager?: string | undefined;
  readonly fieldValidation?: FieldValidation;
  readonly subresource?: 'status' | 'ephemeralcontainers' | undefined;
}

export interface PatchRequest extends WriteOptions {
  readonly type: PatchType;
  readonly force?: boolean;
}

export interface DeleteRequestOptions {
  readonly dryRun?: boolean;
  readonly gracePeriodSeconds?: number | undefined;
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string } | undefined;
  readonly propagationPolicy?: 'Background' | 'Foreground' | 'Orphan' | undefined;
}

export interface ListRequest extends SelectionRequest {
  readonly limit?: number | undefined;
  readonly continue?: string | undefined;
}

export interface ListResult {
  readonly items: readonly ApiObject[];
  readonly resourceVersion: string;
  readonly continue?: string;
  readonly remaining?: number;
}

export interface WriteResult {
  readonly object: ApiObject;
  readonly created: boolean;
  readonly warnings: readonly string[];
}

/** Page snapshots that are kept, the oldest dropped first. */
const SNAPSHOTS = 64;

export class Operations {
  private readonly snapshots = new Map<string, { items: readonly ApiObject[]; resourceVersion: string }>();

  constructor(
    readonly storage: Storage,
    readonly registry: Registry,
    readonly schemas: Schemas,
    readonly now: () => number = Date.now,
  ) {}

  get(spec: KindSpec, target: Target): ApiObject {
    const found = this.storage.get(kindKey(spec.kind), target.namespace, target.name);
    if (found === undefined) throw notFound(spec.kind, target.name);
    return found;
  }

  list(spec: KindSpec, request: ListRequest): ListResult {
    let items: readonly ApiObject[];
    let resourceVersion = String(this.storage.revision);
    let from = 0;
    let id: string | undefined;
    if (request.continue !== undefined && request.continue !== '') {
      const [snapshot = '', offset = ''] = Buffer.from(request.continue, 'base64url').toString().split(':');
      const held = this.snapshots.get(snapshot);
      if (held === undefined) {
        throw gone('The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.');
      }
      ({ items, resourceVersion } = held);
      from = Number(offset);
      id = snapshot;
    } else items = this.storage.list(kindKey(spec.kind), request.namespace).filter(predicate(spec, request));
    const limit = request.limit ?? 0;
    if (limit <= 0 || from + limit >= items.length) return { items: from === 0 ? items : items.slice(from), resourceVersion };
    if (id === undefined) {
      id = randomUUID();
      this.snapshots.set(id, { items, resourceVersion });
      for (const old of this.snapshots.keys()) if (this.snapshots.size > SNAPSHOTS) this.snapshots.delete(old);
    }
    const next = from + limit;
    const whole = (request.labelSelector ?? '') === '' && (request.fieldSelector ?? '') === '';
    return {
      items: items.slice(from, next),
      resourceVersion,
      continue: Buffer.from(`${id}:${String(next)}`).toString('base64url'),
      ...(whole ? { remaining: items.length - next } : {}),
    };
  }

  watch(spec: KindSpec, request: WatchRequest, sink: WatchSink): () => void {
    return startWatch(this.storage, spec, request, sink);
  }

  create(spec: KindSpec, namespace: string | undefined, body: unknown, options: WriteOptions = {}): WriteResult {
    const { object, warnings } = decode(this.schemas, spec, clone(body), options.fieldValidation ?? 'Warn');
    if ((object.metadata.resourceVersion ?? '') !== '') throw badRequest('resourceVersion should not be set on objects to be created');
    this.placeIn(spec, object, namespace);
    return this.insert(spec, object, warnings, options, (made) => tracked(this.schemas, spec.schema, undefined, made, this.writer(options)));
  }

  update(spec: KindSpec, target: Target, body: unknown, options: WriteOptions = {}): WriteResult {
    const { object, warnings } = decode(this.schemas, spec, clone(body), options.fieldValidation ?? 'Warn');
    this.placeIn(spec, object, target.namespace);
    if (object.metadata.name === undefined || object.metadata.name === '') throw invalidObject(spec.kind, '', [{ field: 'metadata.name', type: 'required', detail: 'name must be provided' }]);
    if (object.metadata.name !== target.name) throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${target.name})`);
    return this.replace(spec, this.get(spec, target), object, warnings, options);
  }

  patch(spec: KindSpec, target: Target, patch: unknown, request: PatchRequest): WriteResult {
    const key = kindKey(spec.kind);
    const before = this.storage.get(key, target.namespace, target.name);
    if (request.type === 'apply') return this.apply(spec, target, before, patch, request);
    if (before === undefined) throw notFound(spec.kind, target.name);
    const body = this.patched(spec, before, patch, request.type);
    const { object, warnings } = decode(this.schemas, spec, body, request.fieldValidation ?? 'Warn');
    if (object.metadata.name !== target.name) throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${target.name})`);
    return this.replace(spec, before, object, warnings, request);
  }

  /** The object itself when it stays for a while, undefined when it is gone. */
  delete(spec: KindSpec, target: Target, options: DeleteRequestOptions = {}): { object: ApiObject; gone: boolean } {
    const key = kindKey(spec.kind);
    const before = this.get(spec, target);
    const { uid, resourceVersion } = options.preconditions ?? {};
    if (uid !== undefined && uid !== before.metadata.uid) {
      throw conflict(spec.kind, target.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${before.metadata.uid ?? ''}`);
    }
    if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
      throw conflict(spec.kind, target.name, `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${before.metadata.resourceVersion ?? ''}`);
    }
    if (spec.kind.kind === 'Namespace' && spec.kind.group === '' && PROTECTED.has(target.name)) {
      throw forbidden(spec.kind, target.name, 'this namespace may not be deleted');
    }
    const { gracePeriodSeconds } = options;
    if (gracePeriodSeconds !== undefined && gracePeriodSeconds < 0) {
      throw invalidObject(spec.kind, target.name, [{ field: 'gracePeriodSeconds', type: 'invalid', value: gracePeriodSeconds, detail: 'must be greater than or equal to 0' }]);
    }
    const object = clone(before);
    const grace = spec.grace?.(before, { gracePeriodSeconds }) ?? 0;
    const finalizer = options.propagationPolicy === 'Foreground' ? 'foregroundDeletion' : options.propagationPolicy === 'Orphan' ? 'orphan' : undefined;
    if (finalizer !== undefined && before.metadata.deletionTimestamp === undefined) object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), finalizer])];
    const held = (object.metadata.finalizers ?? []).length > 0 || spec.held?.(object) === true;
    if (grace === 0 && !held) {
      if (options.dryRun !== true) return { object: this.storage.remove(key, before), gone: true };
      return { object: before, gone: true };
    }
    const current = before.metadata.deletionGracePeriodSeconds;
    // A second request can only shorten what is left.
    if (before.metadata.deletionTimestamp !== undefined && current !== undefined && grace >= current) return { object: before, gone: false };
    object.metadata.deletionTimestamp = timestamp(this.now() + grace * 1000);
    object.metadata.deletionGracePeriodSeconds = grace;
    spec.terminating?.(object);
    return { object: options.dryRun === true ? object : this.storage.put(key, object), gone: false };
  }

  deleteCollection(spec: KindSpec, request: SelectionRequest, options: DeleteRequestOptions = {}): ListResult {
    const { items } = this.list(spec, request);
    for (const { metadata } of items) this.delete(spec, metadata, options);
    return { items, resourceVersion: String(this.storage.revision) };
  }

  /** The `binding` subresource of pods. */
  bind(spec: KindSpec, target: Target, body: unknown, options: WriteOptions = {}): void {
    const pod = this.get(spec, target);
    const binding = isObject(body) ? (body as { target?: { kind?: string; name?: string }; metadata?: { annotations?: Record<string, string>; uid?: string } }) : {};
    const node = binding.target?.name ?? '';
    if (node === '') throw invalidObject(spec.kind, target.name, [{ field: 'target.name', type: 'required', detail: '' }]);
    const { uid } = binding.metadata ?? {};
    if (uid !== undefined && uid !== pod.metadata.uid) throw conflict(spec.kind, target.name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid ?? ''}`);
    if (pod.metadata.deletionTimestamp !== undefined) throw conflict(spec.kind, target.name, `pod ${target.name} is being deleted, cannot be assigned to a host`);
    const already = pod.spec?.['nodeName'];
    if (typeof already === 'string' && already !== '') throw conflict(spec.kind, target.name, `pod ${target.name} is already assigned to node "${already}"`);
    const object = bound(pod, node, binding.metadata?.annotations, timestamp(this.now()));
    this.manage(spec, pod, object, options);
    if (options.dryRun !== true) this.storage.put(kindKey(spec.kind), object);
  }

  /** The `finalize` subresource of namespaces: spec.finalizers only. */
  finalize(spec: KindSpec, target: Target, body: unknown): WriteResult {
    const before = this.get(spec, target);
    const finalizers = isObject(body) && isObject(body['spec']) ? body['spec']['finalizers'] : undefined;
    const object = clone(before);
    object.spec = { ...object.spec, finalizers: Array.isArray(finalizers) ? (finalizers as string[]) : [] };
    if (object.spec['finalizers'] instanceof Array && object.spec['finalizers'].length === 0) Reflect.deleteProperty(object.spec, 'finalizers');
    return { object: this.store(spec, before, object, {}), created: false, warnings: [] };
  }

  private patched(spec: KindSpec, before: ApiObject, patch: unknown, type: PatchType): unknown {
    if (type === 'json') return jsonPatch(before, patch);
    if (!isObject(patch)) throw badRequest('error decoding patch: the patch must be a JSON object');
    return type === 'merge' ? clone(mergePatch(before, patch)) : strategicMerge(this.schemas, spec.schema, before, patch);
  }

  private apply(spec: KindSpec, target: Target, before: ApiObject | undefined, patch: unknown, request: PatchRequest): WriteResult {
    if ((request.fieldManager ?? '') === '') throw badRequest('PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch');
    const { object: config, warnings } = decode(this.schemas, spec, clone(patch), request.fieldValidation ?? 'Warn');
    if ((config.metadata.name ?? target.name) !== target.name) throw badRequest(`the name of the object (${config.metadata.name}) does not match the name on the URL (${target.name})`);
    config.metadata.name = target.name;
    this.placeIn(spec, config, target.namespace);
    if (config.metadata.uid !== undefined && before === undefined) throw conflict(spec.kind, target.name, `uid mismatch: the provided object specified uid ${config.metadata.uid}, and no existing object was found`);
    const { resourceVersion, ...metadata } = config.metadata;
    config.metadata = metadata;
    if (before !== undefined && (resourceVersion ?? before.metadata.resourceVersion) !== before.metadata.resourceVersion) throw conflict(spec.kind, target.name, STALE);
    const result = applied(this.schemas, spec.schema, before, config, this.writer(request), request.force === true);
    if (before === undefined) {
      if (request.subresource !== undefined) throw notFound(spec.kind, target.name);
      const { managedFields } = result.metadata;
      return this.insert(spec, result, warnings, request, () => managedFields);
    }
    return this.replace(spec, before, result, warnings, request, true);
  }

  private insert(spec: KindSpec, object: ApiObject, warnings: readonly string[], options: WriteOptions, managed: (object: ApiObject) => ApiObject['metadata']['managedFields']): WriteResult {
    const key = kindKey(spec.kind);
    const { metadata } = object;
    const generated = (metadata.name ?? '') === '' && (metadata.generateName ?? '') !== '';
    if (generated) metadata.name = generatedName(metadata.generateName ?? '');
    this.requireNamespace(spec, object);
    for (const field of ['selfLink', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'generation', 'managedFields'] as const) Reflect.deleteProperty(metadata, field);
    object.metadata = { ...metadata, uid: randomUUID(), creationTimestamp: timestamp(this.now()), ...(spec.generation ? { generation: 1 } : {}) };
    if (spec.subresources.includes('status')) Reflect.deleteProperty(object, 'status');
    // What the client sent is its own; what is filled in below belongs to nobody.
    const fields = managed(object);
    spec.prepareCreate?.(object);
    spec.defaults?.(object);
    const errors = [...metadataErrors(spec, object.metadata), ...(spec.validate?.(object) ?? []), ...(spec.validateCreate?.(object) ?? [])];
    if (errors.length > 0) throw invalidObject(spec.kind, metadata.name ?? '', errors);
    if (this.storage.get(key, metadata.namespace, metadata.name) !== undefined) throw alreadyExists(spec.kind, metadata.name);
    this.allocate(spec, object, undefined);
    if (fields !== undefined) object.metadata.managedFields = fields;
    const all = [...warnings, ...(spec.warnings?.(object) ?? [])];
    return { object: options.dryRun === true ? object : this.storage.put(key, object), created: true, warnings: all };
  }

  private replace(spec: KindSpec, before: ApiObject, object: ApiObject, warnings: readonly string[], options: WriteOptions, isApply = false): WriteResult {
    const { metadata: old } = before;
    const asked = object.metadata.resourceVersion;
    if (asked !== undefined && asked !== '' && asked !== old.resourceVersion) throw conflict(spec.kind, old.name, STALE);
    if (object.metadata.uid !== undefined && object.metadata.uid !== old.uid) {
      throw conflict(spec.kind, old.name, `Precondition failed: UID in precondition: ${object.metadata.uid}, UID in object meta: ${old.uid ?? ''}`);
    }
    let next = object;
    if (options.subresource === 'status') {
      // Status, and of the metadata what clients may write; the rest stays.
      next = { ...clone(before), metadata: object.metadata };
      if (object.status === undefined) Reflect.deleteProperty(next, 'status');
      else next.status = object.status;
    } else if (options.subresource === 'ephemeralcontainers') {
      next = withEphemeralContainers(before, object);
    } else if (spec.subresources.includes('status')) {
      if (before.status === undefined) Reflect.deleteProperty(next, 'status');
      else next.status = clone(before.status);
    }
    keepServerMetadata(spec, next, before);
    next.metadata.resourceVersion = old.resourceVersion ?? '';
    if (options.subresource === undefined) spec.prepareUpdate?.(next, before);
    spec.defaults?.(next);
    const errors = [
      ...metadataErrors(spec, next.metadata),
      ...changeErrors(spec, next, before, options.subresource),
    ];
    if (errors.length > 0) throw invalidObject(spec.kind, old.name, errors);
    if (options.subresource !== 'status') this.allocate(spec, next, before);
    if (spec.generation && !same(contentOf(next), contentOf(before))) next.metadata.generation = (old.generation ?? 0) + 1;
    if (!isApply) this.manage(spec, before, next, options);
    return { object: this.store(spec, before, next, options), created: false, warnings };
  }

  private allocate(spec: KindSpec, object: ApiObject, before: ApiObject | undefined): void {
    if (spec.allocate === undefined) return;
    const others = this.storage.list(kindKey(spec.kind)).filter((o) => o.metadata.uid !== object.metadata.uid);
    const errors = spec.allocate(object, before, others);
    if (errors.length > 0) throw invalidObject(spec.kind, object.metadata.name, errors);
  }

  /** Stores a change, unless it is none; removes an object that was only waiting for this. */
  private store(spec: KindSpec, before: ApiObject, object: ApiObject, options: WriteOptions): ApiObject {
    if (same(before, object)) return before;
    if (options.dryRun === true) return object;
    const key = kindKey(spec.kind);
    const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
    const finished = deletionTimestamp !== undefined && (deletionGracePeriodSeconds ?? 0) === 0 && (finalizers ?? []).length === 0 && spec.held?.(object) !== true;
    return finished ? this.storage.remove(key, object) : this.storage.put(key, object);
  }

  private manage(spec: KindSpec, before: ApiObject, object: ApiObject, options: WriteOptions): void {
    const fields = tracked(this.schemas, spec.schema, before, object, this.writer(options));
    if (fields === undefined) Reflect.deleteProperty(object.metadata, 'managedFields');
    else object.metadata.managedFields = fields;
  }

  private writer(options: WriteOptions): Writer {
    return { manager: options.fieldManager ?? 'unknown', subresource: options.subresource, time: timestamp(this.now()) };
  }

  /** The namespace of the address and the one in the object must agree. */
  private placeIn(spec: KindSpec, object: ApiObject, namespace: string | undefined): void {
    if (!spec.kind.namespaced) {
      Reflect.deleteProperty(object.metadata, 'namespace');
      return;
    }
    const own = object.metadata.namespace ?? '';
    if (own !== '' && namespace !== undefined && own !== namespace) throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
    object.metadata.namespace = namespace ?? (own === '' ? 'default' : own);
  }

  private requireNamespace(spec: KindSpec, { metadata }: ApiObject): void {
    if (!spec.kind.namespaced) return;
    const name = metadata.namespace ?? '';
    const namespaces = this.registry.find('', 'v1', 'namespaces');
    if (namespaces === undefined) return;
    const found = this.storage.get(kindKey(namespaces.kind), undefined, name);
    if (found === undefined) throw notFound(namespaces.kind, name);
    if (found.metadata.deletionTimestamp !== undefined) {
      const refusal = forbidden(spec.kind, metadata.name, `unable to create new content in namespace ${name} because it is being terminated`);
      throw new ApiError(refusal.code, refusal.reason, refusal.message, {
        ...refusal.details,
        causes: [{ reason: 'NamespaceTerminating', message: `namespace ${name} is being terminated`, field: 'metadata.namespace' }],
      });
    }
  }
}

function changeErrors(spec: KindSpec, next: ApiObject, before: ApiObject, subresource: WriteOptions['subresource']): FieldError[] {
  switch (subresource) {
    case 'status': return spec.validateStatusUpdate?.(next, before) ?? [];
    case 'ephemeralcontainers': return [...validateEphemeralContainers(next), ...validateEphemeralUpdate(next, before)];
    case undefined: return [...(spec.validate?.(next) ?? []), ...(spec.validateUpdate?.(next, before) ?? [])];
  }
}

/** What counts as a new generation: the spec, or for kinds without one all that is not metadata. */
const contentOf = (o: ApiObject): unknown => (o.spec !== undefined ? o.spec : { ...o, metadata: undefined, status: undefined });

const PROTECTED: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public']);

