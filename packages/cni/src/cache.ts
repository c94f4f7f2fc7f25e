/**
 * What ADD gave, kept on disk for CHECK, DEL and GC, in libcni's own format and place
 * (`<dir>/results/<network>-<container>-<ifname>`, kind cniCacheV1), so that other tools of
 * the field can read it. Unlike libcni's, each file is written durably.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { removeDurably, writeDurably } from './durable.js';
import type { VersionedResult } from './result.js';

export const DEFAULT_CACHE_DIR = '/var/lib/cni';

export interface CachedAttachment {
  readonly containerId: string;
  readonly ifname: string;
  readonly network: string;
  readonly netns: string | undefined;
  readonly args: readonly (readonly [string, string])[];
  readonly capabilityArgs: Readonly<Record<string, unknown>>;
  /** The configuration list ADD ran with, as text. */
  readonly config: string;
  /** As the last plugin printed it. */
  readonly result: VersionedResult;
}

const fileSchema = z.object({
  kind: z.literal('cniCacheV1'),
  containerId: z.string().min(1),
  config: z.string(), // base64, as Go writes bytes
  ifName: z.string().min(1),
  networkName: z.string().min(1),
  netns: z.string().optional(),
  cniArgs: z.array(z.tuple([z.string(), z.string()])).nullish(),
  capabilityArgs: z.record(z.string(), z.unknown()).nullish(),
  result: z.looseObject({ cniVersion: z.string() }),
});

export interface AttachmentKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

export class ResultCache {
  readonly #dir: string;

  constructor(dir = DEFAULT_CACHE_DIR) {
    this.#dir = join(dir, 'results');
  }

  path(k: AttachmentKey): string {
    return join(this.#dir, `${k.network}-${k.containerId}-${k.ifname}`);
  }

  /** Durable when it resolves. */
  async put(a: CachedAttachment): Promise<void> {
    const file: z.infer<typeof fileSchema> = {
      kind: 'cniCacheV1',
      containerId: a.containerId,
      config: Buffer.from(a.config).toString('base64'),
      ifName: a.ifname,
      networkName: a.network,
      ...(a.netns === undefined ? {} : { netns: a.netns }),
      ...(a.args.length === 0 ? {} : { cniArgs: a.args.map(([k, v]): [string, string] => [k, v]) }),
      ...(Object.keys(a.capabilityArgs).length === 0 ? {} : { capabilityArgs: { ...a.capabilityArgs } }),
      result: { ...a.result },
    };
    await writeDurably(this.path(a), JSON.stringify(file));
  }

  async #read(path: string): Promise<CachedAttachment | undefined> {
    let json: unknown;
    try {
      json = JSON.parse(await readFile(path, 'utf8'));
    } catch {
      return undefined; // absent or not ours: DEL must get through without it
    }
    const read = fileSchema.safeParse(json);
    if (!read.success) return undefined;
    const f = read.data;
    return {
      containerId: f.containerId,
      ifname: f.ifName,
      network: f.networkName,
      netns: f.netns,
      args: f.cniArgs ?? [],
      capabilityArgs: f.capabilityArgs ?? {},
      config: Buffer.from(f.config, 'base64').toString('utf8'),
      result: f.result as VersionedResult,
    };
  }

  /** Undefined when there is none, or none that can be read. */
  async get(k: AttachmentKey): Promise<CachedAttachment | undefined> {
    const found = await this.#read(this.path(k));
    // "a-b" + "c" and "a" + "b-c" share a file name: believe the content only
    return found?.network === k.network && found.containerId === k.containerId && found.ifname === k.ifname ? found : undefined;
  }

  async remove(k: AttachmentKey): Promise<void> {
    await removeDurably(this.path(k));
  }

  /** All that can be read, in order of file name. */
  async list(): Promise<CachedAttachment[]> {
    const names = await readdir(this.#dir).catch((e: NodeJS.ErrnoException) => {
      if (e.code === 'ENOENT') return [];
      throw e;
    });
    const all = await Promise.all(names.sort().map((n) => this.#read(join(this.#dir, n))));
    return all.filter((a) => a !== undefined);
  }
}
