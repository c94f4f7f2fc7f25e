/**
 * The durable store: one LMDB file, one write transaction per change.
 *
 * A commit is in the file's pages when it returns, so a kill -9 at any instruction leaves the last
 * committed change and never half of one (LMDB switches its root page last). The pages are not
 * forced to disk: a lab's namespaces do not survive the machine, so its objects need not either,
 * and a forced write would cost milliseconds where this costs some twenty microseconds.
 */
import { chmodSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { PodwayError, messageOf } from '@podway/errors';
import type { ApiObject } from '../object.js';
import { textOf } from '../object.js';
import type { Store, StoreChange } from './store.js';

const REVISION = '\u0000revision';

/** Opens or makes the store in this folder (0700, file 0600). Throws KUBE_STORE. */
export async function openLmdbStore(folder: string): Promise<Store> {
  const { open } = await import('lmdb');
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const file = path.join(folder, 'objects.mdb');
    const db = open<string, string>({
      path: file,
      encoding: 'string',
      noSync: true,
      // The map grows as needed; a node's and a pod's object are a few kilobytes each.
      mapSize: 64 * 1024 * 1024,
      permissions: 0o600,
    } as Parameters<typeof open>[0]);
    chmodSync(file, 0o600);
    return {
      revision: () => Number(db.get(REVISION) ?? '0'),
      *load() {
        for (const { key, value } of db.getRange({})) {
          if (key !== REVISION) yield [key, JSON.parse(value) as ApiObject];
        }
      },
      commit({ revision, key, object }: StoreChange) {
        try {
          db.transactionSync(() => {
            if (object === undefined) db.removeSync(key);
            else db.putSync(key, textOf(object));
            db.putSync(REVISION, String(revision));
          });
        } catch (cause) {
          throw new PodwayError('KUBE_STORE', 'cannot record a change', { object: `${key} in ${file}`, said: messageOf(cause), cause });
        }
      },
      close: () => db.close(),
    };
  } catch (cause) {
    throw new PodwayError('KUBE_STORE', 'cannot open the object store', { object: folder, said: messageOf(cause), cause });
  }
}
