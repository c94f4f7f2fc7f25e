/**
 * Building the shim: `cc -static -O2 … podway-cni.c`, about 0.2 s, once per machine.
 */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PodwayError, messageOf } from '@podway/errors';

export const SHIM_NAME = 'podway-cni';
/** The one C file, relative to this module as compiled (dist/src). */
export const SHIM_SOURCE = fileURLToPath(new URL('../../native/podway-cni.c', import.meta.url));

/** Compile the shim to `<outDir>/podway-cni` and return that path. @throws PodwayError SHIM_BUILD with the compiler's words */
export async function buildShim(outDir: string, cc = 'cc'): Promise<string> {
  const out = join(outDir, SHIM_NAME);
  await mkdir(outDir, { recursive: true });
  try {
    await promisify(execFile)(cc, ['-static', '-O2', '-Wall', '-Wextra', '-Werror', '-std=gnu11', '-s', '-o', out, SHIM_SOURCE]);
  } catch (e) {
    const missing = (e as NodeJS.ErrnoException).code === 'ENOENT';
    throw new PodwayError('SHIM_BUILD', 'compiling the CNI shim', {
      object: SHIM_SOURCE,
      said: missing ? `no C compiler named ${cc}` : messageOf(e),
      hint: 'Install a C compiler with a static libc (Debian: gcc libc6-dev; Fedora: gcc glibc-static; Alpine: gcc musl-dev).',
      cause: e,
    });
  }
  return out;
}
