/**
 * The native boundary: the dozen libc calls that Node.js has no door to, through koffi.
 *
 * Everything above this file is TypeScript. Calls return what libc returns; `check` turns a
 * negative result into a PodwayError with the errno's name. All calls here are synchronous on
 * the main thread unless they end in `Async` (those run on a libuv worker and must not be
 * used for anything that depends on the thread's namespace).
 */
import { createRequire } from 'node:module';
import { getSystemErrorMap } from 'node:util';
import { PodwayError } from '@podway/errors';
import type koffiType from 'koffi';

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;
const libc = koffi.load('libc.so.6');

export const c = {
  open: libc.func('int open(const char *path, int flags, int mode)') as (path: string, flags: number, mode: number) => number,
  close: libc.func('int close(int fd)') as (fd: number) => number,
  dup: libc.func('int dup(int fd)') as (fd: number) => number,
  dup2: libc.func('int dup2(int old, int new)') as (old: number, now: number) => number,
  setns: libc.func('int setns(int fd, int nstype)') as (fd: number, type: number) => number,
  unshare: libc.func('int unshare(int flags)') as (flags: number) => number,
  mount: libc.func('int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)') as (
    source: string | null, target: string, type: string | null, flags: number, data: string | null) => number,
  umount2: libc.func('int umount2(const char *target, int flags)') as (target: string, flags: number) => number,
  socket: libc.func('int socket(int domain, int type, int protocol)') as (d: number, t: number, p: number) => number,
  bind: libc.func('int bind(int fd, const void *addr, unsigned int len)') as (fd: number, addr: Uint8Array, len: number) => number,
  listen: libc.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  connect: libc.func('int connect(int fd, const void *addr, unsigned int len)') as (fd: number, addr: Uint8Array, len: number) => number,
  getsockname: libc.func('int getsockname(int fd, void *addr, void *len)') as (fd: number, addr: Uint8Array, len: Uint8Array) => number,
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const void *value, unsigned int len)') as (
    fd: number, level: number, name: number, value: Uint8Array, len: number) => number,
  getsockopt: libc.func('int getsockopt(int fd, int level, int name, void *value, void *len)') as (
    fd: number, level: number, name: number, value: Uint8Array, len: Uint8Array) => number,
  send: libc.func('intptr_t send(int fd, const void *buf, size_t len, int flags)') as (
    fd: number, buf: Uint8Array, len: number, flags: number) => number,
  sendto: libc.func('intptr_t sendto(int fd, const void *buf, size_t len, int flags, const void *addr, unsigned int addrlen)') as (
    fd: number, buf: Uint8Array, len: number, flags: number, addr: Uint8Array, addrlen: number) => number,
  recv: libc.func('intptr_t recv(int fd, void *buf, size_t len, int flags)') as (
    fd: number, buf: Uint8Array, len: number, flags: number) => number,
  ioctl: libc.func('int ioctl(int fd, unsigned long request, void *argument)') as (fd: number, request: number, argument: Uint8Array) => number,
  ioctlValue: libc.func('ioctl', 'int', ['int', 'unsigned long', 'unsigned long']) as (fd: number, request: number, value: number) => number,
  flock: libc.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number,
  poll: libc.func('int poll(void *fds, unsigned long nfds, int timeout)'),
} as const;

/** The errno of the last call, as a positive number. */
export function lastErrno(): number {
  return koffi.errno();
}

const systemErrors = getSystemErrorMap();
// Linux has one number for both; the kernel's word is the one people search for.
const KERNEL_WORD: Readonly<Record<string, string>> = { ENOTSUP: 'EOPNOTSUPP' };
const byName = new Map([...systemErrors].map(([number, [name]]) => [name, -number]));

/** `17` → `EEXIST`; numbers libuv has no name for come back as `errno 123`. */
export function errnoName(errno: number): string {
  const name = systemErrors.get(-Math.abs(errno))?.[0] ?? `errno ${Math.abs(errno)}`;
  return KERNEL_WORD[name] ?? name;
}

