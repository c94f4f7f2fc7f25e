/**
 * Reads container logs in CRI format (written by podway-init's monitor), across rotations.
 *
 *   <timestamp> stdout|stderr F|P <text>     P: a part of a longer line
 *
 * Source: kubelet-cri-logging design. Equivalent: crictl logs [-f] [--tail N] [--since T] [-t]. Options are named as in the API.
 * Cost: memory of one line, or of the last N lines with `tailLines`; `follow` reads when the file changes.
 */
import { watch } from 'node:fs';
import { open, readdir, stat, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface LogEntry {
  /** RFC 3339 with nanoseconds. */
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  /** With its line end unless the line was cut. */
  readonly text: string;
}

export interface LogOptions {
  readonly follow?: boolean;
  /** Lines; all when undefined. */
  readonly tailLines?: number;
  /** Only entries at or after this time, RFC 3339. */
  readonly sinceTime?: string;
  /** Only entries of the last seconds. */
  readonly sinceSeconds?: number;
  /** Stop after about so many bytes. */
  readonly limitBytes?: number;
  readonly timestamps?: boolean;
  readonly signal?: AbortSignal;
  /** With follow: true once nothing more will be written. */
  readonly ended?: () => boolean;
}

/** undefined for a line that is not CRI format. */
export function parseLogLine(line: string): LogEntry | undefined {
  const m = /^(\S+) (stdout|stderr) ([FP])(?::\S*)? (.*)$/s.exec(line);
  if (!m) return undefined;
  return { time: m[1] ?? '', stream: m[2] as 'stdout' | 'stderr', text: `${m[4]}${m[3] === 'F' ? '\n' : ''}` };
}

const after = (e: LogEntry, since: number | undefined): boolean => since === undefined || Date.parse(e.time) >= since;

/** Milliseconds since the epoch; the later of both limits. */
function sinceOf(o: LogOptions): number | undefined {
  const times = [
    ...(o.sinceTime === undefined ? [] : [Date.parse(o.sinceTime)]),
    ...(o.sinceSeconds === undefined ? [] : [Date.now() - o.sinceSeconds * 1000]),
  ];
  return times.length ? Math.max(...times) : undefined;
}

/** `0.log.3 0.log.2 0.log.1 0.log`: oldest first. */
async function files(path: string): Promise<string[]> {
  const name = basename(path);
  const all: string[] = await readdir(dirname(path)).catch(() => []);
  const rotated = all
    .filter((f) => f.startsWith(`${name}.`) && /^\d+$/.test(f.slice(name.length + 1)))
    .sort((a, b) => Number(b.slice(name.length + 1)) - Number(a.slice(name.length + 1)));
  return [...rotated, ...(all.includes(name) ? [name] : [])].map((f) => join(dirname(path), f));
}

/** Takes whole lines out of a file that may still grow. */
class LineReader {
  private rest = Buffer.alloc(0);
  position = 0;
  private readonly chunk = Buffer.alloc(64 * 1024);

  constructor(readonly file: FileHandle) {}

  async *read(): AsyncGenerator<LogEntry> {
    for (;;) {
      const { bytesRead } = await this.file.read(this.chunk, 0, this.chunk.length, this.position);
      if (bytesRead === 0) return;
      this.position += bytesRead;
      const data = Buffer.concat([this.rest, this.chunk.subarray(0, bytesRead)]);
      let start = 0;
      for (let nl = data.indexOf(10); nl >= 0; nl = data.indexOf(10, start)) {
        const entry = parseLogLine(data.toString('utf8', start, nl));
        start = nl + 1;
        if (entry) yield entry;
      }
      this.rest = Buffer.from(data.subarray(start));
    }
  }
}

async function* readAll(path: string, options: LogOptions): AsyncGenerator<LogEntry> {
  const since = sinceOf(options);
  const known = await files(path);
  let reader: LineReader | undefined;
  try {
    const last: LogEntry[] = [];
    for (const f of known) {
      const handle = await open(f).catch(() => undefined); // rotated away meanwhile
      if (!handle) continue;
      await reader?.file.close();
      reader = new LineReader(handle);
      for await (const e of reader.read()) {
        if (!after(e, since)) continue;
        if (options.tailLines === undefined) yield e;
        else if (options.tailLines > 0) {
          last.push(e);
          if (last.length > options.tailLines) last.shift();
        }
      }
    }
    yield* last;
    if (options.follow) yield* follow(path, reader, options, (r) => (reader = r));
  } finally {
    await reader?.file.close();
  }
}

/** The file that follows the one being read (several may, after quick rotations); undefined at the newest. */
async function nextFile(path: string, reader: LineReader | undefined): Promise<string | undefined> {
  const current = await reader?.file.stat();
  if (current && (await stat(path).catch(() => undefined))?.ino === current.ino) return undefined;
  const known = await files(path);
  const inodes = await Promise.all(known.map((f) => stat(f).then((x) => x.ino, () => undefined)));
  const at = current ? inodes.indexOf(current.ino) : -1; // -1: rotated away, the oldest is next
  return known[at + 1];
}

async function* follow(path: string, first: LineReader | undefined, options: LogOptions, opened: (r: LineReader) => void): AsyncGenerator<LogEntry> {
  let reader = first;
  const since = sinceOf(options);
  let wake = (): void => undefined;
  const changes = watch(dirname(path), () => wake());
  // The end is a state elsewhere, not a change of the file: looked at twice a second.
  const timer = setInterval(() => wake(), 500);
  const stop = (): void => wake();
  options.signal?.addEventListener('abort', stop);
  try {
    while (!options.signal?.aborted) {
      const changed = new Promise<void>((r) => (wake = r));
      const over = options.ended?.() === true; // asked before reading, so that the last lines are not missed
      if (reader) for await (const e of reader.read()) if (after(e, since)) yield e;
      const next = await nextFile(path, reader);
      if (next !== undefined) {
        // What was written between the last read and the rename is still in the old file.
        if (reader) for await (const e of reader.read()) if (after(e, since)) yield e;
        const handle = await open(next).catch(() => undefined);
        if (handle) {
          await reader?.file.close();
          reader = new LineReader(handle);
          opened(reader);
        }
        continue;
      }
      if (over) return;
      if (!options.signal?.aborted) await changed;
    }
  } finally {
    clearInterval(timer);
    changes.close();
    options.signal?.removeEventListener('abort', stop);
  }
}

/** The text of a log as `kubectl logs` prints it, in pieces. An absent file is an empty log. */
export async function* readLog(path: string, options: LogOptions = {}): AsyncGenerator<string> {
  let bytes = 0;
  let fresh: boolean = true;
  for await (const e of readAll(path, options)) {
    let text: string = options.timestamps && fresh ? `${e.time} ${e.text}` : e.text;
    fresh = text.endsWith('\n');
    if (options.limitBytes !== undefined) {
      const room = options.limitBytes - bytes;
      if (room <= 0) return;
      if (Buffer.byteLength(text) > room) text = Buffer.from(text).subarray(0, room).toString('utf8');
    }
    bytes += Buffer.byteLength(text);
    yield text;
  }
}
