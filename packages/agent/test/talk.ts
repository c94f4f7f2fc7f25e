/**
 * TCP between namespaces from within the test's own process: a socket keeps the namespace it was made in, so that a
 * question costs a millisecond and no process. A server says who it sees, and the digest of what it was sent.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createServer, Socket, type Server } from 'node:net';
import { connectTcp, listenTcp, ProbeSocket, type Netns } from '@podway/kernel';
import { encode } from '@podway/packet';

const PORT = 7000;
const PATIENCE_MS = 3000;
const familyOf = (address: string): 'inet' | 'inet6' => (address.includes(':') ? 'inet6' : 'inet');

/** Listens on all addresses of both families in each namespace, until `close`. */
export class Listeners {
  private readonly servers: Server[] = [];

  async add(ns: Netns): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (s) => {
      const hash = createHash('sha256');
      s.on('error', () => s.destroy());
      s.on('data', (d) => hash.update(d));
      s.on('end', () => s.end(JSON.stringify({ seen: s.remoteAddress?.replace(/^::ffff:/, ''), digest: hash.digest('hex') })));
    });
    this.servers.push(server);
    const fd = listenTcp(ns, '::', PORT);
    await new Promise<void>((resolve) => server.listen({ fd }, resolve));
  }

  async close(): Promise<void> {
    await Promise.all(this.servers.map((s) => new Promise((resolve) => s.close(resolve))));
  }
}

export interface Said {
  /** The client's address, as the server saw it. */
  readonly seen: string;
  readonly digest: string;
}

/** Connects, sends the bytes, and gives what the server said. @throws CONNECT_FAILED */
export async function ask(from: Netns, to: string, bytes: Uint8Array = new Uint8Array()): Promise<Said> {
  const socket = new Socket({ fd: await connectTcp(from, { address: to, port: PORT }, PATIENCE_MS), readable: true, writable: true });
  return new Promise((resolve, reject) => {
    let text = '';
    socket.on('data', (d) => (text += d.toString()));
    socket.on('error', reject);
    socket.on('end', () => resolve(JSON.parse(text) as Said));
    socket.end(bytes);
  });
}

export const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const IP_HEADER = { inet: 20, inet6: 40 } as const;
const ICMP_HEADER = 8;

/** An echo request of that IP length, never fragmented: `answered`, or the errno of a kernel that would not send it. */
export async function echo(from: Netns, to: string, ipLength: number): Promise<string> {
  const family = familyOf(to);
  const socket = ProbeSocket.open(from, 'icmp', { family, dontFragment: true });
  try {
    const mark = randomBytes(16);
    const data = new Uint8Array(ipLength - IP_HEADER[family] - ICMP_HEADER);
    data.set(mark);
    const header = family === 'inet'
      ? encode([{ type: 'icmp', message: { kind: 'echo-request', id: 7, sequence: 1 } }], data)
      : encode([{ type: 'icmpv6', message: { kind: 'echo-request', id: 7, sequence: 1 } }], data);
    const refused = socket.connect(to, 0) ?? socket.send(header);
    if (refused !== undefined) return refused;
    for (const end = performance.now() + PATIENCE_MS; performance.now() < end; ) {
      const got = socket.receive();
      if (typeof got === 'string') return got;
      const reply = got && (family === 'inet' ? got[(got[0]! & 15) * 4] === 0 : got[0] === 129);
      if (reply && got.includes(mark)) return 'answered';
      if (got === undefined) await new Promise((r) => setTimeout(r, 1));
    }
    return 'no answer';
  } finally {
    socket.close();
  }
}
