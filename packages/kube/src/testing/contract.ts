/**
 * What every ObjectClient must do, as one suite: run against the in-process client and the remote
 * one (and whatever comes). The server behind it must serve namespaces, nodes and pods and hold the
 * namespace `default`.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { isPodwayError } from '@podway/errors';
import type { ObjectClient, WatchEventType } from '../client.js';
import { Namespaces, Nodes, Pods, type KubeObject, type ObjectKind, type Pod } from '../objects.js';

export interface ContractSubject {
  readonly client: ObjectClient;
  close(): Promise<void>;
}

const WITHIN = 5_000;

/** Collects what a watch tells and waits for conditions on it. */
export class Told<T extends KubeObject> {
  readonly events: { type: WatchEventType; name: string; object: T }[] = [];
  readonly errors: unknown[] = [];
  syncs = 0;
  private waiters: (() => void)[] = [];
  readonly stop: () => void;

  constructor(client: ObjectClient, kind: ObjectKind<T>, selection: Parameters<ObjectClient['watch']>[1] = {}) {
    this.stop = client.watch(kind, selection, {
      event: (type, object) => {
        this.events.push({ type, name: object.metadata?.name ?? '', object });
        this.wake();
      },
      synced: () => {
        this.syncs++;
        this.wake();
      },
      lost: (e) => {
        this.errors.push(e);
        this.wake();
      },
    });
  }

  /** `ADDED a`, `DELETED b`. */
  get lines(): string[] {
    return this.events.map((e) => `${e.type} ${e.name}`);
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const limit = AbortSignal.timeout(WITHIN);
    while (!condition()) {
      if (limit.aborted) assert.fail(`not within ${String(WITHIN)} ms: ${what}; told: ${this.lines.join(', ')}; errors: ${this.errors.map(String).join(', ')}`);
      await new Promise<void>((resolve) => {
        const done = (): void => {
          limit.removeEventListener('abort', done);
          resolve();
        };
        this.waiters.push(done);
        limit.addEventListener('abort', done);
      });
    }
  }

  private wake(): void {
    for (const w of this.waiters.splice(0)) w();
  }
}

