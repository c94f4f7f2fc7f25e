/**
 * From an HTTP request to an operation and back. Knows paths, query parameters and media types;
 * nothing of sockets or of who is asking.
 */
import { parseAccept, jsonResponse, type ApiRequest, type ApiResponse } from './message.js';
import type { Pod, Status } from '@podway/kube';
import { ApiError, badRequest, methodNotAllowed, noSuchPath, notImplemented, unsupportedMediaType } from '../errors.js';
import { listOf, podOfList, speaksOfLists } from '../kinds/ephemeral.js';
import type { KindSpec } from '../kinds/spec.js';
import { isObject } from '../object.js';
import type { DeleteRequestOptions, Operations, WriteOptions, WriteResult } from '../operations.js';
import type { PodSubresources } from '../podsubresources.js';
import { aggregated, aggregatedVersion, apiGroup, apiGroups, apiVersions, resourceList, versionInfo } from './discovery.js';
import type { OpenApi } from './openapi.js';
import { logResponse } from './podlog.js';
import { DELETE_OPTIONS, decodeProtobuf, type Message } from './protobuf.js';
import { chooseForm, renderList, renderObject, type Form, type IncludeObject } from './render.js';
import { isStreamVerb, streamRequest, type StreamRequest } from './upgrade.js';
import { watchResponse } from './watchstream.js';

export interface Services {
  readonly operations: Operations;
  readonly openapi: OpenApi;
  pods(): PodSubresources | undefined;
}

const PATCHES: Readonly<Record<string, 'json' | 'merge' | 'strategic' | 'apply'>> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

