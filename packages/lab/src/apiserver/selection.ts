/** Which objects a list or watch is about: namespace, label and field selectors, as one predicate. */
import { isPodwayError } from '@podway/errors';
import { matchesFields, matchesLabels, parseFieldSelector, parseLabelSelector } from '@podway/kube';
import { badRequest } from './errors.js';
import type { KindSpec } from './kinds/spec.js';
import type { ApiObject } from './object.js';

export interface SelectionRequest {
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
}

/** Throws ApiError 400 for selectors that do not parse or that the kind does not know. */
export function predicate(spec: KindSpec, request: SelectionRequest): (object: ApiObject) => boolean {
  try {
    const labels = parseLabelSelector(request.labelSelector ?? '');
    const fields = parseFieldSelector(request.fieldSelector ?? '');
    const known = new Set(['metadata.name', 'metadata.namespace', ...Object.keys(spec.fields?.(EXAMPLE) ?? {})]);
    for (const f of fields) {
      if (!known.has(f.field)) throw badRequest(`Unable to find "${resource(spec)}" that match label selector "${request.labelSelector ?? ''}", field selector "${request.fieldSelector ?? ''}": field label not supported: ${f.field}`);
    }
    const own = (o: ApiObject): Record<string, string> => ({
      'metadata.name': o.metadata.name,
      'metadata.namespace': o.metadata.namespace ?? '',
      ...spec.fields?.(o),
    });
    return (o) =>
      (request.namespace === undefined || o.metadata.namespace === request.namespace) &&
      (request.name === undefined || o.metadata.name === request.name) &&
      (labels.length === 0 || matchesLabels(labels, o.metadata.labels)) &&
      (fields.length === 0 || matchesFields(fields, own(o)));
  } catch (e) {
    if (isPodwayError(e, 'KUBE_SELECTOR')) throw badRequest(e.message);
    throw e;
  }
}

/** An object without anything, to ask a kind which fields it knows. */
const EXAMPLE: ApiObject = { apiVersion: '', kind: '', metadata: { name: '' }, spec: {}, status: {}, involvedObject: {} };

const resource = (spec: KindSpec): string => `${spec.kind.group === '' ? '' : `${spec.kind.group}/`}${spec.kind.version}, Resource=${spec.kind.plural}`;
