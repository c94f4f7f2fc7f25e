/**
 * What a node remembers of the cluster's network over a restart: the configuration it has taken over, and the one before while
 * some node still sends by it. Without it an agent that comes back would begin with the file it was first started with, and
 * take the present way between nodes down until the API has spoken.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '@podway/cni';
import { z } from 'zod';
import { parseNetworkConfig, type NetworkConfig } from '../config.js';
import { networkDigest } from './network-change.js';

const FILE = 'network.json';

export interface KnownNetwork {
  /** Text of the net-conf.json in force. */
  readonly network: string;
  /** Of the one before, until no node uses it any more. */
  readonly previous?: string;
}

/** `started`: digest of the file that the agent was started with. When somebody has changed that file, it wins. */
const schema = z.object({ started: z.string(), network: z.string(), previous: z.string().optional() });

export class NetworkMemory {
  private saved: string | undefined;

  constructor(private readonly stateDir: string, private readonly started: string) {}

  /** What is to be used at a start; the file's, when nothing usable is remembered. @throws NETWORK_CONFIG_INVALID of the file */
  recall(): { readonly known: KnownNetwork; readonly config: NetworkConfig; readonly previous: NetworkConfig | undefined } {
    try {
      const text = readFileSync(join(this.stateDir, FILE), 'utf8');
      const { started, ...known } = schema.parse(JSON.parse(text));
      if (started === networkDigest(this.started)) {
        const [config, previous] = [parseNetworkConfig(known.network), known.previous === undefined ? undefined : parseNetworkConfig(known.previous)];
        this.saved = text;
        return { known: { network: known.network, ...(known.previous === undefined ? {} : { previous: known.previous }) }, config, previous };
      }
    } catch {
      // Nothing is remembered, or nothing that can be read: the file it is.
    }
    return { known: { network: this.started }, config: parseNetworkConfig(this.started), previous: undefined };
  }

  /** Before the kernel is changed for it. Costs nothing when it is what was saved last. */
  async save(known: KnownNetwork): Promise<void> {
    const text = `${JSON.stringify({ started: networkDigest(this.started), ...known })}\n`;
    if (text === this.saved) return;
    await writeDurably(join(this.stateDir, FILE), text);
    this.saved = text;
  }
}
