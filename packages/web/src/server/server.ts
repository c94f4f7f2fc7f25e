/**
 * The page's HTTP server: a few read-only endpoints, one that sends probes, the page itself. Nothing else on the machine is
 * changed by it. Loopback unless another address is asked for; who is let in: gate.ts.
 *
 *   GET  /api/topology                     what a map shows
 *   GET  /api/node/NAME                    state of a namespace as ip and bridge print it
 *   GET  /api/pod/NAMESPACE/NAME           likewise
 *   GET  /api/underlay/NAME                likewise: switches, routers, the outside
 *   GET  /api/path?from=&to=&proto=…       the way as predicted; sends nothing
 *   POST /api/trace                        the same question as JSON: probes are sent and captured
 *   GET  /api/trace/ID, …/ID/pcapng        one of the last traces, and its packets
 *   GET  /api/events                       server-sent events: see live.ts
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isPodwayError, messageOf, PodwayError } from '@podway/errors';
import { namespaceView } from '../model/namespace-view.js';
import { Gate } from './gate.js';
import { Live, type UiSource } from './live.js';
import { readPage, type PageFile } from './page-files.js';
import { parseQuestion, Paths, predict } from './paths.js';

export interface UiOptions {
  readonly source: UiSource;
  /** Default 127.0.0.1. */
  readonly address?: string;
  /** Default: a free one. */
  readonly port?: number;
  /** No probes are sent either. */
  readonly readOnly?: boolean;
  /** The built page; default: where `podway` builds it. */
  readonly pageDir?: string;
  /** Between two looks at the counters; default 1000. */
  readonly everyMs?: number;
  /** The address was used: this one opens the page the next time. */
  readonly onOpened?: (url: string) => void;
}

export interface Ui {
  /** With the token. */
  readonly url: string;
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

const MAX_BODY = 16 * 1024;
const MAX_LISTENERS = 32;
const HEARTBEAT_MS = 15_000;

const HEADERS = {
  'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer', 'X-Frame-Options': 'DENY', 'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin', 'Permissions-Policy': 'camera=(), microphone=(), geolocation=()',
} as const;

/** @throws PAGE_MISSING, ADDRESS_IN_USE, ADDRESS_NOT_HERE */
export async function serveUi(options: UiOptions): Promise<Ui> {
  const service = new Service(options, readPage(options.pageDir));
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (req, res) => void service.answer(req, res));
  await listen(server, options.address ?? '127.0.0.1', options.port ?? 0);
  const { address, port } = server.address() as AddressInfo;
  service.urlOf = (token) => `http://${address.includes(':') ? `[${address}]` : address}:${port}/?token=${token}`;
  return {
    url: service.urlOf(service.gate.currentToken), address, port,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await service.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (e: NodeJS.ErrnoException) => reject(
      e.code === 'EADDRINUSE' ? new PodwayError('ADDRESS_IN_USE', `port ${port} of ${host} is in use`, { errno: 'EADDRINUSE', hint: 'Choose another with --port, or leave it out: then a free one is taken.' })
      : e.code === 'EADDRNOTAVAIL' || e.code === 'ENOTFOUND' || e.code === 'EAI_AGAIN' ? new PodwayError('ADDRESS_NOT_HERE', `this machine has no address ${host}`, { errno: e.code, hint: 'Give one that `ip addr` shows, or leave --address out.' })
      : e));
    server.listen({ host, port }, resolve);
  });
}

/** A request that cannot be served, with its status. */
class Refusal extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly hint?: string) {
    super(message);
  }
}

const STATUS: Readonly<Record<string, number>> = {
  BAD_QUESTION: 400, TRACE_BAD_PORT: 400, TRACE_UNKNOWN_TARGET: 404, TRACE_UNKNOWN_SOURCE: 404, TRACE_NO_ADDRESS: 409, BUSY: 429,
  LAB_NOT_RUNNING: 503, LAB_BROKEN: 503, KUBE_UNREACHABLE: 503,
};

class Service {
  readonly gate: Gate;
  urlOf: (token: string) => string = (t) => t;
  private readonly live: Live;
  private readonly paths: Paths;
  private readonly ending = new AbortController();
  private readonly streams = new Set<ServerResponse>();

