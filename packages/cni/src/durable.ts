/**
 * Files that are either the old or the new whole, after any crash: write beside, fsync,
 * rename, fsync the directory. Two disk flushes; on tmpfs about 0.1 ms altogether.
 */
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

let counter = 0;
/** Names of files being written: a crash can leave them, nobody reads them. */
export const isTemporary = (name: string): boolean => name.startsWith('.tmp-');

async function syncDir(dir: string, handle?: FileHandle): Promise<void> {
  if (handle) return handle.sync();
  const opened = await open(dir, 'r');
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

/** @param dirHandle the open directory, where many files are written to it. */
export async function writeDurably(path: string, data: string, dirHandle?: FileHandle): Promise<void> {
  const dir = dirname(path);
  const temporary = join(dir, `.tmp-${process.pid}-${counter++}-${basename(path).slice(0, 60)}`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      await file.writeFile(data);
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (e) {
    await unlink(temporary).catch(() => undefined);
    throw e;
  }
  await syncDir(dir, dirHandle);
}

/** True when there was a file. Its absence is success. */
export async function removeDurably(path: string, dirHandle?: FileHandle): Promise<boolean> {
  try {
    await unlink(path);
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw e;
  }
  await syncDir(dirname(path), dirHandle);
  return true;
}
