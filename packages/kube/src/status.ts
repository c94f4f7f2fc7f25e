/**
 * Kubernetes' answer to a refused request, and how it becomes a PodwayError.
 * Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
 */
import { PodwayError } from '@podway/errors';

export interface Status {
  kind: 'Status';
  apiVersion: 'v1';
  metadata: Record<string, unknown>;
  status: 'Success' | 'Failure';
  message?: string;
  reason?: string;
  details?: {
    name?: string;
    group?: string;
    kind?: string;
    uid?: string;
    causes?: { reason?: string; message?: string; field?: string }[];
    retryAfterSeconds?: number;
  };
  code?: number;
}

export type KubeErrorCode =
  | 'KUBE_NOT_FOUND'
  | 'KUBE_ALREADY_EXISTS'
  | 'KUBE_CONFLICT'
  | 'KUBE_INVALID'
  | 'KUBE_FORBIDDEN'
  | 'KUBE_GONE'
  | 'KUBE_UNAVAILABLE';

/** By HTTP status and Status.reason, never by text. */
export function kubeErrorCode(code: number, reason: string | undefined): KubeErrorCode {
  if (code === 404) return 'KUBE_NOT_FOUND';
  if (code === 409) return reason === 'AlreadyExists' ? 'KUBE_ALREADY_EXISTS' : 'KUBE_CONFLICT';
  if (code === 401 || code === 403) return 'KUBE_FORBIDDEN';
  if (code === 410) return 'KUBE_GONE';
  if (code >= 400 && code < 500 && code !== 429) return 'KUBE_INVALID';
  return 'KUBE_UNAVAILABLE';
}

export function kubeError(status: Partial<Status>, doing: string, object: string, cause?: unknown): PodwayError {
  const code = status.code ?? 500;
  return new PodwayError(kubeErrorCode(code, status.reason), doing, {
    object,
    said: status.message ?? `HTTP ${String(code)}`,
    ...(code === 401 ? { hint: 'Check the token: the kubeconfig may belong to an earlier lab.' } : {}),
    ...(cause === undefined ? {} : { cause }),
  });
}

/** True for an error that this contract (client.ts) names. */
export function isKubeError(e: unknown, code: KubeErrorCode): e is PodwayError {
  return e instanceof PodwayError && e.code === code;
}

export const isNotFound = (e: unknown): boolean => isKubeError(e, 'KUBE_NOT_FOUND');
