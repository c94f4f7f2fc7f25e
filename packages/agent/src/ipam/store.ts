/**
 * Where attachment records are kept. Two implementations, one contract suite
 * (test/ipam-store.test.ts); the allocator above knows neither.
 */
import { type AttachmentKey, type AttachmentRecord, keyOf } from './record.js';

/** A record that could not be read. Its addresses, where some were readable, stay taken. */
export interface StoreProblem {
  readonly file: string;
  readonly reason: string;
  /** Of the attachment, where the file's name tells it. */
  readonly key?: AttachmentKey;
  readonly addresses: readonly string[];
}

export interface LoadedAttachments {
  readonly records: readonly AttachmentRecord[];
  readonly problems: readonly StoreProblem[];
  /** Range set to the address given last there, as saved; may be behind. */
  readonly lastGiven: Readonly<Record<string, string>>;
}

/** One of the two is to be called. */
export interface PreparedRecord {
  commit(): Promise<void>;
  discard(): Promise<void>;
}

export interface AttachmentStore {
  load(): Promise<LoadedAttachments>;
  /** Durable when it resolves; a crash before leaves the old record or the new one, whole. */
  put(record: AttachmentRecord): Promise<void>;
  /** As `put`, begun now and in force with `commit`: for work that can go on meanwhile. */
  prepare(record: AttachmentRecord): PreparedRecord;
  /** Durable when it resolves; absent is success. A damaged record of the same attachment goes too. */
  remove(key: AttachmentKey): Promise<void>;
  /** A hint: cheap, and lost without harm. */
  saveLastGiven(lastGiven: Readonly<Record<string, string>>): Promise<void>;
  close(): Promise<void>;
}

/** For tests and for trying what would happen. */
export class MemoryStore implements AttachmentStore {
  readonly #records = new Map<string, AttachmentRecord>();
  #lastGiven: Readonly<Record<string, string>> = {};

  load(): Promise<LoadedAttachments> {
    return Promise.resolve({ records: [...this.#records.values()], problems: [], lastGiven: this.#lastGiven });
  }

  put(record: AttachmentRecord): Promise<void> {
    this.#records.set(keyOf(record), structuredClone(record));
    return Promise.resolve();
  }

  prepare(record: AttachmentRecord): PreparedRecord {
    return { commit: () => this.put(record), discard: () => Promise.resolve() };
  }

  remove(key: AttachmentKey): Promise<void> {
    this.#records.delete(keyOf(key));
    return Promise.resolve();
  }

  saveLastGiven(lastGiven: Readonly<Record<string, string>>): Promise<void> {
    this.#lastGiven = { ...lastGiven };
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
