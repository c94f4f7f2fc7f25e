/**
 * List, then watch for ever: what an informer does, as one loop.
 *
 * It remembers what it has told the handlers, so that after a gap (410, or a server that lost its
 * history) the relist is delivered as differences: objects that went while nobody looked are
 * DELETED, changed ones MODIFIED, unchanged ones nothing. A connection that ends is taken up again
 * at the last resourceVersion (bookmarks keep that fresh on quiet kinds); failures back off
 * exponentially with jitter. Memory: one reference per object seen.
 *
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import { isPodwayError } from '@podway/errors';
import type { WatchEventType, WatchHandlers } from '../client.js';
import type { KubeObject } from '../objects.js';
import { kubeError, type Status } from '../status.js';

export interface WireEvent<T extends KubeObject> {
  readonly type: WatchEventType | 'BOOKMARK' | 'ERROR';
  readonly object: T;
}

/** What the loop needs of the world. */
export interface WatchSource<T extends KubeObject> {
  list(signal: AbortSignal): Promise<{ items: T[]; resourceVersion: string }>;
  watch(resourceVersion: string, timeoutSeconds: number, signal: AbortSignal): AsyncIterable<WireEvent<T>>;
}

export interface WatchClock {
  /** Resolves after so many milliseconds, or at once when the signal aborts. Never rejects. */
  delay(ms: number, signal: AbortSignal): Promise<void>;
  /** Milliseconds, monotonic. */
  now(): number;
  /** In [0, 1). */
  random(): number;
}

export const realClock: WatchClock = {
  delay: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) {
        resolve();
        return;
      }
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
    }),
  now: () => performance.now(),
  random: () => Math.random(),
};

const FIRST_DELAY = 100;
const LONGEST_DELAY = 10_000;
/** A watch that ended sooner than this without an event counts as a failure, not as a time-out. */
const TOO_SHORT = 1_000;

export function runWatch<T extends KubeObject>(source: WatchSource<T>, handlers: WatchHandlers<T>, clock: WatchClock = realClock): () => void {
  const abort = new AbortController();
  const { signal } = abort;
  const ended = (): boolean => signal.aborted;
  const held = new Map<string, T>();
  let resourceVersion: string | undefined;
  let failures = 0;

  /** A handler that throws must not end the watch; what it threw is told, not lost. */
  const guard = (call: () => void): void => {
    if (ended()) return;
    try {
      call();
    } catch (e) {
      lost(e);
    }
  };
  const lost = (e: unknown): void => {
    if (ended()) return;
    try {
      handlers.lost?.(e);
    } catch {
      // The one who is to hear of errors fails himself: nobody is left to tell.
    }
  };
  const tell = (type: WatchEventType, object: T): void => {
    const key = keyOf(object);
    if (type === 'DELETED') held.delete(key);
    else held.set(key, object);
    guard(() => {
      handlers.event(type, object);
    });
  };

  async function relist(): Promise<void> {
    const { items, resourceVersion: at } = await source.list(signal);
    if (ended()) return;
    const seen = new Set(items.map(keyOf));
    for (const [key, object] of [...held]) if (!seen.has(key)) tell('DELETED', object);
    for (const item of items) {
      const before = held.get(keyOf(item));
      if (before === undefined) tell('ADDED', item);
      else if (before.metadata?.uid !== item.metadata?.uid) {
        // Deleted and made again under the same name while we did not look.
        tell('DELETED', before);
        tell('ADDED', item);
      } else if (before.metadata?.resourceVersion !== item.metadata?.resourceVersion) tell('MODIFIED', item);
    }
    resourceVersion = at;
    guard(() => handlers.synced?.());
  }

  async function follow(from: string): Promise<void> {
    const started = clock.now();
    let events = 0;
    const timeoutSeconds = 240 + Math.floor(clock.random() * 120);
    for await (const { type, object } of source.watch(from, timeoutSeconds, signal)) {
      if (ended()) return;
      events++;
      if (type === 'ERROR') throw kubeError(object as unknown as Partial<Status>, 'the watch was ended by the API server', 'watch');
      resourceVersion = object.metadata?.resourceVersion ?? resourceVersion;
      failures = 0;
      if (type === 'BOOKMARK') continue;
      const before = held.get(keyOf(object));
      // After a reconnect the server may tell again what is known already.
      if (type === 'DELETED' ? before === undefined : before !== undefined && before.metadata?.resourceVersion === object.metadata?.resourceVersion) continue;
      tell(type === 'DELETED' ? 'DELETED' : before === undefined ? 'ADDED' : 'MODIFIED', object);
    }
    if (events === 0 && clock.now() - started < TOO_SHORT) throw new Error('the API server closed the watch at once');
  }

  async function loop(): Promise<void> {
    while (!ended()) {
      const started = clock.now();
      try {
        if (resourceVersion === undefined) await relist();
        if (!ended() && resourceVersion !== undefined) await follow(resourceVersion);
      } catch (e) {
        if (ended()) return;
        if (isPodwayError(e, 'KUBE_GONE')) resourceVersion = undefined;
        // A connection that held for a while was a good one: begin anew with short delays.
        if (clock.now() - started > LONGEST_DELAY) failures = 0;
        // The first 410 is the way it is meant to go and no loss; a second in a row is.
        if (!isPodwayError(e, 'KUBE_GONE') || failures > 0) {
          lost(e);
          const delay = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** Math.min(failures, 20));
          await clock.delay(delay * (0.5 + clock.random() / 2), signal);
        }
        failures++;
      }
    }
  }

  loop().catch(lost);
  return () => {
    abort.abort();
  };
}

function keyOf(object: KubeObject): string {
  return `${object.metadata?.namespace ?? ''}/${object.metadata?.name ?? ''}`;
}
