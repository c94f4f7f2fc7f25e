/**
 * Where the API server is and how one proves who one is.
 *
 * @kubernetes/client-node knows every way there is (exec plug-ins, OIDC, proxies, cloud logins)
 * but costs about 0.8 s and 75 MB to import on Node.js 20, which every agent start would pay.
 * So it is imported only when a kubeconfig needs it: the in-cluster service account and a
 * kubeconfig written in JSON with a token or a client certificate (what the lab writes; JSON is
 * YAML, kubectl reads it) are read right here.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { PodwayError, messageOf } from '@podway/errors';

export interface Authority {
  readonly agent: http.Agent;
  readonly headers: Readonly<Record<string, string>>;
}

export interface Connection {
  /** `https://127.0.0.1:6443`, without a slash at the end. */
  readonly server: string;
  /** Namespace of the context, `default` when it names none. */
  readonly namespace: string;
  /** Asked before every request, as tokens rotate. Throws PodwayError. */
  authority(): Promise<Authority>;
  /** Closes idle sockets. */
  close(): void;
}

export interface PlainOptions {
  readonly server: string;
  readonly namespace?: string;
  /** PEM. */
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly servername?: string;
  readonly insecure?: boolean;
  /** A token, or the file that holds it (read again every minute). */
  readonly token?: string;
  readonly tokenFile?: string;
}

const TOKEN_FILE_LIFE = 60_000;
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export function plainConnection(options: PlainOptions): Connection {
  const secure = options.server.startsWith('https:');
  const keepAlive = { keepAlive: true, keepAliveMsecs: 15_000 };
  const agent = secure
    ? new https.Agent({
        ...keepAlive,
        ...(options.ca === undefined ? {} : { ca: options.ca }),
        ...(options.cert === undefined ? {} : { cert: options.cert }),
        ...(options.key === undefined ? {} : { key: options.key }),
        ...(options.servername === undefined ? {} : { servername: options.servername }),
        ...(options.insecure === true ? { rejectUnauthorized: false } : {}),
      })
    : new http.Agent(keepAlive);
  let token = options.token;
  let readAt = -Infinity;
  return {
    server: options.server.replace(/\/+$/, ''),
    namespace: options.namespace ?? 'default',
    async authority() {
      if (options.tokenFile !== undefined && performance.now() - readAt > TOKEN_FILE_LIFE) {
        token = (await readText(options.tokenFile)).trim();
        readAt = performance.now();
      }
      return { agent, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } };
    },
    close: () => {
      agent.destroy();
    },
  };
}

export interface LoadOptions {
  /** Path; otherwise $KUBECONFIG, then in-cluster, then ~/.kube/config. */
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** Finds the cluster the way kubectl does. Throws KUBE_CONFIG when there is none or it is not usable. */
export async function loadConnection(options: LoadOptions = {}): Promise<Connection> {
  const env = options.env ?? process.env;
  const named = options.kubeconfig ?? env['KUBECONFIG'];
  if (named === undefined || named === '') {
    const host = env['KUBERNETES_SERVICE_HOST'];
    if (host !== undefined && host !== '') {
      return plainConnection({
        server: `https://${host.includes(':') ? `[${host}]` : host}:${env['KUBERNETES_SERVICE_PORT'] ?? '443'}`,
        ca: await readText(`${SERVICE_ACCOUNT}/ca.crt`),
        tokenFile: `${SERVICE_ACCOUNT}/token`,
        namespace: (await readText(`${SERVICE_ACCOUNT}/namespace`)).trim(),
      });
    }
  }
  const file = named === undefined || named === '' ? path.join(homedir(), '.kube', 'config') : named;
  // $KUBECONFIG may be a list of files that are merged: that is client-node's job.
  const single = !file.includes(path.delimiter);
  const plain = single ? await plainFromKubeconfig(await readText(file), path.dirname(file), options.context) : undefined;
  return plain ?? (await connectionThroughClientNode(file, options.context));
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new PodwayError('KUBE_CONFIG', 'cannot read what is needed to reach the API server', {
      object: file,
      said: messageOf(cause),
      hint: 'Name a kubeconfig with --kubeconfig or KUBECONFIG; a running lab has one in its folder.',
      cause,
    });
  }
}

interface RawConfig {
  'current-context'?: string;
  contexts?: { name: string; context: { cluster: string; user: string; namespace?: string } }[];
  clusters?: { name: string; cluster: Record<string, unknown> }[];
  users?: { name: string; user: Record<string, unknown> }[];
}

