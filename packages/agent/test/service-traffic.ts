/**
 * Traffic for tests of Services, run inside a namespace.
 *   service-traffic.js serve NAME PORT …   TCP and UDP on every port: answers `NAME CLIENT-ADDRESS`; ends with stdin
 *   service-traffic.js ask                 each line on stdin, `tcp|udp HOST PORT COUNT [same]`, asks that often, one after
 *                                          the other (`same`: datagrams all from one socket), and says what came
 * One JSON line at the start (`{}`), one a line asked.
 */
import { createSocket, type Socket } from 'node:dgram';
import { writeSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [role, name = '', ...ports] = process.argv.slice(2);
const say = (what: object): void => void writeSync(1, `${JSON.stringify(what)}\n`);

export interface Answers {
  /** Who answered, how often. */
  readonly by: Readonly<Record<string, number>>;
  /** The addresses they saw. */
  readonly clients: readonly string[];
  /** errno names, how often. */
  readonly errors: Readonly<Record<string, number>>;
  /** Of the slowest one. */
  readonly slowest: number;
}

const TIMEOUT_MS = 3000;

function tcp(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const s = connect({ host, port });
    let text = '';
    s.setEncoding('utf8').on('data', (d: string) => (text += d)).on('end', () => resolve(text)).on('error', reject);
    s.setTimeout(TIMEOUT_MS, () => s.destroy(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })));
  });
}

/** Connected, so that an ICMP refusal is told. */
function udp(host: string, port: number, socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(Object.assign(new Error('timeout'), { code: 'ETIMEDOUT' })), TIMEOUT_MS);
    const done = (act: () => void): void => {
      clearTimeout(timer);
      socket.removeAllListeners('message').removeAllListeners('error');
      act();
    };
    socket.once('message', (m) => done(() => resolve(m.toString()))).once('error', (e) => done(() => reject(e)));
    const send = (): void => void socket.send('?', (e) => e && done(() => reject(e)));
    try {
      socket.remoteAddress();
      send();
    } catch {
      socket.connect(port, host, send);
    }
  });
}

if (role === 'serve') {
  let left = ports.length * 2;
  const up = (): void => void (--left === 0 && say({}));
  for (const p of ports) {
    createServer((s) => s.on('error', () => undefined).end(`${name} ${s.remoteAddress?.replace('::ffff:', '') ?? ''}`)).listen(Number(p), up);
    const u = createSocket({ type: 'udp6', ipv6Only: false });
    u.on('message', (_, from) => u.send(`${name} ${from.address.replace('::ffff:', '')}`, from.port, from.address)).bind(Number(p), up);
  }
  process.stdin.resume().on('end', () => process.exit(0));
} else {
  say({});
  void (async () => {
    for await (const line of createInterface({ input: process.stdin })) {
      const [proto, host = '', port = '', count = '1', same] = line.split(' ');
      const by: Record<string, number> = {};
      const errors: Record<string, number> = {};
      const clients = new Set<string>();
      let slowest = 0;
      let socket = proto === 'udp' ? createSocket(host.includes(':') ? 'udp6' : 'udp4') : undefined;
      for (let i = 0; i < Number(count); i++) {
        const began = performance.now();
        try {
          const [who = '', client = ''] = (proto === 'udp' ? await udp(host, Number(port), socket!) : await tcp(host, Number(port))).split(' ');
          by[who] = (by[who] ?? 0) + 1;
          clients.add(client);
        } catch (e) {
          const code = (e as NodeJS.ErrnoException).code ?? String(e);
          errors[code] = (errors[code] ?? 0) + 1;
        }
        slowest = Math.max(slowest, performance.now() - began);
        if (socket && same === undefined && i + 1 < Number(count)) {
          socket.close();
          socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
        }
      }
      socket?.close();
      say({ by, clients: [...clients], errors, slowest } satisfies Answers);
    }
    process.exit(0);
  })();
}
