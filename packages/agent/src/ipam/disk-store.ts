/**
 * Attachment records as files: `<dir>/<containerId>@<ifname>.json`, each written whole and
 * (write, fsync once it is `ready`, rename). `@` cannot be in a container id, so
 * a name says which attachment it is even when the content is damaged.
 *
 * A damaged file is moved to `<dir>/quarantine/` under its name and reported at every load,
 * with the addresses that can still be read in it, until the attachment is removed.
 * One process at a time owns the directory: the agent, which holds the CNI socket.
 */
import { readdirSync, renameSync, writeFileSync } from 'node:fs';
import { readFile, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { DurableDir, isTemporary } from '@podway/cni';
import { PodwayError, messageOf } from '@podway/errors';
import { type AttachmentKey, type AttachmentRecord, keyOf, parseRecord, recordFileName, salvageAddresses } from './record.js';
import type { AttachmentStore, LoadedAttachments, PreparedRecord, StoreProblem } from './store.js';

export const DEFAULT_ATTACHMENT_DIR = '/var/lib/podway/attachments';
const LAST_GIVEN = 'last-given';
const QUARANTINE = 'quarantine';

function keyOfFile(name: string): AttachmentKey | undefined {
  const m = /^([^@]+)@(.+?)\.json(~\d+)?$/.exec(name);
  return m?.[1] && m[2] ? { containerId: m[1], ifname: m[2] } : undefined;
}

/** The records of a directory as they are now, for who only looks: nothing is moved or removed, what cannot be read is left out. */
export async function readAttachments(dir: string): Promise<AttachmentRecord[]> {
  const names = (await readdir(dir).catch(() => [])).filter((n) => n.endsWith('.json') && !isTemporary(n));
  const read = await Promise.all(names.map(async (n) => parseRecord(await readFile(join(dir, n), 'utf8').catch(() => ''))));
  return read.flatMap((r) => ('record' in r ? [r.record] : []));
}

export class DiskStore implements AttachmentStore {
  readonly #dir: string;
  #main: DurableDir | undefined;
  #aside: DurableDir | undefined;

  constructor(dir = DEFAULT_ATTACHMENT_DIR) {
    this.#dir = dir;
  }

  #open(): { main: DurableDir; aside: DurableDir } {
    this.#main ??= new DurableDir(this.#dir);
    this.#aside ??= new DurableDir(join(this.#dir, QUARANTINE));
    return { main: this.#main, aside: this.#aside };
  }

  #failed(doing: string, object: string, e: unknown): PodwayError {
    const errno = (e as NodeJS.ErrnoException).code;
    return new PodwayError('ATTACHMENT_STORE', `${doing} an attachment record`, { object, said: messageOf(e), ...(errno ? { errno } : {}), cause: e });
  }

  async load(): Promise<LoadedAttachments> {
    const { main } = this.#open();
    const records: AttachmentRecord[] = [];
    for (const entry of await readdir(this.#dir, { withFileTypes: true })) {
      const path = join(this.#dir, entry.name);
      if (entry.isDirectory() || entry.name === LAST_GIVEN) continue;
      if (isTemporary(entry.name)) {
        await unlink(path).catch(() => undefined); // of a crash before the rename: never was a record
        continue;
      }
      let read: ReturnType<typeof parseRecord>;
      try {
        read = parseRecord(await readFile(path, 'utf8'));
      } catch (e) {
        read = { reason: messageOf(e) };
      }
      if ('record' in read && recordFileName(read.record) === entry.name) records.push(read.record);
      else await this.#quarantine(entry.name);
    }
    main.flushSync();
    return { records, problems: await this.#problems(), lastGiven: await this.#lastGiven() };
  }

  async #quarantine(name: string): Promise<void> {
    const taken = new Set(await readdir(join(this.#dir, QUARANTINE)));
    let to = name;
    for (let n = 1; taken.has(to); n++) to = `${name}~${n}`;
    await rename(join(this.#dir, name), join(this.#dir, QUARANTINE, to));
  }

  async #problems(): Promise<StoreProblem[]> {
    const problems: StoreProblem[] = [];
    for (const name of (await readdir(join(this.#dir, QUARANTINE))).sort()) {
      const file = join(this.#dir, QUARANTINE, name);
      const key = keyOfFile(name);
      let text = '';
      let reason: string | undefined;
      try {
        text = await readFile(file, 'utf8');
      } catch (e) {
        reason = messageOf(e);
      }
      const read = parseRecord(text);
      reason ??= 'reason' in read ? read.reason : `the record is of ${keyOf(read.record)}, which its file name does not say`;
      problems.push({ file, reason, addresses: salvageAddresses(text), ...(key ? { key } : {}) });
    }
    return problems;
  }

  async #lastGiven(): Promise<Record<string, string>> {
    try {
      const json = JSON.parse(await readFile(join(this.#dir, LAST_GIVEN), 'utf8')) as Record<string, unknown>;
      return Object.fromEntries(Object.entries(json).filter((e): e is [string, string] => typeof e[1] === 'string'));
    } catch {
      return {}; // a hint: the records' own times stand in for it
    }
  }

  put(record: AttachmentRecord): Promise<void> {
    return this.prepare(record).commit();
  }

  prepare(record: AttachmentRecord): PreparedRecord {
    const name = recordFileName(record);
    // The device does not outlive a loss of power, nor does the pod; so the record need not, but it must not be torn.
    const file = this.#open().main.prepare(name, JSON.stringify(record), record.phase === 'ready');
    return {
      discard: () => file.discard(),
      commit: () => file.commit().catch((e: unknown) => {
        throw this.#failed('writing', join(this.#dir, name), e);
      }),
    };
  }

  async remove(key: AttachmentKey): Promise<void> {
    const name = recordFileName(key);
    const path = join(this.#dir, name);
    try {
      const { main, aside } = this.#open();
      for (const q of readdirSync(aside.dir)) if (q === name || q.startsWith(`${name}~`)) await aside.remove(q);
      await main.remove(name);
    } catch (e) {
      throw this.#failed('removing', path, e);
    }
  }

  async saveLastGiven(lastGiven: Readonly<Record<string, string>>): Promise<void> {
    const { main } = this.#open();
    const temporary = join(main.dir, `.tmp-${LAST_GIVEN}`);
    writeFileSync(temporary, JSON.stringify(lastGiven), { mode: 0o600 });
    renameSync(temporary, join(main.dir, LAST_GIVEN));
  }

  close(): Promise<void> {
    this.#main?.close();
    this.#aside?.close();
    this.#main = undefined;
    this.#aside = undefined;
    return Promise.resolve();
  }
}