interface Address {
  readonly spec: KindSpec;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

interface Asked {
  readonly request: ApiRequest;
  readonly query: URLSearchParams;
  readonly form: Form;
  readonly include: IncludeObject;
}

/** Never throws: refusals become Status answers. */
export async function route(services: Services, request: ApiRequest): Promise<ApiResponse> {
  try {
    return await dispatch(services, request);
  } catch (e) {
    return refusal(e);
  }
}

export function refusal(e: unknown): ApiResponse {
  if (e instanceof ApiError) return jsonResponse(e.code, e.status());
  const message = e instanceof Error ? e.message : String(e);
  return jsonResponse(500, new ApiError(500, 'InternalError', `Internal error occurred: ${message}`, { causes: [{ message }] }).status());
}

async function dispatch(services: Services, request: ApiRequest): Promise<ApiResponse> {
  const url = new URL(request.url, 'http://server');
  const parts = url.pathname.split('/').filter((p) => p !== '').map(decodeURIComponent);
  const accept = parseAccept(request.headers['accept']);
  if (request.method === 'GET' || request.method === 'HEAD') {
    const found = meta(services, parts, request);
    if (found !== undefined) return found;
  }
  const address = locate(services.operations, parts);
  if (address === undefined) throw noSuchPath();
  const form = chooseForm(accept);
  if (form === undefined && address.subresource !== 'log') {
    throw new ApiError(406, 'NotAcceptable', 'only the following media types are accepted: application/json');
  }
  const include = url.searchParams.get('includeObject');
  const asked: Asked = {
    request,
    query: url.searchParams,
    form: form ?? 'object',
    include: include === 'None' || include === 'Object' ? include : 'Metadata',
  };
  return address.subresource === undefined ? resource(services, address, asked) : subresource(services, address, asked);
}

/** Everything that is not an object: health, version, discovery, OpenAPI. */
function meta({ operations, openapi }: Services, parts: readonly string[], request: ApiRequest): ApiResponse | undefined {
  const { registry } = operations;
  const [first, second, third] = parts;
  const version = aggregatedVersion(parseAccept(request.headers['accept']));
  const answer = (body: unknown): ApiResponse => {
    if (body === undefined) throw noSuchPath();
    return jsonResponse(200, body);
  };
  if (first === undefined) return jsonResponse(200, { paths: ['/api', '/api/v1', '/apis', '/healthz', '/livez', '/openapi/v2', '/openapi/v3', '/readyz', '/version'] });
  if (['healthz', 'livez', 'readyz'].includes(first) && parts.length === 1) return { status: 200, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: 'ok' };
  if (first === 'version' && parts.length === 1) return answer(versionInfo());
  if (first === 'openapi') {
    if (second === 'v2') {
      if (/protobuf/.test(request.headers['accept'] ?? '') && !/json|\*\/\*/.test(request.headers['accept'] ?? '')) {
        throw new ApiError(406, 'NotAcceptable', 'OpenAPI v2 is served as JSON only: use OpenAPI v3, or ask for application/json');
      }
      return answer(openapi.document2());
    }
    if (second === 'v3' && parts.length === 2) return answer(openapi.index());
    if (second === 'v3') return answer(third === 'api' ? openapi.document3('', parts[3] ?? '') : openapi.document3(parts[3] ?? '', parts[4] ?? ''));
    return undefined;
  }
  if ((first === 'api' || first === 'apis') && parts.length === 1) {
    if (version !== undefined) return jsonResponse(200, aggregated(registry, first === 'api', version), { 'content-type': `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList` });
    return answer(first === 'api' ? apiVersions(request.headers['host'] ?? '') : apiGroups(registry));
  }
  if (first === 'api' && parts.length === 2) return answer(resourceList(registry, '', second ?? ''));
  if (first === 'apis' && parts.length === 2) return answer(apiGroup(registry, second ?? ''));
  if (first === 'apis' && parts.length === 3) return answer(resourceList(registry, second ?? '', third ?? ''));
  return undefined;
}

function locate({ registry }: Operations, parts: readonly string[]): Address | undefined {
  let group = '';
  let rest: readonly string[];
  if (parts[0] === 'api') rest = parts.slice(1);
  else if (parts[0] === 'apis') {
    group = parts[1] ?? '';
    rest = parts.slice(2);
  } else return undefined;
  const [version = '', ...path] = rest;
  let namespace: string | undefined;
  let at: readonly string[] = path;
  if (path[0] === 'namespaces' && path.length > 2 && registry.find(group, version, path[2] ?? '') !== undefined && registry.find(group, version, path[2] ?? '')?.kind.namespaced === true) {
    namespace = path[1];
    at = path.slice(2);
  }
  const [plural = '', name, subresource, ...more] = at;
  const spec = registry.find(group, version, plural);
  if (spec === undefined || more.length > 0) return undefined;
  if (subresource !== undefined && !(spec.subresources as readonly string[]).includes(subresource)) return undefined;
  // A single object of a namespaced kind has its namespace in the address.
  if (name !== undefined && spec.kind.namespaced && namespace === undefined) return undefined;
  return { spec, namespace, name, subresource };
}

async function resource({ operations }: Services, address: Address, asked: Asked): Promise<ApiResponse> {
  const { spec, namespace, name } = address;
  const { request, query } = asked;
  if (name === undefined) {
    const selection = {
      namespace,
      labelSelector: query.get('labelSelector') ?? undefined,
      fieldSelector: query.get('fieldSelector') ?? undefined,
    };
    switch (request.method) {
      case 'GET':
      case 'HEAD': {
        if (truth(query, 'watch')) {
          return watchResponse(
            operations,
            spec,
            { ...selection, resourceVersion: query.get('resourceVersion') ?? undefined, sendInitialEvents: truth(query, 'sendInitialEvents') },
            { form: asked.form, include: asked.include, bookmarks: truth(query, 'allowWatchBookmarks'), timeoutSeconds: integer(query, 'timeoutSeconds') },
          );
        }
        const result = operations.list(spec, { ...selection, limit: integer(query, 'limit'), continue: query.get('continue') ?? undefined });
        return jsonResponse(200, renderList(spec, result, asked.form, asked.include, operations.now()));
      }
      case 'POST':
        return written(operations, spec, asked, operations.create(spec, namespace, await body(request, spec), writeOptions(asked)));
      case 'DELETE': {
        const result = operations.deleteCollection(spec, selection, deleteOptions(query, await optionalBody(request)));
        return jsonResponse(200, renderList(spec, result, asked.form, asked.include, operations.now()));
      }
      default:
        throw methodNotAllowed();
    }
  }
  const target = { namespace, name };
  switch (request.method) {
    case 'GET':
    case 'HEAD':
      return jsonResponse(200, renderObject(spec, operations.get(spec, target), asked.form, asked.include, operations.now()));
    case 'PUT':
      return written(operations, spec, asked, operations.update(spec, target, await body(request, spec), writeOptions(asked)));
    case 'PATCH':
      return patch(operations, address, asked, undefined);
    case 'DELETE': {
      const { object, gone } = operations.delete(spec, target, deleteOptions(query, await optionalBody(request)));
      if (!gone || spec.grace !== undefined) return jsonResponse(200, renderObject(spec, object, asked.form, asked.include, operations.now()));
      const status: Status = {
        kind: 'Status',
        apiVersion: 'v1',
        metadata: {},
        status: 'Success',
        details: { name, ...(spec.kind.group === '' ? {} : { group: spec.kind.group }), kind: spec.kind.plural, uid: object.metadata.uid ?? '' },
      };
      return jsonResponse(200, status);
    }
    default:
      throw methodNotAllowed();
  }
}

async function subresource(services: Services, address: Address, asked: Asked): Promise<ApiResponse> {
  const { operations } = services;
  const { spec, namespace, name = '', subresource: sub } = address;
  const { request } = asked;
  const target = { namespace, name };
  switch (sub) {
    case 'status':
      if (request.method === 'GET') return jsonResponse(200, renderObject(spec, operations.get(spec, target), asked.form, asked.include, operations.now()));
      if (request.method === 'PUT') return written(operations, spec, asked, operations.update(spec, target, await body(request, spec), { ...writeOptions(asked), subresource: 'status' }));
      if (request.method === 'PATCH') return patch(operations, address, asked, 'status');
      throw methodNotAllowed();
    case 'binding':
      if (request.method !== 'POST') throw methodNotAllowed();
      operations.bind(spec, target, await body(request, spec), writeOptions(asked));
      return jsonResponse(201, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 });
    case 'finalize':
      if (request.method !== 'PUT') throw methodNotAllowed();
      return written(operations, spec, asked, operations.finalize(spec, target, await body(request, spec)));
    case 'ephemeralcontainers':
      return ephemeralContainers(services, address, asked);
    case 'log': {
      if (request.method !== 'GET') throw methodNotAllowed();
      const pod = operations.get(spec, target);
      const runtime = services.pods();
      if (runtime === undefined) throw notImplemented('no node runtime is attached to this API server, so containers have no logs');
      return logResponse(runtime, pod, asked.query);
    }
    default:
      operations.get(spec, target);
      if (services.pods() === undefined) throw noRuntime();
      throw badRequest('Upgrade request required');
  }
}

