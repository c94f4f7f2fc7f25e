/** A lab whose nodes encrypt: shown as such, traced, checked, and changed while pods talk. Its WireGuard is wireguard-go's where the kernel has none. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { good, labName, needsRoot, podway, scratch, startProgram, until } from './lab-support.js';

const lab = labName();
const at = ['--lab', lab];
const skip = needsRoot || (spawnSync('wireguard-go', ['--version']).error || spawnSync('wg', ['--version']).error ? 'wireguard-go or wg is not installed' : false);

before(async () => {
  if (skip) return;
  const file = join(scratch, `${lab}.yaml`);
  writeFileSync(file, [
    'apiVersion: podway.io/v1alpha1', 'kind: Lab', `name: ${lab}`, 'network: {backend: {type: wireguard}}', 'nodes: [{name: m1}, {name: m2}]',
    'pods: [{name: web-a, node: m1}, {name: web-b, node: m2}]', '',
  ].join('\n'));
  await good('up', '-f', file, '-q');
});
after(async () => {
  if (!skip) await good('down', ...at, '-q');
});

const json = async <T>(...words: string[]): Promise<T> => JSON.parse(await good(...words, ...at, '-o', 'json')) as T;
const inNode = (node: string, ...argv: string[]): Promise<string> => good('node', 'exec', node, ...at, '--', ...argv);
interface View { readonly way: string; readonly nodes: readonly { readonly name: string; readonly uses: string; readonly wireguard?: { readonly publicKey: string; readonly port: number; readonly implementation: string } }[] }
interface Leg { readonly rows: readonly { readonly point: { readonly label: string }; readonly state: string; readonly predicted?: { readonly sealed?: boolean }; readonly observed?: { readonly sealed?: { readonly by: string } } }[] }
interface Report { readonly verdict: string; readonly headline: string; readonly request: Leg; readonly reply: Leg }

test('network get, status and inspect node say who encrypts; no private key is anywhere', { skip }, async () => {
  const view = await json<View>('network', 'get');
  const [m1] = view.nodes;
  const who = m1!.wireguard!.implementation;
  assert.match(who, /^(kernel|user space \(wireguard-go\))$/);
  assert.match(await good('network', 'get', ...at), new RegExp(`^ {2}m1 +172\\.18\\.0\\.2 +sends by wireguard +takes wireguard +${who.replace(/[()]/g, '\\$&')}, UDP 51820, public key ${m1!.wireguard!.publicKey.replace(/[+]/g, '\\+')}$`, 'm'));
  if (who !== 'kernel') assert.match(await good('status', ...at), /^network +wireguard, in user space \(wireguard-go\) on m1, m2$/m);
  assert.match(await good('inspect', 'node', 'm1', ...at), /podway\.wg +WireGuard tunnel of this node/);
  const key = (await inNode('m1', 'cat', '/var/lib/podway/wireguard/generation-0.key')).trim();
  const said = [await good('network', 'get', ...at, '-o', 'json'), await good('get', 'nodes', ...at, '-o', 'json'), await good('inspect', 'netns', 'm1', ...at, '-o', 'json').catch(() => '')].join();
  assert.equal(key.length, 44);
  assert.ok(!said.includes(key));
  assert.equal((await inNode('m1', 'stat', '-c', '%a', '/var/lib/podway/wireguard/generation-0.key')).trim(), '600');
});

/** Where another encrypted packet of the same size was on its way at that moment, the report says that nobody can tell which is which: asked again. */
async function telling(words: readonly string[]): Promise<Report> {
  let r = await json<Report>('trace', ...words);
  for (let i = 0; i < 5 && [r.request, r.reply].some((leg) => leg.rows.some((x) => x.predicted?.sealed && !x.observed)); i++) r = await json<Report>('trace', ...words);
  return r;
}

test('trace: as predicted both ways; between nodes the packet is matched by time and size, and said to be', { skip }, async () => {
  for (const words of [['web-a', 'web-b'], ['web-a', 'web-b:80'], ['node/m1', 'web-b']]) {
    const r = await telling(words);
    assert.equal(r.headline, 'Predicted: delivered to default/web-b. Observed: the same.', words.join(' '));
    for (const leg of [r.request, r.reply]) {
      const sealed = leg.rows.filter((x) => x.predicted?.sealed);
      assert.ok(sealed.length >= 3);
      assert.deepEqual([...new Set(sealed.map((x) => x.observed?.sealed?.by))], ['time and size']);
      assert.deepEqual(leg.rows.filter((x) => x.point.label.endsWith('/podway.wg')).map((x) => x.observed?.sealed), [undefined, undefined], 'plain at both ends of the tunnel');
    }
  }
});

