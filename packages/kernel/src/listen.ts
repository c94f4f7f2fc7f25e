/**
 * TCP sockets inside a namespace, as file descriptors. A listening one: Node.js takes it over with
 * `server.listen({ fd })` and serves it from its own namespace. Source: socket(2), tcp(7).
 */
import { c, check, setIntOption } from './libc.js';
import { addressBytes, familyNumber, familyOf } from './netlink/address.js';
import type { Netns } from './netns.js';

const SOCK_STREAM_CLOEXEC_NONBLOCK = 1 | 0o2000000 | 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const BACKLOG = 511;

/** A socket that is to be connected from inside a namespace; `new net.Socket({ fd, manualStart: true }).connect(…)` goes on with it. The caller owns it. */
export const openTcp = (ns: Netns, address: string): number =>
  ns.run(() => check(c.socket(familyNumber(familyOf(address)), SOCK_STREAM_CLOEXEC_NONBLOCK, 0), 'open a socket', `to ${address} in ${ns.label}`));

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port: number): Buffer {
  const family = familyOf(address);
  const b = Buffer.alloc(family === 'inet' ? 16 : 28);
  b.writeUInt16LE(familyNumber(family), 0);
  b.writeUInt16BE(port, 2);
  b.set(addressBytes(address), family === 'inet' ? 4 : 8);
  return b;
}

/** The caller owns the file descriptor. @throws SYSCALL_FAILED, errno EADDRINUSE when the port is taken. */
export function listenTcp(ns: Netns, address: string, port: number): number {
  const object = `${address}:${port} in ${ns.label}`;
  const fd = ns.run(() => check(c.socket(familyNumber(familyOf(address)), SOCK_STREAM_CLOEXEC_NONBLOCK, 0), 'open a socket', object));
  try {
    setIntOption(fd, SOL_SOCKET, SO_REUSEADDR, 1, 'allow the address to be used again');
    const where = socketAddress(address, port);
    check(c.bind(fd, where, where.length), `listen on ${address}:${port}`, object);
    check(c.listen(fd, BACKLOG), `listen on ${address}:${port}`, object);
    return fd;
  } catch (e) {
    c.close(fd);
    throw e;
  }
}
