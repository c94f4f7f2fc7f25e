/** http and tcp probes reach what listens in the node's namespace, and nothing of the machine's own. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { listenTcp, Netns, RtNetlink } from '@podway/kernel';
import { httpProbe, redirect, tcpProbe, type HttpProbe } from '../src/runtime/network-probe.js';
import { startHold, type Resident } from '../src/runtime/index.js';
import { initBinary, needsRoot } from './runtime-support.js';

const skip = needsRoot;
let node: Resident;
const web = createServer((q, r) => {
  if (q.url === '/here') return void r.writeHead(302, { location: '/good' }).end();
  if (q.url === '/round') return void r.writeHead(302, { location: '/round' }).end();
  if (q.url === '/away') return void r.writeHead(302, { location: 'http://192.0.2.1/' }).end();
  if (q.url === '/slow') return;
  r.writeHead(q.url === '/bad' ? 503 : 200).end(`${q.headers['user-agent']} ${q.headers.host} ${String(q.headers['x-probe'])}`);
});

before(async () => {
  if (skip) return;
  node = await startHold(initBinary(), { hostname: 'probe-node' });
  const ns = Netns.open({ pid: node.pid });
  RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
  const fd = listenTcp(ns, '127.0.0.1', 8080);
  ns.close();
  await new Promise<void>((resolve) => web.listen({ fd }, resolve));
});
after(async () => {
  if (skip) return;
  web.closeAllConnections();
  web.close();
  process.kill(node.pid, 'SIGKILL');
  await node.gone;
});

const get = (path: string, more: Partial<HttpProbe> = {}, timeoutMs = 1_000) =>
  httpProbe(node.pid, { scheme: 'http', address: '127.0.0.1', port: 8080, path, headers: [], ...more }, timeoutMs);

test('http: status decides; headers are the probe\'s', { skip }, async () => {
  assert.deepEqual(await get('/good', { headers: [{ name: 'X-Probe', value: 'yes' }] }), { ok: true, output: 'kube-probe/1.32 127.0.0.1:8080 yes' });
  assert.match((await get('/good', { headers: [{ name: 'Host', value: 'shop.example' }] })).output, / shop\.example /);
  assert.deepEqual(await get('/bad'), { ok: false, output: 'HTTP probe failed with statuscode: 503' });
  assert.deepEqual(await get('/slow', {}, 100), { ok: false, output: 'Get "http://127.0.0.1:8080/slow": context deadline exceeded (Client.Timeout exceeded while awaiting headers)' });
  assert.deepEqual(await get('/', { port: 9 }), { ok: false, output: 'Get "http://127.0.0.1:9/": dial tcp 127.0.0.1:9: connect: connection refused' });
  assert.deepEqual(await get('/', { address: '192.0.2.1' }), { ok: false, output: 'Get "http://192.0.2.1:8080/": dial tcp 192.0.2.1:8080: connect: network is unreachable' });
});

test('http: redirects within the host are followed, not for ever, and not to others', { skip }, async () => {
  assert.equal((await get('/here')).ok, true);
  assert.deepEqual(await get('/round'), { ok: false, output: 'stopped after 10 redirects' });
  assert.equal((await get('/away')).ok, true);
  assert.equal(redirect({ scheme: 'http', address: '::1', port: 80, path: '/', headers: [] }, 'http://[::1]:80/', 'https://[::1]/x?y')?.port, 443);
});

test('tcp: from the node\'s namespace, not the machine\'s', { skip }, async () => {
  assert.deepEqual(await tcpProbe(node.pid, { address: '127.0.0.1', port: 8080 }, 1_000), { ok: true, output: '' });
  const machine = createTcpServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => machine.once('listening', resolve));
  const { port } = machine.address() as AddressInfo;
  assert.equal((await tcpProbe(node.pid, { address: '127.0.0.1', port }, 1_000)).output, `dial tcp 127.0.0.1:${port}: connect: connection refused`);
  machine.close();
  const began = performance.now();
  for (let i = 0; i < 50; i++) assert.equal((await get('/good')).ok, true);
  // Far from what a process each would take (5 ms and more), also on a busy machine.
  assert.ok((performance.now() - began) / 50 < 50);
});
