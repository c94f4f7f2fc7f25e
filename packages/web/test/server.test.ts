/** The server on a small real network: what it answers, what it refuses, what it streams, and that it ends. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Netns, RtNetlink } from '@podway/kernel';
import { readWorld } from '@podway/trace';
import { serveUi, type NamespaceView, type PathAnswer, type Topology, type TopologyDelta, type Ui, type UiOptions, type UiSource } from '../src/index.js';

const skip = process.getuid?.() === 0 ? false : 'needs root: makes namespaces';
const id = randomBytes(4).toString('hex');
const names = { node: `web-test-${id}-n`, pod: `web-test-${id}-p` };
const page = mkdtempSync(join(tmpdir(), 'podway-web-test-'));
writeFileSync(join(page, 'index.html'), '<!doctype html><title>page</title>');

/** A node and a pod, joined by a veth pair. */
function build(): void {
  const node = Netns.create(names.node);
  const pod = Netns.create(names.pod);
  try {
    RtNetlink.with(node, (nl) => {
      const veth = nl.createLink({ kind: 'veth', name: 'veth0', peer: { name: 'eth0', netnsFd: pod.fd } });
      nl.setLink(veth.index, { up: true });
      nl.addAddr({ index: veth.index, address: '10.77.0.1', prefix: 24 });
    });
    RtNetlink.with(pod, (nl) => {
      nl.setLink('eth0', { up: true });
      nl.addAddr({ index: nl.mustLink('eth0').index, address: '10.77.0.2', prefix: 24 });
    });
  } finally {
    node.close();
    pod.close();
  }
}

const inNode = <T>(act: (nl: RtNetlink) => T): T => {
  const ns = Netns.open({ name: names.node });
  try {
    return RtNetlink.with(ns, act);
  } finally {
    ns.close();
  }
};

const source: UiSource = {
  name: 'small',
  read: () => Promise.resolve(readWorld({
    nodes: [{ name: 'n1', addresses: ['10.77.0.1'], podCIDRs: ['10.77.0.0/24'], netns: { name: names.node } }],
    pods: [{ namespace: 'default', name: 'p1', node: 'n1', ips: ['10.77.0.2'], netns: { name: names.pod } }], underlay: [],
  })),
  processes: () => Promise.resolve([{ pod: 'default/p1', pause: { name: 'pause', pid: 1, namespaces: { net: '1' } }, containers: [] }]),
};

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function ask(ui: Pick<Ui, 'port'>, path: string, o: { method?: string; headers?: Record<string, string | number>; body?: string | Buffer } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({ host: '127.0.0.1', port: ui.port, path, method: o.method ?? 'GET', headers: { ...o.headers } }, (res) => {
      let body = '';
      res.setEncoding('utf8').on('data', (d: string) => (body += d)).once('end', () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }));
    });
    req.once('error', reject);
    req.end(o.body);
  });
}

const open: Ui[] = [];
async function serve(options: Partial<UiOptions> = {}): Promise<Ui & { cookie: string; get(path: string): Promise<Answer>; post(path: string, body: string | Buffer, headers?: Record<string, string | number>): Promise<Answer> }> {
  const ui = await serveUi({ source, pageDir: page, everyMs: 20, ...options });
  open.push(ui);
  const welcome = await ask(ui, ui.url.slice(ui.url.indexOf('/?')));
  assert.equal(welcome.status, 200);
  const cookie = welcome.headers['set-cookie']![0]!.split(';')[0]!;
  const origin = `http://127.0.0.1:${ui.port}`;
  return {
    ...ui, cookie, get: (path) => ask(ui, path, { headers: { cookie } }),
    post: (path, body, headers = {}) => ask(ui, path, { method: 'POST', body, headers: { cookie, origin, 'content-type': 'application/json', ...headers } }),
  };
}

before(() => {
  if (!skip) build();
});
after(async () => {
  for (const ui of open) await ui.close();
  if (!skip) for (const n of Object.values(names)) Netns.remove(n);
  rmSync(page, { recursive: true, force: true });
});

const codeOf = (a: Answer): string => `${a.status} ${(JSON.parse(a.body) as { error: { code: string } }).error.code}`;

