/**
 * ObjectClient over HTTPS: raw JSON objects, exactly as the API server sends them.
 *
 * client-node's generated classes turn timestamps into Date and drop unknown fields, which breaks
 * read-change-write on objects newer than the client; so only its authentication is used (see
 * connection.ts). Cost: one keep-alive connection for requests and one per watch.
 */
import http from 'node:http';
import https from 'node:https';
import { PodwayError, messageOf } from '@podway/errors';
import type { DeleteOptions, ObjectClient, PatchOptions, PatchType, Selection, WatchHandlers } from '../client.js';
import type { KubeObject, ObjectKind } from '../objects.js';
import { kubeError, type Status } from '../status.js';
import { apiVersionOf, describeObject, resourcePath } from '../urls.js';
import { loadConnection, type Connection, type LoadOptions } from './connection.js';
import { runWatch, type WatchClock, type WatchSource, type WireEvent } from './watch.js';

const PATCH_TYPES: Readonly<Record<PatchType, string>> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

const PAGE = 500;
const REQUEST_TIMEOUT = 30_000;

export interface RemoteClientOptions {
  /** Says who writes, in managedFields. */
  readonly fieldManager?: string;
  readonly userAgent?: string;
  /** Time and back-off of watches; injected by tests. */
  readonly clock?: WatchClock;
}

interface ListOf<T> {
  readonly metadata?: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: T[];
}

type Query = Readonly<Record<string, string | undefined>>;

export class RemoteClient implements ObjectClient {
  constructor(
    readonly connection: Connection,
    private readonly options: RemoteClientOptions = {},
  ) {}

  /** Finds the cluster as kubectl does: the given kubeconfig, $KUBECONFIG, in-cluster, ~/.kube/config. */
  static async load(options: LoadOptions & RemoteClientOptions = {}): Promise<RemoteClient> {
    return new RemoteClient(await loadConnection(options), options);
  }

  close(): void {
    this.connection.close();
  }

  async get<T extends KubeObject>(kind: ObjectKind<T>, name: string, namespace?: string): Promise<T> {
    return (await this.json('GET', resourcePath(kind, { name, namespace }), {}, describeObject(kind, name, namespace))) as T;
  }

