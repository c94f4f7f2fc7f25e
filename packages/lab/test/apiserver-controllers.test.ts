import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Told } from '@podway/kube/testing';
import { Events, Namespaces, Nodes, Pods, type Node, type ObjectClient, type Pod } from '@podway/kube';
import { ApiServer, MemoryStore } from '../src/apiserver/index.js';
import { place, startControllers, tolerates, type Controller } from '../src/controllers/index.js';

const READY = { conditions: [{ type: 'Ready', status: 'True' }] };
const node = (name: string, rest: Partial<Node> = {}): Node => ({ metadata: { name }, status: READY, ...rest });
const pod = (name: string, spec: object = {}, metadata: object = {}): Pod => ({ metadata: { name, namespace: 'default', ...metadata }, spec: { containers: [{ name: 'c', image: 'i' }], ...spec } });

describe('placing a pod', () => {
  it('takes the least loaded fitting node, by name among equals', () => {
    const nodes = [node('b'), node('a'), node('c')];
    assert.equal(place(pod('p'), nodes, new Map()).node, 'a');
    assert.equal(place(pod('p'), nodes, new Map([['a', 1], ['b', 1]])).node, 'c');
  });

  it('says why no node fits', () => {
    const nodes = [node('a', { spec: { unschedulable: true } }), node('b', { status: {} }), node('c', { spec: { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] } }), node('d')];
    assert.deepEqual(place(pod('p', { nodeSelector: { disk: 'ssd' } }), nodes, new Map()), {
      message: "0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {k: v}, 1 node(s) were not ready, 1 node(s) were unschedulable.",
    });
    assert.equal(place(pod('p'), [], new Map()).message, 'no nodes available to schedule pods');
  });

  it('leaves nodes out whose ports are taken', () => {
    const nodes = [node('a'), node('b')];
    const wants = (ports: object[], spec: object = {}): Pod => pod('p', { containers: [{ name: 'c', image: 'i', ports }], ...spec });
    const on = (n: string, p: Pod): ReadonlyMap<string, Pod[]> => new Map([[n, [p]]]);
    const web = wants([{ containerPort: 80, hostPort: 8080 }]);
    assert.equal(place(web, nodes, new Map(), on('a', web)).node, 'b');
    assert.deepEqual(place(web, [node('a')], new Map(), on('a', web)), { message: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports." });
    const free: [string, Pod][] = [
      ['another port', wants([{ containerPort: 80, hostPort: 8081 }])], ['another protocol', wants([{ containerPort: 80, hostPort: 8080, protocol: 'UDP' }])],
      ['a container port of its own', wants([{ containerPort: 8080 }])],
    ];
    for (const [what, p] of free) assert.equal(place(p, nodes, new Map(), on('a', web)).node, 'a', what);
    const one = (hostIP: string): Pod => wants([{ containerPort: 80, hostPort: 8080, hostIP }]);
    assert.equal(place(one('10.0.0.1'), nodes, new Map(), on('a', web)).node, 'b', 'one address against all');
    assert.equal(place(one('10.0.0.1'), nodes, new Map(), on('a', one('10.0.0.2'))).node, 'a', 'two addresses');
    assert.equal(place(wants([{ containerPort: 8080 }], { hostNetwork: true }), nodes, new Map(), on('a', web)).node, 'b', 'hostNetwork');
  });

  it('knows tolerations', () => {
    const taint = { key: 'k', value: 'v', effect: 'NoSchedule' };
    assert.ok(tolerates([{ operator: 'Exists' }], taint));
    assert.ok(tolerates([{ key: 'k', value: 'v' }], taint));
    assert.ok(!tolerates([{ key: 'k', value: 'w' }], taint));
    assert.ok(!tolerates([{ key: 'k', operator: 'Exists', effect: 'NoExecute' }], taint));
  });
});

describe('the controllers', () => {
  let api: ApiServer;
  let client: ObjectClient;
  let controllers: Controller[];
  let failures: string[];
  beforeEach(async () => {
    api = await ApiServer.open({ lab: 'test', store: new MemoryStore() });
    client = api.inProcessClient();
    failures = [];
    controllers = startControllers(api, { clusterRanges: [{ cidr: '10.244.0.0/22' }], failed: (...args) => failures.push(args.map(String).join(' ')) });
  });
  afterEach(async () => {
    for (const c of controllers) c.stop();
    await api.close();
  });
  const status = (n: Node) => client.update(Nodes, { ...n, status: READY }, 'status');

  it('give nodes their pod CIDRs in order, and a freed one to who waits', async () => {
    const told = new Told(client, Nodes);
    for (const name of ['m1', 'm2', 'm3', 'm4', 'm5']) await client.create(Nodes, { metadata: { name } });
    const cidrs = async (): Promise<string[]> => (await client.list(Nodes)).map((n) => n.spec?.podCIDR ?? '-');
    await told.until(() => told.events.filter((e) => e.object.spec?.podCIDR !== undefined && e.type === 'MODIFIED').length === 4 && failures.length > 0, 'four nodes served, the fifth refused');
    assert.deepEqual(await cidrs(), ['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24', '10.244.3.0/24', '-']);
    assert.match(failures[0] ?? '', /node m5 .*no free pod CIDR/);
    await client.delete(Nodes, { name: 'm2' });
    await told.until(() => told.events.some((e) => e.name === 'm5' && e.object.spec?.podCIDR !== undefined), 'm5 served');
    assert.equal((await client.get(Nodes, 'm5')).spec?.podCIDR, '10.244.1.0/24');
    told.stop();
  });

  it('spread pods over nodes, and tell what waits and why, once', async () => {
    const pods = new Told(client, Pods);
    const events = new Told(client, Events);
    await client.create(Pods, pod('early'));
    await events.until(() => events.events.some((e) => e.object.reason === 'FailedScheduling'), 'FailedScheduling');
    for (const name of ['m1', 'm2']) await status(await client.create(Nodes, { metadata: { name } }));
    for (const name of ['a', 'b', 'c']) await client.create(Pods, pod(name));
    await client.create(Pods, pod('fixed', { nodeName: 'm9' }));
    await pods.until(() => pods.events.filter((e) => e.type === 'MODIFIED' && (e.object.spec?.nodeName ?? '') !== '').length >= 4, 'four bound');
    const where = (await client.list(Pods)).map((p) => p.spec?.nodeName).sort();
    assert.deepEqual(where, ['m1', 'm1', 'm2', 'm2', 'm9']);
    await events.until(() => events.events.filter((e) => e.object.reason === 'Scheduled').length === 4, 'four events');
    assert.equal(events.events.filter((e) => e.object.reason === 'FailedScheduling' && e.type === 'ADDED').length <= 2, true);
    const early = await client.get(Pods, 'early', 'default');
    assert.deepEqual(early.status?.conditions?.map((x) => [x.type, x.status]), [['PodScheduled', 'True']]);
    pods.stop();
    events.stop();
  });

  it('empty a namespace before it goes', async () => {
    const told = new Told(client, Namespaces);
    await client.create(Namespaces, { metadata: { name: 'team' } });
    await client.create(Pods, { ...pod('x'), metadata: { name: 'x', namespace: 'team', finalizers: ['example.com/wait'] } });
    await client.delete(Namespaces, { name: 'team' });
    await told.until(() => told.events.some((e) => e.object.status?.phase === 'Terminating'), 'terminating');
    const pods = new Told(client, Pods);
    await pods.until(() => pods.events.some((e) => e.object.metadata?.deletionTimestamp !== undefined), 'the pod is being deleted');
    assert.ok(!told.lines.includes('DELETED team'));
    await client.patch(Pods, { name: 'x', namespace: 'team' }, { metadata: { finalizers: null } }, { type: 'merge' });
    await told.until(() => told.lines.includes('DELETED team'), 'gone');
    told.stop();
    pods.stop();
    assert.deepEqual(failures, []);
  });

  it('collect what owners leave, in the foreground when asked, never when orphaned', async () => {
    const told = new Told(client, Pods);
    const owned = async (owner: string, name: string): Promise<void> => {
      const { metadata } = await client.get(Pods, owner, 'default');
      await client.create(Pods, pod(name, {}, { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: owner, uid: metadata?.uid ?? '' }] }));
    };
    const spec = api.operations.registry.of(Pods);
    assert.ok(spec !== undefined);
    for (const owner of ['bg', 'fg', 'or']) {
      await client.create(Pods, pod(owner));
      await owned(owner, `${owner}-child`);
    }
    await client.delete(Pods, { name: 'bg', namespace: 'default' });
    await told.until(() => told.lines.includes('DELETED bg-child'), 'background');
    api.operations.delete(spec, { name: 'fg', namespace: 'default' }, { propagationPolicy: 'Foreground' });
    await told.until(() => told.lines.includes('DELETED fg'), 'foreground');
    assert.ok(told.lines.indexOf('DELETED fg-child') < told.lines.indexOf('DELETED fg'));
    api.operations.delete(spec, { name: 'or', namespace: 'default' }, { propagationPolicy: 'Orphan' });
    await told.until(() => told.lines.includes('DELETED or'), 'orphan');
    assert.equal((await client.get(Pods, 'or-child', 'default')).metadata?.ownerReferences, undefined);
    told.stop();
  });
});