test('topology and states: devices joined by the veth pair, objects as ip prints them with the way back', { skip }, async () => {
  const ui = await serve();
  const t = JSON.parse((await ui.get('/api/topology')).body) as Topology;
  assert.deepEqual(t.source, { kind: 'lab', name: 'small' });
  assert.deepEqual(t.links.map((l) => [l.a, l.b].sort()), [['default/p1 eth0', 'n1 veth0']]);
  const veth = t.devices.find((d) => d.id === 'n1 veth0')!;
  const eth0 = t.devices.find((d) => d.id === 'default/p1 eth0')!;
  assert.deepEqual([veth.peerIndex, eth0.peerIndex], [eth0.index, veth.index]);
  assert.equal(t.pods[0]?.pause?.name, 'pause');

  const pod = JSON.parse((await ui.get('/api/pod/default/p1')).body) as NamespaceView;
  const link = pod.sections[0]!.objects.find((o) => o.devices[0] === 'eth0')!;
  assert.match(link.text, new RegExp(`^${eth0.index}: eth0@if${veth.index}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500`));
  assert.deepEqual(link.refs, [{ relation: 'other-end', netns: 'n1', dev: 'veth0', index: veth.index }]);
  const route = pod.sections.flatMap((s) => s.objects).find((o) => o.text.startsWith('10.77.0.0/24 dev eth0'))!;
  assert.deepEqual(route.refs.map((r) => r.relation), ['leaves-by', 'pods-of']);
  assert.equal(codeOf(await ui.get('/api/node/none')), '404 NOT_FOUND');
});

test('paths: predicted by GET, observed by POST, kept with their packets', { skip }, async () => {
  const ui = await serve();
  const predicted = JSON.parse((await ui.get('/api/path?from=p1&to=n1&proto=icmp')).body) as PathAnswer;
  assert.deepEqual([predicted.report.verdict, predicted.report.observed, predicted.id], ['delivered', false, undefined]);
  const seen = JSON.parse((await ui.post('/api/trace', JSON.stringify({ from: 'p1', to: 'n1', proto: 'icmp' }))).body) as PathAnswer;
  assert.deepEqual(seen.report.request.rows.map((r) => [r.point.label, r.state]), [['p1/eth0', 'seen'], ['n1/veth0', 'seen']]);
  assert.deepEqual(JSON.parse((await ui.get(`/api/trace/${seen.id}`)).body), seen);
  const file = await ui.get(`/api/trace/${seen.id}/pcapng`);
  assert.match(String(file.headers['content-disposition']), /^attachment; filename="podway-[\w-]+\.pcapng"$/);
  assert.equal(codeOf(await ui.get('/api/trace/none')), '404 NOT_FOUND');
  assert.equal(codeOf(await ui.get(`/api/trace/${seen.id}/exe`)), '404 NOT_FOUND');
});

test('refused: no token, wrong Host, foreign Origin, wrong method, broken and oversized bodies', { skip }, async () => {
  const ui = await serve();
  const good = JSON.stringify({ from: 'p1', to: 'n1', proto: 'icmp' });
  const big = Buffer.alloc(20_000, 0x20);
  assert.equal(codeOf(await ask(ui, '/api/topology')), '401 NO_TOKEN');
  assert.equal(codeOf(await ask(ui, '/api/events')), '401 NO_TOKEN');
  assert.equal((await ask(ui, '/')).status, 401);
  assert.equal(codeOf(await ask(ui, '/api/topology', { headers: { cookie: ui.cookie, host: `evil.example:${ui.port}` } })), '403 WRONG_HOST');
  assert.equal(codeOf(await ask(ui, '/api/topology', { headers: { cookie: ui.cookie, origin: 'http://evil.example' } })), '403 FOREIGN_ORIGIN');
  assert.equal(codeOf(await ui.post('/api/trace', good, { origin: 'http://evil.example' })), '403 FOREIGN_ORIGIN');
  assert.equal(codeOf(await ask(ui, '/api/trace', { method: 'POST', body: good, headers: { cookie: ui.cookie, 'content-type': 'application/json' } })), '403 FOREIGN_ORIGIN');
  assert.equal(codeOf(await ui.get('/api/trace')), '405 WRONG_METHOD');
  assert.equal(codeOf(await ui.post('/api/topology', '{}')), '405 WRONG_METHOD');
  assert.equal(codeOf(await ui.post('/api/trace', good, { 'content-type': 'text/plain' })), '415 NOT_JSON');
  for (const body of ['', '{', 'null', '[]', '{"from":"p1"}', '{"from":"p1","to":"n1","proto":"gre"}', '{"from":"p1","to":"n1","proto":"icmp","size":1e9}', '{"from":"p1","to":"n1","proto":"icmp","count":9}', '{"from":"p1","to":"$(id)","proto":"icmp"}']) {
    assert.equal(codeOf(await ui.post('/api/trace', body)), '400 BAD_QUESTION', body);
  }
  assert.equal(codeOf(await ui.post('/api/trace', big)), '413 TOO_LARGE');
  assert.equal(codeOf(await ui.post('/api/trace', big, { 'transfer-encoding': 'chunked' })), '413 TOO_LARGE');
  assert.equal(codeOf(await ui.post('/api/trace', '{"from":"nobody","to":"n1","proto":"icmp"}')), '404 TRACE_UNKNOWN_TARGET');
  assert.equal(codeOf(await ui.get('/api/path?from=p1&to=n1&proto=tcp&port=x')), '400 BAD_QUESTION');
  assert.equal(codeOf(await ui.get('/api/node/%ff')), '400 BAD_ADDRESS');
  assert.equal(codeOf(await ui.get('/../../etc/passwd')), '404 NOT_FOUND');
});

