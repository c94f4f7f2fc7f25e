/** Who may ask: everybody about health and version, the bearer of the lab's token about the rest. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { ApiError } from './errors.js';
import type { ApiRequest } from './http/message.js';

/** 256 bits, in the characters that a header and a file can hold. */
export const newToken = (): string => randomBytes(32).toString('base64url');

const OPEN = new Set(['/version', '/healthz', '/livez', '/readyz']);

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

export class TokenAuth {
  private readonly expected: Buffer;

  constructor(token: string) {
    this.expected = digest(token);
  }

  /** Throws ApiError 401. Digests are compared, so that neither content nor length shows in the time. */
  check(request: ApiRequest): void {
    const path = request.url.split('?', 1)[0] ?? '';
    if (OPEN.has(path) && (request.method === 'GET' || request.method === 'HEAD')) return;
    const given = /^Bearer\s+(\S+)\s*$/i.exec(request.headers['authorization'] ?? '')?.[1] ?? '';
    if (!timingSafeEqual(digest(given), this.expected)) throw new ApiError(401, 'Unauthorized', 'Unauthorized');
  }
}