  async list<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection = {}): Promise<T[]> {
    return (await this.listAll(kind, selection)).items;
  }

  async create<T extends KubeObject>(kind: ObjectKind<T>, object: T): Promise<T> {
    const { name, namespace } = object.metadata ?? {};
    const path = resourcePath(kind, { namespace: namespace ?? (kind.namespaced ? 'default' : undefined) });
    return (await this.json('POST', path, { query: this.manager(), body: withType(kind, object) }, describeObject(kind, name ?? 'without a name', namespace))) as T;
  }

  async update<T extends KubeObject>(kind: ObjectKind<T>, object: T, subresource?: 'status'): Promise<T> {
    const { name, namespace } = object.metadata ?? {};
    const path = resourcePath(kind, { namespace: namespace ?? (kind.namespaced ? 'default' : undefined), name: name ?? '', subresource });
    return (await this.json('PUT', path, { query: this.manager(), body: withType(kind, object) }, describeObject(kind, name, namespace))) as T;
  }

  async patch<T extends KubeObject>(
    kind: ObjectKind<T>,
    target: { readonly name: string; readonly namespace?: string },
    patch: unknown,
    options: PatchOptions,
  ): Promise<T> {
    const query = {
      ...this.manager(),
      ...(options.fieldManager === undefined ? {} : { fieldManager: options.fieldManager }),
      ...(options.force === true ? { force: 'true' } : {}),
    };
    const path = resourcePath(kind, { ...target, subresource: options.subresource });
    const body = options.type === 'apply' && typeof patch === 'object' ? withType(kind, patch as KubeObject) : patch;
    return (await this.json('PATCH', path, { query, body, type: PATCH_TYPES[options.type] }, describeObject(kind, target.name, target.namespace))) as T;
  }

  async delete<T extends KubeObject>(
    kind: ObjectKind<T>,
    target: { readonly name: string; readonly namespace?: string },
    options: DeleteOptions = {},
  ): Promise<void> {
    const body = {
      kind: 'DeleteOptions',
      apiVersion: 'v1',
      ...(options.gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds: options.gracePeriodSeconds }),
      ...(options.uid === undefined ? {} : { preconditions: { uid: options.uid } }),
    };
    await this.json('DELETE', resourcePath(kind, target), { body }, describeObject(kind, target.name, target.namespace));
  }

  watch<T extends KubeObject>(kind: ObjectKind<T>, selection: Selection, handlers: WatchHandlers<T>): () => void {
    const source: WatchSource<T> = {
      list: (signal) => this.listAll(kind, selection, signal),
      watch: (resourceVersion, timeoutSeconds, signal) =>
        this.stream<T>(
          resourcePath(kind, { namespace: selection.namespace }),
          {
            ...selectors(selection),
            watch: '1',
            allowWatchBookmarks: 'true',
            resourceVersion,
            timeoutSeconds: String(timeoutSeconds),
          },
          { object: describeObject(kind), signal, idle: (timeoutSeconds + 30) * 1000 },
        ),
    };
    return runWatch(source, handlers, this.options.clock);
  }

  /**
   * A GET whose answer is not an object: a table (`accept`), a log. The caller reads the stream.
   * @param idleMs an answer that says nothing for so long has failed.
   */
  open(
    path: string,
    request: { readonly query?: Query; readonly accept?: string; readonly signal?: AbortSignal; readonly idleMs?: number } = {},
  ): Promise<http.IncomingMessage> {
    const { idleMs, ...rest } = request;
    return this.send('GET', path, { ...rest, timeout: idleMs ?? REQUEST_TIMEOUT }, path);
  }

  private manager(): Query {
    return { fieldManager: this.options.fieldManager };
  }

  private async listAll<T extends KubeObject>(
    kind: ObjectKind<T>,
    selection: Selection,
    signal?: AbortSignal,
  ): Promise<{ items: T[]; resourceVersion: string }> {
    const type = { apiVersion: apiVersionOf(kind), kind: kind.kind };
    const path = resourcePath(kind, { namespace: selection.namespace });
    for (let whole = false; ; whole = true) {
      const items: T[] = [];
      let token: string | undefined;
      try {
        for (;;) {
          const query = { ...selectors(selection), ...(whole ? {} : { limit: String(PAGE) }), continue: token };
          const page = (await this.json('GET', path, { query, ...(signal === undefined ? {} : { signal }) }, describeObject(kind))) as ListOf<T>;
          // Items of a list carry no apiVersion and kind of their own.
          for (const item of page.items ?? []) items.push({ ...type, ...item });
          token = page.metadata?.continue;
          if (token === undefined || token === '') return { items, resourceVersion: page.metadata?.resourceVersion ?? '' };
        }
      } catch (e) {
        // The pages' snapshot is gone (410 in the middle): ask once more, for all at once.
        if (token !== undefined && !whole && e instanceof PodwayError && e.code === 'KUBE_GONE') continue;
        throw e;
      }
    }
  }

  private async json(
    method: string,
    path: string,
    request: { query?: Query; body?: unknown; type?: string; signal?: AbortSignal },
    object: string,
  ): Promise<unknown> {
    const response = await this.send(method, path, { ...request, timeout: REQUEST_TIMEOUT }, object);
    let text: string;
    try {
      text = await readAll(response);
    } catch (cause) {
      throw unavailable(method, object, cause);
    }
    return decode(text, method, object);
  }

  /** Resolves with a 2xx answer, whose body is yet to be read; other answers become errors. */
  private async send(
    method: string,
    path: string,
    request: { query?: Query; body?: unknown; type?: string; accept?: string; signal?: AbortSignal; timeout: number },
    object: string,
  ): Promise<http.IncomingMessage> {
    const url = new URL(this.connection.server + path);
    for (const [k, v] of Object.entries(request.query ?? {})) if (v !== undefined) url.searchParams.set(k, v);
    const { agent, headers } = await this.connection.authority();
    const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const sent = (url.protocol === 'https:' ? https : http).request(
        url,
        {
          method,
          agent,
          timeout: request.timeout,
          ...(request.signal === undefined ? {} : { signal: request.signal }),
          headers: {
            ...headers,
            accept: request.accept ?? 'application/json',
            'user-agent': this.options.userAgent ?? 'podway',
            ...(body === undefined ? {} : { 'content-type': request.type ?? 'application/json', 'content-length': body.length }),
          },
        },
        resolve,
      );
      sent.on('timeout', () => sent.destroy(new Error(`no answer within ${String(request.timeout / 1000)} s`)));
      sent.on('error', reject);
      sent.end(body);
    }).catch((cause: unknown) => {
      throw unavailable(method, object, cause);
    });
    const code = response.statusCode ?? 0;
    if (code >= 200 && code < 300) return response;
    const text = await readAll(response).catch((cause: unknown) => {
      throw unavailable(method, object, cause);
    });
    throw kubeError({ ...statusOf(text), code }, `cannot ${verb(method)} ${object}`, object);
  }

  private async *stream<T extends KubeObject>(
    path: string,
    query: Query,
    options: { object: string; signal: AbortSignal; idle: number },
  ): AsyncGenerator<WireEvent<T>> {
    const { object, signal } = options;
    const response = await this.send('GET', path, { query, signal, timeout: options.idle }, object);
    response.setEncoding('utf8');
    let rest = '';
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        rest += chunk;
        let from = 0;
        for (let at = rest.indexOf('\n'); at >= 0; at = rest.indexOf('\n', from)) {
          if (at > from) yield decode(rest.slice(from, at), 'GET', object) as WireEvent<T>;
          from = at + 1;
        }
        rest = rest.slice(from);
      }
    } catch (cause) {
      throw cause instanceof PodwayError ? cause : unavailable('GET', object, cause);
    } finally {
      response.destroy();
    }
  }
}

function selectors(selection: Selection): Query {
  return { labelSelector: selection.labelSelector, fieldSelector: selection.fieldSelector };
}

function withType<T extends KubeObject>(kind: ObjectKind<T>, object: T): T {
  return { ...object, apiVersion: apiVersionOf(kind), kind: kind.kind };
}

async function readAll(response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response as AsyncIterable<string>) text += chunk;
  return text;
}

function statusOf(text: string): Partial<Status> {
  try {
    const value = JSON.parse(text) as Partial<Status> | null;
    if (value !== null && typeof value === 'object' && value.kind === 'Status') return value;
  } catch {
    // Not from an API server (a proxy's page): its text is all there is to show.
  }
  const said = text.trim().slice(0, 300);
  return said === '' ? {} : { message: said };
}

function decode(text: string, method: string, object: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unavailable(method, object, cause);
  }
}

const VERBS: Readonly<Record<string, string>> = { GET: 'read', POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
const verb = (method: string): string => VERBS[method] ?? method;

function unavailable(method: string, object: string, cause: unknown): PodwayError {
  const errno = (cause as NodeJS.ErrnoException | null)?.code;
  return new PodwayError('KUBE_UNAVAILABLE', `cannot ${verb(method)} ${object}: the API server does not answer`, {
    object,
    said: messageOf(cause),
    ...(typeof errno === 'string' && /^E[A-Z0-9]+$/.test(errno) ? { errno } : {}),
    cause,
  });
}
