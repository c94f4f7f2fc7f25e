/** From the word a person typed to a network namespace. */
import { PodwayError } from '@podway/errors';
import { listNetns, Netns, type NetnsInfo } from '@podway/kernel';

/**
 * @param word a name under /run/netns, a pid, a path, `net:[INODE]`, or the last part of the path
 *   under which any process of the machine has it mounted.
 * @throws NETNS_NOT_FOUND, NETNS_NOT_A_NAMESPACE
 */
export function findNetns(word: string): Netns {
  if (/^\d+$/.test(word)) return Netns.open({ pid: Number(word) });
  if (word.includes('/')) return Netns.open({ path: word });
  const inode = /^net:\[(\d+)\]$/.exec(word)?.[1];
  const all = listNetns();
  const found = all.find((n) => (inode === undefined ? n.names.includes(word) : n.id === inode)) ?? all.find((n) => mountedAs(n, word));
  if (!found) {
    throw new PodwayError('NETNS_NOT_FOUND', `there is no network namespace ${word} on this machine`, {
      hint: 'List what there is with: podway netns list',
    });
  }
  const name = found.names[0];
  if (inode === undefined && name === word) return Netns.open({ name });
  return Netns.open({ path: pathTo(found) }, word);
}

const mountedAs = (n: NetnsInfo, word: string): boolean => n.mounts.some((m) => m.path.endsWith(`/${word}`));

/** A path in /proc through which the namespace can be opened. */
function pathTo(n: NetnsInfo): string {
  const pid = n.pids[0];
  if (pid !== undefined) return `/proc/${pid}/ns/net`;
  const mount = n.mounts[0];
  if (mount) return `/proc/${mount.pid}/root${mount.path}`;
  throw new PodwayError('NETNS_NOT_FOUND', `net:[${n.id}] is only held open by process ${n.holders.join(', ')}`, {
    hint: `Find the descriptor in /proc/${n.holders[0] ?? 'PID'}/fd and give its path.`,
  });
}