/** `EEXIST` → 17; undefined when there is no such errno. */
export function errnoNumber(name: string): number | undefined {
  return byName.get(name) ?? (name === 'EOPNOTSUPP' ? byName.get('ENOTSUP') : undefined);
}

/** `17` → `file already exists`. */
export function errnoText(errno: number): string {
  return systemErrors.get(-Math.abs(errno))?.[1] ?? `error ${Math.abs(errno)}`;
}

/** Returns `result`, or throws SYSCALL_FAILED with errno when it is negative. */
export function check(result: number, doing: string, object?: string): number {
  if (result >= 0) return result;
  const errno = lastErrno();
  throw new PodwayError('SYSCALL_FAILED', doing, {
    ...(object === undefined ? {} : { object }),
    errno: errnoName(errno),
    said: errnoText(errno),
    ...(errnoName(errno) === 'EPERM' ? { hint: 'This needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN).' } : {}),
  });
}

/** Sets an int socket option. Source: setsockopt(2). */
export function setIntOption(fd: number, level: number, name: number, value: number, doing: string): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check(c.setsockopt(fd, level, name, bytes, 4), doing);
}

/** send(2) on a worker thread. @returns what libc returns; errno is not known then. */
export const sendAsync = (fd: number, buffer: Uint8Array, length: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const call = c.send as unknown as { async(...args: unknown[]): void };
    call.async(fd, buffer, length, 0, (error: Error | null, result: number) => (error ? reject(error) : resolve(result)));
  });

const pollAsync = (buffer: Uint8Array, count: number, timeout: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const call = c.poll as unknown as { async(...args: unknown[]): void };
    call.async(buffer, count, timeout, (error: Error | null, result: number) => (error ? reject(error) : resolve(result)));
  });

/**
 * Waits, on a worker thread, until one of the file descriptors is readable (or in error).
 * @param timeoutMs at most this long; a file descriptor must stay open until the promise settles.
 * @returns the readable ones; empty when the time ran out.
 */
export async function waitReadable(fds: readonly number[], timeoutMs: number): Promise<number[]> {
  const POLLIN = 1;
  const buffer = Buffer.alloc(8 * fds.length);
  fds.forEach((fd, i) => {
    buffer.writeInt32LE(fd, i * 8);
    buffer.writeInt16LE(POLLIN, i * 8 + 4);
  });
  const ready = await pollAsync(buffer, fds.length, timeoutMs);
  if (ready <= 0) return [];
  return fds.filter((_, i) => buffer.readInt16LE(i * 8 + 6) !== 0);
}

/** Waits, on a worker thread, until the file descriptor takes data or has failed. @returns false when the time ran out. */
export async function waitWritable(fd: number, timeoutMs: number): Promise<boolean> {
  const POLLOUT = 4;
  const buffer = Buffer.alloc(8);
  buffer.writeInt32LE(fd, 0);
  buffer.writeInt16LE(POLLOUT, 4);
  return (await pollAsync(buffer, 1, timeoutMs)) > 0;
}

const STDERR = 2;
const O_WRONLY_CLOEXEC = 1 | 0o2000000;

/**
 * Runs a library call whose words on the process's own standard error are nobody's business. Synchronous, so nothing
 * else of this thread writes meanwhile. Where standard error cannot be put aside, the call is made all the same.
 */
export function withoutStderr<T>(call: () => T): T {
  const kept = c.dup(STDERR);
  const nowhere = kept < 0 ? -1 : c.open('/dev/null', O_WRONLY_CLOEXEC, 0);
  if (nowhere < 0) {
    if (kept >= 0) c.close(kept);
    return call();
  }
  c.dup2(nowhere, STDERR);
  c.close(nowhere);
  try {
    return call();
  } finally {
    c.dup2(kept, STDERR);
    c.close(kept);
  }
}
