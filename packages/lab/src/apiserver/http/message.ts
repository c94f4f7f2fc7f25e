/** A request and an answer, apart from sockets: what `ApiServer.handle` takes and gives. */
import type { Writable } from 'node:stream';

export interface ApiRequest {
  readonly method: string;
  /** Path and query, `/api/v1/pods?limit=500`. */
  readonly url: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** Bytes for protobuf, text otherwise. */
  readonly body?: string | Uint8Array;
}

export interface ApiResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** The whole answer, or … */
  readonly body?: string;
  /** … one that is written as it comes; returns the function that ends it early. */
  readonly stream?: (out: Writable) => () => void;
}

export const jsonResponse = (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): ApiResponse => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

export interface MediaType {
  readonly type: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** `application/json;as=Table;v=v1;g=meta.k8s.io,application/json`, in the client's order (q is not used by Kubernetes' clients). */
export function parseAccept(accept: string | undefined): MediaType[] {
  return (accept ?? '*/*').split(',').map((part) => {
    const [type = '', ...rest] = part.split(';').map((s) => s.trim());
    return { type: type.toLowerCase(), parameters: Object.fromEntries(rest.map((p) => p.split('=', 2).map((s) => s.trim()) as [string, string])) };
  });
}
