/** BIRD as a daemon of the agent: what it is started with, and how the supervisor speaks with it. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type { DaemonControl, DaemonSpec } from '../daemons/spec.js';
import { BirdControl } from './bird-control.js';
import { birdConfig, type Speaker } from './bird-config.js';

/** In the node's own /run. */
export const BIRD_RUN_DIR = '/run/podway';

export interface BirdPaths {
  readonly config: string;
  readonly socket: string;
}
export const birdPaths = (dir = BIRD_RUN_DIR): BirdPaths => ({ config: join(dir, 'bird.conf'), socket: join(dir, 'bird.ctl') });

/** @param wrap words in front: what puts it in a namespace that is not the agent's own. */
export function birdDaemon(speaker: Speaker, o: { readonly dir?: string; readonly wrap?: readonly string[]; readonly binary?: string } = {}): DaemonSpec {
  const paths = birdPaths(o.dir);
  return {
    name: 'bird', package: 'bird2',
    argv: [...(o.wrap ?? []), o.binary ?? 'bird', '-f', '-c', paths.config, '-s', paths.socket],
    // Graceful restart recovery: the kernel's routes stay as they are until all peers have sent theirs.
    again: ['-R'],
    // Times of day in its answers and its log are UTC.
    env: { TZ: 'UTC' },
    // It may hold passwords.
    files: [{ path: paths.config, text: birdConfig(speaker), mode: 0o600 }],
  };
}

const socketOf = (spec: DaemonSpec): string => spec.argv[spec.argv.indexOf('-s') + 1]!;
const configOf = (spec: DaemonSpec): string => spec.argv[spec.argv.indexOf('-c') + 1]!;

export const birdDaemonControl: DaemonControl = {
  async ready(spec) {
    await BirdControl.with(socketOf(spec), (c) => c.status());
    // Whoever may write to it rules the routes of the node; BIRD makes it 0660.
    chmodSync(socketOf(spec), 0o600);
  },
  reload: (spec) =>
    BirdControl.with(socketOf(spec), async (c) => {
      await c.check(configOf(spec));
      await c.configure();
    }),
  handOver: (spec) => BirdControl.with(socketOf(spec), (c) => c.gracefulRestart()),
};
