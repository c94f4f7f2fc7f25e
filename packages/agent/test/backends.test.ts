/** Every backend through the contract, and the whole desired state of a node as one golden value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernelHas } from '@podway/kernel';
import { BACKEND_TYPES, desiredNode, parseNetworkConfig, planBackends, vtepMac, type AttachmentRecord } from '../src/index.js';
import { backendContract, local, peer, type BackendCase } from './backend-contract.js';
import { needsRoot } from './network.js';

const direct = ['10.244.1.0/24 via 172.18.0.3 dev eth0 proto 112', '10.244.2.0/24 via 172.18.0.4 dev eth0 proto 112'];
const connected = '172.18.0.0/16 dev eth0 proto kernel scope link src 172.18.0.2';
const cases: BackendCase[] = [
  {
    settings: { Type: 'vxlan', VNI: 1, Port: 8472 }, overhead: { inet: 50, inet6: 70 }, routes: 'one a pod range', foreign: /it does not take VXLAN; it uses none/, skipForms: needsRoot,
    // As Flannel leaves them, and as the tutorials show them.
    forms: [
      ['ip -4 route show dev flannel.1', ['10.244.1.0/24 via 10.244.1.0 onlink', '10.244.2.0/24 via 10.244.2.0 onlink']],
      ['ip -4 route show 10.244.2.0/24', ['10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink']],
      ['ip -4 neigh show dev flannel.1', ['10.244.1.0 lladdr 0e:70:77:f4:01:00 PERMANENT', '10.244.2.0 lladdr 0e:70:77:f4:02:00 PERMANENT']],
      ['bridge fdb show dev flannel.1', ['0e:70:77:f4:01:00 dst 172.18.0.3 self permanent', '0e:70:77:f4:02:00 dst 172.18.0.4 self permanent']],
      ['ip -o -4 addr show dev flannel.1', ['4: flannel.1 inet 10.244.0.0/32 scope global flannel.1\\ valid_lft forever preferred_lft forever']],
    ],
  },
  {
    settings: { Type: 'vxlan', DirectRouting: true }, overhead: { inet: 50, inet6: 70 }, routes: 'one a pod range', foreign: /it does not take VXLAN; it uses none/, skipForms: needsRoot,
    forms: [['ip -4 route show', [...direct, connected]], ['bridge fdb show dev flannel.1', []]],
  },
  {
    settings: { Type: 'host-gw' }, overhead: { inet: 0, inet6: 0 }, routes: 'one a pod range', foreign: undefined, skipForms: needsRoot,
    forms: [['ip -4 route show', [...direct, connected]]],
  },
  {
    settings: { Type: 'ipip' }, overhead: { inet: 20, inet6: 'IPv4 in IPv4 only' }, routes: 'one a pod range', foreign: /it does not take IPIP; it uses none/,
    skipForms: needsRoot || (kernelHas('link', 'ipip') ? false : 'this kernel lacks the module ipip'),
    forms: [['ip -4 route show dev flannel.ipip', ['10.244.1.0/24 via 172.18.0.3 proto 112 onlink', '10.244.2.0/24 via 172.18.0.4 proto 112 onlink']]],
  },
  {
    settings: { Type: 'wireguard' }, overhead: { inet: 60, inet6: 80 }, routes: 'one a pod range', foreign: /it does not take WireGuard; it uses none/,
    skipForms: needsRoot || (kernelHas('link', 'wireguard') ? false : 'this kernel lacks the module wireguard; wireguard-network.test.ts has a program in its place'),
    forms: [
      ['ip -4 route show dev podway.wg', ['10.244.1.0/24 proto 112 scope link', '10.244.2.0/24 proto 112 scope link']],
      ['ip -4 route show type blackhole', ['blackhole 10.244.0.0/16 proto 112 metric 4096']],
    ],
  },
  {
    settings: { Type: 'wireguard', KeyGeneration: 1, ListenPort: 4500, Device: 'wg0' }, overhead: { inet: 60, inet6: 80 }, routes: 'one a pod range', foreign: /it does not take WireGuard/,
    skipForms: needsRoot || (kernelHas('link', 'wireguard') ? false : 'this kernel lacks the module wireguard; wireguard-network.test.ts has a program in its place'),
    forms: [['ip -4 route show dev wg01', ['10.244.1.0/24 proto 112 scope link', '10.244.2.0/24 proto 112 scope link']]],
  },
  {
    settings: { Type: 'bgp' }, overhead: { inet: 0, inet6: 0 }, routes: { madeBy: 'BIRD' }, foreign: /it does not speak BGP; it uses none/, skipForms: needsRoot,
    forms: [['ip -4 route show', ['blackhole 10.244.0.0/24 proto 112 metric 4096', connected]]],
  },
  {
    settings: { Type: 'none' }, overhead: { inet: 0, inet6: 0 }, routes: { madeBy: 'somebody else' }, foreign: undefined, skipForms: needsRoot,
    forms: [['ip -4 route show', [connected]]],
  },
];
for (const c of cases) backendContract(c);

test('no backend is left out', () => assert.deepEqual([...new Set(cases.map((c) => c.settings.Type))].sort(), [...BACKEND_TYPES].sort()));

test('VTEP MACs: derived, ours, of unicast, different for every range of a /8', () => {
  assert.equal(vtepMac('10.244.3.0/24'), '0e:70:77:f4:03:00');
  assert.notEqual(vtepMac('fd00:10:0:1::/64'), vtepMac('fd00:10:0:2::/64'));
  const all = new Set(Array.from({ length: 65536 }, (_, n) => vtepMac(`10.${n >> 8}.${n & 255}.0/24`)));
  assert.equal(all.size, 65536);
});

const record = (n: number, phase: AttachmentRecord['phase']): AttachmentRecord => ({
  version: 1, containerId: `c${n}`, ifname: 'eth0', network: 'podway', netns: `/var/run/netns/c${n}`, pod: { namespace: 'default', name: `web-${n}` },
  ips: [{ address: `10.244.0.${n}/24`, gateway: '10.244.0.1' }], mac: `0a:58:0a:f4:00:0${n}`, hostIfname: `veth${n}`, phase, created: '2030-01-01T00:00:00Z',
});

test('a node with two peers and a pod: all that is wanted in its namespace', () => {
  const config = parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":1,"Port":8472}}');
  const peers = [2, 3].map((n) => peer(config, n));
  const m2 = 'pods of node m2 are behind 172.18.0.3';
  const m3 = 'pods of node m3 are behind 172.18.0.4';
  const where = { family: 'inet', table: 'podway' };
  const match = (field: string, op: string, addr: string, len: number): object => ({ match: { op, left: { payload: { protocol: 'ip', field } }, right: { prefix: { addr, len } } } });
  const route = { family: 'inet', dev: 'flannel.1', type: 'unicast', table: 254, protocol: 3, metric: 0, onlink: true };
  const neighbour = { dev: 'flannel.1', family: 'inet', state: 'permanent' };
  const fdb = { dev: 'flannel.1', state: 'permanent', self: true };
  const { nft, ...desired } = desiredNode({ config, local: local(), plan: planBackends(config, undefined, local(), peers), attachments: [record(2, 'ready'), record(3, 'adding'), record(4, 'deleting')] });
  // Host ports have their own test.
  const ofMasquerade = nft.filter((o) => o['table'] || o['chain']?.['name'] === 'postrouting' || (o['rule']?.['chain'] === 'postrouting' && !JSON.stringify(o).includes('"ct"')));
  assert.deepEqual({ ...desired, nft: ofMasquerade }, {
    schema: 1, netns: { id: '', name: 'm1' }, rules: [], qdiscs: [], unread: [],
    links: [
      { name: 'cni0', kind: 'bridge', up: true, mtu: 1450, alias: 'podway: bridge of the pods on this node', address: '0a:58:0a:f4:00:01', bridge: { stp: false, nfCallIptables: true } },
      {
        name: 'flannel.1', kind: 'vxlan', up: true, mtu: 1450, address: '0e:70:77:f4:00:00', alias: 'podway: VTEP of this node',
        vxlan: { vni: 1, port: 8472, local: '172.18.0.2', dev: 'eth0', learning: false, df: 0 },
      },
      { name: 'veth2', kind: 'veth', up: true, mtu: 1450, master: 'cni0', alias: 'podway: pod default/web-2 eth0 (c2)', why: 'host end of pod default/web-2', port: { hairpin: true } },
    ],
    addresses: [
      { dev: 'cni0', family: 'inet', address: '10.244.0.1', prefix: 24, broadcast: '10.244.0.255' }, { dev: 'flannel.1', family: 'inet', address: '10.244.0.0', prefix: 32 },
    ],
    routes: [{ ...route, dst: '10.244.1.0/24', gateway: '10.244.1.0', why: m2 }, { ...route, dst: '10.244.2.0/24', gateway: '10.244.2.0', why: m3 }],
    neighbours: [{ ...neighbour, dst: '10.244.1.0', lladdr: '0e:70:77:f4:01:00', why: m2 }, { ...neighbour, dst: '10.244.2.0', lladdr: '0e:70:77:f4:02:00', why: m3 }],
    fdb: [{ ...fdb, lladdr: '0e:70:77:f4:01:00', dst: '172.18.0.3', why: m2 }, { ...fdb, lladdr: '0e:70:77:f4:02:00', dst: '172.18.0.4', why: m3 }],
    sysctls: {
      'net.ipv4.ip_forward': '1', 'net.ipv4.conf.cni0.forwarding': '1', 'net.ipv4.conf.eth0.forwarding': '1', 'net.ipv4.conf.flannel/1.forwarding': '1',
      'net.ipv4.conf.cni0.route_localnet': '1',
    },
    nft: [
      { table: { family: 'inet', name: 'podway' } },
      { chain: { ...where, name: 'postrouting', type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } },
      { rule: { ...where, chain: 'postrouting', comment: 'pod to pod is never translated', expr: [
        match('saddr', '==', '10.244.0.0', 24), match('daddr', '==', '10.244.0.0', 16), { accept: null } ] } },
      { rule: { ...where, chain: 'postrouting', comment: 'what leaves the cluster takes the node address', expr: [
        match('saddr', '==', '10.244.0.0', 24), match('daddr', '!=', '224.0.0.0', 4), { counter: { packets: 0, bytes: 0 } }, { masquerade: { flags: 'fully-random' } } ] } },
    ],
  });
});

test('who joins with an old configuration waits for BGP with peers that never took the old way', () => {
  const read = (type: string) => parseNetworkConfig(JSON.stringify({ Network: '10.244.0.0/16', Backend: { Type: type } }));
  const [before, after] = [read('vxlan'), read('bgp')];
  const plan = planBackends(after, before, local(), [peer(after, 2), peer(after, 3)]);
  assert.deepEqual(plan.parts.map((p) => [p.config.backend.type, p.peers.map((x) => x.name)]), [['bgp', ['m2', 'm3']], ['vxlan', []]]);
  assert.deepEqual([plan.settled, plan.ends.uses, plan.problems], [true, 'bgp', []]);
  // Peers that do take it are reached by both until the routes are there.
  const both = { ...peer(before, 2), ends: { ...peer(before, 2).ends, accepts: { ...peer(before, 2).ends.accepts, ...peer(after, 2).ends.accepts } } };
  assert.deepEqual(planBackends(after, before, local(), [both]).parts.map((p) => p.peers.length), [1, 1]);
});
