/**
 * Every network namespace on the machine, also those that no name points to.
 *
 * A namespace is alive as long as a process is in it, a file descriptor is open on it, or a
 * bind mount (in any mount namespace) holds it. `ip netns list` sees only the last kind, and
 * only in /run/netns of its own mount namespace; pods of most runtimes are missing there.
 * All three are read from /proc here. Cost: one readlink per process and descriptor.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

export interface NetnsInfo {
  /** Inode, as in `net:[4026531840]`. */
  readonly id: string;
  /** Names under /run/netns of this mount namespace (what `ip netns list` shows). */
  readonly names: readonly string[];
  /** Bind mounts, in whichever mount namespace; `pid` is a process through which the path can be reached (/proc/PID/root/...). */
  readonly mounts: readonly { readonly path: string; readonly pid: number }[];
  /** Processes inside, as this process's /proc numbers them, ascending. */
  readonly pids: readonly number[];
  /** Processes that hold it open by a file descriptor without being inside. */
  readonly holders: readonly number[];
}

interface Building {
  names: Set<string>;
  mounts: Map<string, number>;
  pids: number[];
  holders: Set<number>;
}

const NET_LINK = /^net:\[(\d+)\]$/;

/** A process may end while it is read; then what it showed does not count. */
function quietly<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/** Equivalent: `lsns -t net` together with `ip netns list`. Sorted by id. */
export function listNetns(): NetnsInfo[] {
  const found = new Map<string, Building>();
  const at = (id: string): Building => {
    let b = found.get(id);
    if (!b) found.set(id, (b = { names: new Set(), mounts: new Map(), pids: [], holders: new Set() }));
    return b;
  };
  const seenMountNamespaces = new Set<string>();
  const own = quietly(() => readlinkSync('/proc/self/ns/mnt'), '');
  const pids = readdirSync('/proc').filter((n) => /^\d+$/.test(n)).map(Number).sort((a, b) => a - b);
  // This process first, so that names in its own mount namespace are found as such.
  for (const pid of [process.pid, ...pids.filter((p) => p !== process.pid)]) {
    const inside = NET_LINK.exec(quietly(() => readlinkSync(`/proc/${pid}/ns/net`), ''))?.[1];
    if (inside) at(inside).pids.push(pid);
    const mnt = quietly(() => readlinkSync(`/proc/${pid}/ns/mnt`), '');
    if (mnt && !seenMountNamespaces.has(mnt)) {
      seenMountNamespaces.add(mnt);
      for (const { id, path } of nsfsMounts(quietly(() => readFileSync(`/proc/${pid}/mountinfo`, 'utf8'), ''))) {
        const name = /^(?:\/var)?\/run\/netns\/([^/]+)$/.exec(path)?.[1];
        if (mnt === own && name) at(id).names.add(name);
        at(id).mounts.set(path, at(id).mounts.get(path) ?? pid);
      }
    }
    for (const fd of quietly(() => readdirSync(`/proc/${pid}/fd`), [])) {
      const held = NET_LINK.exec(quietly(() => readlinkSync(`/proc/${pid}/fd/${fd}`), ''))?.[1];
      if (held && held !== inside) at(held).holders.add(pid);
    }
  }
  return [...found]
    .map(([id, b]) => ({
      id,
      names: [...b.names].sort(),
      mounts: [...b.mounts].map(([path, pid]) => ({ path, pid })),
      pids: b.pids.sort((a, z) => a - z),
      holders: [...b.holders].sort((a, z) => a - z),
    }))
    .sort((a, b) => Number(BigInt(a.id) - BigInt(b.id)));
}

/**
 * The nsfs mounts of network namespaces in a mountinfo file. Pure.
 * A line reads `36 35 0:4 net:[4026532281] /run/netns/blue rw shared:1 - nsfs nsfs rw`.
 * Source: proc_pid_mountinfo(5); spaces in paths are octal escapes.
 */
export function nsfsMounts(mountinfo: string): { id: string; path: string }[] {
  const mounts: { id: string; path: string }[] = [];
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const id = NET_LINK.exec(fields[3] ?? '')?.[1];
    const path = fields[4];
    if (!id || !path) continue;
    mounts.push({ id, path: path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))) });
  }
  return mounts;
}
