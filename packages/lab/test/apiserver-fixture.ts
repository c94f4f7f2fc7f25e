/** An API server for a test: in memory, listening on a free port of the loopback, with a kubeconfig. */
import { mkdtemp, rm } from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { RemoteClient } from '@podway/kube';
import { ApiServer, MemoryStore, type ApiServerOptions } from '../src/apiserver/index.js';

export interface Running {
  readonly api: ApiServer;
  readonly url: string;
  readonly kubeconfig: string;
  readonly dir: string;
  remote(): Promise<RemoteClient>;
  /** A raw request through the socket. */
  request(method: string, path: string, options?: { body?: string | Buffer; headers?: Record<string, string> }): Promise<Answer>;
  close(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  json<T>(): T;
}

export async function running(options: Partial<ApiServerOptions> = {}): Promise<Running> {
  const dir = await mkdtemp(path.join(tmpdir(), 'podway-api-'));
  const api = await ApiServer.open({ lab: 'test', store: new MemoryStore(), ...options });
  const { port } = await api.listen({ host: '127.0.0.1', port: 0 });
  const url = `https://127.0.0.1:${String(port)}`;
  const kubeconfig = path.join(dir, 'kubeconfig');
  await api.writeKubeconfig(kubeconfig, url);
  const { ca } = await api.certificates();
  const remotes: RemoteClient[] = [];
  return {
    api,
    url,
    kubeconfig,
    dir,
    async remote() {
      const client = await RemoteClient.load({ kubeconfig, userAgent: 'podway-test' });
      remotes.push(client);
      return client;
    },
    request: (method, at, { body, headers } = {}) =>
      new Promise<Answer>((resolve, reject) => {
        const sent = https.request(`${url}${at}`, { method, ca, agent: false, headers: { authorization: `Bearer ${api.token}`, ...headers } }, (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (text += chunk));
          response.on('error', reject);
          response.on('end', () => {
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text, json: <T>() => JSON.parse(text) as T });
          });
        });
        sent.on('error', reject);
        sent.end(body);
      }),
    async close() {
      for (const r of remotes) r.close();
      await api.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
