/**
 * The agent's side of CNI: a unix socket on which the shim hands over requests.
 *
 * Everything that can be told from the request alone is decided here (environment,
 * configuration, version, verb); the handler sees only requests that make sense and answers
 * in our internal result shape. One attachment is never worked on twice at a time, GC runs
 * alone, the rest in parallel. Whoever can connect can wire pods: socket 0600 in a 0700 directory.
 *
 * Cost: about 0.3 ms per request on top of the handler. Wire format: packages/cni/src/frame.ts.
 */
import { type Server, type Socket, connect, createServer } from 'node:net';
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  CNI_VERSIONS,
  type CniError,
  type CniGcRequest,
  type CniRequest,
  type CniResult,
  type CniStatusRequest,
  type DecodedRequest,
  KeyedLock,
  LATEST_CNI_VERSION,
  type ShimRequest,
  decodeCniRequest,
  decodeRequest,
  encodeAnswer,
  requestLength,
  resultTo,
  toCniError,
  versionOf,
} from '@podway/cni';
import { PodwayError, messageOf } from '@podway/errors';

/** How pods are really wired. Whatever is thrown becomes a CNI error result. */
export interface CniHandler {
  add(req: CniRequest): Promise<CniResult>;
  /** Success also when there is nothing (left) to remove. */
  del(req: CniRequest): Promise<void>;
  check(req: CniRequest): Promise<void>;
  gc(req: CniGcRequest): Promise<void>;
  /** @throws CniError NOT_AVAILABLE (50) or LIMITED_CONNECTIVITY (51) when ADD could not be served */
  status(req: CniStatusRequest): Promise<void>;
}

/** What became of one request, for logs and metrics. */
export interface CniEvent {
  readonly command: string;
  readonly containerId: string | undefined;
  readonly ifname: string | undefined;
  readonly pod: string | undefined;
  /** From the request complete to the answer handed to the socket, waiting for the same attachment included. */
  readonly durationMs: number;
  readonly error: CniError | undefined;
  /** The asker left before the answer. */
  readonly gone: boolean;
}

export interface CniServerOptions {
  readonly socketPath: string;
  readonly handler: CniHandler;
  readonly onEvent?: (event: CniEvent) => void;
  /** How long a connection may take to send its request. 30 s. */
  readonly requestTimeoutMs?: number;
}

/** Is someone listening? ENOENT and ECONNREFUSED say no; anything else is for the caller to see. */
function probe(path: string): Promise<'live' | 'stale' | 'absent'> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve('live');
    });
    socket.once('error', (e: NodeJS.ErrnoException) => {
      if (e.code === 'ENOENT') resolve('absent');
      else if (e.code === 'ECONNREFUSED') resolve('stale');
      else if (e.code === 'EAGAIN') resolve('live'); // its backlog is full
      else reject(e);
    });
  });
}

export class CniServer {
  readonly #o: CniServerOptions;
  readonly #lock = new KeyedLock();
  readonly #open = new Map<Socket, AbortController>();
  readonly #working = new Set<Promise<void>>();
  #server: Server | undefined;

  constructor(options: CniServerOptions) {
    this.#o = options;
  }

  /** @throws PodwayError CNI_SOCKET_BUSY when an agent is alive there, CNI_SOCKET otherwise */
  async listen(): Promise<void> {
    const path = this.#o.socketPath;
    if (Buffer.byteLength(path) > 107) throw new PodwayError('CNI_SOCKET', 'listening for CNI requests', { object: path, said: 'the path is longer than 107 bytes, a unix socket cannot have it' });
    try {
      const made = await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      if (made !== undefined) await chmod(dirname(path), 0o700);
      const found = await lstat(path).catch(() => undefined);
      if (found && !found.isSocket()) throw new PodwayError('CNI_SOCKET', 'listening for CNI requests', { object: path, said: 'something that is no socket is in the way', hint: `Remove ${path}.` });
      const state = found ? await probe(path) : 'absent';
      if (state === 'live') {
        throw new PodwayError('CNI_SOCKET_BUSY', 'listening for CNI requests', { object: path, said: 'another agent is alive on this socket', hint: 'Stop the other agent of this node first.' });
      }
      if (state === 'stale') await unlink(path);
      await this.#bind(path);
    } catch (e) {
      if (e instanceof PodwayError) throw e;
      const errno = (e as NodeJS.ErrnoException).code;
      throw new PodwayError('CNI_SOCKET', 'listening for CNI requests', { object: path, said: messageOf(e), ...(errno ? { errno } : {}), cause: e });
    }
  }

