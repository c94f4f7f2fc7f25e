/**
 * One watch: initial objects or the changes since a revision, then every change as it happens,
 * turned into what the watcher's selection sees (an object that starts to match is ADDED, one that
 * stops is DELETED).
 *
 * Everything is synchronous, so nothing can fall between the initial state and the first change.
 */
import { gone, type ApiError } from './errors.js';
import { kindKey } from './kinds/registry.js';
import type { KindSpec } from './kinds/spec.js';
import type { ApiObject } from './object.js';
import { predicate, type SelectionRequest } from './selection.js';
import type { Change, Storage } from './storage.js';

export interface WatchRequest extends SelectionRequest {
  /** `''` and `0`: begin with all objects. */
  readonly resourceVersion?: string | undefined;
  /** Begin with all objects, then say so with a bookmark. */
  readonly sendInitialEvents?: boolean;
}

export interface WatchSink {
  event(type: 'ADDED' | 'MODIFIED' | 'DELETED', object: ApiObject): void;
  /** The state up to this revision has been told. */
  bookmark(resourceVersion: string, initialEventsEnd: boolean): void;
}

/** Returns the end of the watch. Throws ApiError 400 or 410 before anything is sent. */
export function startWatch(storage: Storage, spec: KindSpec, request: WatchRequest, sink: WatchSink): () => void {
  const key = kindKey(spec.kind);
  const selected = predicate(spec, request);
  const deliver = (change: Change): void => {
    const now = change.type !== 'DELETED' && selected(change.object);
    const before = change.before !== undefined && selected(change.before);
    if (now) sink.event(before ? 'MODIFIED' : 'ADDED', change.object);
    else if (before) {
      // The watcher is shown the object as it knew it, under the revision at which it went.
      const last = change.type === 'DELETED' ? change.object : { ...change.before, metadata: { ...change.before.metadata, resourceVersion: String(change.revision) } };
      sink.event('DELETED', last as ApiObject);
    }
  };
  const from = request.resourceVersion ?? '';
  const all = from === '' || from === '0' || request.sendInitialEvents === true;
  const missed = all ? [] : storage.since(key, revisionOf(from));
  if (missed === undefined) throw tooOld(from, storage.oldest(key));
  if (all) for (const o of storage.list(key, request.namespace)) if (selected(o)) sink.event('ADDED', o);
  if (request.sendInitialEvents === true) sink.bookmark(String(storage.revision), true);
  for (const change of missed) deliver(change);
  return storage.subscribe(key, deliver);
}

function revisionOf(text: string): number {
  const n = Number(text);
  return Number.isSafeInteger(n) && n >= 0 ? n : -1;
}

const tooOld = (asked: string, oldest: number): ApiError => gone(`too old resource version: ${asked} (${String(oldest)})`);
