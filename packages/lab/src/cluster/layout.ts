/**
 * Where a lab keeps things and what it calls them. Everything carries the lab's name; `down` finds
 * what to remove by these names alone.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PodwayError } from '@podway/errors';

export const LABS_DIR = '/run/podway';
export const DEFAULT_LAB = 'default';
const PREFIX = 'podway';

/** As in host names. */
export const LAB_NAME = /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/;

/** @throws LAB_BAD_NAME: lower-case letters, digits and dashes, so that it fits into names of hosts and namespaces. */
export function checkLabName(name: string): string {
  if (LAB_NAME.test(name)) return name;
  throw new PodwayError('LAB_BAD_NAME', `"${name}" cannot be the name of a lab`, {
    hint: 'Use at most 32 lower-case letters, digits and dashes, beginning and ending with a letter or digit.',
  });
}

export interface NodeDirs {
  readonly root: string;
  readonly cniConf: string;
  readonly cniBin: string;
  readonly state: string;
  readonly logs: string;
  /** Upper layers of the node's own /etc, /opt and /var. */
  readonly overlay: string;
}

export class LabLayout {
  readonly dir: string;

  constructor(readonly name: string) {
    this.dir = join(LABS_DIR, checkLabName(name));
  }

  get state(): string { return join(this.dir, 'lab.json'); }
  /** The lab as it was asked for; written before anything is made. */
  get config(): string { return join(this.dir, 'config.json'); }
  /** Where the lab's process takes requests: see control.ts. */
  get control(): string { return join(this.dir, 'control.sock'); }
  get kubeconfig(): string { return join(this.dir, 'kubeconfig'); }
  get store(): string { return join(this.dir, 'store'); }
  get logs(): string { return join(this.dir, 'log'); }
  get images(): string { return join(this.dir, 'images'); }
  get pods(): string { return join(this.dir, 'pods'); }
  /** What the routers of racks run with. */
  get routers(): string { return join(this.dir, 'routers'); }
  get lock(): string { return join(LABS_DIR, `.${this.name}.lock`); }

  node(name: string): NodeDirs {
    const root = join(this.dir, 'nodes', name);
    const at = (d: string) => join(root, d);
    return { root, cniConf: at('cni-conf'), cniBin: at('cni-bin'), state: at('state'), logs: at('logs'), overlay: at('overlay') };
  }

  /** `podway-LAB-WHAT`. Node `b-m1` of lab `a` and node `m1` of lab `a-b` would be one: the second cannot be made. */
  netns(what: string): string {
    return `${PREFIX}-${this.name}-${what}`;
  }
}

/** Compiled programs: beside the repository's packages, where `podway` builds them. */
export function binary(name: 'podway-init' | 'podway-cni'): string {
  const dir = process.env['PODWAY_BIN_DIR'] ?? fileURLToPath(new URL('../../../../../build/bin', import.meta.url));
  const path = join(dir, name);
  if (existsSync(path)) return path;
  throw new PodwayError('PROGRAM_MISSING', `the program ${name} has not been built`, { object: path, hint: 'Run ./podway once from the repository: it builds what is missing.' });
}
