/**
 * What the API server must know of a kind. A kind is data and a few pure functions: adding one is
 * one file and one line in the registry.
 */
import type { KubeObject, NameRule, ObjectKind } from '@podway/kube';
import type { FieldError } from '../errors.js';
import type { Message } from '../http/protobuf.js';
import type { ApiObject } from '../object.js';

export interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  /** 0: always; 1: with `-o wide`. */
  readonly priority: 0 | 1;
  readonly description: string;
  readonly format?: 'name';
}

export type Cell = string | number;

export interface DeleteRequest {
  /** What the client asked for, if it did. */
  readonly gracePeriodSeconds: number | undefined;
}

export interface KindSpec {
  readonly kind: ObjectKind<KubeObject>;
  /** Type in the schema, `core/v1.Pod`. */
  readonly schema: string;
  readonly categories: readonly string[];
  readonly nameRule: NameRule;
  /** `status` separates spec and status: the main resource ignores status changes, and the other way round. */
  readonly subresources: readonly ('status' | 'binding' | 'finalize' | 'log' | 'exec' | 'attach' | 'portforward' | 'ephemeralcontainers')[];
  /** Kinds that count spec changes in metadata.generation. */
  readonly generation: boolean;
  /** For kinds that kubectl sends as protobuf. */
  readonly protobuf?: Message;
  readonly columns: readonly Column[];
  /** Cells in the order of `columns`; `now` in ms. */
  cells(object: ApiObject, now: number): Cell[];
  /** Fills in what was left out; in place, before validation. */
  defaults?(object: ApiObject): void;
  /** Right after decoding of a new object: drop what a client may not set. In place. */
  prepareCreate?(object: ApiObject): void;
  prepareUpdate?(object: ApiObject, before: ApiObject): void;
  validate?(object: ApiObject): FieldError[];
  validateCreate?(object: ApiObject): FieldError[];
  validateUpdate?(object: ApiObject, before: ApiObject): FieldError[];
  validateStatusUpdate?(object: ApiObject, before: ApiObject): FieldError[];
  warnings?(object: ApiObject): string[];
  /**
   * Gives the object what must be nobody else's (addresses, ports), in place, after validation: part of the same
   * synchronous stretch as the write. `others` are all objects of the kind but this one.
   */
  allocate?(object: ApiObject, before: ApiObject | undefined, others: readonly ApiObject[]): FieldError[];
  /** Values of selectable fields besides metadata.name and metadata.namespace. */
  fields?(object: ApiObject): Record<string, string>;
  /** Seconds an object stays after a delete request; 0 or undefined: gone at once. */
  grace?(object: ApiObject, request: DeleteRequest): number;
  /** In place, when deletion begins. */
  terminating?(object: ApiObject): void;
  /** True as long as the kind itself (not a finalizer in the metadata) keeps the object from going. */
  held?(object: ApiObject): boolean;
}

export const NAME_COLUMN: Column = {
  name: 'Name',
  type: 'string',
  priority: 0,
  format: 'name',
  description: 'Name must be unique within a namespace.',
};
export const AGE_COLUMN: Column = {
  name: 'Age',
  type: 'string',
  priority: 0,
  description: 'CreationTimestamp is a timestamp representing the server time when this object was created.',
};
export const column = (name: string, priority: 0 | 1 = 0, type: Column['type'] = 'string', description = name): Column => ({
  name,
  type,
  priority,
  description,
});