  constructor(private readonly options: UiOptions, private readonly page: ReadonlyMap<string, PageFile>) {
    this.gate = new Gate((token) => options.onOpened?.(this.urlOf(token)));
    this.live = new Live(options.source, { mayTrace: !options.readOnly, ...(options.everyMs === undefined ? {} : { everyMs: options.everyMs }) });
    this.paths = new Paths(options.source, this.ending.signal);
  }

  async close(): Promise<void> {
    this.ending.abort(new PodwayError('ENDING', 'the server is ending'));
    for (const s of this.streams) s.end();
    await this.live.close();
    await this.paths.idle();
  }

  async answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    for (const [k, v] of Object.entries(HEADERS)) res.setHeader(k, v);
    try {
      const url = new URL(req.url ?? '/', 'http://x');
      const verdict = this.gate.judge({
        method: req.method ?? '', path: url.pathname, query: url.searchParams, headers: req.headers, local: { address: req.socket.localAddress ?? '', port: req.socket.localPort ?? 0 },
      });
      if (verdict.kind === 'refuse') return this.refused(req, res, url.pathname, verdict);
      if (verdict.kind === 'welcome') return welcome(res, verdict.cookie);
      await this.route(req, res, url);
    } catch (e) {
      fail(res, e);
    }
  }

  private refused(req: IncomingMessage, res: ServerResponse, path: string, v: { status: number; code: string; message: string; hint: string }): void {
    req.resume();
    if (path !== '/') return json(res, v.status, { error: { code: v.code, message: v.message, hint: v.hint } });
    res.writeHead(v.status, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' }).end(`${v.message}\n${v.hint}\n`);
  }

  private async route(req: IncomingMessage, res: ServerResponse, url: URL): Promise<void> {
    const [root, what = '', ...rest] = url.pathname.slice(1).split('/').map(decoded);
    if (root !== 'api') return this.file(req, res, url.pathname);
    const wanted = what === 'trace' && rest.length === 0 ? 'POST' : 'GET';
    if (req.method !== wanted && !(wanted === 'GET' && req.method === 'HEAD')) {
      res.setHeader('Allow', wanted);
      throw new Refusal(405, 'WRONG_METHOD', `${url.pathname} takes ${wanted}`);
    }
    const { source } = this.options;
    switch (what) {
      case 'topology': return json(res, 200, await this.live.now());
      case 'node': case 'underlay': case 'pod': return this.namespace(res, rest.join('/'));
      case 'path': return json(res, 200, await predict(source, questionIn(url.searchParams)));
      case 'trace': return rest.length === 0 ? this.trace(req, res) : this.kept(res, rest);
      case 'events': return this.events(req, res);
      default: throw new Refusal(404, 'NOT_FOUND', `there is no ${url.pathname}`);
    }
  }

  private async namespace(res: ServerResponse, key: string): Promise<void> {
    const { world, live } = await this.options.source.read();
    live.close();
    const view = namespaceView(world, key);
    if (!view) throw new Refusal(404, 'NOT_FOUND', `there is no ${key}`, `There are: ${world.namespaces.map((n) => n.key).join(', ')}`);
    json(res, 200, view);
  }

  private async trace(req: IncomingMessage, res: ServerResponse): Promise<void> {
    if (this.options.readOnly) throw new Refusal(403, 'READ_ONLY', 'no probes are sent: the server was started read-only', 'Start podway ui without --read-only.');
    if (!/^application\/json\b/.test(req.headers['content-type'] ?? '')) throw new Refusal(415, 'NOT_JSON', 'the body must be application/json');
    const body = await bodyOf(req);
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch (e) {
      throw new Refusal(400, 'BAD_QUESTION', `the body is not JSON: ${messageOf(e)}`);
    }
    json(res, 200, await this.paths.observe(parseQuestion(value)));
  }

  private kept(res: ServerResponse, [id = '', form]: readonly string[]): void {
    const found = this.paths.get(id);
    if (!found || (form !== undefined && form !== 'pcapng')) throw new Refusal(404, 'NOT_FOUND', 'this trace is not kept any more');
    if (form === undefined) return json(res, 200, found.answer);
    res.writeHead(200, { 'Content-Type': 'application/vnd.tcpdump.pcap', 'Content-Disposition': `attachment; filename="podway-${id}.pcapng"`, 'Cache-Control': 'no-store' }).end(found.pcapng);
  }

  private events(req: IncomingMessage, res: ServerResponse): void {
    if (this.streams.size >= MAX_LISTENERS) throw new Refusal(429, 'BUSY', 'too many pages are open');
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    res.flushHeaders();
    this.streams.add(res);
    const stop = this.live.listen((e) => {
      // A page that does not read is let go; it comes back by itself and is given everything anew.
      if (res.writableLength > 4 * 1024 * 1024) res.destroy();
      else res.write(`event: ${e.event}\ndata: ${JSON.stringify(e.data)}\n\n`);
    });
    const beat = setInterval(() => res.write(':\n\n'), HEARTBEAT_MS);
    res.once('close', () => {
      clearInterval(beat);
      stop();
      this.streams.delete(res);
    });
    req.resume();
  }

  private file(req: IncomingMessage, res: ServerResponse, path: string): void {
    const file = this.page.get(path === '/' ? '/index.html' : path);
    if (!file) throw new Refusal(404, 'NOT_FOUND', `there is no ${path}`);
    if (req.method !== 'GET' && req.method !== 'HEAD') throw new Refusal(405, 'WRONG_METHOD', `${path} takes GET`);
    const packed = /\bgzip\b/.test(String(req.headers['accept-encoding'] ?? ''));
    const headers = { ETag: file.etag, 'Cache-Control': 'no-cache', Vary: 'Accept-Encoding' };
    if (req.headers['if-none-match'] === file.etag) return void res.writeHead(304, headers).end();
    const body = packed ? file.gzip : file.plain;
    res.writeHead(200, { ...headers, 'Content-Type': file.type, 'Content-Length': body.length, ...(packed ? { 'Content-Encoding': 'gzip' } : {}) }).end(req.method === 'HEAD' ? undefined : body);
  }
}

