import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import { after, before, describe, it } from 'node:test';
import { Told } from '@podway/kube/testing';
import { Namespaces, Nodes, Pods, RemoteClient, type ObjectClient, type Pod } from '@podway/kube';
import type { ApiObject } from '../src/apiserver/object.js';
import { running, type Running } from './apiserver-fixture.js';

async function until(condition: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(5_000);
  while (!condition()) {
    assert.ok(!limit.aborted, 'not in time');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

interface Line {
  type: string;
  object: ApiObject & { code?: number };
}

describe('watch', () => {
  let r: Running;
  let client: ObjectClient;
  before(async () => {
    r = await running({ historyLength: 64 });
    client = r.api.inProcessClient();
  });
  after(() => r.close());

  /** All lines of a watch that ends by itself. */
  const lines = async (query: string): Promise<Line[]> => {
    const answer = await r.request('GET', `/api/v1/${query}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.text.split('\n').filter((l) => l !== '').map((l) => JSON.parse(l) as Line);
  };
  const revision = (): string => String(r.api.operations.storage.revision);

  it('from a revision on, tells what came after it, then ends at its time-out', async () => {
    const from = revision();
    await client.create(Nodes, { metadata: { name: 'a' } });
    await client.patch(Nodes, { name: 'a' }, { metadata: { labels: { x: 'y' } } }, { type: 'merge' });
    await client.delete(Nodes, { name: 'a' });
    const told = await lines(`nodes?watch=1&resourceVersion=${from}&timeoutSeconds=1`);
    assert.deepEqual(told.map((l) => l.type), ['ADDED', 'MODIFIED', 'DELETED']);
    const versions = told.map((l) => Number(l.object.metadata.resourceVersion));
    assert.ok(versions.every((v, i) => v > (versions[i - 1] ?? Number(from))));
    assert.equal(told[2]?.object.metadata.labels?.['x'], 'y');
  });

  it('sends initial events and says with a bookmark that they are over', async () => {
    const told = await lines('namespaces?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1');
    assert.deepEqual(told.map((l) => l.type), ['ADDED', 'ADDED', 'ADDED', 'ADDED', 'BOOKMARK']);
    assert.deepEqual(told[4]?.object.metadata.annotations, { 'k8s.io/initial-events-end': 'true' });
    assert.equal(told[4].object.metadata.resourceVersion, revision());
  });

  it('ends with a bookmark when other kinds moved on', async () => {
    const from = revision();
    const watching = lines(`namespaces?watch=1&allowWatchBookmarks=true&resourceVersion=${from}&timeoutSeconds=1`);
    await client.create(Nodes, { metadata: { name: 'elsewhere' } });
    const told = await watching;
    assert.deepEqual(told.map((l) => l.type).at(-1) ?? 'BOOKMARK', 'BOOKMARK');
  });

  it('answers 410 for what it has forgotten', async () => {
    const from = revision();
    await client.create(Namespaces, { metadata: { name: 'busy' } });
    for (let i = 0; i < 120; i++) await client.patch(Namespaces, { name: 'busy' }, { metadata: { labels: { n: String(i) } } }, { type: 'merge' });
    const answer = await r.request('GET', `/api/v1/namespaces?watch=1&resourceVersion=${from}`);
    assert.equal(answer.status, 410);
    const status = answer.json<{ reason: string; message: string }>();
    assert.equal(status.reason, 'Expired');
    assert.match(status.message, new RegExp(`^too old resource version: ${from} \\(\\d+\\)$`));
    // Other kinds keep their own history.
    assert.equal((await r.request('GET', `/api/v1/nodes?watch=1&resourceVersion=${from}&timeoutSeconds=1`)).status, 200);
  });

  it('loses nothing under concurrent writes, for many watchers at once', async () => {
    const wide = await running();
    const remote = await wide.remote();
    const client = wide.api.inProcessClient();
    const watchers = [new Told(remote, Pods), new Told(remote, Pods, { namespace: 'default' }), new Told(client, Pods), new Told(client, Pods, { labelSelector: 'odd=true' })];
    for (const told of watchers) await told.until(() => told.syncs === 1, 'synced');
    const pod = (name: string, odd: boolean): Pod => ({ metadata: { name, namespace: 'default', labels: { odd: String(odd) } }, spec: { containers: [{ name: 'c', image: 'i' }] } });
    const writer = async (w: number): Promise<void> => {
      const via = w % 2 === 0 ? remote : client;
      for (let i = 0; i < 40; i++) {
        const name = `p${String(w)}-${String(i)}`;
        await via.create(Pods, pod(name, i % 2 === 1));
        if (i % 4 === 0) await via.patch(Pods, { name, namespace: 'default' }, { metadata: { labels: { odd: 'true' } } }, { type: 'merge' });
        if (i % 4 === 3) await via.delete(Pods, { name, namespace: 'default' }, { gracePeriodSeconds: 0 });
      }
    };
    await Promise.all([0, 1, 2, 3].map(writer));
    const final = await client.list(Pods);
    const version = (p: Pod): string => `${p.metadata?.name ?? ''}@${p.metadata?.resourceVersion ?? ''}`;
    for (const [n, told] of watchers.entries()) {
      const held = new Map<string, Pod>();
      let read = 0;
      const expected = final.filter((p) => n !== 3 || p.metadata?.labels?.['odd'] === 'true').map(version).sort();
      const replay = (): string[] => {
        for (; read < told.events.length; read++) {
          const e = told.events[read];
          if (e === undefined) break;
          if (e.type === 'ADDED') assert.ok(!held.has(e.name), `${e.name} added twice`);
          else assert.ok(held.has(e.name), `${e.type} of ${e.name}, which was not there`);
          if (e.type === 'DELETED') held.delete(e.name);
          else held.set(e.name, e.object);
        }
        return [...held.values()].map(version).sort();
      };
      await told.until(() => replay().join() === expected.join(), `watcher ${String(n)} sees all`);
      assert.equal(told.events.filter((e) => e.type === 'DELETED').length, 40);
      assert.deepEqual(told.errors, []);
      told.stop();
    }
    await wide.close();
  });

  it('cuts off a reader that does not keep up, and notices one that is gone', async () => {
    const { ca } = await r.api.certificates();
    const open = () =>
      new Promise<IncomingMessage>((resolve, reject) => {
        const headers = { authorization: `Bearer ${r.api.token}` };
        https.get(`${r.url}/api/v1/nodes?watch=1`, { ca, agent: false, headers }, resolve).on('error', reject);
      });
    const slow = await open();
    slow.on('error', () => undefined);
    const leaving = await open();
    leaving.on('error', () => undefined);
    const { storage } = r.api.operations;
    assert.equal(storage.watchers('/nodes'), 2);
    leaving.destroy();
    await until(() => storage.watchers('/nodes') === 1);
    await client.create(Nodes, { metadata: { name: 'large' } });
    const text = 'x'.repeat(200_000);
    // Never read: some of it fits into the sockets, then into the buffer, then no more.
    for (let i = 0; i < 400 && storage.watchers('/nodes') > 0; i++) {
      await client.patch(Nodes, { name: 'large' }, { metadata: { annotations: { text: `${text}${String(i)}` } } }, { type: 'merge' });
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(storage.watchers('/nodes'), 0);
    slow.destroy();
  });

  it('a client whose connection is cut catches up, even beyond the history', async () => {
    const remote = new RemoteClient((await r.remote()).connection, { clock: { delay: () => Promise.resolve(), now: () => performance.now(), random: () => 0 } });
    const told = new Told(remote, Namespaces);
    await told.until(() => told.syncs === 1, 'synced');
    // A server that is away: same store, new listeners.
    r.api.disconnect();
    for (let i = 0; i < 100; i++) await client.patch(Namespaces, { name: 'busy' }, { metadata: { labels: { n: `late-${String(i)}` } } }, { type: 'merge' });
    await client.create(Namespaces, { metadata: { name: 'meanwhile' } });
    await told.until(() => told.lines.includes('ADDED meanwhile') && told.events.some((e) => e.object.metadata?.labels?.['n'] === 'late-99'), 'caught up');
    told.stop();
  });
});