  #bind(path: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const server = createServer((socket) => this.#accept(socket));
      server.once('error', reject);
      server.once('listening', () => {
        server.removeListener('error', reject);
        this.#server = server;
        resolve();
      });
      // bind happens inside this call, so the socket never exists with a wider mode
      const umask = process.umask(0o177);
      try {
        server.listen({ path, backlog: 1024 });
      } finally {
        process.umask(umask);
      }
    });
  }

  /** Take no more requests; let those under way end, at most `graceMs`, then abort them. The socket file is removed. */
  async close(graceMs = 5000): Promise<void> {
    const closed = new Promise<void>((resolve) => (this.#server ? this.#server.close(() => resolve()) : resolve()));
    this.#server = undefined;
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise<void>((resolve) => (timer = setTimeout(resolve, graceMs)));
    await Promise.race([Promise.allSettled([...this.#working]), grace]);
    clearTimeout(timer);
    for (const [socket, abort] of this.#open) {
      abort.abort(new PodwayError('CNI_AGENT_STOPPING', 'the agent is stopping'));
      socket.destroy();
    }
    await Promise.allSettled([...this.#working]);
    await closed;
  }

  #accept(socket: Socket): void {
    const abort = new AbortController();
    const chunks: Buffer[] = [];
    let size = 0;
    let started = false;
    this.#open.set(socket, abort);
    socket.setTimeout(this.#o.requestTimeoutMs ?? 30_000, () => {
      if (!started) socket.destroy();
    });
    socket.on('error', () => undefined); // always followed by close
    socket.on('close', () => {
      this.#open.delete(socket);
      abort.abort(new PodwayError('CNI_CLIENT_GONE', 'whoever made this CNI request has gone away'));
    });
    const begin = (work: Promise<void>): void => {
      started = true;
      socket.setTimeout(0);
      this.#working.add(work);
      void work.finally(() => this.#working.delete(work));
    };
    socket.on('data', (chunk: Buffer) => {
      if (started) return; // nothing is due after the request
      chunks.push(chunk);
      size += chunk.length;
      let whole: Buffer;
      try {
        const first = chunks.length === 1 || (chunks[0]?.length ?? 0) >= 12 ? (chunks[0] ?? chunk) : Buffer.concat(chunks);
        const need = requestLength(first);
        if (need === undefined || size < need) return;
        whole = chunks.length === 1 ? chunk : Buffer.concat(chunks);
      } catch (e) {
        begin(this.#answer(socket, toCniError(e).toCni(LATEST_CNI_VERSION), 1));
        return;
      }
      begin(this.#serve(socket, decodeRequest(whole), abort.signal));
    });
  }

  async #serve(socket: Socket, request: ShimRequest, signal: AbortSignal): Promise<void> {
    const start = performance.now();
    const stdin = request.stdin.toString('utf8');
    let decoded: DecodedRequest | undefined;
    let error: CniError | undefined;
    let body: object | undefined;
    try {
      decoded = decodeCniRequest(request.env, stdin);
      body = await this.#dispatch(decoded, signal);
    } catch (e) {
      error = toCniError(e);
      body = error.toCni(versionOf(stdin, LATEST_CNI_VERSION));
    }
    const gone = signal.aborted;
    if (!gone) await this.#answer(socket, body, error ? 1 : 0);
    const args = decoded && 'args' in decoded ? decoded.args : undefined;
    this.#o.onEvent?.({
      command: request.env['CNI_COMMAND'] ?? '',
      containerId: request.env['CNI_CONTAINERID'] || undefined,
      ifname: request.env['CNI_IFNAME'] || undefined,
      pod: args?.K8S_POD_NAME ? `${args.K8S_POD_NAMESPACE ?? ''}/${args.K8S_POD_NAME}` : undefined,
      durationMs: performance.now() - start,
      error,
      gone,
    });
  }

  /** The document to print, or undefined for none. A request whose asker left while it waited is not begun. */
  async #dispatch(d: DecodedRequest, signal: AbortSignal): Promise<object | undefined> {
    const h = this.#o.handler;
    switch (d.command) {
      case 'VERSION':
        return { cniVersion: d.version, supportedVersions: CNI_VERSIONS };
      case 'STATUS':
        await h.status({ ...d, signal });
        return undefined;
      case 'GC':
        await this.#lock.exclusive(async () => {
          signal.throwIfAborted();
          await h.gc({ ...d, signal });
        });
        return undefined;
      default:
        return this.#lock.run(`${d.containerId}/${d.ifname}`, async () => {
          signal.throwIfAborted();
          const req: CniRequest = { ...d, signal };
          if (d.command === 'ADD') return resultTo(await h.add(req), d.version);
          await (d.command === 'DEL' ? h.del(req) : h.check(req));
          return undefined;
        });
    }
  }

  #answer(socket: Socket, body: object | undefined, exitCode: 0 | 1): Promise<void> {
    return new Promise((resolve) => {
      socket.once('close', () => resolve());
      socket.end(encodeAnswer({ exitCode, stdout: Buffer.from(body === undefined ? '' : `${JSON.stringify(body)}\n`) }), () => resolve());
    });
  }
}
