/**
 * All objects in memory, the revision that orders every change, and the recent history from which
 * watches catch up. The only writer of the store.
 *
 * Objects handed out are the stored ones: readers must not change them (who hands them further,
 * clones). Cost: a write is one store commit plus one call per watch of that kind; the history
 * keeps references, not copies. History is a ring per kind: a watch that asks for more gets 410.
 */
import type { ApiObject } from './object.js';
import type { Store } from './store/store.js';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly revision: number;
  /** For DELETED, as it was last, with the revision of the deletion. */
  readonly object: ApiObject;
  readonly before: ApiObject | undefined;
}

interface Kept {
  readonly objects: Map<string, ApiObject>;
  readonly history: Change[];
  /** Changes up to this revision are no longer in the history. */
  forgotten: number;
  readonly listeners: Set<(change: Change) => void>;
  /** All objects in order of namespace and name; made on demand. */
  sorted: readonly ApiObject[] | undefined;
}

const SEPARATOR = '\u0001';

export class Storage {
  private readonly kinds = new Map<string, Kept>();
  private last: number;
  /** The revision when this process began: what happened before is not known. */
  private readonly first: number;

  constructor(
    private readonly store: Store,
    private readonly historyLength = 8192,
  ) {
    this.last = store.revision();
    this.first = this.last;
    for (const [key, object] of store.load()) {
      const [kind = '', name = ''] = key.split(SEPARATOR);
      this.kept(kind).objects.set(name, object);
    }
  }

  get revision(): number {
    return this.last;
  }

  /** Objects kept of all kinds, for figures. */
  count(kind: string): number {
    return this.kept(kind).objects.size;
  }

  /** Watches of the kind that are open, for figures. */
  watchers(kind: string): number {
    return this.kept(kind).listeners.size;
  }

  get(kind: string, namespace: string | undefined, name: string): ApiObject | undefined {
    return this.kept(kind).objects.get(nameKey(namespace, name));
  }

  /** In order of namespace and name, as etcd's keys are. */
  list(kind: string, namespace?: string): readonly ApiObject[] {
    const kept = this.kept(kind);
    kept.sorted ??= [...kept.objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, o]) => o);
    return namespace === undefined ? kept.sorted : kept.sorted.filter((o) => o.metadata.namespace === namespace);
  }

  /** Stores the object under the next revision and returns it as stored. */
  put(kind: string, object: ApiObject): ApiObject {
    const kept = this.kept(kind);
    const revision = this.last + 1;
    const name = nameKey(object.metadata.namespace, object.metadata.name);
    const before = kept.objects.get(name);
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
    this.store.commit({ revision, key: `${kind}${SEPARATOR}${name}`, object: stored });
    this.last = revision;
    kept.objects.set(name, stored);
    this.publish(kept, { type: before === undefined ? 'ADDED' : 'MODIFIED', revision, object: stored, before });
    return stored;
  }

  remove(kind: string, object: ApiObject): ApiObject {
    const kept = this.kept(kind);
    const revision = this.last + 1;
    const name = nameKey(object.metadata.namespace, object.metadata.name);
    const before = kept.objects.get(name);
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
    this.store.commit({ revision, key: `${kind}${SEPARATOR}${name}`, object: undefined });
    this.last = revision;
    kept.objects.delete(name);
    this.publish(kept, { type: 'DELETED', revision, object: last, before });
    return last;
  }

  /** The changes after a revision, or undefined when they are forgotten. */
  since(kind: string, revision: number): readonly Change[] | undefined {
    const kept = this.kept(kind);
    if (revision < kept.forgotten) return undefined;
    // The history is ordered: find the first change after the revision by halving.
    let low = 0;
    let high = kept.history.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((kept.history[middle]?.revision ?? 0) > revision) high = middle;
      else low = middle + 1;
    }
    return kept.history.slice(low);
  }

  /** The oldest revision that a watch of the kind can start from. */
  oldest(kind: string): number {
    return this.kept(kind).forgotten;
  }

  /** Called synchronously with every change, in order, before `put` returns. */
  subscribe(kind: string, listener: (change: Change) => void): () => void {
    const { listeners } = this.kept(kind);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  close(): Promise<void> {
    return this.store.close();
  }

  private kept(kind: string): Kept {
    let kept = this.kinds.get(kind);
    if (kept === undefined) {
      kept = { objects: new Map(), history: [], forgotten: this.first, listeners: new Set(), sorted: undefined };
      this.kinds.set(kind, kept);
    }
    return kept;
  }

  private publish(kept: Kept, change: Change): void {
    kept.sorted = undefined;
    kept.history.push(change);
    // Dropped in large steps, as each step moves the whole array.
    if (kept.history.length > this.historyLength * 1.25) {
      const dropped = kept.history.splice(0, kept.history.length - this.historyLength);
      kept.forgotten = dropped.at(-1)?.revision ?? kept.forgotten;
    }
    for (const listener of [...kept.listeners]) listener(change);
  }
}

const nameKey = (namespace: string | undefined, name: string): string => `${namespace ?? ''}/${name}`;
