/**
 * BIRD's control socket: commands out, replies in, one after the other.
 * Source: BIRD's doc/reply_codes and nest/cli.c. Equivalent: `birdc -s SOCKET COMMAND`.
 * Cost: a connection and a command take about 1 ms (3 sessions) where starting birdc takes 5.
 */
import { createConnection, type Socket } from 'node:net';
import { PodwayError } from '@podway/errors';
import { parseRoutes, parseSessions, parseStatus, ReplyReader, type BgpPeerStatus, type BgpRoute, type BirdStatus, type Reply } from './bird-parse.js';

const FAILED = 8000;
const RECONFIGURED = [3, 4, 5]; // done; in progress; queued behind one in progress
const CHECKED = 20;
const GREETING = 1;
const DEFAULT_TIMEOUT_MS = 5000;
/** 10,000 sessions in full are 15 MB. */
const MOST_PENDING = 64 << 20;

/** Length of sun_path, less the closing zero. */
const SUN_PATH = 107;

const ABSENT: Readonly<Record<string, string>> = {
  ENOENT: 'no BIRD runs there (ENOENT: there is no such socket)',
  ECONNREFUSED: 'no BIRD runs there (ECONNREFUSED: nobody listens on its socket)',
};

export interface BirdControlOptions {
  /** For each command. */
  readonly timeoutMs?: number;
}

export class BirdControl {
  private readonly reader = new ReplyReader();
  private waiting: { resolve(r: Reply): void; reject(e: Error): void } | undefined;
  private broken: Error | undefined;
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly socket: Socket,
    private readonly path: string,
    private readonly timeoutMs: number,
  ) {
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      const replies = this.reader.push(chunk);
      if (this.reader.pending > MOST_PENDING) this.fail(this.error('BIRD_BAD_REPLY', 'its reply does not end'));
      for (const reply of replies) {
        this.waiting?.resolve(reply);
        this.waiting = undefined;
      }
    });
    socket.on('error', (e: NodeJS.ErrnoException) => this.fail(this.error('BIRD_UNREACHABLE', ABSENT[e.code ?? ''] ?? e.message)));
    socket.on('close', () => this.fail(this.error('BIRD_UNREACHABLE', 'it closed the connection')));
  }

  /** @param path of a unix socket. @throws BIRD_UNREACHABLE */
  static async open(path: string, o: BirdControlOptions = {}): Promise<BirdControl> {
    if (Buffer.byteLength(path) > SUN_PATH) {
      throw new PodwayError('BIRD_UNREACHABLE', 'reach BIRD', { object: path, said: `the path of a unix socket has at most ${SUN_PATH} bytes` });
    }
    const control = new BirdControl(createConnection(path), path, o.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    try {
      const greeting = await control.reply('connect');
      if (greeting.end.code !== GREETING) throw control.error('BIRD_BAD_REPLY', `it greets with "${greeting.end.text.slice(0, 80)}"`);
      return control;
    } catch (e) {
      control.close();
      throw e;
    }
  }

  /** One connection for one stretch of work. */
  static async with<T>(path: string, use: (control: BirdControl) => Promise<T>, o: BirdControlOptions = {}): Promise<T> {
    const control = await BirdControl.open(path, o);
    try {
      return await use(control);
    } finally {
      control.close();
    }
  }

  private error(code: string, said: string): PodwayError {
    return new PodwayError(code, 'speak with BIRD', { object: `control socket ${this.path}`, said, hint: 'Does it run? pgrep -a bird; its log is beside its configuration.' });
  }

  private fail(e: Error): void {
    this.broken ??= e;
    this.waiting?.reject(this.broken);
    this.waiting = undefined;
    this.socket.destroy();
  }

  private async reply(doing: string): Promise<Reply> {
    if (this.broken) throw this.broken;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Reply>((resolve, reject) => {
        this.waiting = { resolve, reject };
        timer = setTimeout(() => this.fail(this.error('BIRD_TIMEOUT', `no answer to "${doing}" within ${this.timeoutMs} ms`)), this.timeoutMs);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * One command in BIRD's own words. Calls that overlap are sent one after the other.
   * @throws BIRD_REFUSED with BIRD's words, BIRD_TIMEOUT, BIRD_UNREACHABLE, BIRD_BAD_REPLY
   */
  command(text: string): Promise<Reply> {
    if (/[\r\n\0]/.test(text)) return Promise.reject(this.error('BIRD_REFUSED', 'a command is one line'));
    const next = this.last.then(async () => {
      if (this.broken) throw this.broken;
      this.socket.write(`${text}\n`);
      const reply = await this.reply(text);
      if (reply.end.code >= FAILED) {
        throw new PodwayError('BIRD_REFUSED', `BIRD: ${text}`, { object: `control socket ${this.path}`, said: reply.end.text });
      }
      return reply;
    });
    this.last = next.catch(() => undefined);
    return next;
  }

  async sessions(): Promise<BgpPeerStatus[]> {
    return parseSessions(await this.command('show protocols all'));
  }

  /** All that master4 and master6 hold: own blocks too. */
  async routes(): Promise<BgpRoute[]> {
    const found: BgpRoute[] = [];
    for (const table of ['master4', 'master6']) found.push(...parseRoutes(await this.command(`show route table ${table} all`)));
    return found;
  }

  async status(): Promise<BirdStatus> {
    return parseStatus(await this.command('show status'));
  }

  /** Reads the configuration file; sessions that it leaves as they are, stay up. @throws BIRD_REFUSED with file, line and reason */
  async configure(): Promise<void> {
    const { end } = await this.command('configure');
    if (!RECONFIGURED.includes(end.code)) throw this.error('BIRD_BAD_REPLY', end.text);
  }

  /** @throws BIRD_REFUSED with line and reason when a running BIRD would not take the file */
  async check(file: string): Promise<void> {
    if (/["\r\n]/.test(file)) throw this.error('BIRD_REFUSED', `"${file}" is no file name`);
    const { end } = await this.command(`configure check "${file}"`);
    if (end.code !== CHECKED) throw this.error('BIRD_BAD_REPLY', end.text);
  }

  async disable(protocol: string): Promise<void> {
    await this.command(`disable ${checkName(protocol)}`);
  }

  async enable(protocol: string): Promise<void> {
    await this.command(`enable ${checkName(protocol)}`);
  }

  async restart(protocol: string): Promise<void> {
    await this.command(`restart ${checkName(protocol)}`);
  }

  /** Ends BIRD; its routes go, and peers are told. */
  async down(): Promise<void> {
    await this.command('down');
  }

  /** Ends BIRD so that it can be started again with `-R`: routes stay, here and at the peers. */
  async gracefulRestart(): Promise<void> {
    await this.command('graceful restart');
  }

  close(): void {
    this.socket.destroy();
  }
}

function checkName(protocol: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]*$/.test(protocol)) return protocol;
  throw new PodwayError('BIRD_REFUSED', `"${protocol}" is no name of a protocol`, { hint: 'podway bgp status -o wide prints the names.' });
}
