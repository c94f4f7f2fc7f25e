/** Every verb, in the order of `podway --help`. One file each; none imports anything heavy. */
import type { CommandModule } from '../command.js';
import { command as complete } from './complete.js';
import { command as completion } from './completion.js';
import { command as help } from './help.js';
import { command as inspectNetns } from './inspect-netns.js';
import { command as netnsList } from './netns-list.js';
import { command as version } from './version.js';

export const commands: readonly CommandModule[] = [netnsList, inspectNetns, version, completion, help, complete];

/** What verbs of several words have in common. */
export const groups: Readonly<Record<string, string>> = {
  netns: 'Network namespaces of this machine',
  inspect: 'Look at one thing in full',
};
