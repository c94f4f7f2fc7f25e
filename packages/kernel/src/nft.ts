/**
 * nftables through libnftables, in JSON both ways: what `nft -j` speaks, without a process.
 *
 * A command list is one transaction: all of it is done or none. The library's socket belongs to
 * the namespace it was opened in; commands are run inside that namespace as well, because the
 * library opens further sockets when a dump was interrupted.
 * Source: libnftables(3), libnftables-json(5). Needs libnftables1.
 */
import { createRequire } from 'node:module';
import { isPodwayError, PodwayError } from '@podway/errors';
import type koffiType from 'koffi';
import { withoutStderr } from './libc.js';
import type { Netns } from './netns.js';

const OUTPUT_HANDLE = 1 << 3;
const OUTPUT_JSON = 1 << 4;
const OUTPUT_NUMERIC_PRIO = 1 << 8;
const OUTPUT_TERSE = 1 << 11;

type Context = object;
interface Library {
  create(flags: number): Context | null;
  free(ctx: Context): void;
  bufferOutput(ctx: Context): number;
  bufferError(ctx: Context): number;
  setFlags(ctx: Context, flags: number): void;
  run(ctx: Context, commands: string): number;
  output(ctx: Context): string | null;
  error(ctx: Context): string | null;
}

let library: Library | undefined;

/** Loaded when first needed, so that commands that need no firewall do not need the library. */
function lib(): Library {
  if (library) return library;
  const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;
  let so: ReturnType<typeof koffi.load>;
  try {
    so = koffi.load('libnftables.so.1');
  } catch (cause) {
    throw new PodwayError('NFT_MISSING', 'libnftables is not installed', { cause, hint: 'Install it: apt-get install libnftables1 (Fedora: nftables)' });
  }
  const f = (signature: string) => so.func(signature) as unknown as (...args: unknown[]) => never;
  return (library = {
    create: f('void *nft_ctx_new(uint32_t flags)'),
    free: f('void nft_ctx_free(void *ctx)'),
    bufferOutput: f('int nft_ctx_buffer_output(void *ctx)'),
    bufferError: f('int nft_ctx_buffer_error(void *ctx)'),
    setFlags: f('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)'),
    run: f('int nft_run_cmd_from_buffer(void *nft, const char *buf)'),
    output: f('const char *nft_ctx_get_output_buffer(void *ctx)'),
    error: f('const char *nft_ctx_get_error_buffer(void *ctx)'),
  });
}

/** One object of libnftables-json(5): `{ "table": { … } }`, `{ "rule": { … } }` … */
export type NftObject = Readonly<Record<string, Readonly<Record<string, unknown>>>>;
/** One command: `{ "add": { "rule": { … } } }`. */
export type NftCommand = Readonly<Record<string, unknown>>;

export class Nftables {
  private constructor(
    private readonly ns: Netns,
    private context: Context | undefined,
  ) {}

  static open(ns: Netns): Nftables {
    const l = lib();
    const context = ns.run(() => l.create(0));
    if (!context) throw new PodwayError('NFT_FAILED', 'cannot open nftables', { object: ns.label });
    l.bufferOutput(context);
    l.bufferError(context);
    l.setFlags(context, OUTPUT_JSON | OUTPUT_HANDLE | OUTPUT_NUMERIC_PRIO);
    return new Nftables(ns, context);
  }

  static with<T>(ns: Netns, work: (nft: Nftables) => T): T {
    const nft = Nftables.open(ns);
    try {
      return work(nft);
    } finally {
      nft.close();
    }
  }

  close(): void {
    if (this.context) lib().free(this.context);
    this.context = undefined;
  }

  /** Runs commands as one transaction. @throws NFT_REFUSED with the library's words; nothing was changed then. */
  run(commands: readonly NftCommand[]): void {
    if (commands.length) this.execute(JSON.stringify({ nftables: commands }));
  }

  /** The ruleset, or one table of it. `terse` leaves out set elements. Equivalent: `nft -j -a list ruleset`. */
  list(table?: { readonly family: string; readonly name: string }, terse = false): NftObject[] {
    const context = this.mustContext();
    if (terse) lib().setFlags(context, OUTPUT_JSON | OUTPUT_HANDLE | OUTPUT_NUMERIC_PRIO | OUTPUT_TERSE);
    try {
      const target = table ? { table } : { ruleset: null };
      const text = this.execute(JSON.stringify({ nftables: [{ list: target }] }));
      const parsed = JSON.parse(text || '{"nftables":[]}') as { nftables: NftObject[] };
      return parsed.nftables.filter((o) => !('metainfo' in o));
    } finally {
      if (terse) lib().setFlags(context, OUTPUT_JSON | OUTPUT_HANDLE | OUTPUT_NUMERIC_PRIO);
    }
  }

  /** Elements of one set or map, as the listing has them; undefined when there is no such set. */
  elements(kind: 'set' | 'map', table: { readonly family: string; readonly name: string }, name: string): readonly unknown[] | undefined {
    try {
      const text = this.execute(JSON.stringify({ nftables: [{ list: { [kind]: { family: table.family, table: table.name, name } } }] }));
      const object = (JSON.parse(text) as { nftables: NftObject[] }).nftables.find((o) => kind in o);
      const list = object?.[kind]?.['elem'];
      return object === undefined ? undefined : Array.isArray(list) ? (list as unknown[]) : [];
    } catch (e) {
      if (isPodwayError(e, 'NFT_NOT_FOUND')) return undefined;
      throw e;
    }
  }

  /** Runs commands in nft's own language and returns what it prints, as `nft` would. For people, and for tests. */
  text(commands: string): string {
    const context = this.mustContext();
    lib().setFlags(context, OUTPUT_HANDLE);
    try {
      return this.execute(commands);
    } finally {
      lib().setFlags(context, OUTPUT_JSON | OUTPUT_HANDLE | OUTPUT_NUMERIC_PRIO);
    }
  }

  private mustContext(): Context {
    if (!this.context) throw new PodwayError('NFT_CLOSED', 'nftables was already closed', { object: this.ns.label });
    return this.context;
  }

  private execute(commands: string): string {
    const l = lib();
    const context = this.mustContext();
    // Of a statement that it has no JSON for, the library warns on standard error; it lists it as text, which is read.
    const failed = withoutStderr(() => this.ns.run(() => l.run(context, commands))) !== 0;
    const output = l.output(context) ?? '';
    const error = l.error(context) ?? '';
    if (!failed) return output;
    const said = error.split('\n').filter((line) => line && !/^\s*\^+/.test(line)).join('; ').slice(0, 600);
    throw new PodwayError(/No such file or directory/.test(error) ? 'NFT_NOT_FOUND' : 'NFT_REFUSED', 'nftables refused the change', {
      object: this.ns.label, said: said || 'no reason given',
      ...(/Operation not permitted/.test(error) ? { hint: 'This needs root (CAP_NET_ADMIN in that namespace).' } : {}),
    });
  }
}
