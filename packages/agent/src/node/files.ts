/** The agent's files: what it remembers of its node, and the configuration that the runtime finds. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isTemporary, writeDurably } from '@podway/cni';
import type { LocalNode } from '../backends/backend.js';

export const CONFLIST_NAME = '10-podway.conflist';

const NODE_FILE = 'node.json';

/** So that an agent that starts while the API is out of reach can go on. */
export const remember = (stateDir: string, local: LocalNode): Promise<void> => writeDurably(join(stateDir, NODE_FILE), `${JSON.stringify(local)}\n`);

export async function recall(stateDir: string, node: string): Promise<LocalNode | undefined> {
  try {
    const local = JSON.parse(await readFile(join(stateDir, NODE_FILE), 'utf8')) as LocalNode;
    return local.name === node && Array.isArray(local.podCidrs) ? local : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The configuration the runtime finds. Flannel's form: a list, so that others can be chained behind. A runtime takes the highest of
 * `cniVersions` that it knows; one that does not know that key (containerd 1.6) takes `cniVersion`, and would refuse 1.1.0.
 */
export const conflist = (): string =>
  `${JSON.stringify({ cniVersion: '1.0.0', cniVersions: ['0.4.0', '1.0.0', '1.1.0'], name: 'podway', plugins: [{ type: 'podway-cni', capabilities: { ips: true, mac: true, portMappings: true, bandwidth: true } }] }, null, 2)}\n`;

/** What a crash left of files that were being written: only those of this name, the directory may be shared. */
export async function removeTemporaries(dir: string, name: string): Promise<void> {
  for (const file of await readdir(dir).catch(() => [])) {
    if (isTemporary(file) && file.endsWith(`-${name}`)) await rm(join(dir, file), { force: true });
  }
}
