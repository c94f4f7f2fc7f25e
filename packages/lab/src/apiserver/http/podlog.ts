/** GET pods/NAME/log: which container, which part of its log. */
import { PassThrough, type Writable } from 'node:stream';
import { messageOf } from '@podway/errors';
import type { Pod } from '@podway/kube';
import { ApiError, badRequest } from '../errors.js';
import type { ApiObject } from '../object.js';
import type { LogOptions, PodSubresources } from '../podsubresources.js';
import type { ApiResponse } from './message.js';
import { containerOf } from './containers.js';

/** Milliseconds in which a runtime says that there is no such log. */
const PATIENCE = 250;

export function logOptions(pod: Pod, query: URLSearchParams): LogOptions {
  const container = containerOf(pod, query.get('container') ?? '', true);
  const number = (key: string): number | undefined => {
    const text = query.get(key);
    if (text === null || text === '') return undefined;
    const n = Number(text);
    if (!Number.isSafeInteger(n) || n < 0) throw badRequest(`${key}: Invalid value: "${text}": must be greater than or equal to 0`);
    return n;
  };
  const flag = (key: string): boolean => ['1', 'true'].includes(query.get(key) ?? '');
  const tailLines = number('tailLines');
  const sinceSeconds = number('sinceSeconds');
  const limitBytes = number('limitBytes');
  const sinceTime = query.get('sinceTime');
  return {
    container,
    follow: flag('follow'),
    previous: flag('previous'),
    timestamps: flag('timestamps'),
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceSeconds === undefined ? {} : { sinceSeconds }),
    ...(limitBytes === undefined ? {} : { limitBytes }),
    ...(sinceTime === null ? {} : { sinceTime }),
  };
}

/** Resolves when the first bytes are there, the log has ended or stays silent, so that refusals get their status. */
export async function logResponse(runtime: PodSubresources, object: ApiObject, query: URLSearchParams): Promise<ApiResponse> {
  const pod = object as unknown as Pod;
  const options = logOptions(pod, query);
  const abort = new AbortController();
  const pipe = new PassThrough();
  const running = runtime.log(pod, options, pipe, abort.signal);
  const begun = new Promise<void>((resolve) => pipe.once('readable', resolve).once('end', resolve));
  const failed = running.then(
    () => undefined,
    (e: unknown) => (e instanceof ApiError ? e : badRequest(messageOf(e))),
  );
  // A log that is still silent after this is a quiet one, not a refusal: answer and stream.
  let timer: NodeJS.Timeout | undefined;
  const quiet = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, PATIENCE);
  });
  const first = await Promise.race([begun, failed, quiet]);
  clearTimeout(timer);
  if (first instanceof ApiError) {
    pipe.destroy();
    throw first;
  }
  return {
    status: 200,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    stream(out: Writable) {
      pipe.pipe(out);
      void failed.then((e) => {
        if (e !== undefined) pipe.destroy();
      });
      return () => {
        abort.abort();
        pipe.destroy();
      };
    },
  };
}
