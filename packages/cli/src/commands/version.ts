import { release } from 'node:os';
import { defineCommand } from '../command.js';

export interface Versions {
  readonly podway: string;
  readonly node: string;
  /** The running kernel, as `uname -r`. */
  readonly kernel: string;
  /** Absent: not installed. */
  readonly libpcap?: string;
  readonly libnftables?: string;
}

export const command = defineCommand({
  name: 'version',
  summary: 'Show the versions of podway and of what it stands on',
  arguments: {},
  options: {},
  examples: [['podway version', 'for people'], ['podway version -o json', 'for bug reports and programs']],
  view: {
    text: (v: Versions) =>
      (['podway', 'node', 'kernel', 'libpcap', 'libnftables'] as const).map((k) => `${`${k}:`.padEnd(13)}${v[k] ?? 'not installed'}`).join('\n'),
  },
  async run() {
    const [{ libraryVersions }, { catalogue }] = await Promise.all([import('@podway/kernel'), import('../catalogue.js')]);
    return { podway: catalogue.version, node: process.versions.node, kernel: release(), ...libraryVersions() };
  },
});