export function objectClientContract(name: string, make: () => Promise<ContractSubject>): void {
  describe(`ObjectClient contract: ${name}`, () => {
    let subject: ContractSubject;
    let client: ObjectClient;
    before(async () => {
      subject = await make();
      client = subject.client;
    });
    after(() => subject.close());

    const pod = (podName: string, extra: Partial<Pod> = {}): Pod => ({
      metadata: { name: podName, namespace: 'default', labels: { test: 'contract' } },
      spec: { containers: [{ name: 'c', image: 'busybox:1' }] },
      ...extra,
    });
    const code = (expected: string) => (e: unknown) => {
      assert.ok(isPodwayError(e), String(e));
      assert.equal(e.code, expected, e.message);
      return true;
    };

    it('creates, reads and lists with apiVersion and kind on every object', async () => {
      const made = await client.create(Pods, pod('one'));
      assert.match(made.metadata?.uid ?? '', /^[0-9a-f-]{36}$/);
      assert.match(made.metadata?.creationTimestamp ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      const read = await client.get(Pods, 'one', 'default');
      assert.deepEqual(read, made);
      const [listed] = await client.list(Pods, { namespace: 'default', fieldSelector: 'metadata.name=one' });
      assert.deepEqual(listed, made);
      assert.equal(listed?.apiVersion, 'v1');
      assert.equal(listed?.kind, 'Pod');
    });

    it('hands out copies', async () => {
      const a = await client.get(Pods, 'one', 'default');
      (a.metadata as { labels: Record<string, string> }).labels['test'] = 'changed';
      assert.equal((await client.get(Pods, 'one', 'default')).metadata?.labels?.['test'], 'contract');
    });

    it('names what is not there and what is there already', async () => {
      await assert.rejects(client.get(Pods, 'nobody', 'default'), (e) => code('KUBE_NOT_FOUND')(e) && /pods "nobody" not found/.test((e as Error).message));
      await assert.rejects(client.create(Pods, pod('one')), code('KUBE_ALREADY_EXISTS'));
      await assert.rejects(client.create(Pods, { ...pod('x'), metadata: { name: 'x', namespace: 'no-such' } }), code('KUBE_NOT_FOUND'));
      await assert.rejects(client.delete(Pods, { name: 'nobody', namespace: 'default' }), code('KUBE_NOT_FOUND'));
    });

    it('refuses invalid objects in Kubernetes’ words', async () => {
      await assert.rejects(client.create(Pods, { metadata: { name: 'x' }, spec: { containers: [{ name: '', image: 'i' }] } }), (e) => {
        code('KUBE_INVALID')(e);
        assert.match((e as Error).message, /Pod "x" is invalid: spec\.containers\[0\]\.name: Required value/);
        return true;
      });
      await assert.rejects(client.list(Pods, { labelSelector: 'a in b' }), code('KUBE_INVALID'));
    });

    it('updates with optimistic concurrency', async () => {
      const first = await client.get(Pods, 'one', 'default');
      const changed = await client.update(Pods, { ...first, metadata: { ...first.metadata, labels: { test: 'contract', n: '1' } } });
      assert.notEqual(changed.metadata?.resourceVersion, first.metadata?.resourceVersion);
      await assert.rejects(client.update(Pods, { ...first, metadata: { ...first.metadata, labels: { n: '2' } } }), code('KUBE_CONFLICT'));
    });

    it('keeps status and the rest apart', async () => {
      const now = await client.get(Pods, 'one', 'default');
      const updated = await client.update(Pods, { ...now, metadata: { ...now.metadata }, status: { phase: 'Running' } }, 'status');
      assert.equal(updated.status?.phase, 'Running');
      const { resourceVersion: _dropped, ...metadata } = updated.metadata ?? {};
      const main = await client.update(Pods, { ...updated, metadata, status: { phase: 'Failed' } });
      assert.equal(main.status?.phase, 'Running');
      const patched = await client.patch(Pods, { name: 'one', namespace: 'default' }, { status: { podIP: '10.0.0.1' } }, { type: 'merge', subresource: 'status' });
      assert.equal(patched.status?.podIP, '10.0.0.1');
    });

    it('patches in four ways', async () => {
      const target = { name: 'one', namespace: 'default' };
      assert.equal((await client.patch(Pods, target, [{ op: 'add', path: '/metadata/labels/j', value: 'j' }], { type: 'json' })).metadata?.labels?.['j'], 'j');
      assert.equal((await client.patch(Pods, target, { metadata: { labels: { j: null, m: 'm' } } }, { type: 'merge' })).metadata?.labels?.['j'], undefined);
      const strategic = await client.patch(Pods, target, { spec: { containers: [{ name: 'c', image: 'busybox:2' }] } }, { type: 'strategic' });
      assert.deepEqual(strategic.spec?.containers.map((c) => [c.name, c.image]), [['c', 'busybox:2']]);
      const applied = await client.patch(Pods, target, { metadata: { ...target, annotations: { a: '1' } } }, { type: 'apply', fieldManager: 'contract' });
      assert.equal(applied.metadata?.annotations?.['a'], '1');
      const emptied = await client.patch(Pods, target, { metadata: target }, { type: 'apply', fieldManager: 'contract' });
      assert.equal(emptied.metadata?.annotations?.['a'], undefined);
    });

    it('deletes gracefully, and at once with grace 0; respects the uid', async () => {
      const made = await client.create(Pods, { ...pod('slow'), spec: { nodeName: 'some', containers: [{ name: 'c', image: 'i' }] } });
      const target = { name: 'slow', namespace: 'default' };
      await assert.rejects(client.delete(Pods, target, { uid: '00000000-0000-0000-0000-000000000000' }), code('KUBE_CONFLICT'));
      await client.delete(Pods, target, { uid: made.metadata?.uid ?? '' });
      assert.equal((await client.get(Pods, 'slow', 'default')).metadata?.deletionGracePeriodSeconds, 30);
      await client.delete(Pods, target, { gracePeriodSeconds: 0 });
      await assert.rejects(client.get(Pods, 'slow', 'default'), code('KUBE_NOT_FOUND'));
    });

    it('watches: what is there, then synced, then changes', async () => {
      await client.create(Pods, { ...pod('w1'), metadata: { name: 'w1', namespace: 'default', labels: { w: 'yes' } } });
      const told = new Told(client, Pods, { namespace: 'default', labelSelector: 'w=yes' });
      await told.until(() => told.syncs === 1, 'synced');
      assert.deepEqual(told.lines, ['ADDED w1']);
      await client.create(Pods, { ...pod('w2'), metadata: { name: 'w2', namespace: 'default', labels: { w: 'yes' } } });
      await client.create(Pods, { ...pod('w3'), metadata: { name: 'w3', namespace: 'default', labels: { w: 'no' } } });
      // Begins to match, stops to match, goes.
      await client.patch(Pods, { name: 'w3', namespace: 'default' }, { metadata: { labels: { w: 'yes' } } }, { type: 'merge' });
      await client.patch(Pods, { name: 'w2', namespace: 'default' }, { metadata: { labels: { w: 'no' } } }, { type: 'merge' });
      await client.patch(Pods, { name: 'w1', namespace: 'default' }, { metadata: { annotations: { x: 'y' } } }, { type: 'merge' });
      await client.delete(Pods, { name: 'w1', namespace: 'default' }, { gracePeriodSeconds: 0 });
      await told.until(() => told.events.length >= 6, 'six events');
      assert.deepEqual(told.lines, ['ADDED w1', 'ADDED w2', 'ADDED w3', 'DELETED w2', 'MODIFIED w1', 'DELETED w1']);
      assert.deepEqual(told.errors, []);
      told.stop();
      const before = told.events.length;
      await client.delete(Pods, { name: 'w3', namespace: 'default' }, { gracePeriodSeconds: 0 });
      const later = new Told(client, Pods, { labelSelector: 'w' });
      await later.until(() => later.syncs === 1, 'a later watch');
      later.stop();
      assert.equal(told.events.length, before, 'an ended watch is silent');
    });

    it('tells a handler’s own error to lost and goes on', async () => {
      const seen: string[] = [];
      const errors: unknown[] = [];
      await new Promise<void>((resolve) => {
        const stop = client.watch(Namespaces, {}, {
          event(_, object) {
            seen.push(object.metadata?.name ?? '');
            if (seen.length === 1) throw new Error('handler');
          },
          lost: (e) => errors.push(e),
          synced() {
            stop();
            resolve();
          },
        });
      });
      assert.ok(seen.includes('default'));
      assert.deepEqual(errors.map((e) => (e as Error).message), ['handler']);
    });

    it('serves cluster-wide kinds', async () => {
      await client.create(Nodes, { metadata: { name: 'n1' } });
      assert.deepEqual((await client.list(Nodes, { fieldSelector: 'metadata.name=n1' })).map((n) => n.metadata?.name), ['n1']);
      await client.delete(Nodes, { name: 'n1' });
    });
  });
}