async function ephemeralContainers({ operations }: Services, address: Address, asked: Asked): Promise<ApiResponse> {
  const { spec, namespace, name = '' } = address;
  const { request } = asked;
  const target = { namespace, name };
  const pod = operations.get(spec, target);
  switch (request.method) {
    case 'GET':
      if (speaksOfLists(request.headers['user-agent'])) return jsonResponse(200, listOf(pod));
      return jsonResponse(200, renderObject(spec, pod, asked.form, asked.include, operations.now()));
    case 'PUT': {
      const sent = await body(request, spec);
      const old = podOfList(pod, sent);
      const result = operations.update(spec, target, old ?? sent, { ...writeOptions(asked), subresource: 'ephemeralcontainers' });
      return old === undefined ? written(operations, spec, asked, result) : jsonResponse(200, listOf(result.object));
    }
    case 'PATCH':
      return patch(operations, address, asked, 'ephemeralcontainers');
    default:
      throw methodNotAllowed();
  }
}

const noRuntime = (): ApiError => notImplemented('no node runtime is attached to this API server, so there are no containers');

/**
 * The stream that a request to upgrade its connection asks for.
 * Errors: ApiError, as for any other request.
 */
export function streamOf(services: Services, method: string, at: string): StreamRequest {
  const url = new URL(at, 'http://server');
  const address = locate(services.operations, url.pathname.split('/').filter((p) => p !== '').map(decodeURIComponent));
  const verb = address?.subresource;
  if (address === undefined || !isStreamVerb(verb)) throw badRequest('this path is not one that a connection can be upgraded on');
  if (method !== 'GET' && method !== 'POST') throw methodNotAllowed();
  const pod = services.operations.get(address.spec, { namespace: address.namespace, name: address.name ?? '' });
  const runtime = services.pods();
  if (runtime === undefined) throw noRuntime();
  return streamRequest(verb, pod as unknown as Pod, runtime, url.searchParams);
}

