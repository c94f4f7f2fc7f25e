/**
 * A pcapng file on disk, written as packets come. Captures hold people's data, so a new file is 0600 (one that exists keeps its
 * mode). Blocks are gathered to 64 KiB before each write; `flush` makes what was written readable to others (`tail -f`-like viewers), `close` does the same and ends it.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { PcapngWriter } from './pcapng-write.js';

const GATHER = 65536;

export interface PcapngFile {
  readonly writer: PcapngWriter;
  flush(): void;
  close(): void;
}

/** Opens (and empties) `path`. Throws the file system's error (`ENOENT`, `EACCES`, `ENOSPC`), here and on every later write. */
export function createPcapngFile(path: string, about: { readonly comment?: string } = {}): PcapngFile {
  const fd = openSync(path, 'w', 0o600);
  let waiting: Uint8Array[] = [];
  let size = 0;
  let open = true;
  const flush = (): void => {
    const all = Buffer.concat(waiting);
    waiting = [];
    size = 0;
    for (let at = 0; at < all.length; ) at += writeSync(fd, all, at);
  };
  const sink = (bytes: Uint8Array): void => {
    if (!open) throw new Error(`${path} has been closed`);
    waiting.push(bytes);
    size += bytes.length;
    if (size >= GATHER) flush();
  };
  const close = (): void => {
    if (!open) return;
    open = false;
    try {
      flush();
    } finally {
      closeSync(fd);
    }
  };
  return { writer: new PcapngWriter(sink, about), flush, close };
}