const CLUSTER_KEYS = new Set(['server', 'certificate-authority', 'certificate-authority-data', 'insecure-skip-tls-verify', 'tls-server-name']);
const USER_KEYS = new Set(['token', 'tokenFile', 'client-certificate', 'client-certificate-data', 'client-key', 'client-key-data']);

/** Undefined when the file is not JSON or asks for something only client-node can do. */
async function plainFromKubeconfig(text: string, dir: string, contextName: string | undefined): Promise<Connection | undefined> {
  if (!text.trimStart().startsWith('{')) return undefined;
  let config: RawConfig;
  try {
    config = JSON.parse(text) as RawConfig;
  } catch {
    return undefined;
  }
  const context = config.contexts?.find((c) => c.name === (contextName ?? config['current-context']))?.context;
  const cluster = config.clusters?.find((c) => c.name === context?.cluster)?.cluster;
  const user = config.users?.find((u) => u.name === context?.user)?.user ?? {};
  if (context === undefined || cluster === undefined) return undefined;
  if (!Object.keys(cluster).every((k) => CLUSTER_KEYS.has(k)) || !Object.keys(user).every((k) => USER_KEYS.has(k))) return undefined;
  const of = (from: Record<string, unknown>, key: string): string | undefined => {
    const value = from[key];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const material = async (from: Record<string, unknown>, key: string): Promise<string | undefined> => {
    const data = of(from, `${key}-data`);
    if (data !== undefined) return Buffer.from(data, 'base64').toString();
    const file = of(from, key);
    return file === undefined ? undefined : readText(path.resolve(dir, file));
  };
  const server = of(cluster, 'server');
  if (server === undefined) return undefined;
  const defined = <K extends string>(key: K, value: string | undefined): Partial<Record<K, string>> =>
    value === undefined ? {} : ({ [key]: value } as Record<K, string>);
  const tokenFile = of(user, 'tokenFile');
  return plainConnection({
    server,
    ...defined('namespace', context.namespace),
    ...defined('ca', await material(cluster, 'certificate-authority')),
    ...defined('cert', await material(user, 'client-certificate')),
    ...defined('key', await material(user, 'client-key')),
    ...defined('servername', of(cluster, 'tls-server-name')),
    ...defined('token', of(user, 'token')),
    ...defined('tokenFile', tokenFile === undefined ? undefined : path.resolve(dir, tokenFile)),
    ...(cluster['insecure-skip-tls-verify'] === true ? { insecure: true } : {}),
  });
}

async function connectionThroughClientNode(file: string, context: string | undefined): Promise<Connection> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    if (file.includes(path.delimiter)) config.loadFromDefault();
    else config.loadFromFile(file);
    if (context !== undefined) config.setCurrentContext(context);
  } catch (cause) {
    throw new PodwayError('KUBE_CONFIG', 'cannot read the kubeconfig', { object: file, said: messageOf(cause), cause });
  }
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new PodwayError('KUBE_CONFIG', 'the kubeconfig names no cluster', {
      object: `context ${context ?? config.getCurrentContext()} in ${file}`,
      hint: 'Choose a context that exists: kubectl config get-contexts',
    });
  }
  // One agent per set of TLS material, so that sockets are kept alive across requests although
  // client-node makes a new agent each time it is asked.
  let held: { key: string; agent: http.Agent } | undefined;
  return {
    server: cluster.server.replace(/\/+$/, ''),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
    async authority() {
      const options: https.RequestOptions = {};
      try {
        await config.applyToHTTPSOptions(options);
      } catch (cause) {
        throw new PodwayError('KUBE_FORBIDDEN', 'cannot get credentials for the API server', { object: file, said: messageOf(cause), cause });
      }
      const material = [options.ca, options.cert, options.key, options.servername, options.rejectUnauthorized].map(String).join('\n');
      if (held?.key !== material) {
        held?.agent.destroy();
        const made = options.agent as https.Agent;
        held = { key: material, agent: cluster.proxyUrl === undefined ? new https.Agent({ ...made.options, keepAlive: true }) : made };
        if (cluster.server.startsWith('http:')) held.agent = new http.Agent({ keepAlive: true });
      }
      const headers: Record<string, string> = {};
      for (const [name, value] of Object.entries(options.headers ?? {})) if (value !== undefined) headers[name.toLowerCase()] = String(value);
      if (typeof options.auth === 'string') headers['authorization'] = `Basic ${Buffer.from(options.auth).toString('base64')}`;
      return { agent: held.agent, headers };
    },
    close: () => {
      held?.agent.destroy();
    },
  };
}