async function patch(operations: Operations, { spec, namespace, name = '' }: Address, asked: Asked, sub: WriteOptions['subresource']): Promise<ApiResponse> {
  const media = (asked.request.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
  const type = PATCHES[media];
  if (type === undefined) {
    throw unsupportedMediaType(`the body of the request was in an unknown format - accepted media types include: ${Object.keys(PATCHES).join(', ')}`);
  }
  const options = writeOptions(asked);
  const result = operations.patch(spec, { namespace, name }, await body(asked.request, spec), {
    ...options,
    type,
    force: truth(asked.query, 'force'),
    subresource: sub,
    ...(type === 'apply' ? { fieldManager: asked.query.get('fieldManager') ?? undefined } : {}),
  });
  return written(operations, spec, asked, result);
}

function written(operations: Operations, spec: KindSpec, asked: Asked, result: WriteResult): ApiResponse {
  const warning = result.warnings.map((w) => `299 - ${JSON.stringify(w)}`).join(', ');
  return jsonResponse(result.created ? 201 : 200, renderObject(spec, result.object, asked.form, asked.include, operations.now()), warning === '' ? {} : { warning });
}

const truth = (query: URLSearchParams, key: string): boolean => ['1', 'true'].includes(query.get(key) ?? '');

function integer(query: URLSearchParams, key: string): number | undefined {
  const text = query.get(key);
  if (text === null || text === '') return undefined;
  const n = Number(text);
  if (!Number.isSafeInteger(n)) throw badRequest(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  return n;
}

function writeOptions({ request, query }: Asked): WriteOptions {
  const dryRun = query.getAll('dryRun');
  if (dryRun.some((v) => v !== 'All' && v !== '')) throw badRequest(`dryRun: Unsupported value: ${JSON.stringify(dryRun)}: supported values: "All"`);
  const validation = query.get('fieldValidation') ?? 'Warn';
  if (validation !== 'Ignore' && validation !== 'Warn' && validation !== 'Strict') {
    throw badRequest(`fieldValidation: Unsupported value: ${JSON.stringify(validation)}: supported values: "Ignore", "Strict", "Warn"`);
  }
  const agent = (request.headers['user-agent'] ?? 'unknown').split('/')[0] ?? 'unknown';
  return { dryRun: dryRun.includes('All'), fieldManager: query.get('fieldManager') ?? agent.slice(0, 128), fieldValidation: validation };
}

function deleteOptions(query: URLSearchParams, given: unknown): DeleteRequestOptions {
  const options = isObject(given) && (given['kind'] === undefined || given['kind'] === 'DeleteOptions') ? given : {};
  const policy = options['propagationPolicy'] ?? query.get('propagationPolicy') ?? undefined;
  if (policy !== undefined && policy !== 'Background' && policy !== 'Foreground' && policy !== 'Orphan') {
    throw badRequest(`DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: ${JSON.stringify(policy)}: supported values: "Foreground", "Background", "Orphan", "nil"`);
  }
  const grace = options['gracePeriodSeconds'] ?? integer(query, 'gracePeriodSeconds');
  const preconditions = options['preconditions'];
  return {
    dryRun: query.getAll('dryRun').includes('All') || (Array.isArray(options['dryRun']) && options['dryRun'].includes('All')),
    gracePeriodSeconds: typeof grace === 'number' ? grace : undefined,
    preconditions: isObject(preconditions) ? (preconditions as { uid?: string; resourceVersion?: string }) : undefined,
    propagationPolicy: policy,
  };
}

async function optionalBody(request: ApiRequest): Promise<unknown> {
  return request.body === undefined || request.body.length === 0 ? undefined : body(request);
}

/** JSON, or YAML where that is what the client says it sends. */
async function body(request: ApiRequest, spec?: KindSpec): Promise<unknown> {
  const type = (request.headers['content-type'] ?? 'application/json').split(';')[0]?.trim() ?? '';
  if (typeof request.body === 'object') {
    const tables: Partial<Record<string, Message>> = { DeleteOptions: DELETE_OPTIONS, ...(spec?.protobuf === undefined ? {} : { [spec.kind.kind]: spec.protobuf }) };
    const object = decodeProtobuf(request.body, (kind) => tables[kind]);
    if (object !== undefined) return object;
  }
  if (type.includes('protobuf') || type.includes('cbor')) {
    throw unsupportedMediaType(`the body of the request was in an unknown format - accepted media types include: application/json, application/yaml`);
  }
  const text = typeof request.body === 'string' ? request.body : '';
  try {
    return JSON.parse(text);
  } catch (e) {
    if (!type.includes('yaml')) throw badRequest(`couldn't get version/kind; json parse error: ${e instanceof Error ? e.message : String(e)}`);
  }
  const { parse } = await import('yaml');
  try {
    return parse(text);
  } catch (e) {
    throw badRequest(`error parsing YAML: ${e instanceof Error ? e.message : String(e)}`);
  }
}
