/**
 * Ports of this machine's loopback that lead to ports of nodes, as extraPortMappings of kind do. TCP only. Each connection is
 * taken here and made anew from the underlay, so the node sees the router as its client.
 * Cost: two sockets per connection, every byte copied once in the lab's process.
 */
import { createServer, Socket, type AddressInfo, type Server } from 'node:net';
import { messageOf, PodwayError } from '@podway/errors';
import { Netns, openTcp } from '@podway/kernel';

export interface Relay {
  readonly hostPort: number;
  readonly address: string;
  readonly port: number;
}

export interface OpenRelay extends Relay {
  close(): void;
}

const HOST = '127.0.0.1';

/** @param netns from where the target is reached @throws PORT_TAKEN */
export async function openRelay(netns: string, r: Relay): Promise<OpenRelay> {
  const open = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => {
    const target = connect(netns, r);
    for (const s of [client, target]) {
      open.add(s);
      s.once('close', () => open.delete(s));
      // Whichever end breaks off, the other is told so.
      s.on('error', () => (client.destroy(), target.destroy()));
    }
    target.once('connect', () => {
      client.pipe(target);
      target.pipe(client);
    });
  });
  await listen(server, r.hostPort);
  return {
    ...r, hostPort: (server.address() as AddressInfo).port,
    close() {
      server.close();
      for (const s of open) s.destroy();
    },
  };
}

function connect(netns: string, r: Relay): Socket {
  const ns = Netns.open({ name: netns });
  try {
    const socket = new Socket({ fd: openTcp(ns, r.address), manualStart: true, allowHalfOpen: true } as ConstructorParameters<typeof Socket>[0]);
    return socket.connect({ host: r.address, port: r.port });
  } finally {
    ns.close();
  }
}

const listen = (server: Server, port: number): Promise<void> => new Promise((resolve, reject) => {
  server.once('error', (e) => reject(new PodwayError('PORT_TAKEN', `port ${port} of ${HOST} cannot be used`, {
    object: `${HOST}:${port}`, said: messageOf(e), hint: `Choose another hostPort in the file, or end who has it: ss -ltnp 'sport = :${port}'`,
  })));
  server.listen({ host: HOST, port }, resolve);
});
