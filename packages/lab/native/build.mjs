/**
 * Builds podway-init: one static binary, nothing but libc and the kernel's headers.
 *
 *   node build.mjs DIR          (DIR/podway-init; about half a second; written beside and renamed,
 *                                so that a running lab keeps the program it started with)
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

export const sources = readdirSync(here).filter((f) => /\.[ch]$/.test(f)).map((f) => join(here, f));

export function build(directory, cc = process.env.CC ?? 'cc') {
  const target = resolve(directory, 'podway-init');
  mkdirSync(dirname(target), { recursive: true });
  const fresh = `${target}.new-${process.pid}`;
  execFileSync(
    cc,
    ['-std=gnu11', '-static', '-O2', '-Wall', '-Wextra', '-Werror', '-s', '-o', fresh, ...sources.filter((f) => f.endsWith('.c'))],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  renameSync(fresh, target);
  return target;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const directory = process.argv[2];
  if (directory === undefined) {
    process.stderr.write('usage: node build.mjs DIR\n');
    process.exitCode = 2;
  } else {
    build(directory);
  }
}
