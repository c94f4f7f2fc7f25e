import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { Nodes, Pods, type Pod } from '@podway/kube';
import { ApiServer, MemoryStore, openLmdbStore, type Store } from '../src/apiserver/index.js';
import type { ApiObject } from '../src/apiserver/object.js';

const object = (name: string, n = 0): ApiObject => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name, resourceVersion: String(n) } });

function storeContract(name: string, open: (dir: string) => Promise<Store>): void {
  describe(`Store contract: ${name}`, () => {
    let dir: string;
    let store: Store;
    before(async () => {
      dir = await mkdtemp(path.join(tmpdir(), 'podway-store-'));
      store = await open(dir);
    });
    after(async () => {
      await store.close();
      await rm(dir, { recursive: true });
    });

    it('begins empty at revision 0', () => {
      assert.equal(store.revision(), 0);
      assert.deepEqual([...store.load()], []);
    });

    it('keeps what was committed last, with its revision', () => {
      store.commit({ revision: 1, key: 'a', object: object('a', 1) });
      store.commit({ revision: 2, key: 'b', object: object('b', 2) });
      store.commit({ revision: 3, key: 'a', object: object('a', 3) });
      assert.equal(store.revision(), 3);
      assert.deepEqual(new Map(store.load()), new Map([['a', object('a', 3)], ['b', object('b', 2)]]));
    });

    it('removes', () => {
      store.commit({ revision: 4, key: 'a', object: undefined });
      store.commit({ revision: 5, key: 'never', object: undefined });
      assert.deepEqual([...store.load()].map(([k]) => k), ['b']);
      assert.equal(store.revision(), 5);
    });

    it('does not share objects with its user', () => {
      const mine = object('c', 6);
      store.commit({ revision: 6, key: 'c', object: mine });
      mine.metadata.name = 'changed';
      assert.equal(new Map(store.load()).get('c')?.metadata.name, 'c');
    });
  });
}

storeContract('memory', () => Promise.resolve(new MemoryStore()));
storeContract('lmdb', openLmdbStore);

describe('the durable store', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'podway-store-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('gives a restarted server its objects and goes on counting revisions', async () => {
    const at = path.join(dir, 'restart');
    const first = await ApiServer.open({ lab: 'x', store: await openLmdbStore(at) });
    const made = await first.inProcessClient().create(Nodes, { metadata: { name: 'm1', labels: { a: 'b' } } });
    await first.close();
    const second = await ApiServer.open({ lab: 'x', store: await openLmdbStore(at) });
    const client = second.inProcessClient();
    assert.deepEqual(await client.get(Nodes, 'm1'), made);
    const next = await client.create(Nodes, { metadata: { name: 'm2' } });
    assert.ok(Number(next.metadata?.resourceVersion) > Number(made.metadata?.resourceVersion));
    // A watch from before the restart is told to list anew; one from now on is served.
    assert.throws(() => second.operations.watch(nodes(second), { resourceVersion: '1' }, { event: () => undefined, bookmark: () => undefined }), { code: 410 });
    second.operations.watch(nodes(second), { resourceVersion: made.metadata?.resourceVersion }, { event: () => undefined, bookmark: () => undefined })();
    await second.close();
  });

  it('is private', async () => {
    const at = path.join(dir, 'modes');
    const store = await openLmdbStore(at);
    assert.equal((await stat(at)).mode & 0o777, 0o700);
    assert.equal((await stat(path.join(at, 'objects.mdb'))).mode & 0o777, 0o600);
    await store.close();
  });

  it('has everything that was acknowledged before a kill -9, and nothing by halves', async () => {
    const at = path.join(dir, 'killed');
    const script = `
      const { ApiServer, openLmdbStore } = await import(${JSON.stringify(new URL('../src/apiserver/index.js', import.meta.url).href)});
      const { Pods } = await import(${JSON.stringify(import.meta.resolve('@podway/kube'))});
      const api = await ApiServer.open({ lab: 'x', store: await openLmdbStore(${JSON.stringify(at)}) });
      const client = api.inProcessClient();
      for (let i = 0; ; i++) {
        const made = await client.create(Pods, { metadata: { name: 'p' + i, annotations: { n: String(i) } }, spec: { containers: [{ name: 'c', image: 'i' }] } });
        if (i % 3 === 2) await client.delete(Pods, { name: 'p' + (i - 1), namespace: 'default' });
        await new Promise((resolve) => process.stdout.write(i + ' ' + made.metadata.resourceVersion + '\\n', resolve));
      }`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let last = { i: -1, revision: 0 };
    const exited = new Promise<void>((resolve) => child.once('exit', () => { resolve(); }));
    for await (const line of createInterface({ input: child.stdout })) {
      const [i, revision] = line.split(' ').map(Number);
      last = { i: i ?? -1, revision: revision ?? 0 };
      if (last.i === 400) child.kill('SIGKILL');
    }
    await exited;
    assert.ok(last.i >= 400);
    const api = await ApiServer.open({ lab: 'x', store: await openLmdbStore(at) });
    const pods = new Map((await api.inProcessClient().list(Pods)).map((p) => [p.metadata?.name, p]));
    for (let i = 0; i <= last.i; i++) {
      const deleted = i % 3 === 1 && i + 1 <= last.i;
      const found = pods.get(`p${String(i)}`);
      if (deleted) assert.equal(found, undefined, `p${String(i)} came back`);
      // What was being written when the process died may be there or not.
      else if (i < last.i) assert.equal((found as Pod | undefined)?.metadata?.annotations?.['n'], String(i));
    }
    assert.ok(api.operations.storage.revision >= last.revision);
    await api.close();
  });
});

function nodes(api: ApiServer) {
  const spec = api.operations.registry.find('', 'v1', 'nodes');
  assert.ok(spec !== undefined);
  return spec;
}
