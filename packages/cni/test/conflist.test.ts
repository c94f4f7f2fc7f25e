import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { messageOf } from '@podway/errors';
import { isCniError, loadNetwork, networkReadiness, parseNetworkList, requestConfig } from '@podway/cni';
import { scratch } from './shim-helpers.js';

const j = (o: object): string => JSON.stringify(o);
const list = (name: string, more: object = {}): string => j({ cniVersion: '0.3.1', name, plugins: [{ type: 'podway-cni' }, { type: 'portmap', capabilities: { portMappings: true } }], ...more });

async function withDir(files: Record<string, string>, use: (dir: string) => Promise<void>): Promise<void> {
  const { dir, remove } = await scratch();
  try {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(join(dir, name, '..'), { recursive: true });
      await writeFile(join(dir, name), text);
    }
    await use(dir);
  } finally {
    await remove();
  }
}

test('the first valid file in lexical order wins; what was passed over is said', () =>
  withDir({ '20-b.conflist': list('b'), '10-bad.conflist': '{', '00-readme.txt': 'x', '15-a.conf': j({ cniVersion: '0.4.0', name: 'a', type: 'bridge', mtu: 9000 }) }, async (dir) => {
    const found = await loadNetwork(dir);
    assert.equal(found.file, join(dir, '15-a.conf'));
    assert.deepEqual([found.list.name, found.list.cniVersion, found.list.plugins], ['a', '0.4.0', [{ cniVersion: '0.4.0', name: 'a', type: 'bridge', mtu: 9000 }]]);
    assert.equal(found.skipped[0]?.file, join(dir, '10-bad.conflist'));
    assert.match(found.skipped[0]?.reason ?? '', /is not JSON/);
  }));

test('an empty and an absent directory: the words of the kubelet', () =>
  withDir({}, async (dir) => {
    for (const d of [dir, join(dir, 'none')]) {
      await assert.rejects(loadNetwork(d), (e) => messageOf(e) === `no networks found in ${d}`);
      assert.deepEqual(await networkReadiness(d), { ready: false, reason: 'NetworkPluginNotReady', message: `network plugin is not ready: cni config uninitialized: no networks found in ${d}` });
    }
  }));

test('only bad files: each with its reason', () =>
  withDir({ '1.conflist': list('a/b'), '2.conf': '[]', '3.conflist': j({ name: 'x', cniVersion: '1.0.0', plugins: [] }), '4.conflist': list('c', { cniVersion: '7.0.0' }) }, async (dir) => {
    const { message, ready } = await networkReadiness(dir);
    assert.equal(ready, false);
    for (const part of [`no valid networks found in ${dir}`, '1.conflist: invalid network configuration: name: must start', '2.conf: the network configuration is not a JSON object: it is a list', '3.conflist: invalid network configuration: plugins: no plugins in list', '4.conflist: incompatible CNI versions: config is "7.0.0"']) {
      assert.ok(message.includes(part), `${part}\nin ${message}`);
    }
  }));

test('a good file: ready', () => withDir({ '10-podway.conflist': list('cbr0') }, async (dir) => assert.deepEqual(await networkReadiness(dir), { ready: true, reason: '', message: '' })));

test('plugins of the sibling folder are appended, unless the list forbids them', () =>
  withDir({ '10-a.conflist': list('net'), 'net/20.conf': j({ type: 'tuning' }), 'net/10.conf': j({ type: 'bandwidth' }) }, async (dir) => {
    const types = async (): Promise<string[]> => (await loadNetwork(dir)).list.plugins.map((p) => p.type);
    assert.deepEqual(await types(), ['podway-cni', 'portmap', 'bandwidth', 'tuning']);
    await writeFile(join(dir, '10-a.conflist'), list('net', { loadOnlyInlinedPlugins: true }));
    assert.deepEqual(await types(), ['podway-cni', 'portmap']);
  }));

test('the version: the highest we speak of cniVersion and cniVersions', () => {
  const v = (o: object): string => parseNetworkList(list('n', o)).cniVersion;
  assert.deepEqual([v({}), v({ cniVersions: ['0.4.0', '1.0.0', '9.0.0'] }), v({ cniVersion: '1.1.0', cniVersions: ['0.3.1'] })], ['0.3.1', '1.0.0', '1.1.0']);
  assert.throws(() => v({ cniVersion: '1.2.0' }), (e) => isCniError(e, 'INCOMPATIBLE_VERSION'));
  assert.throws(() => v({ cniVersion: 'one' }), (e) => isCniError(e, 'INVALID_CONFIG'));
});

test('flags may be strings, as libcni reads them', () => {
  const l = parseNetworkList(list('n', { disableCheck: 'True', disableGC: 'false' }));
  assert.deepEqual([l.disableCheck, l.disableGC], [true, false]);
  assert.throws(() => parseNetworkList(list('n', { disableGC: 'yes' })), (e) => isCniError(e, 'INVALID_CONFIG'));
});

test('the configuration a plugin gets: capabilities become runtimeConfig, reserved keys are ours', () => {
  const l = parseNetworkList(list('n', { plugins: [{ type: 'portmap', snat: true, capabilities: { portMappings: true, bandwidth: false, mac: true }, runtimeConfig: { x: 1 }, 'cni.dev/x': 1 }] }));
  const plugin = l.plugins[0];
  assert.ok(plugin);
  assert.deepEqual(requestConfig(l, plugin, { prevResult: { cniVersion: '0.3.1' }, capabilityArgs: { portMappings: [{ hostPort: 1, containerPort: 2 }], bandwidth: {}, dns: {} } }), {
    type: 'portmap',
    snat: true,
    cniVersion: '0.3.1',
    name: 'n',
    runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 2 }] },
    prevResult: { cniVersion: '0.3.1' },
  });
});
