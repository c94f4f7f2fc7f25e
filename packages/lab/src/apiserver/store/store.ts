/**
 * Where objects are kept: the seam beneath the API server. Two implementations (memory, lmdb)
 * pass one contract suite.
 *
 * The server holds all objects in memory and reads from there; a store only has to give them back
 * after a restart, with the revision counter, and to have a change on record when `commit` returns.
 */
import type { ApiObject } from '../object.js';

export interface StoreChange {
  /** Greater than every revision committed before. */
  readonly revision: number;
  readonly key: string;
  /** Undefined: the object is removed. */
  readonly object: ApiObject | undefined;
}

export interface Store {
  /** The revision of the last commit, 0 for a new store. */
  revision(): number;
  /** All objects, in no particular order. */
  load(): Iterable<readonly [key: string, object: ApiObject]>;
  /** All or nothing: the object and the revision together. Throws PodwayError KUBE_STORE. */
  commit(change: StoreChange): void;
  close(): Promise<void>;
}
