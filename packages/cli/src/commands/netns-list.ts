/** Equivalent: `lsns -t net` together with `ip netns list`. */
import { readFileSync } from 'node:fs';
import type { NetnsInfo } from '@podway/kernel';
import { defineCommand } from '../command.js';

export interface NetnsRow extends NetnsInfo {
  /** Name of the process inside with the lowest pid. */
  readonly process?: string;
  /** The one podway itself runs in. */
  readonly own?: boolean;
}

const short = (list: readonly unknown[], wide: boolean, most = 3): string =>
  wide || list.length <= most ? list.join(',') : `${list.slice(0, most).join(',')},… (${list.length})`;

function processName(pid: number | undefined): string | undefined {
  if (pid === undefined) return undefined;
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

export const command = defineCommand({
  name: 'netns list',
  aliases: ['ls'],
  summary: 'List every network namespace of this machine, also those without a name',
  details:
    'A namespace lives as long as a process is in it, a mount holds it, or a process has it open.\n' +
    '`ip netns list` knows only mounts in /run/netns; pods of most runtimes are missing there.',
  arguments: {},
  options: {},
  examples: [
    ['podway netns list', 'names, processes and holders of each'],
    ['podway netns list -o wide', 'with all pids and where it is mounted'],
    ['podway netns list -o json', 'everything'],
  ],
  needsRoot: true,
  view: {
    table: (rows: readonly NetnsRow[], wide: boolean) => ({
      columns: ['ID', { title: 'NAME', shrink: true }, { title: 'PIDS', shrink: true }, 'PROCESS', { title: 'OPEN IN', shrink: true }, ...(wide ? [{ title: 'MOUNTED AT' }] : [])],
      rows: rows.map((n) => [
        n.id, n.names.join(',') || (n.own ? '(this one)' : '-'), short(n.pids, wide) || '-', n.process ?? '-', short(n.holders, wide) || '-',
        ...(wide ? [n.mounts.map((m) => m.path).join(',') || '-'] : []),
      ]),
    }),
    names: (rows: readonly NetnsRow[]) => rows.map((n) => n.names[0] ?? `net:[${n.id}]`),
  },
  async run() {
    const { listNetns, Netns } = await import('@podway/kernel');
    const current = Netns.current();
    const { id } = current;
    current.close();
    return listNetns().map((n): NetnsRow => {
      const process = processName(n.pids[0]);
      return { ...n, ...(process === undefined ? {} : { process }), ...(n.id === id ? { own: true } : {}) };
    });
  },
});
