/** Two ways of waiting: not for ever, and for something that is settled elsewhere. */
import { PodwayError } from '@podway/errors';

/** @throws KUBE_UNAVAILABLE after `ms` */
export async function bounded<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new PodwayError('KUBE_UNAVAILABLE', `the API server did not answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export function deferred(): { readonly promise: Promise<void>; resolve(): void; reject(e: unknown): void } {
  let settle: { resolve(): void; reject(e: unknown): void } | undefined;
  const promise = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
  // Nobody may be waiting when it fails; whoever starts the agent is told in any case.
  promise.catch(() => undefined);
  return { promise, resolve: () => settle!.resolve(), reject: (e) => settle!.reject(e) };
}
