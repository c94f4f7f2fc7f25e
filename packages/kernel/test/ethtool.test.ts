/** Device features against `ethtool -k`; generic netlink's families. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { deviceFeatures, GenlSocket, RtNetlink, setDeviceFeatures, type Netns } from '../src/index.js';
import { decodeFeatures, setFeaturesCommand } from '../src/genl/ethtool.js';
import { decodeFamily, genlRequest } from '../src/genl/genetlink.js';
import { Writer } from '../src/netlink/codec.js';
import { inScratch, inside } from './scratch.js';

const missing = spawnSync('ethtool', ['--version']).error ? 'ethtool is not installed' : false;

/** `ethtool -k`: lines of single features are those that start with a tab or have no group below. */
function shown(ns: Netns, device: string): Map<string, [active: boolean, fixed: boolean]> {
  return new Map(inside(ns, 'ethtool', '-k', device).split('\n').slice(1).filter(Boolean).map((l) => {
    const m = /^\s*([\w-]+): (on|off)(.*)$/.exec(l);
    return [m![1]!, [m![2] === 'on', m![3]!.includes('[fixed]')]];
  }));
}

test('features are what ethtool shows; the checksum of a VTEP is switched off and on', { skip: missing }, () => {
  inScratch((ns) => {
    RtNetlink.with(ns, (nl) => {
      nl.createLink({ name: 'vtep', kind: 'vxlan', vxlan: { id: 1, port: 8472 } });
      nl.createLink({ name: 'v0', kind: 'veth', peer: { name: 'v1' } });
    });
    for (const device of ['vtep', 'v0', 'lo']) {
      const theirs = shown(ns, device);
      const ours = deviceFeatures(ns, device);
      const both = Object.keys(ours).filter((name) => theirs.has(name));
      assert.ok(both.length > 30, `${both.length} features by the same name`);
      for (const name of both) assert.deepEqual([name, ours[name]!.active, ours[name]!.fixed], [name, ...theirs.get(name)!]);
    }
    for (const on of [false, true, false, false]) {
      assert.equal(setDeviceFeatures(ns, 'vtep', { 'tx-checksum-ip-generic': on })['tx-checksum-ip-generic']?.active, on);
      assert.deepEqual(shown(ns, 'vtep').get('tx-checksum-ip-generic'), [on, false]);
    }
    assert.equal(deviceFeatures(ns, 'v0')['tx-checksum-ip-generic']?.active, true, 'no other device');
    assert.throws(() => setDeviceFeatures(ns, 'vtep', { 'rx-vlan-filter': true }), { code: 'FEATURE_FIXED' });
    assert.throws(() => setDeviceFeatures(ns, 'vtep', { 'no-such-feature': true }), { code: 'NETLINK_REFUSED' });
    assert.throws(() => deviceFeatures(ns, 'nosuch'), { code: 'NETLINK_REFUSED', errno: 'ENODEV' });
  });
});

test('the bytes of a switch', () => {
  const w = new Writer();
  genlRequest({ id: 21, version: 1 }, setFeaturesCommand('vtep', { 'tx-checksum-ip-generic': false, 'rx-gro': true })).body(w);
  // FEATURES_SET; HEADER { DEV_NAME }; WANTED { BITS { BIT { NAME }, BIT { NAME, VALUE } } }
  assert.equal(w.bytes().toString('hex'), [
    '0c010000', '10000180', '09000200', Buffer.from('vtep\0').toString('hex'), '000000', '3c000380', '38000380',
    '20000180', '1b000200', Buffer.from('tx-checksum-ip-generic\0').toString('hex'), '00',
    '14000180', '0b000200', Buffer.from('rx-gro\0').toString('hex'), '00', '04000300',
  ].join(''));
});

test('families by name', () => {
  inScratch((ns) => {
    const genl = GenlSocket.open(ns);
    try {
      assert.equal(genl.family('nlctrl').id, 16);
      const all = genl.list();
      assert.deepEqual(all.find((f) => f.name === 'ethtool'), genl.family('ethtool'));
      assert.ok((genl.family('ethtool').groups['monitor'] ?? 0) > 0);
      assert.throws(() => genl.family('no-such-family'), { code: 'KERNEL_LACKS', errno: 'ENOENT' });
    } finally {
      genl.close();
    }
  });
});

test('no bytes make the readers throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(1, 11), (bytes, command) => {
    const b = Buffer.concat([Buffer.from([command, 1, 0, 0]), Buffer.from(bytes)]);
    decodeFamily({ type: 16, buffer: b, start: 0, end: b.length });
    decodeFeatures({ type: 21, buffer: b, start: 0, end: b.length }, { id: 21 });
  }), { numRuns: 1000 });
});
