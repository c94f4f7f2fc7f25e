/** WireGuard: keys, the bytes of both protocols, and two real wireguard-go processes with traffic between them. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  Capture, generatePresharedKey, generatePrivateKey, listSockets, openKernelWireguard, openUserspaceWireguard, publicKeyOf, RtNetlink, WIREGUARD_SOCKET_DIR,
  type Netns, type WireguardChange, type WireguardDevice,
} from '../src/index.js';
import { genlRequest, readGenl } from '../src/genl/genetlink.js';
import { Writer } from '../src/netlink/codec.js';
import { decodeDevice, joinDevice, setDeviceCommands } from '../src/wireguard/kernel.js';
import { DEVICE } from '../src/wireguard/tables.js';
import { parseUapi, uapiSet } from '../src/wireguard/uapi.js';
import { tree } from './attributes.js';
import { inside, until } from './scratch.js';
import { inTwo } from './two.js';

const FAMILY = { id: 40, version: 1 };
const bytesOf = (command: Parameters<typeof genlRequest>[1]): Buffer => {
  const w = new Writer();
  genlRequest(FAMILY, command).body(w);
  return Buffer.from(w.bytes());
};
const have = (program: string): boolean => spawnSync(program, ['--version']).error === undefined;
const wg = (input: string, ...args: string[]): string => execFileSync('wg', args, { input, encoding: 'utf8' }).trim();

test('a public key is what wg pubkey says', { skip: have('wg') ? false : 'wg (wireguard-tools) is not installed' }, () => {
  for (let i = 0; i < 20; i++) {
    const key = generatePrivateKey();
    assert.equal(publicKeyOf(key), wg(`${key}\n`, 'pubkey'));
    assert.equal((Buffer.from(key, 'base64')[0]! & 7) | (Buffer.from(key, 'base64')[31]! & 0x80), 0, 'clamped');
  }
  const theirs = wg('', 'genkey');
  assert.equal(publicKeyOf(theirs), wg(`${theirs}\n`, 'pubkey'));
  assert.equal(generatePresharedKey().length, 44);
});

test('what is no key is refused, without telling it', () => {
  for (const bad of ['', 'secret-secret', `${'A'.repeat(43)}`, `${generatePrivateKey()}\nlisten_port=1`]) {
    assert.throws(() => publicKeyOf(bad), (e: Error & { code?: string }) => e.code === 'BAD_KEY' && (bad === '' || !JSON.stringify(e).includes(bad)));
  }
});

const KEY_A = Buffer.alloc(32, 0xaa).toString('base64');
const KEY_B = Buffer.alloc(32, 0xbb).toString('base64');
const key = (hex: string): string => hex.repeat(32);
/** Recorded from wireguard-tools 1.0.20210914 on Linux 6.12: `wg set wg0 private-key A listen-port 51820 fwmark 7 peer B preshared-key A …`. */
const WG_SET = [
  '01010000080002007767300024000300aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa060006006cca00000800070007000000',
  'bc000880b800008024000100bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb24000200aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa140004000200ca6c0a010203000000000000000006000500190000000800030002000000480009801c00008006000100',
  '02000000080002000af40100050003001800000028000080060001000a00000014000200fd0000000000000000000000000000000500030040000000',
].join('');

