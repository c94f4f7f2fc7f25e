import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { loadConnection } from '../src/index.js';

const config = (user: object, cluster: object = {}): string =>
  JSON.stringify({
    'current-context': 'c1',
    contexts: [
      { name: 'c1', context: { cluster: 'k', user: 'u', namespace: 'ns' } },
      { name: 'c2', context: { cluster: 'k2', user: 'u' } },
    ],
    clusters: [
      { name: 'k', cluster: { server: 'https://127.0.0.1:1/', ...cluster } },
      { name: 'k2', cluster: { server: 'https://127.0.0.1:2' } },
    ],
    users: [{ name: 'u', user }],
  });

describe('finding the cluster', () => {
  let dir: string;
  const file = async (name: string, text: string): Promise<string> => {
    const at = path.join(dir, name);
    await writeFile(at, text);
    return at;
  };
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'podway-kube-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('reads a JSON kubeconfig with a token', async () => {
    const c = await loadConnection({ kubeconfig: await file('a', config({ token: 'secret' })) });
    assert.equal(c.server, 'https://127.0.0.1:1');
    assert.equal(c.namespace, 'ns');
    assert.deepEqual((await c.authority()).headers, { authorization: 'Bearer secret' });
    c.close();
  });

  it('takes another context and a token file next to the kubeconfig', async () => {
    await file('tok', 'from-file\n');
    const c = await loadConnection({ kubeconfig: await file('b', config({ tokenFile: 'tok' })), context: 'c2' });
    assert.equal(c.server, 'https://127.0.0.1:2');
    assert.equal(c.namespace, 'default');
    assert.deepEqual((await c.authority()).headers, { authorization: 'Bearer from-file' });
    c.close();
  });

  it('leaves YAML and exec credentials to client-node', async () => {
    const yaml = `
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://127.0.0.1:3"}}]
users: [{name: u, user: {token: yaml}}]
`;
    const c = await loadConnection({ kubeconfig: await file('c.yaml', yaml) });
    assert.equal(c.server, 'https://127.0.0.1:3');
    const first = await c.authority();
    assert.equal(first.headers['authorization'], 'Bearer yaml');
    assert.equal((await c.authority()).agent, first.agent, 'sockets are kept across requests');
    c.close();
    const answer = { apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token: 'executed' } };
    const exec = { exec: { apiVersion: answer.apiVersion, command: '/bin/echo', args: [JSON.stringify(answer)] } };
    const e = await loadConnection({ kubeconfig: await file('e', config(exec)) });
    assert.equal((await e.authority()).headers['authorization'], 'Bearer executed');
    e.close();
  });

  it('names the file that cannot be read', async () => {
    await assert.rejects(loadConnection({ kubeconfig: path.join(dir, 'none') }), { code: 'KUBE_CONFIG', object: path.join(dir, 'none') });
  });
});
