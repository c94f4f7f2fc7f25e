/** A node's WireGuard keys on disk, and what a configuration may hold. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { generatePresharedKey, publicKeyOf } from '@podway/kernel';
import { presharedKeyDigest } from '@podway/netstate';
import { parseNetworkConfig, planBackends, wayOf, WireguardKeys, wireguardDevice, wireguardPort, wireguardSecrets, type NetworkConfig, type WireguardConfig } from '../src/index.js';
import { local, peer } from './backend-contract.js';

const network = (more: object = {}): NetworkConfig<WireguardConfig> =>
  parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: 'wireguard', ...more } })) as NetworkConfig<WireguardConfig>;

async function withKeys(use: (dir: string, open: (node?: string) => WireguardKeys) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-keys-'));
  try {
    await use(join(dir, 'wireguard'), (node = 'm1') => new WireguardKeys(join(dir, 'wireguard'), node));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

test('made once, 0600, the same for the next agent; another generation has another', () =>
  withKeys(async (dir, open) => {
    const first = await open().publicKey(network().backend);
    assert.equal(await open().publicKey(network().backend), first);
    assert.equal(statSync(join(dir, 'generation-0.key')).mode & 0o777, 0o600);
    assert.equal(statSync(dir).mode & 0o777, 0o700);
    assert.equal(publicKeyOf(readFileSync(join(dir, 'generation-0.key'), 'utf8').trim()), first);
    const keys = open();
    const second = await keys.publicKey(network({ KeyGeneration: 1 }).backend);
    assert.notEqual(second, first);
    assert.equal(publicKeyOf(keys.secret(second)!), second);
    assert.equal(keys.secret(first), undefined, 'only what is in use is at hand');
  }));

test('a node that is not named keeps its key; old keys are erased, and what a crash left of one', () =>
  withKeys(async (dir, open) => {
    const [keys, other] = [open('m1'), open('m2')];
    const first = await keys.publicKey(network().backend);
    assert.equal(await keys.publicKey(network({ KeyGeneration: 3, KeyNodes: ['m2'] }).backend), first);
    rmSync(join(dir, 'generation-3.key'));
    assert.notEqual(await other.publicKey(network({ KeyGeneration: 3, KeyNodes: ['m2'] }).backend), first);
    keys.keepOnly([3]);
    assert.deepEqual(readdirSync(dir), ['generation-3.key']);
    assert.equal(keys.secret(first) === undefined || publicKeyOf(keys.secret(first)!) === first, true);
  }));

test('a damaged key file is told, not replaced: others know its public half', () =>
  withKeys(async (dir, open) => {
    await open().publicKey(network().backend);
    writeFileSync(join(dir, 'generation-0.key'), 'half a k');
    await assert.rejects(open().publicKey(network().backend), { code: 'BAD_KEY', object: join(dir, 'generation-0.key') });
    assert.equal(readFileSync(join(dir, 'generation-0.key'), 'utf8'), 'half a k');
  }));

test('Flannel\'s keys are understood; what cannot work is refused with its place', () => {
  const psk = generatePresharedKey();
  const { backend } = network({ PSK: psk, ListenPort: 4500, PersistentKeepaliveInterval: 25, Port: 8472 });
  assert.deepEqual(backend, { type: 'wireguard', device: 'podway.wg', port: 4500, implementation: 'auto', keepalive: 25, presharedKey: psk, generation: 0 });
  const refused: [object, RegExp][] = [
    [{ PSK: 'short' }, /Backend\.PSK: not a WireGuard key/], [{ ListenPort: 65535 }, /Backend\.ListenPort: at most 65534/], [{ Device: 'fifteen-letters' }, /Backend\.Device: .*at most 14/],
    [{ Implementation: 'magic' }, /Implementation/], [{ KeyGeneration: -1 }, /KeyGeneration/],
  ];
  for (const [more, says] of refused) assert.throws(() => network(more), (e: Error & { said?: string }) => says.test(e.said ?? '') && !(e.said ?? '').includes(psk), JSON.stringify(more));
  const config = network({ PSK: psk });
  assert.equal(wireguardSecrets({ secret: () => undefined } as unknown as WireguardKeys, () => [config])(presharedKeyDigest(psk)), psk);
});

test('generations alternate between two devices and ports, and are ways of their own', () => {
  const all = [0, 1, 2].map((KeyGeneration) => network({ KeyGeneration }));
  assert.deepEqual(all.map(wayOf), ['wireguard', 'wireguard/1', 'wireguard/2']);
  assert.deepEqual(all.map((c) => [wireguardDevice(c.backend), wireguardPort(c.backend)]), [['podway.wg', 51820], ['podway.wg1', 51821], ['podway.wg', 51820]]);
});

test('a change of keys: first known, then shaken hands with, then sent to; the old way takes packets until all have changed', () => {
  const [old, next] = [network(), network({ KeyGeneration: 1 })];
  const [before, both] = [peer(old, 2), { ...peer(old, 2), ends: planBackends(next, old, { ...local({ address: '172.18.0.3' }), name: 'm2', podCidrs: ['10.244.1.0/24'] }, []).ends }];
  const plan = (p: typeof before, observed = {}) => planBackends(next, old, local(), [p], observed);
  assert.deepEqual([plan(before).ends.uses, plan(before).parts.map((x) => x.peers.length)], ['wireguard', [0, 1]], 'it has no new key yet');
  const known = plan(both);
  assert.deepEqual([known.ends.uses, known.parts.map((x) => [...(x.unready ?? [])]), known.settled], ['wireguard', [['m2'], []], false], 'no handshake yet: no route by the new device');
  const shaken = plan(both, { wireguardPeers: [{ dev: 'podway.wg1', publicKey: both.ends.accepts['wireguard/1']!.publicKey!, allowedIps: [], keepalive: 0, lastHandshake: 1 }] });
  assert.deepEqual([shaken.ends.uses, shaken.parts.map((x) => [x.peers.map((p) => p.name), [...(x.unready ?? [])]])], ['wireguard/1', [[['m2'], []], [['m2'], ['m2']]]], 'sent to by the new one, and still taken from by the old one');
  const done = { ...both, ends: { ...both.ends, uses: 'wireguard/1' } };
  assert.equal(plan(done, { wireguardPeers: [{ dev: 'podway.wg1', publicKey: done.ends.accepts['wireguard/1']!.publicKey!, allowedIps: [], keepalive: 0, lastHandshake: 1 }] }).settled, true);
});
