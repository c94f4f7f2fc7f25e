/** All that `podway` can do, as data. */
import { readFileSync } from 'node:fs';
import { commands, groups } from './commands/index.js';
import type { Catalogue } from './program.js';

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

export const catalogue: Catalogue = {
  name: 'podway',
  summary: 'A Kubernetes pod network that you can build, see and fix.',
  version: manifest.version,
  commands,
  groups,
  footer: 'podway COMMAND --help tells more, with examples. Exit codes: podway help exit-codes',
};
