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

interface LogFile {
  readonly path: string;
  readonly inode: number;
}

/** `0.log.3 0.log.2 0.log.1 0.log`, oldest first, with what each name stood for when asked. */
async function listing(path: string): Promise<LogFile[]> {
  const name = basename(path);
  const all: string[] = await readdir(dirname(path)).catch(() => []);
  const rotated = all
    .filter((f) => f.startsWith(`${name}.`) && /^\d+$/.test(f.slice(name.length + 1)))
    .sort((a, b) => Number(b.slice(name.length + 1)) - Number(a.slice(name.length + 1)));
  const paths = [...rotated, ...(all.includes(name) ? [name] : [])].map((f) => join(dirname(path), f));
  const found = await Promise.all(paths.map((p) => stat(p).then((x) => ({ path: p, inode: x.ino }), () => undefined)));
  return found.filter((f) => f !== undefined);
}

/** A listing during which no file was renamed: one that was seen twice. */
async function files(path: string): Promise<LogFile[]> {
  for (let before = await listing(path); ; ) {
    const again = await listing(path);
    if (JSON.stringify(again) === JSON.stringify(before)) return again;
    before = again;
  }
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

/**
 * The file after the one being read, which is the oldest when none is or when it was dropped meanwhile;
 * undefined at the newest. Names move while the monitor rotates, so it is the inode that counts.
 */
async function openNext(path: string, reader: LineReader | undefined): Promise<LineReader | undefined> {
  const current = await reader?.file.stat();
  for (;;) {
    if (current && (await stat(path).catch(() => undefined))?.ino === current.ino) return undefined;
    const known = await files(path);
    const next = known[current ? known.findIndex((f) => f.inode === current.ino) + 1 : 0];
    if (!next) return undefined;
    const handle = await open(next.path).catch(() => undefined);
    if ((await handle?.stat())?.ino === next.inode && handle) return new LineReader(handle);
    await handle?.close();
  }
}

/** Entries from the oldest file on; with follow, until the end or the signal. */
async function* readAll(path: string, options: LogOptions): AsyncGenerator<LogEntry> {
  const since = sinceOf(options);
  let reader = await openNext(path, undefined);
  let tail: LogEntry[] | undefined = options.tailLines === undefined ? undefined : [];
  const change = options.follow ? watchFolder(path, options) : undefined;
  try {
    while (!options.signal?.aborted) {
      const changed = change?.next();
      const over = options.ended?.() === true; // asked before reading, so that the last lines are not missed
      const next = await openNext(path, reader);
      // What was written between the last read and a rename is still in the old file.
      if (reader) {
        for await (const e of reader.read()) {
          if (!after(e, since)) continue;
          if (tail === undefined) yield e;
          else if (tail.push(e) > (options.tailLines ?? 0)) tail.shift();
        }
      }
      if (next) {
        await reader?.file.close();
        reader = next;
        continue;
      }
      yield* tail ?? [];
      tail = undefined;
      if (over || changed === undefined) return;
      await changed;
    }
  } finally {
    change?.close();
    await reader?.file.close();
  }
}

/** next(): settles at the next change of the log's folder, or at the signal. */
function watchFolder(path: string, options: LogOptions): { next(): Promise<void>; close(): void } {
  let wake = (): void => undefined;
  const tell = (): void => wake();
  const changes = watch(dirname(path), tell);
  // The end is a state elsewhere, not a change of the file: looked at twice a second.
  const timer = setInterval(tell, 500);
  options.signal?.addEventListener('abort', tell);
  return {
    next: () => new Promise((resolve) => (wake = resolve)),
    close() {
      clearInterval(timer);
      changes.close();
      options.signal?.removeEventListener('abort', tell);
    },
  };
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
