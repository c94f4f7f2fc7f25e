/**
 * Network namespaces: a handle that everything touching the kernel takes.
 *
 * A handle is an open file descriptor on the namespace, so it stays valid when the name or the
 * process that it was opened by goes away. Entering is done for one synchronous stretch only
 * (`run`): the main thread calls setns, does its work, and goes back; nothing may be awaited
 * inside, since any other code would then run in the wrong namespace. A socket opened inside
 * keeps its namespace for ever, so long-lived work opens its socket in `run` and leaves.
 *
 * Source: namespaces(7), setns(2), ip-netns(8). Equivalent: `ip netns add|exec|list`.
 */
import { closeSync, fstatSync, lstatSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isPromise } from 'node:util/types';
import { PodwayError } from '@podway/errors';
import { c, check } from './libc.js';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 4096;
const MNT_DETACH = 2;

/** Where `ip netns` keeps its names. */
export const NETNS_DIR = '/run/netns';

export type NetnsSource =
  | { readonly name: string }
  | { readonly pid: number }
  | { readonly path: string };

const describeSource = (s: NetnsSource): string =>
  'name' in s ? `netns ${s.name}` : 'pid' in s ? `netns of process ${s.pid}` : `netns ${s.path}`;

let home: number | undefined;
let depth = 0;

/** The namespace this process was started in, opened once before anything is entered. */
function homeFd(): number {
  home ??= openSync('/proc/self/ns/net', 'r');
  return home;
}

export class Netns {
  /** The namespace's inode, as in `net:[4026531840]`: two handles with the same id are the same namespace. */
  readonly id: string;
  private closed = false;

  private constructor(
    private readonly descriptor: number,
    /** How people call it: the name it was opened by. For messages. */
    readonly label: string,
  ) {
    this.id = String(fstatSync(descriptor, { bigint: true }).ino);
  }

  /** The file descriptor, for IFLA_NET_NS_FD and the like. Valid until `close`. */
  get fd(): number {
    if (this.closed) throw new PodwayError('NETNS_CLOSED', `${this.label} was already closed`, { object: this.label });
    return this.descriptor;
  }

  /** The namespace this process lives in. */
  static current(): Netns {
    homeFd();
    return new Netns(openSync('/proc/self/ns/net', 'r'), 'this netns');
  }

  /**
   * @throws NETNS_NOT_FOUND when there is no such name, process or file;
   *   NETNS_NOT_A_NAMESPACE when the file is something else.
   */
  static open(source: NetnsSource, label = describeSource(source)): Netns {
    const path = 'name' in source ? join(NETNS_DIR, checkName(source.name)) : 'pid' in source ? `/proc/${source.pid}/ns/net` : source.path;
    let fd: number;
    try {
      fd = openSync(path, 'r');
    } catch (cause) {
      const errno = (cause as NodeJS.ErrnoException).code ?? 'unknown';
      throw new PodwayError('NETNS_NOT_FOUND', `no network namespace at ${path}`, {
        object: label, errno, cause, hint: 'List what there is with: ip netns list',
      });
    }
    const ns = new Netns(fd, label);
    // nsfs alone answers NS_GET_NSTYPE; without an ioctl, entering is the test that cannot lie.
    try {
      ns.run(() => undefined);
    } catch (cause) {
      ns.close();
      throw new PodwayError('NETNS_NOT_A_NAMESPACE', `${path} is not a network namespace`, { object: label, cause });
    }
    return ns;
  }

  /** A new namespace with a name, as `ip netns add NAME` makes it. @throws NETNS_EXISTS */
  static create(name: string): Netns {
    const path = join(NETNS_DIR, checkName(name));
    mkdirSync(NETNS_DIR, { recursive: true, mode: 0o755 });
    try {
      writeFileSync(path, '', { flag: 'wx', mode: 0o444 });
    } catch (cause) {
      throw new PodwayError('NETNS_EXISTS', `a network namespace named ${name} exists already`, { object: `netns ${name}`, cause });
    }
    const ns = Netns.createNameless(`netns ${name}`);
    try {
      check(c.mount(`/proc/self/fd/${ns.fd}`, path, 'none', MS_BIND, null), `bind netns ${name} to ${path}`, path);
    } catch (e) {
      ns.close();
      rmSync(path, { force: true });
      throw e;
    }
    return ns;
  }

  /** A new namespace without a name: it lives as long as this handle or a process inside it. */
  static createNameless(label = 'nameless netns'): Netns {
    const back = homeFd();
    check(c.unshare(CLONE_NEWNET), 'create a network namespace');
    let fd = -1;
    try {
      fd = openSync('/proc/thread-self/ns/net', 'r');
    } finally {
      leave(back);
    }
    return new Netns(fd, label);
  }

  /** Removes the name; the namespace ends when nothing uses it any more. True if there was one. */
  static remove(name: string): boolean {
    const path = join(NETNS_DIR, checkName(name));
    // A link that points to nothing is there as well.
    if (!lstatSync(path, { throwIfNoEntry: false })) return false;
    // Not mounted (half-made by a crash): the file alone is removed.
    c.umount2(path, MNT_DETACH);
    rmSync(path, { force: true });
    return true;
  }

  /**
   * Runs `work` inside the namespace, synchronously, and comes back even when it throws.
   * @throws NETNS_ASYNC when `work` returns a promise: it would go on in the wrong namespace.
   */
  run<T>(work: () => T): T {
    const nested = depth > 0;
    const back = !nested ? homeFd() : openSync('/proc/thread-self/ns/net', 'r');
    check(c.setns(this.fd, CLONE_NEWNET), `enter ${this.label}`, this.label);
    depth++;
    try {
      const result = work();
      if (isPromise(result)) {
        result.catch(() => undefined);
        throw new PodwayError('NETNS_ASYNC', 'nothing may be awaited while inside a network namespace', { object: this.label });
      }
      return result;
    } finally {
      depth--;
      leave(back);
      if (nested) closeSync(back);
    }
  }

  /** A file of /proc/sys/net and the like, as seen inside. Path is absolute. */
  readFile(path: string): string {
    return this.run(() => readFileSync(path, 'utf8'));
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.descriptor);
  }
}

/** Going back must not fail: everything after it would act on a foreign namespace. */
function leave(back: number): void {
  if (c.setns(back, CLONE_NEWNET) === 0) return;
  process.stderr.write('podway: cannot return to the own network namespace; stopping before harm is done\n');
  process.abort();
}

function checkName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$/.test(name)) return name;
  throw new PodwayError('NETNS_BAD_NAME', `"${name}" is not a name for a network namespace`, {
    hint: 'Use letters, digits, dot, dash and underscore, starting with a letter or digit.',
  });
}

/** Detaches a mount: `umount -l PATH`. Absent is success. */
export function detachMount(path: string): void {
  c.umount2(path, MNT_DETACH);
}
