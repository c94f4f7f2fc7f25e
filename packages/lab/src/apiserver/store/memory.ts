/** A store that forgets: for tests and for labs that need not survive their process. */
import type { ApiObject } from '../object.js';
import type { Store, StoreChange } from './store.js';

export class MemoryStore implements Store {
  private readonly texts = new Map<string, string>();
  private last = 0;

  revision(): number {
    return this.last;
  }

  *load(): Iterable<readonly [string, ApiObject]> {
    for (const [key, text] of this.texts) yield [key, JSON.parse(text) as ApiObject];
  }

  commit({ revision, key, object }: StoreChange): void {
    if (object === undefined) this.texts.delete(key);
    else this.texts.set(key, JSON.stringify(object));
    this.last = revision;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