/** Not a redirect: a browser that came from elsewhere would not send a strict cookie along with that. */
function welcome(res: ServerResponse, cookie: string): void {
  res.writeHead(200, { 'Content-Type': 'text/html; charset=utf-8', 'Cache-Control': 'no-store', 'Set-Cookie': cookie })
    .end('<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><link rel="icon" href="/icon.svg"><title>Podway</title><a href="/">Podway</a></html>');
}

function json(res: ServerResponse, status: number, body: unknown): void {
  res.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Cache-Control': 'no-store' }).end(JSON.stringify(body));
}

function fail(res: ServerResponse, e: unknown): void {
  if (res.headersSent) return void res.destroy();
  if (e instanceof Refusal) {
    // What is left of a body that was too large is not read.
    if (e.status === 413) res.setHeader('Connection', 'close');
    return json(res, e.status, { error: { code: e.code, message: e.message, ...(e.hint === undefined ? {} : { hint: e.hint }) } });
  }
  const known = isPodwayError(e) ? e : new PodwayError('INTERNAL', messageOf(e));
  json(res, STATUS[known.code] ?? 500, { error: { code: known.code, message: known.message, ...(known.hint === undefined ? {} : { hint: known.hint }) } });
}

function bodyOf(req: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let size = 0;
    const tooLarge = (): void => reject(new Refusal(413, 'TOO_LARGE', `the body is larger than ${MAX_BODY} bytes`));
    if (Number(req.headers['content-length'] ?? 0) > MAX_BODY) return tooLarge();
    req.on('data', (d: Buffer) => {
      size += d.length;
      if (size > MAX_BODY) {
        req.pause();
        tooLarge();
      } else parts.push(d);
    });
    req.once('end', () => resolve(Buffer.concat(parts).toString('utf8')));
    req.once('error', reject);
  });
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Refusal(400, 'BAD_ADDRESS', 'the address is not well-formed');
  }
}

function questionIn(q: URLSearchParams): ReturnType<typeof parseQuestion> {
  const number = (k: string): { [k: string]: number } => (q.get(k) === null ? {} : { [k]: Number(q.get(k)) });
  return parseQuestion({ from: q.get('from'), to: q.get('to'), proto: q.get('proto') ?? 'icmp', ...number('port'), ...number('size') });
}
