/**
 * CNI errors: a number a runtime acts on, a short message, details.
 * Source: CNI SPEC.md section 5 "Error" (1-7, 11, 50, 51; 0-99 are reserved, 100 and above
 * are the plugin's own); 8 and 999 are libcni's practice (ErrInvalidNetNS, ErrInternal).
 */
import { PodwayError, messageOf } from '@podway/errors';

/** Name, number, and what it means to whoever reads it. 9, 10 and the rest below 100 are unassigned. */
export const CNI_ERRORS = {
  INCOMPATIBLE_VERSION: { code: 1, meaning: 'Incompatible CNI version' },
  UNSUPPORTED_FIELD: { code: 2, meaning: 'Unsupported field in network configuration' },
  UNKNOWN_CONTAINER: { code: 3, meaning: 'Container unknown or does not exist; no clean-up is needed' },
  INVALID_ENVIRONMENT: { code: 4, meaning: 'Invalid necessary environment variables' },
  IO_FAILURE: { code: 5, meaning: 'I/O failure' },
  DECODING_FAILURE: { code: 6, meaning: 'Failed to decode content' },
  INVALID_CONFIG: { code: 7, meaning: 'Invalid network config' },
  INVALID_NETNS: { code: 8, meaning: 'Invalid network namespace' },
  TRY_AGAIN_LATER: { code: 11, meaning: 'Try again later' },
  NOT_AVAILABLE: { code: 50, meaning: 'The plugin is not available (cannot service ADD requests)' },
  LIMITED_CONNECTIVITY: { code: 51, meaning: 'The plugin is not available, and existing containers may have limited connectivity' },
  RANGE_EXHAUSTED: { code: 101, meaning: 'No free address is left in the range' },
  ADDRESS_TAKEN: { code: 102, meaning: 'The requested address cannot be given' },
  INTERFACE_EXISTS: { code: 103, meaning: 'The interface name is taken in the container' },
  CHECK_FAILED: { code: 104, meaning: 'The container network is not as ADD left it' },
  PORT_TAKEN: { code: 105, meaning: 'The host port is taken' },
  INTERNAL: { code: 999, meaning: 'Internal error' },
} as const;
export type CniErrorName = keyof typeof CNI_ERRORS;

/** The name of a code, or undefined for one that neither the specification nor Podway defines. */
export function cniErrorName(code: number): CniErrorName | undefined {
  return (Object.keys(CNI_ERRORS) as CniErrorName[]).find((n) => CNI_ERRORS[n].code === code);
}

/** The JSON a plugin prints on stdout when it fails. */
export interface CniErrorJson {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details?: string;
}

export interface CniErrorDetails {
  readonly details?: string;
  readonly hint?: string;
  readonly object?: string;
  readonly cause?: unknown;
}

/** `code` is `CNI_` and the name; `cniCode` the number; `msg` and `details` as in the JSON. */
export class CniError extends PodwayError {
  readonly cniCode: number;
  readonly msg: string;
  readonly details: string | undefined;

  /** @param kind a known name, or a number that a plugin answered. */
  constructor(kind: CniErrorName | number, msg: string, more: CniErrorDetails = {}) {
    const name = typeof kind === 'number' ? (cniErrorName(kind) ?? `PLUGIN_${kind}`) : kind;
    super(`CNI_${name}`, msg, {
      ...(more.details ? { said: more.details } : {}),
      ...(more.hint === undefined ? {} : { hint: more.hint }),
      ...(more.object === undefined ? {} : { object: more.object }),
      ...(more.cause === undefined ? {} : { cause: more.cause }),
    });
    this.cniCode = typeof kind === 'number' ? kind : CNI_ERRORS[kind].code;
    this.msg = msg;
    this.details = more.details;
  }

  toCni(cniVersion: string): CniErrorJson {
    const details = [this.details, this.hint].filter(Boolean).join('; ');
    return { cniVersion, code: this.cniCode, msg: this.msg, ...(details ? { details } : {}) };
  }
}

export const isCniError = (e: unknown, kind?: CniErrorName): e is CniError =>
  e instanceof CniError && (kind === undefined || e.cniCode === CNI_ERRORS[kind].code);

/** Anything thrown as a CniError: itself, or code 999 with the message and, of a PodwayError, code and object. */
export function toCniError(e: unknown): CniError {
  if (e instanceof CniError) return e;
  const details = e instanceof PodwayError ? [e.code, e.object].filter(Boolean).join(' ') : '';
  return new CniError('INTERNAL', messageOf(e) || 'unknown error', {
    cause: e,
    ...(details ? { details } : {}),
    ...(e instanceof PodwayError && e.hint ? { hint: e.hint } : {}),
  });
}
