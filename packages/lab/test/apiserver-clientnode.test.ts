/** @kubernetes/client-node as it is: typed API, informer, watch, errors, log. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import * as k8s from '@kubernetes/client-node';
import { running, type Running } from './apiserver-fixture.js';

describe('@kubernetes/client-node', () => {
  let r: Running;
  let config: k8s.KubeConfig;
  let core: k8s.CoreV1Api;
  before(async () => {
    r = await running();
    config = new k8s.KubeConfig();
    config.loadFromFile(r.kubeconfig);
    core = config.makeApiClient(k8s.CoreV1Api);
  });
  after(() => r.close());
  const pod = (name: string): k8s.V1Pod => ({ metadata: { name, labels: { via: 'client-node' } }, spec: { containers: [{ name: 'c', image: 'i' }] } });

  it('creates, lists, patches, deletes', async () => {
    const made = await core.createNamespacedPod({ namespace: 'default', body: pod('a') });
    assert.ok(made.metadata?.creationTimestamp instanceof Date);
    const list = await core.listPodForAllNamespaces({ labelSelector: 'via=client-node' });
    assert.deepEqual(list.items.map((p) => p.metadata?.name), ['a']);
    const patched = await core.patchNamespacedPod(
      { name: 'a', namespace: 'default', body: { metadata: { labels: { more: '1' } } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch),
    );
    assert.equal(patched.metadata?.labels?.['more'], '1');
    await core.createNamespacedPodBinding({ name: 'a', namespace: 'default', body: { target: { kind: 'Node', name: 'm1' } } });
    assert.equal((await core.readNamespacedPod({ name: 'a', namespace: 'default' })).spec?.nodeName, 'm1');
    await core.deleteNamespacedPod({ name: 'a', namespace: 'default', gracePeriodSeconds: 0 });
    await assert.rejects(core.readNamespacedPod({ name: 'a', namespace: 'default' }), (e) => e instanceof k8s.ApiException && e.code === 404);
  });

  it('keeps an informer up to date', async () => {
    const path = '/api/v1/namespaces/default/pods';
    const informer = k8s.makeInformer(config, path, () => core.listNamespacedPod({ namespace: 'default' }));
    const told: string[] = [];
    let wake: () => void = () => undefined;
    for (const verb of ['add', 'update', 'delete'] as const) {
      informer.on(verb, (p: k8s.V1Pod) => {
        told.push(`${verb} ${p.metadata?.name ?? ''}`);
        wake();
      });
    }
    const until = async (line: string): Promise<void> => {
      while (!told.includes(line)) await new Promise<void>((resolve) => (wake = resolve));
    };
    await core.createNamespacedPod({ namespace: 'default', body: pod('before') });
    await informer.start();
    await until('add before');
    await core.createNamespacedPod({ namespace: 'default', body: pod('later') });
    await until('add later');
    await core.patchNamespacedPod({ name: 'later', namespace: 'default', body: [{ op: 'add', path: '/metadata/labels/x', value: 'y' }] });
    await until('update later');
    await core.deleteNamespacedPod({ name: 'before', namespace: 'default', gracePeriodSeconds: 0 });
    await until('delete before');
    assert.deepEqual(informer.list('default').map((p) => p.metadata?.name), ['later']);
    await informer.stop();
  });
});