test('a peer that somebody removed: network check names it, and the prediction says what happens', { skip }, async () => {
  assert.equal((await podway('network', 'check', ...at)).code, 0);
  const key = (await json<View>('network', 'get')).nodes.find((n) => n.name === 'm2')!.wireguard!.publicKey;
  const [check, predicted] = await until('the peer to be missed before the agent has mended it', async () => {
    await inNode('m1', 'wg', 'set', 'podway.wg', 'peer', key, 'remove');
    const [c, p] = await Promise.all([podway('network', 'check', ...at), podway('trace', 'web-a', 'web-b', '--static', ...at)]);
    return c.code === 1 && p.stdout.includes('allowed IPs') ? [c.stdout, p.stdout] : undefined;
  });
  assert.match(check, /^m1 +missing +peer +\S+ dev podway\.wg +missing: pods of node m2 are behind 172\.18\.0\.3$/m);
  assert.match(predicted.replace(/\s+/g, ' '), /dropped in m1 at podway\.wg: allowed IPs of podway\.wg in m1: no peer of podway\.wg may be sent 10\.244\.1\.2/);
  await until('the agent to mend it', async () => (await podway('network', 'check', ...at)).code === 0, 60_000);
});

test('kill -9 of the agent, new keys, another backend and back, under 200 echoes a second: none is lost', { skip }, async (t) => {
  const { processes } = await json<{ processes: { pid: number }[] }>('inspect', 'pod', 'web-a');
  const ping = startProgram('nsenter', [`--net=/proc/${processes[0]!.pid}/ns/net`, 'ping', '-n', '-i', '0.005', '10.244.1.2'], { keepOpen: true });
  await until('echoes', () => ping.said().split('\n').length > 50);
  const agent = (): Promise<string | undefined> => inNode('m1', 'ps', '-eo', 'pid,args').then((ps) => /^ *(\d+) \S*node \S+ agent --node m1 /m.exec(ps)?.[1]);
  const pid = await agent();
  await inNode('m1', 'kill', '-9', pid!);
  await until('another agent', async () => {
    const now = await agent();
    return now !== undefined && now !== pid;
  });
  const before = await json<View>('network', 'get');
  const rotated = await good('network', 'rotate-keys', 'm2', ...at);
  assert.match(rotated, /^ {2}m1 {2}keeps \S+\n {2}m2 {2}\S+ → \S+\nAll 2 nodes use wireguard\/1\.$/m);
  const now = await json<View>('network', 'get');
  assert.deepEqual(now.nodes.map((n) => n.wireguard?.port), [51821, 51821]);
  assert.deepEqual(now.nodes.map((n, i) => n.wireguard?.publicKey === before.nodes[i]!.wireguard?.publicKey), [true, false]);
  assert.equal((await podway('network', 'check', ...at)).code, 0);
  assert.match(await good('network', 'set', 'vxlan', ...at), /^All 2 nodes use vxlan\.$/m);
  const refused = await podway('network', 'rotate-keys', ...at);
  assert.match(refused.stderr, /the backend is vxlan, which has no keys/);
  await until('nothing of WireGuard to be left', async () => !/wireguard-go/.test(await inNode('m1', 'ps', '-eo', 'args')) && (await inNode('m1', 'sh', '-c', 'ls /run/wireguard /var/lib/podway/wireguard 2>/dev/null; ip -br link')).match(/podway\.wg|generation/) === null);
  await good('network', 'set', 'wireguard', ...at);
  ping.child.kill('SIGINT');
  await ping.done;
  const numbers = [...ping.said().matchAll(/icmp_seq=(\d+) ttl=/g)].map((m) => Number(m[1]));
  const last = Math.max(...numbers);
  t.diagnostic(`${last} echoes, lost: ${last - new Set(numbers).size}`);
  assert.deepEqual(Array.from({ length: last }, (_, i) => i + 1).filter((n) => !new Set(numbers).has(n)), []);
});
