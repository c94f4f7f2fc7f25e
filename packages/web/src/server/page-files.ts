/** The built page: its few files are read once, and sent compressed. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { PodwayError } from '@podway/errors';

export interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly gzip: Buffer;
  readonly etag: string;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml',
};

/** Where `podway` builds it. */
export const builtPage = (): string => process.env['PODWAY_PAGE_DIR'] ?? fileURLToPath(new URL('../../../../../build/page', import.meta.url));

/** Path as in an address → file. @throws PAGE_MISSING */
export function readPage(dir: string = builtPage()): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  let names: string[] = [];
  try {
    names = readdirSync(dir, { recursive: true, encoding: 'utf8' });
  } catch {
    // Said below.
  }
  for (const name of names) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const plain = readFileSync(join(dir, name));
    files.set(`/${name}`, { type, plain, gzip: gzipSync(plain), etag: `"${createHash('sha256').update(plain).digest('base64url').slice(0, 22)}"` });
  }
  if (!files.has('/index.html')) {
    throw new PodwayError('PAGE_MISSING', 'the page has not been built', { object: dir, hint: 'Run ./podway ui from the repository: it builds what is missing.' });
  }
  return files;
}
