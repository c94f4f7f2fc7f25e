/** Labs with racks, from the examples: which way packets between racks take, and what is refused. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { good, labName, needsRoot, podway, ROOT, until } from './lab-support.js';

const example = (name: string): string => join(ROOT, 'examples', name);

interface Seen {
  readonly point: string;
  readonly ttl: number;
  readonly outer?: { readonly src: string; readonly dst: string; readonly ttl: number };
}
interface TraceJson {
  readonly verdict: string;
  readonly request: { readonly asPredicted?: boolean; readonly rows: readonly { readonly observed?: Seen }[] };
  readonly summary: readonly string[];
}

/** What was captured on the way there; it must be what was predicted. */
async function trace(lab: string, ...words: string[]): Promise<{ seen: Seen[]; json: TraceJson }> {
  const json = JSON.parse(await good('trace', '--lab', lab, ...words, '-o', 'json')) as TraceJson;
  assert.equal(json.request.asPredicted, true, JSON.stringify(json.summary));
  return { json, seen: json.request.rows.flatMap((r) => r.observed ?? []) };
}

const at = (seen: readonly Seen[], point: string): Seen => seen.find((s) => s.point === point) ?? assert.fail(`not seen at ${point}: ${seen.map((s) => s.point).join(', ')}`);
const namespaces = (seen: readonly Seen[]): string[] => [...new Set(seen.map((s) => s.point.split('/')[0]!))];

test('two racks: a tunnel only between them; BGP with their routers makes it bare; host-gw is refused', { skip: needsRoot }, async (t) => {
  const lab = labName();
  const flag = ['--lab', lab];
  const map = await good('up', '-f', example('two-racks.yaml'), ...flag);
  assert.match(map, /├─ rack r1 {2}172\.18\.1\.0\/24 {2}router-r1 172\.18\.1\.1 {2}AS 65001\n {2}│ {2}├─ m1 {2}172\.18\.1\.2 /);
  assert.match(map, /All 12 pod pairs reach each other/);

  await t.test('vxlan --cross-subnet: bare within a rack, encapsulated between racks', async () => {
    const within = await trace(lab, 'web-a', 'web-b');
    assert.ok(within.seen.every((s) => s.outer === undefined));
    assert.deepEqual(namespaces(within.seen), ['web-a', 'm1', 'router-r1', 'm2', 'web-b']);
    assert.deepEqual([at(within.seen, 'router-r1/br0').ttl, at(within.seen, 'web-b/eth0').ttl], [63, 62], 'the switch is no router');
    const between = await trace(lab, 'web-a', 'web-c');
    assert.deepEqual(namespaces(between.seen), ['web-a', 'm1', 'router-r1', 'core', 'router-r2', 'm3', 'web-c']);
    // Every router takes one from the TTL of the outer header.
    assert.deepEqual(['m1/eth0', 'router-r1/core0', 'core/to-r2', 'router-r2/br0', 'm3/eth0'].map((p) => at(between.seen, p).outer?.ttl), [64, 63, 62, 61, 61]);
    assert.deepEqual([at(between.seen, 'm3/eth0').outer?.src, at(between.seen, 'm3/eth0').outer?.dst], ['172.18.1.2', '172.18.2.2']);
    assert.ok(between.json.summary.includes('outer TTL 64 → 61 (3 routers forwarded it)'), between.json.summary.join('; '));
  });

  await t.test('who is not in the cluster does not reach pods behind an overlay', async () => {
    const r = await podway('trace', ...flag, 'outside', 'web-c', '--count', '1', '--timeout', '300ms');
    assert.notEqual(r.code, 0);
  });

  await t.test('what cannot be is refused in words, and nothing is changed', async () => {
    const hostGw = await podway('network', 'set', 'host-gw', ...flag);
    assert.equal(hostGw.code, 1);
    assert.match(hostGw.stderr, /host-gw needs all nodes on one subnet: m1, m2 on 172\.18\.1\.0\/24; m3, m4 on 172\.18\.2\.0\/24/);
    const status = await podway('bgp', 'status', ...flag);
    assert.equal(status.code, 1);
    assert.match(status.stderr, new RegExp(`the backend of lab ${lab} is vxlan, which has no BGP sessions\\n {2}hint: To change it: podway network set --lab ${lab} bgp`));
    assert.match((await podway('network', 'set', 'vxlan', '--asn', '64600', ...flag)).stderr, /--asn: only for bgp/);
    assert.match(await good('network', 'get', ...flag), /^backend vxlan/);
  });

  await t.test('bgp: routers learn where pods are; bare packets, one TTL less at each router; reachable from outside', async () => {
    await good('network', 'set', 'bgp', '--asn', '64600', ...flag);
    await until('all sessions', async () => (await podway('bgp', 'status', ...flag, '--no-probe')).code === 0, 60_000);
    const sessions = JSON.parse(await good('bgp', 'status', ...flag, '-o', 'json')) as { sessions: { node: string; name: string; type: string; localAsn: number; state: string }[] };
    const of = (node: string): string[] => sessions.sessions.filter((s) => s.node === node).map((s) => `${s.type} ${s.name}`).sort();
    assert.deepEqual(of('m1'), ['external router-r1', 'mesh node m2']);
    assert.deepEqual(of('router-r1'), ['external core', 'external node m1', 'external node m2']);
    assert.deepEqual(of('core'), ['external router-r1', 'external router-r2']);
    assert.ok(sessions.sessions.filter((s) => s.node.startsWith('m')).every((s) => s.localAsn === 64600));
    await until('the routes of m1', async () => /10\.244\.2\.0\/24 via 172\.18\.1\.1 dev eth0 proto bird/.test(await good('node', 'exec', 'm1', ...flag, '--', 'ip', 'route')));
    const { seen } = await trace(lab, 'web-a', 'web-c');
    assert.ok(seen.every((s) => s.outer === undefined));
    assert.deepEqual(['web-a/eth0', 'm1/eth0', 'router-r1/core0', 'core/to-r2', 'router-r2/br0', 'm3/cni0', 'web-c/eth0'].map((p) => at(seen, p).ttl), [64, 63, 62, 61, 60, 59, 59]);
    await trace(lab, 'outside', 'web-c');
  });

  await t.test('reflectors instead of the mesh, by name and by label', async () => {
    await good('network', 'set', 'bgp', '--reflectors', 'm1', '--reflectors', 'podway.io/rack=r2', ...flag);
    const types = async (): Promise<string[]> => {
      const { sessions } = JSON.parse((await podway('bgp', 'status', 'm2', '--no-probe', ...flag, '-o', 'json')).stdout) as { sessions: { type: string; name: string; state: string }[] };
      return sessions.map((s) => `${s.type} ${s.name} ${s.state}`).sort();
    };
    const wanted = ['external router-r1 Established', 'rr node m1 Established', 'rr node m3 Established', 'rr node m4 Established'];
    await until('the sessions of m2', async () => JSON.stringify(await types()) === JSON.stringify(wanted), 60_000);
  });

  await t.test('a node joins a rack and leaves it: its router speaks with it, and then no more', async () => {
    const joined = JSON.parse(await good('node', 'add', 'm5', '--rack', 'r2', ...flag, '-o', 'json')) as { address: string };
    assert.equal(joined.address, '172.18.2.4');
    await until('the router to speak with m5', async () => /node m5 .*Established/.test((await podway('bgp', 'status', 'router-r2', '--no-probe', ...flag)).stdout), 60_000);
    await good('node', 'remove', 'm5', ...flag);
    assert.doesNotMatch((await podway('bgp', 'status', 'router-r2', '--no-probe', ...flag)).stdout, /node m5/);
    const wrong = await podway('node', 'add', 'm6', '--rack', 'r9', ...flag);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /there is no rack r9; racks: r1, r2/);
  });
  await good('down', ...flag);
});

