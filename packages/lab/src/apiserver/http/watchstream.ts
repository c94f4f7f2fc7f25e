/**
 * A watch as a stream of JSON lines, with bookmarks and an end.
 *
 * A reader that does not keep up is cut off at a few megabytes rather than buffered for ever: it
 * lists again, as every client of Kubernetes can.
 */
import type { Writable } from 'node:stream';
import { apiVersionOf } from '@podway/kube';
import type { KindSpec } from '../kinds/spec.js';
import { textOf, type ApiObject } from '../object.js';
import type { Operations } from '../operations.js';
import type { WatchRequest, WatchSink } from '../watching.js';
import type { ApiResponse } from './message.js';
import { table, type Form, type IncludeObject } from './render.js';

const BOOKMARK_EVERY = 60_000;
const MOST_BUFFERED = 16 * 1024 * 1024;
const LONGEST = 3600;

export interface StreamOptions {
  readonly form: Form;
  readonly include: IncludeObject;
  readonly bookmarks: boolean;
  readonly timeoutSeconds: number | undefined;
}

export function watchResponse(operations: Operations, spec: KindSpec, request: WatchRequest, options: StreamOptions): ApiResponse {
  // Started before the answer, so that 400 and 410 get their status; held until there is a socket.
  const pending: string[] = [];
  let out: Writable | undefined;
  let lastTold = operations.storage.revision;
  const write = (line: string): void => {
    if (out === undefined) pending.push(line);
    else if (!out.writableEnded && !out.destroyed) {
      out.write(line);
      if (out.writableLength > MOST_BUFFERED) out.destroy();
    }
  };
  const body = (object: ApiObject): string => {
    if (options.form === 'object') return textOf(object);
    if (options.form === 'metadata') return JSON.stringify({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata });
    return JSON.stringify(table(spec, [object], { resourceVersion: object.metadata.resourceVersion }, options.include, operations.now()));
  };
  const sink: WatchSink = {
    event(type, object) {
      lastTold = operations.storage.revision;
      write(`{"type":"${type}","object":${body(object)}}\n`);
    },
    bookmark(resourceVersion, initialEventsEnd) {
      const metadata = {
        resourceVersion,
        creationTimestamp: null,
        ...(initialEventsEnd ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
      };
      const object =
        options.form === 'table'
          ? table(spec, [], metadata, options.include, operations.now())
          : { kind: options.form === 'metadata' ? 'PartialObjectMetadata' : spec.kind.kind, apiVersion: options.form === 'metadata' ? 'meta.k8s.io/v1' : apiVersionOf(spec.kind), metadata };
      write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
    },
  };
  const stop = operations.watch(spec, request, sink);
  return {
    status: 200,
    headers: { 'content-type': options.form === 'table' ? 'application/json;as=Table;v=v1;g=meta.k8s.io;stream=watch' : 'application/json' },
    stream(to) {
      out = to;
      for (const line of pending.splice(0)) write(line);
      const bookmark = (): void => {
        if (options.bookmarks && operations.storage.revision > lastTold) {
          lastTold = operations.storage.revision;
          sink.bookmark(String(lastTold), false);
        }
      };
      const bookmarks = setInterval(bookmark, BOOKMARK_EVERY);
      const end = setTimeout(
        () => {
          bookmark();
          finish();
          to.end();
        },
        Math.min(options.timeoutSeconds ?? LONGEST, LONGEST) * 1000,
      );
      const finish = (): void => {
        stop();
        clearInterval(bookmarks);
        clearTimeout(end);
      };
      return finish;
    },
  };
}
