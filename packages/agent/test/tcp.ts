/** TCP between namespaces without processes: a server that says whom it sees, and one question to it. */
import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import { connectTcp, listenTcp, type Netns } from '@podway/kernel';

/** Answers every connection with its name and the client's address, and ends it. @returns its end. */
export async function tellWho(ns: Netns, name: string, port: number, address = '0.0.0.0'): Promise<() => void> {
  const server = createServer((s) => {
    s.on('error', () => undefined);
    s.end(`${name} sees ${(s.remoteAddress ?? '').replace('::ffff:', '')}`);
  });
  server.listen({ fd: listenTcp(ns, address, port) });
  server.unref(); // a test that fails is not kept alive by it
  await once(server, 'listening');
  return () => void server.close();
}

/** What is answered there, or the reason why nothing is: ECONNREFUSED, ETIMEDOUT … */
export async function ask(from: Netns, address: string, port: number, ms = 3000): Promise<string> {
  let fd: number;
  try {
    fd = await connectTcp(from, { address, port }, ms);
  } catch (e) {
    return (e as { errno?: string }).errno ?? String(e);
  }
  const socket = new Socket({ fd });
  let text = '';
  socket.on('data', (d: Buffer) => (text += d.toString()));
  socket.on('error', () => undefined);
  await once(socket, 'close');
  return text;
}
