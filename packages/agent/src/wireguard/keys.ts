/**
 * The WireGuard keys of a node. Made here and nowhere else; the private one is written to a file of mode 0600 before its
 * public one is told to anybody, and never leaves the node.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isTemporary, writeDurably } from '@podway/cni';
import { generatePrivateKey, publicKeyOf } from '@podway/kernel';
import { PodwayError } from '@podway/errors';
import type { WireguardConfig } from './settings.js';

const FILE = /^generation-(\d+)\.key$/;

export class WireguardKeys {
  private readonly keys = new Map<number, string>();

  /** @param directory made with 0700 */
  constructor(private readonly directory: string, private readonly node: string) {}

  /**
   * The public key for a configuration; the private one is made, or taken over from the generation before, if there is none yet.
   * @throws BAD_KEY when the file holds something else: a key that others know is not silently replaced
   */
  async publicKey(config: WireguardConfig): Promise<string> {
    const { generation } = config;
    let key = this.keys.get(generation) ?? this.read(generation);
    if (key === undefined) {
      const kept = config.renew !== undefined && !config.renew.includes(this.node) ? this.latestBefore(generation) : undefined;
      key = kept ?? generatePrivateKey();
      mkdirSync(this.directory, { recursive: true, mode: 0o700 });
      await writeDurably(this.path(generation), `${key}\n`);
    }
    this.keys.set(generation, key);
    return publicKeyOf(key);
  }

  /** The private key of a public one. */
  secret(publicKey: string): string | undefined {
    return [...this.keys.values()].find((k) => publicKeyOf(k) === publicKey);
  }

  /** Keys of other generations are of no use any more: what was sent with them must not become readable later. */
  keepOnly(generations: readonly number[]): void {
    for (const g of this.generations()) if (!generations.includes(g)) rmSync(this.path(g), { force: true });
    for (const g of [...this.keys.keys()]) if (!generations.includes(g)) this.keys.delete(g);
  }

  private path = (generation: number): string => join(this.directory, `generation-${generation}.key`);

  private generations(): number[] {
    try {
      const files = readdirSync(this.directory);
      for (const f of files) if (isTemporary(f)) rmSync(join(this.directory, f), { force: true });
      return files.flatMap((f) => (FILE.test(f) ? [Number(FILE.exec(f)![1])] : []));
    } catch {
      return [];
    }
  }

  private latestBefore(generation: number): string | undefined {
    const [latest] = this.generations().filter((g) => g < generation).sort((a, b) => b - a);
    return latest === undefined ? undefined : this.read(latest);
  }

  private read(generation: number): string | undefined {
    const path = this.path(generation);
    let text: string;
    try {
      text = readFileSync(path, 'utf8').trim();
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw e;
    }
    try {
      publicKeyOf(text);
      return text;
    } catch (cause) {
      throw new PodwayError('BAD_KEY', 'the file holds no WireGuard key', { object: path, cause, hint: 'Remove it to have a new key made: podway network rotate-keys then tells the other nodes.' });
    }
  }
}
