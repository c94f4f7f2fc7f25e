/**
 * The forms in which objects are sent: themselves, as rows of a Table (what kubectl prints), or
 * with metadata only. JSON always: clients that prefer protobuf accept it too.
 * Source: API concepts, "Receiving resources as Tables" and "Alternate representations".
 */
import { apiVersionOf } from '@podway/kube';
import type { Cell, KindSpec } from '../kinds/spec.js';
import { textOf, type ApiObject } from '../object.js';
import type { ListResult } from '../operations.js';
import type { MediaType } from './message.js';

export type Form = 'object' | 'table' | 'metadata';

/** Undefined when the client takes nothing we have (406). */
export function chooseForm(accept: readonly MediaType[]): Form | undefined {
  for (const { type, parameters } of accept) {
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue;
    const { as, g, v } = parameters;
    if (as === undefined) return 'object';
    if (g !== 'meta.k8s.io' || (v !== 'v1' && v !== 'v1beta1')) continue;
    if (as === 'Table') return 'table';
    if (as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') return 'metadata';
  }
  return undefined;
}

export type IncludeObject = 'None' | 'Metadata' | 'Object';

const META = 'meta.k8s.io/v1';

function partial(object: ApiObject): Record<string, unknown> {
  return { kind: 'PartialObjectMetadata', apiVersion: META, metadata: object.metadata };
}

interface Table {
  kind: 'Table';
  apiVersion: string;
  metadata: Record<string, unknown>;
  columnDefinitions: Record<string, unknown>[];
  rows: { cells: Cell[]; object?: unknown }[];
}

export function table(spec: KindSpec, objects: readonly ApiObject[], metadata: Record<string, unknown>, include: IncludeObject, now: number): Table {
  return {
    kind: 'Table',
    apiVersion: META,
    metadata,
    columnDefinitions: spec.columns.map((c) => ({ name: c.name, type: c.type, format: c.format ?? '', description: c.description, priority: c.priority })),
    rows: objects.map((o) => ({
      cells: spec.cells(o, now),
      ...(include === 'None' ? {} : { object: include === 'Object' ? o : partial(o) }),
    })),
  };
}

function listMetadata(result: ListResult): Record<string, unknown> {
  return {
    resourceVersion: result.resourceVersion,
    ...(result.continue === undefined ? {} : { continue: result.continue }),
    ...(result.remaining === undefined ? {} : { remainingItemCount: result.remaining }),
  };
}

export function renderList(spec: KindSpec, result: ListResult, form: Form, include: IncludeObject, now: number): string {
  const metadata = listMetadata(result);
  if (form === 'table') return JSON.stringify(table(spec, result.items, metadata, include, now));
  if (form === 'metadata') return JSON.stringify({ kind: 'PartialObjectMetadataList', apiVersion: META, metadata, items: result.items.map(partial) });
  // Each object's text is made once, not per list.
  return `{"kind":"${spec.kind.kind}List","apiVersion":"${apiVersionOf(spec.kind)}","metadata":${JSON.stringify(metadata)},"items":[${result.items.map(textOf).join(',')}]}`;
}

export function renderObject(spec: KindSpec, object: ApiObject, form: Form, include: IncludeObject, now: number): string {
  if (form === 'table') return JSON.stringify(table(spec, [object], { resourceVersion: object.metadata.resourceVersion }, include, now));
  if (form === 'metadata') return JSON.stringify(partial(object));
  return textOf(object);
}
