/**
 * Refusals, as Kubernetes words them: each becomes a Status object with the HTTP code, reason,
 * details and causes that kubectl and client libraries act on.
 * Source: k8s.io/apimachinery/pkg/api/errors, pkg/util/validation/field.
 */
import type { KubeObject, ObjectKind, Status } from '@podway/kube';

export class ApiError extends Error {
  override readonly name = 'ApiError';
  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details?: Status['details'],
  ) {
    super(message);
  }

  status(): Status {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

type Kind = ObjectKind<KubeObject>;

/** `pods` or `deployments.apps`. */
export const groupResource = (kind: Kind): string => (kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`);

/** `Pod` or `Deployment.apps`. */
const groupKind = (kind: Kind): string => (kind.group === '' ? kind.kind : `${kind.kind}.${kind.group}`);

const detailsOf = (kind: Kind, name: string, word: string): NonNullable<Status['details']> => ({
  ...(name === '' ? {} : { name }),
  ...(kind.group === '' ? {} : { group: kind.group }),
  kind: word,
});

export const notFound = (kind: Kind, name: string): ApiError =>
  new ApiError(404, 'NotFound', `${groupResource(kind)} "${name}" not found`, detailsOf(kind, name, kind.plural));

export const noSuchPath = (): ApiError => new ApiError(404, 'NotFound', 'the server could not find the requested resource', {});

export const alreadyExists = (kind: Kind, name: string): ApiError =>
  new ApiError(409, 'AlreadyExists', `${groupResource(kind)} "${name}" already exists`, detailsOf(kind, name, kind.plural));

export const conflict = (kind: Kind, name: string, why: string): ApiError =>
  new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${groupResource(kind)} "${name}": ${why}`, detailsOf(kind, name, kind.plural));

export const STALE = 'the object has been modified; please apply your changes to the latest version and try again';

export const forbidden = (kind: Kind, name: string, why: string): ApiError =>
  new ApiError(403, 'Forbidden', `${groupResource(kind)} "${name}" is forbidden: ${why}`, detailsOf(kind, name, kind.plural));

export const badRequest = (message: string): ApiError => new ApiError(400, 'BadRequest', message);

export const gone = (message: string): ApiError => new ApiError(410, 'Expired', message);

export const methodNotAllowed = (): ApiError => new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource', {});

export const unsupportedMediaType = (message: string): ApiError => new ApiError(415, 'UnsupportedMediaType', message);

export const notImplemented = (message: string): ApiError => new ApiError(501, 'NotImplemented', message);

export type FieldErrorType = 'required' | 'invalid' | 'unsupported' | 'duplicate' | 'forbidden' | 'toolong' | 'notfound' | 'type';

const WORDS: Readonly<Record<FieldErrorType, readonly [reason: string, words: string]>> = {
  required: ['FieldValueRequired', 'Required value'],
  invalid: ['FieldValueInvalid', 'Invalid value'],
  unsupported: ['FieldValueNotSupported', 'Unsupported value'],
  duplicate: ['FieldValueDuplicate', 'Duplicate value'],
  forbidden: ['FieldValueForbidden', 'Forbidden'],
  toolong: ['FieldValueTooLong', 'Too long'],
  notfound: ['FieldValueNotFound', 'Not found'],
  type: ['FieldValueTypeInvalid', 'Invalid value'],
};

export interface FieldError {
  readonly field: string;
  readonly type: FieldErrorType;
  readonly value?: unknown;
  readonly detail: string;
}

/** How Go prints a value with %#v as far as JSON has it. */
function show(value: unknown): string {
  return value === undefined || value === null ? 'null' : JSON.stringify(value);
}

export function fieldErrorText(e: FieldError): string {
  const head = WORDS[e.type][1];
  const value = e.type === 'required' || e.type === 'forbidden' || e.type === 'toolong' ? '' : `: ${show(e.value)}`;
  return `${head}${value}${e.detail === '' ? '' : `: ${e.detail}`}`;
}

export const required = (field: string, detail = ''): FieldError => ({ field, type: 'required', detail });
export const invalid = (field: string, value: unknown, detail: string): FieldError => ({ field, type: 'invalid', value, detail });
export const duplicate = (field: string, value: unknown): FieldError => ({ field, type: 'duplicate', value, detail: '' });
export const notAllowed = (field: string, detail: string): FieldError => ({ field, type: 'forbidden', detail });
export const unsupported = (field: string, value: unknown, supported: readonly string[]): FieldError => ({
  field,
  type: 'unsupported',
  value,
  detail: `supported values: ${[...supported].sort().map((s) => `"${s}"`).join(', ')}`,
});

/** 422, with one cause per field: `Pod "x" is invalid: spec.containers[0].name: Required value`. */
export function invalidObject(kind: Kind, name: string, errors: readonly FieldError[]): ApiError {
  const lines = [...new Set(errors.map((e) => `${e.field}: ${fieldErrorText(e)}`))];
  const said = lines.length === 1 ? (lines[0] ?? '') : `[${lines.join(', ')}]`;
  return new ApiError(422, 'Invalid', `${groupKind(kind)} "${name}" is invalid: ${said}`, {
    ...detailsOf(kind, name, kind.kind),
    causes: errors.map((e) => ({ reason: WORDS[e.type][0], message: fieldErrorText(e), field: e.field })),
  });
}
