/**
 * What the network itself says about a peer: a plain TCP connection to port 179, an ICMP echo, and the kernel's
 * counters of segments dropped for their MD5 signature. Only for sessions that do not stand; takes up to three seconds.
 * Source: tcp(7), /proc/net/netstat. Equivalent: `nc -vz PEER 179; ping PEER; nstat -az | grep MD5`.
 */
import { connectTcp, ProbeSocket, waitReadable, type Netns } from '@podway/kernel';
import { closeSync } from 'node:fs';
import { isPodwayError } from '@podway/errors';
import type { Md5Counters, PeerProbe } from './explain.js';

const BGP_PORT = 179;
/** Long enough for the peer to try at least once itself (BIRD's SYN goes out again after 1, 3 and 5 seconds). */
const PROBE_MS = 3000;
const ECHO = 8;
const ECHO_REPLY = 0;

/** From /proc/net/netstat: a line of names, a line of numbers. Never throws. */
export function md5Counters(netstat: string): Md5Counters {
  const [names = [], values = []] = netstat.split('\n').filter((l) => l.startsWith('TcpExt:')).map((l) => l.split(' '));
  const of = (name: string): number => Number(values[names.indexOf(name)] ?? 0) || 0;
  return { notFound: of('TCPMD5NotFound'), unexpected: of('TCPMD5Unexpected'), failure: of('TCPMD5Failure') };
}

/** `thread-self`: the namespace is entered by the thread, and /proc/net is that of the process. */
export const readMd5Counters = (ns: Netns): Md5Counters => md5Counters(ns.readFile('/proc/thread-self/net/netstat'));

async function tcp(ns: Netns, address: string): Promise<string> {
  try {
    closeSync(await connectTcp(ns, { address, port: BGP_PORT }, PROBE_MS));
    return 'open';
  } catch (e) {
    if (isPodwayError(e)) return e.errno ?? e.code;
    throw e;
  }
}

/** One echo. undefined for IPv6. */
async function ping(ns: Netns, address: string): Promise<boolean | undefined> {
  if (address.includes(':')) return undefined;
  const socket = ProbeSocket.open(ns, 'icmp');
  try {
    const id = Math.floor(Math.random() * 0x10000);
    const message = Buffer.from([ECHO, 0, 0, 0, id >> 8, id & 0xff, 0, 1]);
    const sum = ECHO * 256 + id + 1;
    message.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 2);
    if (socket.connect(address, 0) !== undefined || socket.send(message) !== undefined) return false;
    const end = performance.now() + PROBE_MS / 3;
    for (let left = PROBE_MS / 3; left > 0; left = end - performance.now()) {
      await waitReadable([socket.fd], Math.ceil(left));
      const got = socket.receive();
      if (typeof got === 'string') return false;
      // Behind the IP header, which has no options in what the kernel answers.
      if (got && got.length >= 28 && got[20] === ECHO_REPLY && got.readUInt16BE(24) === id) return true;
    }
    return false;
  } finally {
    socket.close();
  }
}

/** @param addresses of the peers; all are asked at the same time. */
export async function probePeers(ns: Netns, addresses: readonly string[]): Promise<Map<string, PeerProbe>> {
  const before = readMd5Counters(ns);
  const found = await Promise.all(addresses.map(async (a) => [a, { tcp: await tcp(ns, a), ping: await ping(ns, a) }] as const));
  const ever = readMd5Counters(ns);
  const now = { notFound: ever.notFound - before.notFound, unexpected: ever.unexpected - before.unexpected, failure: ever.failure - before.failure };
  return new Map(found.map(([a, p]) => [a, { ...p, md5: { now, ever } }]));
}
