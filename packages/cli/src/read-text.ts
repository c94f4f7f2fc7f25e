/** A text file that the user named. */
import { usageError } from './errors.js';

/** @throws USAGE when it cannot be read */
export async function readText(file: string): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  try {
    return await readFile(file, 'utf8');
  } catch (e) {
    throw usageError(`cannot read ${file}: ${(e as Error).message}`);
  }
}
