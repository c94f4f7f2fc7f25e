/**
 * The network that a node was last told to have, and the one before it while a change is under way. An agent that starts
 * again goes on with these: with the file it was first given it would take down what its pods are using, until it has
 * heard from the API.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '@podway/cni';
import { parseNetworkConfig } from '../config.js';
import { networkDigest } from './network-change.js';

export interface NetworkMemory {
  readonly text: string;
  readonly previous?: string;
}

const FILE = 'network.json';

/** @param given what the agent is started with: when somebody has changed that, it counts. */
export async function recallNetwork(stateDir: string, given: string): Promise<NetworkMemory> {
  try {
    const m = JSON.parse(await readFile(join(stateDir, FILE), 'utf8')) as NetworkMemory & { readonly given?: string };
    if (m.given !== networkDigest(given)) return { text: given };
    for (const text of [m.text, ...(m.previous === undefined ? [] : [m.previous])]) parseNetworkConfig(text);
    return { text: m.text, ...(m.previous === undefined ? {} : { previous: m.previous }) };
  } catch {
    return { text: given };
  }
}

export const rememberNetwork = (stateDir: string, given: string, memory: NetworkMemory): Promise<void> =>
  writeDurably(join(stateDir, FILE), `${JSON.stringify({ given: networkDigest(given), ...memory })}\n`);
