/**
 * OpenAPI documents made from the registry and the schemas: v3 per group and version (kubectl's
 * explain, apply and validation), v2 as one JSON document for older clients.
 *
 * Made when first asked for and kept: about a megabyte of text, some tens of milliseconds.
 */
import { createHash } from 'node:crypto';
import { apiVersionOf, resourcePath } from '@podway/kube';
import type { KindSpec } from '../kinds/spec.js';
import type { Registry } from '../kinds/registry.js';
import { ATOMIC, LIST_RULES } from '../schema/lists.js';
import type { Field, Scalar, Schemas, TypeRef } from '../schema/types.js';
import { VERSION } from './discovery.js';

type Doc = Record<string, unknown>;

const SCALARS: Readonly<Record<Scalar, Doc>> = {
  string: { type: 'string' },
  integer: { type: 'integer', format: 'int32' },
  number: { type: 'number', format: 'double' },
  boolean: { type: 'boolean' },
  any: { 'x-kubernetes-preserve-unknown-fields': true },
  quantity: { type: 'string' },
  intOrString: { type: 'string', format: 'int-or-string' },
  time: { type: 'string', format: 'date-time' },
  microTime: { type: 'string', format: 'date-time' },
};

/** `core/v1.PodSpec` -> `io.k8s.api.core.v1.PodSpec`. */
function definitionName(type: string): string {
  const dotted = type.replace('/', '.');
  if (dotted.startsWith('meta.')) return `io.k8s.apimachinery.pkg.apis.${dotted}`;
  if (dotted.startsWith('runtime.')) return `io.k8s.apimachinery.pkg.${dotted}`;
  return `io.k8s.api.${dotted}`;
}

export class OpenApi {
  private readonly v3 = new Map<string, string>();
  private v2: string | undefined;

  constructor(
    private readonly registry: Registry,
    private readonly schemas: Schemas,
  ) {}

  /** /openapi/v3: where the documents are. */
  index(): unknown {
    const paths: Doc = {};
    for (const { group, version } of this.registry.groupVersions()) {
      const at = group === '' ? `api/${version}` : `apis/${group}/${version}`;
      const hash = createHash('sha256').update(this.document3(group, version) ?? '').digest('hex').toUpperCase();
      paths[at] = { serverRelativeURL: `/openapi/v3/${at}?hash=${hash}` };
    }
    return { paths };
  }

  /** One document, or undefined. */
  document3(group: string, version: string): string | undefined {
    const key = `${group}/${version}`;
    const held = this.v3.get(key);
    if (held !== undefined) return held;
    const kinds = this.registry.all().filter(({ kind }) => kind.group === group && kind.version === version);
    if (kinds.length === 0) return undefined;
    const components = this.definitions(kinds, '#/components/schemas/');
    const text = JSON.stringify({
      openapi: '3.0.0',
      info: { title: 'Kubernetes', version: VERSION.gitVersion },
      paths: Object.assign({}, ...kinds.map((k) => this.paths(k, 3))) as Doc,
      components: { schemas: components },
    });
    this.v3.set(key, text);
    return text;
  }

  document2(): string {
    const kinds = this.registry.all();
    this.v2 ??= JSON.stringify({
      swagger: '2.0',
      info: { title: 'Kubernetes', version: VERSION.gitVersion },
      paths: Object.assign({}, ...kinds.map((k) => this.paths(k, 2))) as Doc,
      definitions: this.definitions(kinds, '#/definitions/'),
    });
    return this.v2;
  }

  private definitions(kinds: readonly KindSpec[], prefix: string): Doc {
    const out: Doc = {};
    const visit = (type: string): void => {
      const name = definitionName(type);
      if (out[name] !== undefined) return;
      const schema = this.schemas.type(type);
      const doc: Doc = { type: 'object' };
      out[name] = doc;
      if (schema === undefined || schema.open) {
        doc['x-kubernetes-preserve-unknown-fields'] = true;
        return;
      }
      doc['description'] = schema.description;
      const properties: Doc = {};
      for (const f of schema.fields.values()) properties[f.name] = this.property(type, f, prefix, visit);
      doc['properties'] = properties;
      const required = [...schema.fields.values()].filter((f) => f.required).map((f) => f.name);
      if (required.length > 0) doc['required'] = required;
    };
    for (const { kind, schema } of kinds) {
      visit(schema);
      const gvk = [{ group: kind.group, version: kind.version, kind: kind.kind }];
      Object.assign(out[definitionName(schema)] as Doc, { 'x-kubernetes-group-version-kind': gvk });
      visit('meta/v1.ListMeta');
      out[`${definitionName(schema)}List`] = {
        description: `${kind.kind}List is a list of ${kind.kind}.`,
        type: 'object',
        required: ['items'],
        properties: {
          apiVersion: { type: 'string' },
          kind: { type: 'string' },
          metadata: { $ref: prefix + definitionName('meta/v1.ListMeta') },
          items: { type: 'array', items: { $ref: prefix + definitionName(schema) } },
        },
        'x-kubernetes-group-version-kind': [{ group: kind.group, version: kind.version, kind: `${kind.kind}List` }],
      };
    }
    return out;
  }