test('read-only: paths are predicted, no probe is sent', { skip }, async () => {
  const ui = await serve({ readOnly: true });
  assert.equal(codeOf(await ui.post('/api/trace', JSON.stringify({ from: 'p1', to: 'n1', proto: 'icmp' }))), '403 READ_ONLY');
  assert.equal((await ui.get('/api/path?from=p1&to=n1&proto=icmp')).status, 200);
  assert.equal((JSON.parse((await ui.get('/api/topology')).body) as Topology).mayTrace, false);
});

test('every answer carries the policy: no script but the page’s own, no other host, no frame', { skip }, async () => {
  const ui = await serve();
  for (const a of [await ui.get('/'), await ui.get('/api/topology'), await ask(ui, '/api/topology')]) {
    assert.match(String(a.headers['content-security-policy']), /^default-src 'none'; script-src 'self'; /);
    assert.doesNotMatch(String(a.headers['content-security-policy']), /unsafe|https?:|\*/);
    assert.deepEqual([a.headers['x-content-type-options'], a.headers['referrer-policy'], a.headers['access-control-allow-origin']], ['nosniff', 'no-referrer', undefined]);
  }
});

test('events: the topology, all counters, then differences alone; a device that comes and goes', { skip }, async () => {
  const ui = await serve();
  const events: { event: string; data: unknown }[] = [];
  let text = '';
  const waiting = new Set<() => void>();
  const req = request({ host: '127.0.0.1', port: ui.port, path: '/api/events', headers: { cookie: ui.cookie } }, (res) => {
    res.setEncoding('utf8').on('error', () => undefined).on('data', (d: string) => {
      text += d;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const m = /^event: (.*)\ndata: (.*)$/.exec(text.slice(0, end));
        text = text.slice(end + 2);
        if (m) events.push({ event: m[1]!, data: JSON.parse(m[2]!) });
      }
      for (const w of waiting) w();
    });
  });
  req.on('error', () => undefined); // it is cut off at the end
  req.end();
  const wait = <T>(what: string, find: (e: { event: string; data: unknown }) => T | undefined | false): Promise<T> => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`waited for ${what}; got ${events.map((e) => e.event).join(' ')}`)), 20_000);
    const look = (): void => {
      for (const e of events) {
        const found = find(e);
        if (found === undefined || found === false) continue;
        clearTimeout(timer);
        waiting.delete(look);
        return resolve(found);
      }
    };
    waiting.add(look);
    look();
  });
  await wait('counters', (e) => e.event === 'counters');
  assert.deepEqual(events.slice(0, 2).map((e) => e.event), ['topology', 'counters']);
  assert.equal((events[1]!.data as { full: boolean }).full, true);

  await ui.post('/api/trace', JSON.stringify({ from: 'p1', to: 'n1', proto: 'icmp' }));
  const counts = await wait('a difference', (e) => {
    const u = e.data as { full?: boolean; counts?: Record<string, number[]> };
    return e.event === 'counters' && !u.full && u.counts?.['n1 veth0'];
  });
  assert.ok(counts[0]! >= 1 && counts[0]! < 50, `a difference, not a total: ${String(counts)}`);

  inNode((nl) => nl.createLink({ kind: 'bridge', name: 'br-new' }));
  const put = await wait('the bridge', (e) => e.event === 'change' && (e.data as TopologyDelta).put.devices?.some((d) => d.id === 'n1 br-new') && (e.data as TopologyDelta));
  assert.deepEqual([Object.keys(put.put), put.put.devices?.map((d) => d.id)], [['devices'], ['n1 br-new']]);
  inNode((nl) => nl.deleteLink('br-new'));
  await wait('the bridge to go', (e) => e.event === 'change' && (e.data as TopologyDelta).gone.devices?.includes('n1 br-new'));
  req.destroy();
});

test('it ends although somebody listens, and its port is free again', { skip }, async () => {
  const ui = await serve();
  const ended = new Promise<void>((resolve, reject) => {
    request({ host: '127.0.0.1', port: ui.port, path: '/api/events', headers: { cookie: ui.cookie } }, (res) => {
      res.resume().once('close', resolve);
      res.once('data', () => void ui.close().catch(reject));
    }).once('error', reject).end();
  });
  await ended;
  await ui.close().catch(() => undefined);
  const again = await serveUi({ source, pageDir: page, port: ui.port });
  open.push(again);
  await assert.rejects(serveUi({ source, pageDir: page, port: ui.port }), { code: 'ADDRESS_IN_USE' });
  await assert.rejects(serveUi({ source, pageDir: page, address: '192.0.2.1' }), { code: 'ADDRESS_NOT_HERE' });
  await assert.rejects(serveUi({ source, pageDir: join(page, 'none') }), { code: 'PAGE_MISSING' });
});
