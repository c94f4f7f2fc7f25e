/** Streams between namespaces, see stream.ts. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Netns } from '@podway/kernel';
import type { TestNetwork } from './network.js';

const PROGRAM = fileURLToPath(new URL('./stream.js', import.meta.url));

export interface StreamReport {
  readonly sent: number;
  readonly answered: number;
  readonly failed: number;
  readonly missing: readonly number[];
  /** The addresses the server saw the packets come from. */
  readonly sources: readonly string[];
}

async function start(net: TestNetwork, ns: Netns, args: readonly string[]): Promise<{ stop(): Promise<string[]> }> {
  const child = net.spawn(ns, [process.execPath, PROGRAM, ...args]);
  const said: string[] = [];
  const lines = createInterface({ input: child.stdout! }).on('line', (l) => said.push(l));
  await once(lines, 'line');
  return {
    async stop() {
      const ended = once(child, 'close');
      child.stdin!.end();
      await ended;
      return said;
    },
  };
}

export const serve = async (net: TestNetwork, ns: Netns, port: number): Promise<void> => void (await start(net, ns, ['serve', String(port)]));

/** 1,000 datagrams a second until `stop`, which tells what became of them. */
export async function stream(net: TestNetwork, from: Netns, host: string, port: number): Promise<{ stop(): Promise<StreamReport> }> {
  const s = await start(net, from, ['send', host, String(port)]);
  return { stop: async () => JSON.parse((await s.stop()).at(-1) ?? '{}') as StreamReport };
}

/** A short one, for reachability and for who is seen. */
export async function probe(net: TestNetwork, from: Netns, host: string, port: number): Promise<StreamReport> {
  const s = await stream(net, from, host, port);
  await new Promise((r) => setTimeout(r, 20));
  return s.stop();
}
