/**
 * The lab's Kubernetes API server.
 *
 *   const api = await ApiServer.open({ lab: 'default', store });
 *   api.inProcessClient();                      // ObjectClient, no network
 *   await api.handle({ method, url, headers }); // a request, no network
 *   await api.listen({ host: '127.0.0.1', port: 0 });
 *   await api.listen({ fd });                   // a socket that listens in another namespace
 *
 * Cost: all objects are in memory (about 10 kB each with their text); a watch costs one function
 * call per change of its kind.
 */
import { STATUS_CODES, type default as http } from 'node:http';
import https from 'node:https';
import type { AddressInfo, Server as NetServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { PodwayError, messageOf } from '@podway/errors';
import { Namespaces, type ObjectClient } from '@podway/kube';
import { TokenAuth, newToken } from './auth.js';
import { makeCertificates, type Certificates } from './certificates.js';
import { ApiError } from './errors.js';
import type { ApiRequest, ApiResponse } from './http/message.js';
import { OpenApi } from './http/openapi.js';
import { refusal, route, streamOf, type Services } from './http/router.js';
import { serveUpgrade } from './http/upgrade.js';
import { InProcessClient } from './inprocess.js';
import { writeKubeconfig, writePrivate } from './kubeconfig.js';
import { builtIn, Registry } from './kinds/registry.js';
import { apiServiceAddress, DEFAULT_SERVICE_RANGES, type ServiceRanges } from './kinds/serviceallocation.js';
import { Operations } from './operations.js';
import type { PodSubresources } from './podsubresources.js';
import { DeclaredSchemas } from './schema/declarations.js';
import { Storage } from './storage.js';
import type { Store } from './store/store.js';

export interface ApiServerOptions {
  readonly lab: string;
  readonly store: Store;
  /** The bearer token; a new one when left out. */
  readonly token?: string;
  readonly registry?: Registry;
  /** Addresses and node ports of Services. */
  readonly services?: ServiceRanges;
  /** Changes kept per kind for watches that catch up. */
  readonly historyLength?: number;
  readonly now?: () => number;
}

export interface ListenAddress {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface ListenOptions {
  /** Names and addresses for the certificate, which is made with the first listener. */
  readonly names?: readonly string[];
}

const LARGEST_BODY = 3 * 1024 * 1024;

export class ApiServer {
  readonly operations: Operations;
  readonly token: string;
  private readonly auth: TokenAuth;
  private readonly openapi: OpenApi;
  private readonly servers = new Set<NetServer>();
  /** Connections that are no longer HTTP, which the servers no longer know of. */
  private readonly upgraded = new Set<Duplex>();
  private made: Certificates | undefined;
  private runtime: PodSubresources | undefined;

  private constructor(private readonly options: ApiServerOptions) {
    this.token = options.token ?? newToken();
    this.auth = new TokenAuth(this.token);
    const registry = options.registry ?? new Registry(builtIn(options.services));
    const schemas = new DeclaredSchemas();
    this.operations = new Operations(new Storage(options.store, options.historyLength), registry, schemas, options.now);
    this.openapi = new OpenApi(registry, schemas);
  }

  /** With the namespaces that every cluster has. */
  static async open(options: ApiServerOptions): Promise<ApiServer> {
    const server = new ApiServer(options);
    const client = server.inProcessClient('kube-apiserver');
    const there = new Set((await client.list(Namespaces)).map((n) => n.metadata?.name));
    for (const name of ['default', 'kube-system', 'kube-public', 'kube-node-lease']) {
      if (!there.has(name)) await client.create(Namespaces, { metadata: { name } });
    }
    return server;
  }

  inProcessClient(fieldManager = 'podway'): ObjectClient {
    return new InProcessClient(this.operations, fieldManager);
  }

  /** Connects the verbs that reach containers; until then they answer 501. */
  attachRuntime(runtime: PodSubresources): void {
    this.runtime = runtime;
  }

  private get services(): Services {
    return { operations: this.operations, openapi: this.openapi, pods: () => this.runtime };
  }

  /** A request of an authenticated client. Never throws. */
  handle(request: ApiRequest): Promise<ApiResponse> {
    return route(this.services, request);
  }

  /** Made at first use, for these names besides localhost and the in-cluster names. */
  async certificates(names: readonly string[] = []): Promise<Certificates> {
    const all = ['localhost', '127.0.0.1', '::1', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local', apiServiceAddress(this.options.services ?? DEFAULT_SERVICE_RANGES)];
    this.made ??= await makeCertificates(this.options.lab, [...new Set([...all, ...names])]);
    return this.made;
  }

  /** HTTPS on an address or on a socket that listens already. May be called several times. */
  async listen(at: ListenAddress | { readonly fd: number }, options: ListenOptions = {}): Promise<{ readonly port: number; readonly host: string }> {
    const { cert, key } = await this.certificates(options.names);
    const server = https.createServer({ cert, key, minVersion: 'TLSv1.2' }, (request, response) => {
      void this.serve(request, response);
    });
    server.on('upgrade', (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
      this.upgraded.add(socket);
      socket.once('close', () => this.upgraded.delete(socket));
      void this.switchProtocol(request, socket, head);
    });
    // Watches stay open for long and requests come in bursts.
    server.keepAliveTimeout = 75_000;
    server.requestTimeout = 60_000;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause) => {
        const where = 'fd' in at ? `listening socket ${String(at.fd)}` : `${at.host}:${String(at.port)}`;
        reject(new PodwayError('KUBE_LISTEN', 'the API server cannot listen', { object: where, said: messageOf(cause), cause }));
      });
      server.listen('fd' in at ? { fd: at.fd } : { host: at.host, port: at.port }, resolve);
    });
    this.servers.add(server);
    const address = server.address() as AddressInfo | null;
    return { port: address?.port ?? 0, host: address?.address ?? '' };
  }

  /** Kubeconfig for clients that reach the server there; mode 0600, context `podway-LAB`, and the same by other names. */
  async writeKubeconfig(file: string, server: string, aliases: readonly string[] = []): Promise<void> {
    await writeKubeconfig(file, { lab: this.options.lab, server, ca: (await this.certificates()).ca, token: this.token, aliases });
  }

  /** The CA key, for whoever must issue further certificates of this lab; mode 0600. */
  async writeCaKey(file: string): Promise<void> {
    await writePrivate(file, (await this.certificates()).caKey);
  }

  /** Cuts every open connection, as a failing network would; the listeners stay. */
  disconnect(): void {
    for (const s of this.servers) (s as https.Server).closeAllConnections();
    for (const s of this.upgraded) s.destroy();
  }

  /** Ends all connections and listeners, then the store. */
  async close(): Promise<void> {
    for (const s of this.upgraded) s.destroy();
    await Promise.all(
      [...this.servers].map(
        (s) =>
          new Promise<void>((resolve) => {
            s.close(() => {
              resolve();
            });
            (s as https.Server).closeAllConnections();
          }),
      ),
    );
    this.servers.clear();
    await this.operations.storage.close();
  }

  /** exec, attach, portforward. */
  private async switchProtocol(message: http.IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => undefined); // 'close' follows, and ends what hangs on it
    try {
      const [method, url] = [message.method ?? 'GET', message.url ?? '/'];
      this.auth.check({ method, url, headers: { authorization: message.headers.authorization } });
      const asked = streamOf(this.services, method, url);
      message.socket.setTimeout(0);
      message.socket.setNoDelay(true);
      message.socket.setKeepAlive(true, 30_000);
      await serveUpgrade(asked, message, { socket, head });
    } catch (e) {
      const { status, headers, body = '' } = refusal(e);
      const lines = [`HTTP/1.1 ${String(status)} ${STATUS_CODES[status] ?? ''}`, ...Object.entries(headers).map(([k, v]) => `${k}: ${v}`)];
      socket.end(`${lines.join('\r\n')}\r\ncontent-length: ${String(Buffer.byteLength(body))}\r\nconnection: close\r\n\r\n${body}`);
    }
  }

  private async serve(message: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    let answer: ApiResponse;
    try {
      const headers: Record<string, string | undefined> = {};
      for (const [name, value] of Object.entries(message.headers)) headers[name] = Array.isArray(value) ? value.join(', ') : value;
      const request = { method: message.method ?? 'GET', url: message.url ?? '/', headers };
      this.auth.check(request);
      const body = await readBody(message);
      const binary = (headers['content-type'] ?? '').includes('protobuf');
      answer = await this.handle({ ...request, ...(body.length === 0 ? {} : { body: binary ? body : body.toString('utf8') }) });
    } catch (e) {
      answer = refusal(e);
    }
    if (response.destroyed) {
      answer.stream?.(response)();
      return;
    }
    const audit = { 'audit-id': crypto.randomUUID(), 'cache-control': 'no-cache, private' };
    if (answer.stream === undefined) {
      const body = Buffer.from(answer.body ?? '');
      response.writeHead(answer.status, { ...audit, ...answer.headers, 'content-length': body.length });
      response.end(message.method === 'HEAD' ? undefined : body);
      return;
    }
    response.writeHead(answer.status, { ...audit, ...answer.headers });
    response.flushHeaders();
    message.socket.setNoDelay(true);
    message.socket.setKeepAlive(true, 30_000);
    response.on('error', () => undefined);
    const stop = answer.stream(response);
    response.once('close', stop);
  }
}

async function readBody(message: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of message as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_BODY) throw new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${String(LARGEST_BODY)}`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