test('wg set wg0 private-key A listen-port 51820 fwmark 7 peer B preshared-key A persistent-keepalive 25 endpoint 10.1.2.3:51820 allowed-ips 10.244.1.0/24,fd00::/64', () => {
  const peer = { publicKey: KEY_B, presharedKey: KEY_A, keepalive: 25, endpoint: { address: '10.1.2.3', port: 51820 }, allowedIps: ['10.244.1.0/24', 'fd00::/64'], replaceAllowedIps: true };
  const [command, ...more] = setDeviceCommands('wg0', { privateKey: KEY_A, listenPort: 51820, fwmark: 7, peers: [peer] });
  assert.ok(command);
  assert.equal(more.length, 0);
  const [ours, theirs] = [bytesOf(command as never), Buffer.from(WG_SET, 'hex')];
  assert.equal(ours.toString('hex', 0, 4), theirs.toString('hex', 0, 4), 'genlmsghdr');
  const nested = new Set(['8', '8.0', '8.0.9', '8.0.9.0']);
  assert.deepEqual(tree(ours, 4, ours.length, nested), tree(theirs, 4, theirs.length, nested));
  const [replacing] = setDeviceCommands('wg0', { replacePeers: true });
  assert.equal(bytesOf(replacing as never).toString('hex'), ['01010000', '08000200', '77673000', '08000500', '01000000'].join(''), 'REPLACE_PEERS');
});

const keys = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter((k) => k.some((x) => x !== 0)).map((k) => Buffer.from(k).toString('base64'));
const endpoint = fc.record({ address: fc.constantFrom('10.0.0.1', '192.0.2.255', 'fd00::1', '2001:db8::9'), port: fc.integer({ min: 1, max: 65535 }) });
const cidr = fc.oneof(fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })), fc.tuple(fc.constantFrom('fd00::', '2001:db8::1'), fc.integer({ min: 0, max: 128 }))).map(([a, p]) => `${a}/${p}`);

test('what is set reads back: kernel attributes', () => {
  fc.assert(fc.property(keys, fc.integer({ min: 0, max: 65535 }), fc.uniqueArray(fc.record({ publicKey: keys, endpoint, keepalive: fc.integer({ min: 0, max: 65535 }), allowedIps: fc.array(cidr, { maxLength: 6 }) }), { maxLength: 5, selector: (p) => p.publicKey }),
    (privateKey, listenPort, peers) => {
      const parts = setDeviceCommands('wg0', { privateKey, listenPort, peers }).map((c) => {
        const b = bytesOf(c as never);
        const v = readGenl({ type: FAMILY.id, buffer: b, start: 0, end: b.length }, FAMILY, 1, DEVICE);
        assert.ok(v);
        return v;
      });
      const state = joinDevice(parts);
      assert.deepEqual([state.privateKey, state.listenPort], [privateKey, listenPort]);
      assert.deepEqual(state.peers.map((p) => [p.publicKey, p.endpoint?.address, p.endpoint?.port, p.keepalive, p.allowedIps]), peers.map((p) => [p.publicKey, p.endpoint.address, p.endpoint.port, p.keepalive, p.allowedIps]));
    }));
});

test('a change too large for one message is cut, and joins again', () => {
  const allowedIps = Array.from({ length: 3000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
  const peers = Array.from({ length: 500 }, (_, i) => ({ publicKey: Buffer.alloc(32, i + 1).fill(7, 4).fill(i & 255, 0, 2).fill(i >> 8, 2, 4).toString('base64'), allowedIps: [`10.9.${i >> 8}.${i & 255}/32`] }));
  const commands = setDeviceCommands('wg0', { replacePeers: true, peers: [...peers, { publicKey: KEY_A, allowedIps, replaceAllowedIps: true }] });
  assert.ok(commands.length >= 3);
  const parts = commands.map((c) => {
    const b = bytesOf(c as never);
    assert.ok(b.length < 65536, 'one attribute can hold it');
    return readGenl({ type: FAMILY.id, buffer: b, start: 0, end: b.length }, FAMILY, 1, DEVICE)!;
  });
  assert.deepEqual(parts.map((p) => p.flags ?? 0), [1, ...Array<number>(parts.length - 1).fill(0)], 'only the first replaces');
  const state = joinDevice(parts);
  assert.equal(state.peers.length, 501);
  assert.deepEqual(state.peers.at(-1)?.allowedIps, allowedIps);
});

test('no bytes make the readers throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const b = Buffer.from(bytes);
    if (b.length) b[0] = 0;
    const v = decodeDevice({ type: FAMILY.id, buffer: b, start: 0, end: b.length }, FAMILY);
    if (v) joinDevice([v]);
    parseUapi(b.toString('latin1'));
  }), { numRuns: 2000 });
  const word = fc.constantFrom('public_key', 'private_key', 'endpoint', 'allowed_ip', 'errno', 'rx_bytes', 'last_handshake_time_sec', 'listen_port', 'x');
  fc.assert(fc.property(fc.array(fc.tuple(word, fc.string())), (lines) => void parseUapi(lines.map(([k, v]) => `${k}=${v}`).join('\n'))));
});

