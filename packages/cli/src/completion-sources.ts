/**
 * Where the shell's completion gets names from. A source answers from what is at hand and gives
 * nothing rather than an error: completion must never get in the way of typing.
 */
import { readdirSync } from 'node:fs';
import type { CompletionSource } from './command.js';
import type { Lookup } from './completion.js';

const listing = (folder: string): string[] => {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
};

type Source = (options: { readonly lab: string }) => readonly string[] | Promise<readonly string[]>;

const SOURCES: Partial<Record<CompletionSource, Source>> = {
  netns: () => listing('/run/netns'),
  lessons: async () => (await import('@podway/lab/lessons')).LESSONS.map((l) => l.id),
  labs: () => listing('/run/podway'),
  nodes: ({ lab }) => listing(`/run/podway/${lab}/nodes`),
};

export const lookupNames: Lookup = async (source, options) => (await SOURCES[source]?.(options)) ?? [];