test('two sites: a tunnel in a tunnel, each with its own header; the smaller MTU is told by the router', { skip: needsRoot }, async () => {
  const lab = labName();
  assert.match(await good('up', '-f', example('two-sites.yaml'), '--lab', lab), /router-paris ══ tunnel, MTU 1400 ══ router-lyon/);
  const { seen, json } = await trace(lab, 'web-a', 'web-c');
  assert.deepEqual([at(seen, 'router-paris/br0').outer?.dst, at(seen, 'core/to-lyon').outer?.dst], ['192.168.20.2', '100.64.2.2']);
  assert.ok(json.summary.some((l) => l.startsWith('VXLAN adds 50, 100 bytes')), json.summary.join('; '));
  // The largest packet that fits goes through in one piece; one byte more is refused where the way gets narrow.
  await trace(lab, 'web-a', 'web-c', '--size', '1350');
  await trace(lab, 'node/p1', 'node/l1', '--size', '1400');
  const big = await podway('trace', '--lab', lab, 'node/p1', 'node/l1', '--size', '1401');
  assert.match(big.stdout.replace(/\s+/g, ' '), /dropped in router-paris at tunnel0 \(PKT_TOO_BIG\).*Observed: the same/);
  assert.match(big.stdout, /192\.168\.10\.1 says: .*need to frag \(mtu 1400\)/);
  await good('down', '--lab', lab);
});

test('one switch: host-gw, bare, nobody forwards but the nodes', { skip: needsRoot }, async () => {
  const lab = labName();
  await good('up', '-f', example('one-switch.yaml'), '--lab', lab);
  const { seen, json } = await trace(lab, 'web-a', 'web-c');
  assert.deepEqual(namespaces(seen), ['web-a', 'm1', 'underlay', 'm3', 'web-c']);
  assert.ok(json.summary.includes('TTL 64 → 62 (2 nodes forwarded it)'));
  await good('down', '--lab', lab);
});