test('the text of a change; a value cannot smuggle in another line', () => {
  assert.equal(
    uapiSet({ privateKey: KEY_A, listenPort: 51820, replacePeers: true, peers: [{ publicKey: KEY_B, endpoint: { address: 'fd00::2', port: 7 }, keepalive: 25, replaceAllowedIps: true, allowedIps: ['10.1.0.0/24', 'fd00::5'] }, { publicKey: KEY_A, remove: true }] }),
    ['set=1', `private_key=${key('aa')}`, 'listen_port=51820', 'replace_peers=true', `public_key=${key('bb')}`, 'endpoint=[fd00::2]:7', 'persistent_keepalive_interval=25', 'replace_allowed_ips=true',
      'allowed_ip=10.1.0.0/24', 'allowed_ip=fd00::5/128', `public_key=${key('aa')}`, 'remove=true', ''].join('\n'));
  const bad: WireguardChange[] = [
    { privateKey: `${KEY_A}\n` }, { listenPort: 70000 }, { fwmark: -1 }, { peers: [{ publicKey: KEY_A, allowedIps: ['10.0.0.0/24\nremove=true'] }] },
    { peers: [{ publicKey: KEY_A, allowedIps: ['10.0.0.0/33'] }] }, { peers: [{ publicKey: KEY_A, endpoint: { address: '10.0.0.1\nx=', port: 1 } }] }, { peers: [{ publicKey: KEY_A, endpoint: { address: '10.0.0.1', port: 0.5 } }] },
  ];
  for (const change of bad) assert.throws(() => uapiSet(change), (e: { code?: string }) => ['BAD_KEY', 'BAD_VALUE', 'BAD_ADDRESS'].includes(e.code ?? ''), JSON.stringify(change));
});

test('a kernel without WireGuard is told with the module', async (t) => {
  const { Netns: Ns, kernelHas } = await import('../src/index.js');
  if (kernelHas('link', 'wireguard')) return t.skip('this kernel has WireGuard');
  const ns = Ns.createNameless();
  try {
    assert.throws(() => openKernelWireguard(ns, 'wg0'), { code: 'KERNEL_LACKS', object: 'kernel module wireguard' });
    assert.throws(() => RtNetlink.with(ns, (nl) => nl.createLink({ name: 'wg0', kind: 'wireguard' })), { code: 'KERNEL_LACKS', object: 'kernel module wireguard', errno: 'EOPNOTSUPP' });
  } finally {
    ns.close();
  }
});

test('no program behind the socket', async () => {
  await assert.rejects(openUserspaceWireguard('podway-none').get(), { code: 'WIREGUARD_GONE', errno: 'ENOENT' });
});

// ---- the real thing ----

interface End {
  readonly ns: Netns;
  readonly name: string;
  readonly device: WireguardDevice;
  readonly close: () => Promise<void>;
}

const ADDRESS = { a: '10.99.0.1', b: '10.99.0.2' } as const;
const INNER = { a: '10.66.0.1', b: '10.66.0.2' } as const;

async function startUserspace(ns: Netns, name: string): Promise<End> {
  const child: ChildProcess = ns.run(() => spawn('wireguard-go', ['-f', name], { stdio: 'ignore', env: { ...process.env, LOG_LEVEL: 'silent', WG_PROCESS_FOREGROUND: '1' } }));
  await until(`${name} listens`, () => existsSync(`${WIREGUARD_SOCKET_DIR}/${name}.sock`));
  const device = openUserspaceWireguard(name);
  for (let answered = false; !answered; ) answered = await device.get().then(() => true, () => false);
  return { ns, name, device, close: async () => stopped(child) };
}

