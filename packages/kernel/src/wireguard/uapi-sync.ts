/**
 * The text protocol of uapi.ts in one synchronous stretch: for reading and setting a node's state as a whole, where
 * everything else is a synchronous netlink request too. A program that hangs costs at most the time limit.
 * Source: unix(7), socket(7) (SO_RCVTIMEO). Cost: 0.1 ms and what the program needs.
 */
import { PodwayError } from '@podway/errors';
import { c, check, errnoName, errnoText, lastErrno } from '../libc.js';
import { parseUapi, uapiSet, WIREGUARD_SOCKET_DIR, wireguardSocket } from './uapi.js';
import type { WireguardChange, WireguardState } from './types.js';

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const MSG_NOSIGNAL = 0x4000;
const LIMIT_SECONDS = 2;
const SUN_PATH = 108;
const CHUNK = 65536;
const MAX_ANSWER = 64 * 1024 * 1024;
const EINTR = 4;

function unixAddress(path: string): Buffer {
  const bytes = Buffer.from(path);
  if (bytes.length >= SUN_PATH) throw new PodwayError('BAD_VALUE', `the path of a socket has at most ${SUN_PATH - 1} bytes`, { object: path });
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  bytes.copy(address, 2);
  return address;
}

function exchange(path: string, request: string, doing: string): WireguardState {
  const failed = (details: ConstructorParameters<typeof PodwayError>[2], code = 'WIREGUARD_FAILED') => new PodwayError(code, `cannot ${doing}`, { object: path, ...details });
  const errno = (): { errno: string; said: string } => {
    const n = lastErrno();
    return errnoName(n) === 'EAGAIN' ? { errno: 'ETIMEDOUT', said: `no answer within ${LIMIT_SECONDS} s` } : { errno: errnoName(n), said: errnoText(n) };
  };
  const fd = check(c.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0), 'open a socket', path);
  try {
    const limit = Buffer.alloc(16);
    limit.writeBigInt64LE(BigInt(LIMIT_SECONDS), 0);
    for (const name of [SO_RCVTIMEO, SO_SNDTIMEO]) check(c.setsockopt(fd, SOL_SOCKET, name, limit, limit.length), 'limit the time of a socket', path);
    const address = unixAddress(path);
    if (c.connect(fd, address, address.length) !== 0) {
      const why = errno();
      const gone = why.errno === 'ENOENT' || why.errno === 'ECONNREFUSED';
      throw failed({ ...why, ...(gone ? { hint: 'Is the WireGuard program of that device running?' } : {}) }, gone ? 'WIREGUARD_GONE' : undefined);
    }
    const bytes = Buffer.from(`${request}\n`);
    for (let at = 0; at < bytes.length; ) {
      const n = c.send(fd, bytes.subarray(at), bytes.length - at, MSG_NOSIGNAL);
      if (n < 0 && lastErrno() !== EINTR) throw failed(errno());
      at += Math.max(0, n);
    }
    const chunks: Buffer[] = [];
    const part = Buffer.alloc(CHUNK);
    for (let size = 0, tail = ''; !tail.endsWith('\n\n'); ) {
      const n = c.recv(fd, part, part.length, 0);
      if (n < 0 && lastErrno() === EINTR) continue;
      if (n < 0) throw failed(errno());
      if (n === 0) break;
      chunks.push(Buffer.from(part.subarray(0, n)));
      tail = (tail + part.toString('latin1', Math.max(0, n - 2), n)).slice(-2);
      if ((size += n) > MAX_ANSWER) throw failed({ said: `an answer of more than ${MAX_ANSWER} bytes` });
    }
    const answer = parseUapi(Buffer.concat(chunks).toString());
    if (answer.errno < 0) throw failed({ said: 'the answer broke off' });
    if (answer.errno !== 0) throw failed({ errno: errnoName(answer.errno), said: 'the WireGuard program refused' });
    return answer.state;
  } finally {
    c.close(fd);
  }
}

/** @throws WIREGUARD_GONE when no program listens, WIREGUARD_FAILED when it refuses or does not answer */
export const readUserspaceWireguard = (name: string, directory = WIREGUARD_SOCKET_DIR): WireguardState =>
  exchange(wireguardSocket(name, directory), 'get=1\n', `read WireGuard device ${name}`);

/** @throws WIREGUARD_GONE, WIREGUARD_FAILED, BAD_KEY, BAD_VALUE */
export const setUserspaceWireguard = (name: string, change: WireguardChange, directory = WIREGUARD_SOCKET_DIR): void =>
  void exchange(wireguardSocket(name, directory), uapiSet(change), `set WireGuard device ${name}`);
