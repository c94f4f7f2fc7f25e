/** WireGuard devices in a state: what differs, whose it is, what is never in it; and against wireguard-go itself. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createTun, generatePresharedKey, generatePrivateKey, Netns, publicKeyOf, readUserspaceWireguard, RtNetlink, setUserspaceWireguard } from '@podway/kernel';
import {
  apply, describe, diff, emptyState, mergeStates, observe, podwayOwnership, presharedKeyDigest, readState, type Link, type NetnsState, type WireguardPeer,
} from '../src/index.js';

const ownership = podwayOwnership();
const keys = { own: generatePrivateKey(), peer: generatePrivateKey(), other: generatePrivateKey(), shared: generatePresharedKey() };
const [own, theirs, other] = [keys.own, keys.peer, keys.other].map(publicKeyOf) as [string, string, string];
const link = (more: Partial<Link> = {}): Link => ({ name: 'wg0', kind: 'tun', up: true, mtu: 1440, alias: 'podway: tunnel', wireguard: { publicKey: own, port: 51820 }, ...more });
const peer = (more: Partial<WireguardPeer> = {}): WireguardPeer => ({ dev: 'wg0', publicKey: theirs, endpoint: '10.0.0.2:51820', allowedIps: ['10.244.1.0/24', 'fd00::/64'], keepalive: 0, presharedKey: '', why: 'pods of m2', ...more });
const state = (peers: readonly WireguardPeer[], l: Link = link()): NetnsState => mergeStates('m1', { links: [l], wireguardPeers: peers });
const words = (want: NetnsState, is: NetnsState): string[] => diff(want, is, ownership).map(describe);

test('differences, in words', () => {
  const want = state([peer()]);
  assert.deepEqual(words(want, state([peer({ allowedIps: ['fd00::/64', '10.244.1.0/24'], lastHandshake: 5, rxBytes: 7, txBytes: 8 })])), [], 'order, handshakes and counters do not count');
  const cases: [NetnsState, string][] = [
    [state([]), `add WireGuard peer ${theirs} dev wg0: missing: pods of m2`],
    [state([peer(), peer({ publicKey: other })]), `remove WireGuard peer ${other} dev wg0: no longer wanted`],
    [state([peer({ endpoint: '10.0.0.3:51820' })]), `change WireGuard peer ${theirs} dev wg0: endpoint 10.0.0.3:51820 instead of 10.0.0.2:51820`],
    [state([peer({ allowedIps: [] })]), `change WireGuard peer ${theirs} dev wg0: allowed IPs none instead of 10.244.1.0/24, fd00::/64`],
    [state([peer({ keepalive: 25 })]), `change WireGuard peer ${theirs} dev wg0: keepalive 25 instead of 0`],
    [state([peer({ presharedKey: presharedKeyDigest(keys.shared) })]), `change WireGuard peer ${theirs} dev wg0: presharedKey ${presharedKeyDigest(keys.shared)} instead of `],
    [state([peer()], link({ wireguard: { publicKey: other, port: 7 } })), `change link wg0: publicKey ${other} instead of ${own}, port 7 instead of 51820`],
  ];
  for (const [is, says] of cases) assert.deepEqual(words(want, is), [says]);
  assert.deepEqual(words(emptyState(), state([peer()])), ['remove link wg0: no longer wanted (podway: tunnel)', `remove WireGuard peer ${theirs} dev wg0: goes with link wg0`]);
});

test('a device of somebody else is left alone, with its peers', () => {
  const foreign = state([peer()], link({ alias: 'mine' }));
  assert.deepEqual(words(emptyState(), foreign), []);
  assert.deepEqual(diff(state([peer({ keepalive: 5 })]), foreign, ownership).map((c) => c.op), ['conflict', 'conflict']);
});

test('a state from a file: peers are checked; one without them is whole', () => {
  assert.deepEqual(readState(JSON.parse(JSON.stringify(state([peer()])))).wireguardPeers, [peer()]);
  assert.deepEqual(readState(JSON.parse(JSON.stringify(emptyState('x')))), emptyState('x'));
  assert.throws(() => readState({ ...emptyState('x'), wireguardPeers: [{ dev: 'wg0', publicKey: 5 }] }), (e: Error & { said?: string }) => /wireguardPeers\[0\]\.publicKey: must be a string/.test(e.said ?? ''));
});

const skip = process.getuid?.() !== 0 ? 'needs root' : spawnSync('wireguard-go', ['--version']).error ? 'wireguard-go is not installed' : false;

test('a TUN device outlives its program; settings are applied, read back and compared; no secret is in a state', { skip }, async () => {
  const ns = Netns.createNameless('wg');
  const dir = mkdtempSync(join(tmpdir(), 'podway-wg-'));
  const options = { wireguardDir: dir, secrets: (name: string) => [keys.own].find((k) => publicKeyOf(k) === name) ?? (name === presharedKeyDigest(keys.shared) ? keys.shared : undefined) };
  const path = `/proc/${process.pid}/fd/${ns.fd}`;
  const start = async () => {
    const child = spawn('nsenter', [`--net=${path}`, 'unshare', '--mount', '--propagation', 'private', 'sh', '-c', 'mkdir -p /run/wireguard && mount --bind "$0" /run/wireguard && exec wireguard-go --foreground wg0', dir], { stdio: 'ignore' });
    for (;;) {
      try {
        if (readUserspaceWireguard('wg0', dir).listenPort !== 0) return child;
      } catch (e) {
        assert.equal((e as { code?: string }).code, 'WIREGUARD_GONE');
      }
      await new Promise((r) => setTimeout(r, 5));
    }
  };
  try {
    const { wireguard: _, ...bare } = link();
    const made = apply(ns, diff(mergeStates('m1', { links: [bare] }), observe(ns), ownership));
    assert.deepEqual(made.failed, []);
    assert.throws(() => createTun(ns, 'wg0'), { errno: 'EBUSY' });
    const want = state([peer({ presharedKey: presharedKeyDigest(keys.shared) }), peer({ publicKey: other, endpoint: '[fd00:18::3]:7', allowedIps: [], keepalive: 25 })]);
    const gone = apply(ns, diff(want, observe(ns, options), ownership), options);
    assert.deepEqual([...new Set(gone.failed.map((f) => f.error.code))], ['WIREGUARD_GONE'], 'no program, no settings');
    let child = await start();
    const set = apply(ns, diff(want, observe(ns, options), ownership), options);
    assert.deepEqual(set.failed.map((f) => f.error.message), []);
    const seen = observe(ns, options);
    assert.deepEqual(diff(want, seen, ownership), []);
    const text = JSON.stringify(seen);
    for (const secret of [keys.own, keys.shared]) assert.ok(!text.includes(secret));
    assert.equal(apply(ns, diff(want, emptyState(), ownership), { ...options, secrets: () => undefined }).failed[0]?.error.code, 'SYSCALL_FAILED', 'it is there already');
    const fewer = state([peer()]);
    assert.deepEqual(apply(ns, diff(fewer, seen, ownership), options).failed, []);
    assert.deepEqual(observe(ns, options).wireguardPeers?.map((p) => [p.publicKey, p.presharedKey, p.keepalive]), [[theirs, '', 0]]);
    assert.throws(() => setUserspaceWireguard('wg0', { listenPort: 70000 }, dir), { code: 'BAD_VALUE' });
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    const alone = observe(ns, options);
    assert.deepEqual(alone.links.map((l) => [l.name, l.alias]).at(-1), ['wg0', 'podway: tunnel']);
    assert.match(alone.unread.join(), /^WireGuard device wg0: cannot read WireGuard device wg0: .*ECONNREFUSED/);
    child = await start();
    assert.ok(words(fewer, observe(ns, options)).some((w) => w.startsWith('change link wg0: mtu 1420 instead of 1440, publicKey none instead of')), 'a new program begins with nothing');
    const last = once(child, 'exit');
    assert.deepEqual(apply(ns, diff(emptyState(), observe(ns, options), ownership), options).failed, []);
    await last;
    assert.deepEqual(RtNetlink.with(ns, (nl) => nl.links().map((l) => l.name)), ['lo']);
  } finally {
    ns.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