/** Asked to stop, it removes its socket. */
async function stopped(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

function startKernel(ns: Netns, name: string): End {
  RtNetlink.with(ns, (nl) => nl.createLink({ name, kind: 'wireguard', mtu: 1420 }));
  const device = openKernelWireguard(ns, name);
  return { ns, name, device, close: async () => Promise.resolve(device.close()) };
}

/** Three packets filled with the byte 0x5a. */
const ping = (ns: Netns, to: string): string => inside(ns, 'busybox', 'ping', '-c', '3', '-i', '0.1', '-W', '2', '-p', '5a', to);
const FILLING = Buffer.alloc(12, 0x5a);

async function tunnel(a: End, b: End): Promise<void> {
  const [keyA, keyB, psk] = [generatePrivateKey(), generatePrivateKey(), generatePresharedKey()];
  await b.device.set({ privateKey: keyB, listenPort: 51821, fwmark: 77, peers: [{ publicKey: publicKeyOf(keyA), presharedKey: psk, endpoint: { address: ADDRESS.a, port: 51820 }, allowedIps: [`${INNER.a}/32`] }] });
  for (const [e, own] of [[a, INNER.a], [b, INNER.b]] as const) {
    RtNetlink.with(e.ns, (nl) => {
      nl.addAddr({ index: nl.mustLink(e.name).index, address: own, prefix: 24 });
      nl.setLink(e.name, { up: true });
    });
  }
  await until('b listens', () => listSockets(b.ns, { protocols: ['udp'], families: ['inet'] }).some((x) => x.localPort === 51821));
  const capture = Capture.open(a.ns, { device: 'under', immediate: true });
  try {
    // Last, since with a keepalive its handshake begins at once, and a lost one is repeated after 5 s only.
    await a.device.set({ privateKey: keyA, listenPort: 51820, peers: [{ publicKey: publicKeyOf(keyB), presharedKey: psk, endpoint: { address: ADDRESS.b, port: 51821 }, keepalive: 25, allowedIps: [`${INNER.b}/32`, 'fd66::2/128'], replaceAllowedIps: true }] });
    assert.match(ping(a.ns, INNER.b), /3 packets received/);
    const packets = capture.read().map((p) => Buffer.from(p.bytes));
    const arp = packets.filter((p) => p.readUInt16BE(12) === 0x0806);
    const sealed = packets.filter((p) => p.readUInt16BE(12) === 0x0800 && p[23] === 17 && [51820, 51821].includes(p.readUInt16BE(36)));
    const ipv6 = packets.filter((p) => p.readUInt16BE(12) === 0x86dd);
    assert.ok(sealed.length >= 8, 'handshake and six messages');
    assert.equal(arp.length + sealed.length + ipv6.length, packets.length, 'nothing else between them');
    for (const p of packets) assert.ok(!p.includes(FILLING), 'no plain text');
    assert.equal(sealed[0]![42], 1, 'it begins with a handshake initiation');
  } finally {
    capture.close();
  }

  const state = await a.device.get();
  const [peer] = state.peers;
  assert.ok(peer);
  assert.deepEqual({ ...peer, allowedIps: [...peer.allowedIps].sort() }, {
    publicKey: publicKeyOf(keyB), presharedKey: psk, endpoint: { address: ADDRESS.b, port: 51821 }, keepalive: 25, allowedIps: [`${INNER.b}/32`, 'fd66::2/128'],
    lastHandshake: peer.lastHandshake, rxBytes: peer.rxBytes, txBytes: peer.txBytes,
  });
  assert.ok(peer.lastHandshake !== undefined && Math.abs(Date.now() - peer.lastHandshake) < 60_000 && peer.rxBytes > 300n && peer.txBytes > 300n);
  assert.equal((await b.device.get()).fwmark, 77);
  if (have('wg')) {
    // interface: private, public, port, fwmark; peer: public, preshared, endpoint, allowed ips, handshake, rx, tx, keepalive
    const [device, shown] = inside(a.ns, 'wg', 'show', a.name, 'dump').trim().split('\n').map((l) => l.split('\t'));
    assert.deepEqual(device, [keyA, publicKeyOf(keyA), '51820', 'off']);
    assert.deepEqual([shown?.[0], shown?.[1], shown?.[2], shown?.[3]?.split(',').sort(), Number(shown?.[4]), shown?.[7]],
      [peer.publicKey, psk, `${ADDRESS.b}:51821`, [`${INNER.b}/32`, 'fd66::2/128'], Math.floor((peer.lastHandshake ?? 0) / 1000), '25']);
  }

  // A new key for a: b learns it beside the old one, without networks; then both switch.
  const newKey = generatePrivateKey();
  await b.device.set({ peers: [{ publicKey: publicKeyOf(newKey), presharedKey: psk, endpoint: { address: ADDRESS.a, port: 51820 } }] });
  await a.device.set({ privateKey: newKey });
  await b.device.set({ peers: [{ publicKey: publicKeyOf(newKey), updateOnly: true, allowedIps: [`${INNER.a}/32`] }, { publicKey: publicKeyOf(keyA), remove: true }] });
  assert.match(ping(b.ns, INNER.a), /3 packets received/);
  const after = await b.device.get();
  assert.deepEqual(after.peers.map((p) => [p.publicKey, p.allowedIps, p.lastHandshake !== undefined]), [[publicKeyOf(newKey), [`${INNER.a}/32`], true]]);
  assert.equal((await a.device.get()).publicKey, publicKeyOf(newKey));

  await a.device.set({ peers: [{ publicKey: publicKeyOf(generatePrivateKey()), updateOnly: true, keepalive: 3 }] });
  assert.equal((await a.device.get()).peers.length, 1, 'updateOnly adds none');
  await a.device.set({ replacePeers: true, peers: [] });
  assert.equal((await a.device.get()).peers.length, 0);
}

async function underlay(work: (a: Netns, b: Netns) => Promise<void>): Promise<void> {
  await inTwo(async (a, b) => {
    RtNetlink.with(a, (nl) => {
      nl.createLink({ name: 'under', kind: 'veth', peer: { name: 'under', netnsFd: b.fd } });
      nl.addAddr({ index: nl.mustLink('under').index, address: ADDRESS.a, prefix: 24 });
      nl.setLink('under', { up: true });
    });
    RtNetlink.with(b, (nl) => {
      nl.addAddr({ index: nl.mustLink('under').index, address: ADDRESS.b, prefix: 24 });
      nl.setLink('under', { up: true });
    });
    await work(a, b);
  });
}

test('wireguard-go: handshake, ping, nothing in the clear, a new key', { skip: have('wireguard-go') ? false : 'wireguard-go is not installed' }, async () => {
  await underlay(async (na, nb) => {
    const unique = `pw${process.pid}`;
    const a = await startUserspace(na, `${unique}a`);
    try {
      const b = await startUserspace(nb, `${unique}b`);
      try {
        await tunnel(a, b);
      } finally {
        await b.close();
      }
    } finally {
      await a.close();
    }
    await assert.rejects(a.device.get(), { code: 'WIREGUARD_GONE' });
  });
});

test('the kernel\'s WireGuard: the same', async (t) => {
  const { kernelHas } = await import('../src/index.js');
  if (!kernelHas('link', 'wireguard')) return t.skip('this kernel lacks the module wireguard');
  await underlay(async (na, nb) => {
    const [a, b] = [startKernel(na, 'wg0'), startKernel(nb, 'wg0')];
    try {
      await tunnel(a, b);
    } finally {
      await Promise.all([a.close(), b.close()]);
    }
  });
});
