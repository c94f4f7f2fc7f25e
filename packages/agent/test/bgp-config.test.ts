/** The configuration is a pure function: whole texts, and BIRD itself reads every one of a grid. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isPodwayError } from '@podway/errors';
import { bgp } from '../src/backends/bgp.js';
import {
  bgpProblems, bgpRefuses, birdConfig, checkBgpSettings, nodeSpeaker, protocolName, routerId, routerSpeaker, timersOf, type BgpNode, type BgpSettings, type NodeSpeakerInput,
} from '../src/bgp/index.js';
import { needsBird } from './bgp-fixture.js';

type Families = '4' | '6' | '46';
const SETTINGS: BgpSettings = { type: 'bgp', asn: 64512, mesh: true, reflectors: [], peers: [] };
const CLUSTER = { '4': ['10.244.0.0/16'], '6': ['fd00:10:244::/48'], '46': ['10.244.0.0/16', 'fd00:10:244::/48'] };

const node = (i: number, f: Families): BgpNode => ({
  name: `m${i}`, labels: { rack: `r${i % 2}` },
  addresses: [...(f.includes('4') ? [`172.18.${i >> 8}.${(i + 1) & 255}`] : []), ...(f.includes('6') ? [`fd00:18::${(i + 1).toString(16)}`] : [])],
  blocks: [...(f.includes('4') ? [`10.244.${i - 1}.0/26`, `10.244.${i - 1}.64/26`] : []), ...(f.includes('6') ? [`fd00:10:244:${(i - 1).toString(16)}::/64`] : [])],
});
const input = (settings: BgpSettings, nodes: number, f: Families, self = 1): NodeSpeakerInput => {
  const all = Array.from({ length: nodes }, (_, i) => node(i + 1, f));
  const local = all[self - 1]!;
  return {
    settings, clusterCidrs: CLUSTER[f], local, uplink: 'eth0', subnets: local.addresses.map((a) => `${a}/${a.includes(':') ? 64 : 16}`), peers: all.filter((n) => n !== local),
  };
};

const golden = (name: string): string => readFileSync(new URL(`../../test/golden/${name}`, import.meta.url), 'utf8');

test('golden: mesh of three with two blocks, dual stack, a top-of-rack peer', () => {
  const settings: BgpSettings = { ...SETTINGS, peers: [{ address: '172.18.0.1', asn: 65001, password: 'secret', import: 'default' }] };
  assert.equal(birdConfig(nodeSpeaker(input(settings, 3, '46'))), golden('bird-mesh.conf'));
});

test('golden: a reflector of five, with its cluster id and a key', () => {
  const settings: BgpSettings = { ...SETTINGS, reflectors: ['m1', 'm2'], clusterId: '10.0.0.1', password: 'key', holdTime: 9, gracefulRestartTime: 20 };
  assert.equal(birdConfig(nodeSpeaker(input(settings, 5, '4'))), golden('bird-reflector.conf'));
});

test('golden: a router', () => {
  const text = birdConfig(routerSpeaker({
    name: 'tor1', asn: 65001, routerId: '192.0.2.1', clusterCidrs: CLUSTER['4'], timers: timersOf(SETTINGS),
    neighbours: [{ name: 'node m1', address: '172.18.0.2', asn: 64512, password: 'secret' }, { name: 'tor2', address: '192.0.2.2', asn: 65002 }],
  }));
  assert.equal(text, golden('bird-router.conf'));
});

const TOPOLOGIES: Readonly<Record<string, { settings: (f: Families) => BgpSettings; self?: number }>> = {
  mesh: { settings: () => SETTINGS },
  off: { settings: () => ({ ...SETTINGS, mesh: false }) },
  client: { settings: () => ({ ...SETTINGS, mesh: false, reflectors: ['m1', 'm2'] }), self: 3 },
  reflector: { settings: () => ({ ...SETTINGS, mesh: false, reflectors: ['m1', 'rack=r0'], clusterId: '1.2.3.4', password: 'p w' }) },
  external: {
    settings: (f) => ({
      ...SETTINGS, mesh: false,
      peers: [
        ...(f.includes('4') ? [{ address: '172.18.0.254', asn: 65001, import: 'all' as const }, { address: '192.0.2.9', asn: 64512, multihop: 4, import: ['10.0.0.0/8', 'fd00::/8'] }] : []),
        ...(f.includes('6') ? [{ address: 'fd00:18::fe', asn: 4_200_000_000, password: '#\'{};', import: 'default' as const }] : []),
        { address: '172.18.9.9', asn: 65009, nodeSelector: 'rack in (none)' },
      ],
    }),
  },
  'mesh and external': { settings: (f) => ({ ...SETTINGS, peers: [{ address: f === '6' ? 'fd00:18::fe' : '172.18.0.254', asn: 65001, import: 'none' }] }) },
};

test('BIRD reads every configuration of the grid: topology x families x number of nodes', { skip: needsBird && 'needs bird' }, (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'pwbird-'));
  let count = 0;
  try {
    for (const [name, { settings, self }] of Object.entries(TOPOLOGIES)) {
      for (const f of ['4', '6', '46'] as const) {
        for (const nodes of [1, 2, 3, 50]) {
          const s = settings(f);
          checkBgpSettings(s);
          const speaker = nodeSpeaker(input(s, nodes, f, Math.min(self ?? 1, nodes)));
          const file = join(dir, `${count++}.conf`);
          writeFileSync(file, birdConfig(speaker));
          try {
            execFileSync('bird', ['-p', '-c', file], { stdio: 'pipe' });
          } catch (e) {
            assert.fail(`${name} ${f} ${nodes}: ${String((e as { stderr: Buffer }).stderr)}\n${birdConfig(speaker)}`);
          }
          const names = speaker.sessions.map(protocolName);
          assert.equal(new Set(names).size, names.length, 'no two protocols share a name');
        }
      }
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  t.diagnostic(`${count} configurations`);
  assert.equal(count, 72);
});

test('sessions: n-1 in a mesh, two of a client, all and each other of a reflector, per family', () => {
  const sessions = (settings: BgpSettings, self: number, f: Families = '4') => nodeSpeaker(input(settings, 50, f, self)).sessions.map((s) => s.type);
  assert.equal(sessions(SETTINGS, 1).length, 49);
  assert.equal(sessions(SETTINGS, 1, '46').length, 98);
  const rr = { ...SETTINGS, reflectors: ['m1', 'm2'] };
  assert.deepEqual(sessions(rr, 7), ['rr', 'rr']);
  assert.deepEqual([sessions(rr, 1).filter((t) => t === 'client').length, sessions(rr, 1).filter((t) => t === 'rr').length], [48, 1]);
});

test('the mesh is of one subnet; who is beyond it is refused by name, unless a router leads there', () => {
  const far: BgpNode = { name: 'm9', addresses: ['172.19.0.2'], blocks: ['10.244.9.0/24'] };
  const i = { ...input(SETTINGS, 2, '4'), peers: [far] };
  assert.deepEqual(nodeSpeaker(i).sessions, []);
  assert.equal(bgpRefuses(i, far), '172.19.0.2 is not on the subnet of this node (172.18.0.2/16), and no external BGP peer is configured that could lead there');
  assert.equal(bgpRefuses({ ...i, settings: { ...SETTINGS, peers: [{ address: '172.18.0.1', asn: 65001 }] } }, far), undefined);
  assert.equal(bgpRefuses(i, node(2, '4')), undefined);
  assert.match(bgpRefuses(i, { ...node(2, '4'), blocks: ['fd00:10:244:1::/64'] }) ?? '', /IPv6 addresses and it has none itself/);
  assert.match(bgpRefuses({ ...i, settings: { ...SETTINGS, mesh: false } }, node(2, '4')) ?? '', /the mesh is off/);
});

test('everything wrong in the settings is said at once, by name', () => {
  const bad: BgpSettings = {
    type: 'bgp', asn: 0, mesh: true, reflectors: ['a in ('], clusterId: 'x', password: 'say "hi"', holdTime: 2, keepaliveTime: 2, gracefulRestartTime: 5000,
    peers: [{ address: 'nope', asn: 2 ** 32, nodeSelector: '==', multihop: 1, password: 'x'.repeat(81), import: ['10.0.0.0/99'] }],
  };
  const said = bgpProblems(bad).map((p) => p.split(':')[0]);
  assert.deepEqual(said, [
    'asn', 'holdTime', 'keepaliveTime', 'gracefulRestartTime', 'password', 'clusterId', 'reflectors "a in ("',
    'peers[0].address', 'peers[0].asn', 'peers[0].password', 'peers[0].nodeSelector', 'peers[0].multihop', 'peers[0].import',
  ]);
  assert.throws(() => checkBgpSettings(bad), (e) => isPodwayError(e, 'BGP_CONFIG_INVALID') && /peers\[0\]\.asn/.test(e.message));
  assert.deepEqual(bgpProblems(SETTINGS), []);
});

test('names from the API cannot leave their place in the configuration', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (name) => {
    const peer = { ...node(2, '4'), name };
    const text = birdConfig(nodeSpeaker({ ...input(SETTINGS, 1, '4'), peers: [peer] }));
    const rest = text.replace(/description "[^"\n]*";/, 'description "node m2";');
    return rest === birdConfig(nodeSpeaker({ ...input(SETTINGS, 1, '4'), peers: [node(2, '4')] }));
  }));
});

test('a node without an IPv4 address has a router id all the same, always the same', () => {
  assert.equal(routerId(node(1, '46')), '172.18.0.2');
  const id = routerId(node(1, '6'));
  assert.match(id, /^\d+\.\d+\.\d+\.\d+$/);
  assert.equal(id, routerId(node(1, '6')));
  assert.equal(new Set(Array.from({ length: 5000 }, (_, i) => routerId(node(i + 1, '6')))).size, 5000);
});

test('the backend: a blackhole per block, forwarding, BIRD with its configuration in a private file', () => {
  const local = { name: 'm1', podCidrs: ['10.244.0.0/24'], uplink: { dev: 'eth0.5', address: '172.18.0.2', prefix: 16, mtu: 1500 } };
  const config = { clusterCidrs: ['10.244.0.0/16'], backend: SETTINGS };
  const peers = [{ name: 'm2', podCidrs: ['10.244.1.0/24'], ends: { publicIP: '172.18.0.3', uses: 'bgp' as const, accepts: { bgp: {} } } }];
  assert.equal(bgp.overhead(), 0);
  assert.deepEqual(bgp.publish(), {});
  assert.deepEqual(bgp.desired(config, local), {
    routes: [{
      family: 'inet', dst: '10.244.0.0/24', type: 'blackhole', table: 254, protocol: 112, metric: 4096, why: 'so that packets to addresses of this node that no pod has end here',
    }],
    sysctls: { 'net.ipv4.ip_forward': '1', 'net.ipv4.conf.eth0/5.forwarding': '1' },
  });
  assert.equal(bgp.desired(config, { ...local, blocks: ['10.244.0.0/26', '10.244.7.64/26'] }).routes?.length, 2);
  const [bird] = bgp.daemons(config, local, peers);
  assert.deepEqual(bird?.argv, ['bird', '-f', '-c', '/run/podway/bird.conf', '-s', '/run/podway/bird.ctl']);
  assert.deepEqual(bird.files.map((f) => [f.path, f.mode]), [['/run/podway/bird.conf', 0o600]]);
  assert.match(bird.files[0]!.text, /protocol bgp mesh_172_18_0_3 /);
  assert.equal(bgp.refuses(config, local, { ...peers[0]!, ends: { publicIP: '172.18.0.3', uses: 'vxlan', accepts: { vxlan: {} } } }), 'it does not speak BGP; it uses vxlan');
});
