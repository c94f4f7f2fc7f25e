import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import koffi from 'koffi';
import net from 'node:net';
import https from 'node:https';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Pods, type Pod, type Status } from '@podway/kube';
import type { PodSubresources } from '../src/apiserver/index.js';
import { running, type Running } from './apiserver-fixture.js';

const JSON_BODY = { 'content-type': 'application/json' };
const pod = (name: string, spec: object = {}, metadata: object = {}): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { name, ...metadata }, spec: { containers: [{ name: 'c', image: 'nginx:1.25' }], ...spec } });

const refuse = (): Promise<never> => Promise.reject(new Error('no streams here'));

describe('the API over HTTP', () => {
  let r: Running;
  const at = '/api/v1/namespaces/default/pods';
  const post = (body: string, query = '') => r.request('POST', `${at}${query}`, { body, headers: JSON_BODY });
  before(async () => {
    r = await running();
  });
  after(() => r.close());

  describe('who may ask', () => {
    it('nobody without the token, but for health and version', async () => {
      for (const authorization of ['', 'Bearer', 'Bearer wrong', `Basic ${r.api.token}`, `Bearer ${r.api.token}x`]) {
        const answer = await r.request('GET', at, { headers: { authorization } });
        assert.equal(answer.status, 401, authorization);
        assert.equal(answer.json<Status>().reason, 'Unauthorized');
      }
      for (const open of ['/version', '/healthz', '/livez', '/readyz']) assert.equal((await r.request('GET', open, { headers: { authorization: '' } })).status, 200);
      assert.equal((await r.request('GET', '/openapi/v3', { headers: { authorization: '' } })).status, 401);
    });

    it('writes kubeconfig and CA key for the owner only', async () => {
      const key = path.join(r.dir, 'ca.key');
      await r.api.writeCaKey(key);
      for (const file of [r.kubeconfig, key]) assert.equal((await stat(file)).mode & 0o777, 0o600);
    });

    it('refuses a server that the CA did not sign, and names not in the certificate', async () => {
      const { ca } = await r.api.certificates();
      const fails = (options: https.RequestOptions) => new Promise<string>((resolve) => https.get(`${r.url}/healthz`, { agent: false, ...options }, () => { resolve('no error'); }).on('error', (e: NodeJS.ErrnoException) => { resolve(e.code ?? e.message); }));
      assert.equal(await fails({}), 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
      assert.equal(await fails({ ca, servername: 'elsewhere.example' }), 'ERR_TLS_CERT_ALTNAME_INVALID');
    });
  });

  it('listens on a socket that somebody else opened', async () => {
    const opened = net.createServer();
    await new Promise<void>((resolve) => opened.listen(0, '127.0.0.1', resolve));
    // A descriptor of its own, as a socket made inside another namespace has.
    const dup = koffi.load(null).func('int dup(int fd)') as (fd: number) => number;
    const fd = dup((opened as unknown as { _handle: { fd: number } })._handle.fd);
    assert.ok(fd > 2);
    const { port } = opened.address() as net.AddressInfo;
    await r.api.listen({ fd });
    opened.close();
    const { ca } = await r.api.certificates();
    const status = await new Promise((resolve, reject) => https.get({ host: '127.0.0.1', port, path: '/healthz', ca, agent: false }, (m) => { resolve(m.statusCode); m.resume(); }).on('error', reject));
    assert.equal(status, 200);
  });

  describe('refusals', () => {
    const refused = async (body: string, code: number, message: RegExp | string, query = ''): Promise<Status> => {
      const answer = await post(body, query);
      const status = answer.json<Status>();
      assert.equal(answer.status, code, answer.text);
      assert.equal(status.code, code);
      if (typeof message === 'string') assert.equal(status.message, message);
      else assert.match(status.message ?? '', message);
      return status;
    };

    it('of values', async () => {
      const status = await refused(pod('x', { containers: [{ image: 'i' }, { name: 'b', image: 'i', ports: [{ containerPort: 70000 }] }], restartPolicy: 'Sometimes' }), 422, /^Pod "x" is invalid: \[/);
      assert.equal(status.reason, 'Invalid');
      assert.deepEqual(status.details?.causes, [
        { reason: 'FieldValueRequired', message: 'Required value', field: 'spec.containers[0].name' },
        { reason: 'FieldValueInvalid', message: 'Invalid value: 70000: must be between 1 and 65535, inclusive', field: 'spec.containers[1].ports[0].containerPort' },
        { reason: 'FieldValueNotSupported', message: 'Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"', field: 'spec.restartPolicy' },
      ]);
      await refused(pod('x', { containers: [] }), 422, 'Pod "x" is invalid: spec.containers: Required value');
      await refused(pod('x', { containers: [{ name: 'c', image: 'i', volumeMounts: [{ name: 'v', mountPath: '/v' }] }] }), 422, 'Pod "x" is invalid: spec.containers[0].volumeMounts[0].name: Not found: "v"');
      await refused(pod('', {}), 422, /metadata\.name: Required value: name or generateName is required/);
      await refused(pod('x', {}, { labels: { a: 'b c' } }), 422, /metadata\.labels: Invalid value: "b c": a valid label must be/);
    });

    it('of shapes', async () => {
      await refused('{"a"', 400, /json parse error/);
      await refused('[]', 400, /couldn't get version\/kind/);
      await refused(JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'x' } }), 400, /^Node in version "v1" cannot be handled as a Pod/);
      await refused(pod('x', { hostNetwork: 'yes' }), 400, /cannot unmarshal string into Go struct field PodSpec\.spec\.hostNetwork of type bool$/);
      await refused(pod('x', { nonsense: 1 }), 400, 'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.nonsense"', '?fieldValidation=Strict');
      await refused(pod('x', {}, { namespace: 'other' }), 400, 'the namespace of the provided object does not match the namespace sent on the request');
      assert.equal((await r.request('PATCH', `${at}/x`, { body: '{}', headers: JSON_BODY })).status, 415);
      assert.equal((await r.request('GET', at, { headers: { accept: 'application/vnd.kubernetes.protobuf' } })).status, 406);
      assert.equal((await r.request('GET', '/apis/nothing/v1/x')).status, 404);
      assert.equal((await r.request('GET', `${at}?fieldSelector=spec.nonsense%3Da`)).status, 400);
    });

    it('of changes to what may not change', async () => {
      await post(pod('fixed'));
      const now = (await r.request('GET', `${at}/fixed`)).json<Pod>();
      const changed = { ...now, spec: { ...now.spec, hostNetwork: true } };
      const answer = await r.request('PUT', `${at}/fixed`, { body: JSON.stringify(changed), headers: JSON_BODY });
      assert.equal(answer.status, 422);
      assert.match(answer.json<Status>().message ?? '', /^Pod "fixed" is invalid: spec: Forbidden: pod updates may not change fields other than `spec\.containers\[\*\]\.image`/);
      const image = { ...now, spec: { ...now.spec, containers: now.spec?.containers.map((c) => ({ ...c, image: 'nginx:2' })) } };
      assert.equal((await r.request('PUT', `${at}/fixed`, { body: JSON.stringify(image), headers: JSON_BODY })).status, 200);
      const stale = await r.request('PUT', `${at}/fixed`, { body: JSON.stringify(image), headers: JSON_BODY });
      assert.equal(stale.status, 409);
      assert.equal(stale.json<Status>().message, 'Operation cannot be fulfilled on pods "fixed": the object has been modified; please apply your changes to the latest version and try again');
    });
  });

  it('warns of unknown fields and drops them', async () => {
    const answer = await post(pod('warned', { nonsense: 1 }));
    assert.equal(answer.status, 201);
    assert.equal(answer.headers['warning'], '299 - "unknown field \\"spec.nonsense\\""');
    assert.equal((answer.json<Pod>().spec as { nonsense?: number }).nonsense, undefined);
  });

  it('fills in what kube-apiserver fills in', async () => {
    const made = (await post(pod('defaults', { containers: [{ name: 'c', image: 'nginx', ports: [{ containerPort: 80 }], livenessProbe: { httpGet: { port: 80 } } }] }))).json<Pod>();
    const { spec } = made;
    assert.deepEqual([spec?.restartPolicy, spec?.dnsPolicy, spec?.terminationGracePeriodSeconds, spec?.enableServiceLinks], ['Always', 'ClusterFirst', 30, true]);
    const [c] = spec?.containers ?? [];
    assert.deepEqual([c?.imagePullPolicy, c?.ports?.[0]?.protocol, c?.terminationMessagePath], ['Always', 'TCP', '/dev/termination-log']);
    assert.deepEqual(c?.livenessProbe, { httpGet: { port: 80, path: '/', scheme: 'HTTP' }, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
    assert.deepEqual(spec?.tolerations?.map((t) => [t.key, t.tolerationSeconds]), [['node.kubernetes.io/not-ready', 300], ['node.kubernetes.io/unreachable', 300]]);
    assert.deepEqual([made.status?.phase, made.status?.qosClass], ['Pending', 'BestEffort']);
  });

  it('makes names, honours dry runs', async () => {
    const generated = (await post(JSON.stringify({ metadata: { generateName: 'gen-' }, spec: { containers: [{ name: 'c', image: 'i' }] } }))).json<Pod>();
    assert.match(generated.metadata?.name ?? '', /^gen-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    assert.equal((await post(pod('dry'), '?dryRun=All')).status, 201);
    assert.equal((await r.request('GET', `${at}/dry`)).status, 404);
    assert.equal((await r.request('DELETE', `${at}/fixed?dryRun=All`)).status, 200);
    assert.equal((await r.request('GET', `${at}/fixed`)).status, 200);
    assert.equal((await post(pod('dry'), '?dryRun=Some')).status, 400);
  });

  it('pages through one consistent state', async () => {
    for (let i = 0; i < 7; i++) await post(pod(`page-${String(i)}`, {}, { labels: { page: 'yes' } }));
    interface Page { metadata: { continue?: string; resourceVersion: string }; items: Pod[] }
    const names: string[] = [];
    let token = '';
    const versions = new Set<string>();
    for (let n = 0; n < 4 && (n === 0 || token !== ''); n++) {
      const page = (await r.request('GET', `${at}?labelSelector=page&limit=3&continue=${token}`)).json<Page>();
      names.push(...page.items.map((p) => p.metadata?.name ?? ''));
      versions.add(page.metadata.resourceVersion);
      token = page.metadata.continue ?? '';
      // Changes between the pages are not seen.
      if (n === 0) await r.request('DELETE', `${at}/page-5?gracePeriodSeconds=0`);
    }
    assert.deepEqual(names, [0, 1, 2, 3, 4, 5, 6].map((i) => `page-${String(i)}`));
    assert.equal(versions.size, 1);
    assert.equal((await r.request('GET', `${at}?limit=1&continue=bm9uZTox`)).status, 410);
  });

  it('honours finalizers, deletes collections', async () => {
    await post(pod('held', {}, { finalizers: ['example.com/hold'], labels: { batch: 'x' } }));
    await post(pod('free', {}, { labels: { batch: 'x' } }));
    assert.equal((await r.request('DELETE', `${at}?labelSelector=batch%3Dx`)).status, 200);
    assert.equal((await r.request('GET', `${at}/free`)).status, 404);
    const held = (await r.request('GET', `${at}/held`)).json<Pod>();
    assert.ok(held.metadata?.deletionTimestamp !== undefined);
    const merge = { 'content-type': 'application/merge-patch+json' };
    const added = await r.request('PATCH', `${at}/held`, { body: JSON.stringify({ metadata: { finalizers: ['example.com/hold', 'example.com/more'] } }), headers: merge });
    assert.equal(added.status, 422);
    assert.equal((await r.request('PATCH', `${at}/held`, { body: '{"metadata":{"finalizers":null}}', headers: merge })).status, 200);
    assert.equal((await r.request('GET', `${at}/held`)).status, 404);
  });

  it('binds a pod once', async () => {
    await post(pod('bindme'));
    const bind = (node: string) => r.request('POST', `${at}/bindme/binding`, { body: JSON.stringify({ target: { kind: 'Node', name: node } }), headers: JSON_BODY });
    assert.equal((await bind('m1')).status, 201);
    const again = await bind('m2');
    assert.equal(again.status, 409);
    assert.match(again.json<Status>().message ?? '', /pod bindme is already assigned to node "m1"/);
    const bound = await r.api.inProcessClient().get(Pods, 'bindme', 'default');
    assert.equal(bound.status?.conditions?.[0]?.type, 'PodScheduled');
  });

  it('serves logs through the runtime, 501 without', async () => {
    assert.equal((await r.request('GET', `${at}/bindme/log`)).status, 501);
    assert.equal((await r.request('GET', `${at}/bindme/exec?command=ls`)).status, 501);
    const streams = { check: () => undefined, exec: refuse, attach: refuse, connect: refuse };
    const speaking: PodSubresources = {
      ...streams,
      log(p, options, out) {
        if (options.previous) return Promise.reject(new Error(`previous terminated container "${options.container}" in pod "${p.metadata?.name ?? ''}" not found`));
        out.end(`${options.container} ${String(options.tailLines)} ${String(options.follow)}\n`);
        return Promise.resolve();
      },
    };
    // A silent log that is followed is answered at once and ended when its reader goes.
    let aborted: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => (aborted = resolve));
    r.api.attachRuntime({
      ...streams,
      log: (_pod, _options, _out, signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            aborted();
            resolve();
          });
        }),
    });
    const { ca } = await r.api.certificates();
    const silent = https.get(`${r.url}${at}/bindme/log?follow=true`, { ca, agent: false, headers: { authorization: `Bearer ${r.api.token}` } }, (m) => {
      assert.equal(m.statusCode, 200);
      m.on('error', () => undefined);
      silent.destroy();
    });
    await ended;
    r.api.attachRuntime(speaking);
    const log = await r.request('GET', `${at}/bindme/log?tailLines=5`);
    assert.deepEqual([log.status, log.text], [200, 'c 5 false\n']);
    const previous = await r.request('GET', `${at}/bindme/log?previous=true`);
    assert.equal(previous.status, 400);
    assert.match(previous.json<Status>().message ?? '', /^previous terminated container/);
    assert.equal((await r.request('GET', `${at}/bindme/log?container=zz`)).json<Status>().message, 'container zz is not valid for pod bindme');
    await post(pod('two', { containers: [{ name: 'a', image: 'i' }, { name: 'b', image: 'i' }] }));
    assert.equal((await r.request('GET', `${at}/two/log`)).json<Status>().message, 'a container name must be specified for pod two, choose one of: [a b]');
  });

  it('describes itself', async () => {
    const v2 = await r.request('GET', '/api', { headers: { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json' } });
    assert.equal(v2.headers['content-type'], 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList');
    interface Discovery { items: { versions: { resources: { resource: string; subresources?: { subresource: string }[] }[] }[] }[] }
    const pods = v2.json<Discovery>().items[0]?.versions[0]?.resources.find((x) => x.resource === 'pods');
    assert.deepEqual(pods?.subresources?.map((s) => s.subresource), ['status', 'binding', 'log', 'exec', 'attach', 'portforward', 'ephemeralcontainers']);
    const plain = (await r.request('GET', '/api/v1')).json<{ resources: { name: string }[] }>();
    assert.ok(plain.resources.some((x) => x.name === 'pods/log'));
    const index = (await r.request('GET', '/openapi/v3')).json<{ paths: Record<string, { serverRelativeURL: string }> }>();
    interface Doc { components: { schemas: Record<string, { properties?: Record<string, { description?: string }>; required?: string[] }> }; paths: Record<string, unknown> }
    const doc = (await r.request('GET', index.paths['api/v1']?.serverRelativeURL ?? '')).json<Doc>();
    assert.deepEqual(doc.components.schemas['io.k8s.api.core.v1.PodSpec']?.required, ['containers']);
    const text = JSON.stringify(doc);
    for (const ref of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) assert.ok(doc.components.schemas[ref[1] ?? ''] !== undefined, `${ref[1] ?? ''} is referred to and missing`);
    assert.ok('/api/v1/namespaces/{namespace}/pods/{name}' in doc.paths);
  });

  it('survives hostile requests', async () => {
    for (const hostile of ['/api/v1/namespaces/%00/pods', '/api/v1/namespaces/default/pods/%2e%2e', '//', '/api//v1', '/apis/%E0%A4%A', '/api/v1/pods?limit=x', '/api/v1/pods?continue=%ff']) {
      const { status } = await r.request('GET', hostile);
      assert.ok(status >= 200 && status <= 500 && status !== 0, `${hostile}: ${String(status)}`);
    }
    const bytes = { 'content-type': 'application/vnd.kubernetes.protobuf' };
    for (const body of [Buffer.from('k8s\0'), Buffer.from('k8s\0\x0a\xff\xff\xff\xff\x0f', 'latin1'), Buffer.from('nothing'), Buffer.alloc(1000, 0xff)]) {
      const { status } = await r.request('POST', '/api/v1/namespaces', { body, headers: bytes });
      assert.ok(status >= 400 && status < 500, `${body.toString('hex').slice(0, 20)}: ${String(status)}`);
    }
    assert.equal((await post(`"${'x'.repeat(4_000_000)}"`)).status, 413);
    assert.equal((await r.request('GET', '/healthz')).text, 'ok');
  });
});