  private property(owner: string, field: Field, prefix: string, visit: (type: string) => void): Doc {
    const rule = LIST_RULES[`${owner}.${field.name}`];
    const extra: Doc = {
      ...(rule?.mergeKey === undefined ? {} : { 'x-kubernetes-patch-merge-key': rule.mergeKey }),
      ...(rule?.mergeKey === undefined && rule?.mergeSet !== true ? {} : { 'x-kubernetes-patch-strategy': 'merge' }),
      ...(rule?.applyKeys === undefined ? {} : { 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': rule.applyKeys }),
      ...(rule?.applySet === true ? { 'x-kubernetes-list-type': 'set' } : {}),
      ...(ATOMIC.has(`${owner}.${field.name}`) ? { 'x-kubernetes-map-type': 'atomic' } : {}),
    };
    const doc = this.reference(field.type, prefix, visit);
    // A reference may have no neighbours: description and extras go around it.
    if (doc['$ref'] !== undefined) return { description: field.description, allOf: [doc], default: {}, ...extra };
    return { description: field.description, ...doc, ...extra };
  }

  private reference(type: TypeRef, prefix: string, visit: (type: string) => void): Doc {
    switch (type.is) {
      case 'scalar':
        return SCALARS[type.scalar];
      case 'ref':
        visit(type.name);
        return { $ref: prefix + definitionName(type.name) };
      case 'array':
        return { type: 'array', items: this.reference(type.of, prefix, visit) };
      case 'map':
        return { type: 'object', additionalProperties: this.reference(type.of, prefix, visit) };
    }
  }

  private paths({ kind, schema, subresources }: KindSpec, version: 2 | 3): Doc {
    const gvk = { group: kind.group, version: kind.version, kind: kind.kind };
    const ref = { $ref: (version === 3 ? '#/components/schemas/' : '#/definitions/') + definitionName(schema) };
    const query = (name: string, type: string): Doc => ({ name, in: 'query', ...(version === 3 ? { schema: { type, uniqueItems: true } } : { type, uniqueItems: true }) });
    const dry = [query('dryRun', 'string'), query('fieldManager', 'string'), query('fieldValidation', 'string')];
    const ok = version === 3 ? { '200': { description: 'OK', content: { 'application/json': { schema: ref } } } } : { '200': { description: 'OK', schema: ref } };
    const operation = (action: string, parameters: Doc[]): Doc => ({
      tags: [apiVersionOf(kind)],
      operationId: `${action}${kind.kind}`,
      parameters,
      responses: ok,
      'x-kubernetes-action': action,
      'x-kubernetes-group-version-kind': gvk,
    });
    const at = (target: { namespace?: string; name?: string; subresource?: string }): string => decodeURIComponent(resourcePath(kind, target));
    const namespace = kind.namespaced ? { namespace: '{namespace}' } : {};
    const list = operation('list', [query('labelSelector', 'string'), query('fieldSelector', 'string'), query('limit', 'integer'), query('continue', 'string'), query('watch', 'boolean')]);
    const one = {
      get: operation('get', []),
      put: operation('put', dry),
      patch: operation('patch', [...dry, query('force', 'boolean')]),
      delete: operation('delete', [query('dryRun', 'string'), query('gracePeriodSeconds', 'integer'), query('propagationPolicy', 'string')]),
    };
    return {
      ...(kind.namespaced ? { [at({})]: { get: list } } : {}),
      [at(namespace)]: { get: list, post: operation('post', dry), delete: operation('deletecollection', []) },
      [at({ ...namespace, name: '{name}' })]: one,
      ...(subresources.includes('status') ? { [at({ ...namespace, name: '{name}', subresource: 'status' })]: { get: one.get, put: one.put, patch: one.patch } } : {}),
    };
  }
}
