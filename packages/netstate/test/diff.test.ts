/** `diff` as a table: every kind of object with every operation that can befall it, and the sentence that explains it. Needs no kernel. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { describe, diff, invert, keyOf, type Address, type Change, type FdbEntry, type Kind, type Link, type Neighbour, type NetnsState, type NftObject, type Op, type Qdisc, type Route, type Rule } from '../src/index.js';
import { KEY_PARTS, type ObjectByKind } from '../src/keys.js';
import { desiredState } from './arbitrary.js';
import { ownership, state } from './scratch.js';

const vx: Link = { name: 'vx0', kind: 'vxlan', up: true, mtu: 1450, alias: 'podway: v', vxlan: { vni: 1, port: 8472, local: '172.18.0.2', learning: false } };
const foreignVx: Link = { ...vx, alias: 'mine' };
const bridge: Link = { name: 'br0', kind: 'bridge', up: true, alias: 'podway: b' };
const address: Address = { dev: 'vx0', family: 'inet', address: '10.1.0.1', prefix: 24, broadcast: '10.1.0.255' };
const route: Route = { family: 'inet', dst: '10.2.0.0/24', gateway: '10.2.0.0', dev: 'vx0', type: 'unicast', table: 254, metric: 0, protocol: 112, onlink: true };
const rule: Rule = { family: 'inet', priority: 9, action: 'lookup', table: 100, src: '10.0.0.0/8', protocol: 112 };
const neighbour: Neighbour = { dev: 'vx0', family: 'inet', dst: '10.2.0.0', lladdr: '0e:70:77:02:00:00', state: 'permanent' };
const wgPeer = { dev: 'vx0', publicKey: 'KEY=', endpoint: '172.18.0.3:51820', allowedIps: ['10.2.0.0/24'], keepalive: 0 };
const fdb: FdbEntry = { dev: 'vx0', lladdr: '0e:70:77:02:00:00', dst: '172.18.0.3', state: 'permanent', self: true };
const table = (name: string, ...sets: string[]): NftObject[] => [{ table: { family: 'inet', name } }, ...sets.map((s) => ({ set: { family: 'inet', table: name, name: s, type: 'ipv4_addr' } }))];

const withElements = (elem: unknown[]): NftObject[] => [{ table: { family: 'inet', name: 'podway' } }, { set: { family: 'inet', table: 'podway', name: 'a', type: 'ipv4_addr', elem } }];

interface Row {
  readonly kind: Kind;
  readonly op: Op;
  readonly desired: Partial<NetnsState>;
  readonly observed: Partial<NetnsState>;
  /** All lines of `describe`. */
  readonly says: readonly string[];
}

const on = { links: [vx] };
const conflictLine = "leave alone link vx0: a link of that name exists and is not Podway's (alias mine instead of podway: v)";

const qdisc: Qdisc = { dev: 'vx0', kind: 'tbf', handle: '7077:', parent: 'root', tbf: { rate: 125_000, burst: 30_000, limit: 60_000 } };
const ingress: Qdisc = { dev: 'vx0', kind: 'ingress', handle: 'ffff:', parent: 'ingress', redirect: 'vx0' };
const ROWS: readonly Row[] = [
  { kind: 'link', op: 'create', desired: { links: [{ ...vx, why: 'peers need it' }] }, observed: {}, says: ['add link vx0: missing: peers need it'] },
  { kind: 'link', op: 'change', desired: { links: [{ ...vx, mtu: 1400, up: false }] }, observed: on, says: ['change link vx0: mtu 1450 instead of 1400, up true instead of false'] },
  { kind: 'link', op: 'change', desired: { links: [{ ...bridge, bridge: { stp: false, ageingTime: 5 } }] }, observed: { links: [{ ...bridge, bridge: { stp: true, ageingTime: 300 } }] }, says: ['change link br0: stp true instead of false, ageingTime 300 instead of 5'] },
  { kind: 'link', op: 'change', desired: { links: [{ name: 'p', kind: 'veth', up: true, master: 'br0', port: { hairpin: true } }] }, observed: { links: [{ name: 'p', kind: 'veth', up: true, port: {} }] }, says: ['change link p: master none instead of br0, hairpin none instead of true'] },
  { kind: 'link', op: 'recreate', desired: { links: [{ ...vx, vxlan: { ...vx.vxlan!, vni: 2 } }] }, observed: on, says: ['make anew link vx0: vni 1 instead of 2'] },
  { kind: 'link', op: 'recreate', desired: { links: [{ name: 'vx0', kind: 'bridge', up: true }] }, observed: on, says: ['make anew link vx0: kind vxlan instead of bridge'] },
  { kind: 'link', op: 'delete', desired: {}, observed: on, says: ['remove link vx0: no longer wanted (podway: v)'] },
  { kind: 'link', op: 'conflict', desired: on, observed: { links: [foreignVx] }, says: [conflictLine] },
  { kind: 'link', op: 'conflict', desired: { links: [{ name: 'eth0', kind: 'device', up: true }] }, observed: { links: [{ name: 'eth0', kind: 'veth', up: true }] }, says: ["leave alone link eth0: a link of that name exists and is not Podway's (kind veth instead of device)"] },

  { kind: 'address', op: 'create', desired: { ...on, addresses: [address] }, observed: on, says: ['add address 10.1.0.1/24 dev vx0: missing'] },
  { kind: 'address', op: 'change', desired: { ...on, addresses: [address] }, observed: { ...on, addresses: [{ ...address, broadcast: '10.1.0.9' }] }, says: ['change address 10.1.0.1/24 dev vx0: broadcast 10.1.0.9 instead of 10.1.0.255'] },
  { kind: 'address', op: 'delete', desired: on, observed: { ...on, addresses: [address] }, says: ['remove address 10.1.0.1/24 dev vx0: no longer wanted'] },
  { kind: 'address', op: 'conflict', desired: { ...on, addresses: [address] }, observed: { links: [foreignVx] }, says: [conflictLine, "leave alone address 10.1.0.1/24 dev vx0: link vx0 is not Podway's"] },

  { kind: 'route', op: 'create', desired: { ...on, routes: [{ ...route, why: 'pods of m2' }] }, observed: on, says: ['add route 10.2.0.0/24 table 254 metric 0: missing: pods of m2'] },
  { kind: 'route', op: 'change', desired: { ...on, routes: [route] }, observed: { ...on, routes: [{ ...route, gateway: '10.2.0.9' }] }, says: ['change route 10.2.0.0/24 table 254 metric 0: gateway 10.2.0.9 instead of 10.2.0.0'] },
  { kind: 'route', op: 'delete', desired: on, observed: { ...on, routes: [route] }, says: ['remove route 10.2.0.0/24 table 254 metric 0: no longer wanted'] },
  { kind: 'route', op: 'delete', desired: {}, observed: { ...on, routes: [route] }, says: ['remove link vx0: no longer wanted (podway: v)', 'remove route 10.2.0.0/24 table 254 metric 0: goes with link vx0'] },
  { kind: 'route', op: 'conflict', desired: { ...on, routes: [route] }, observed: { ...on, routes: [{ ...route, protocol: 4 }] }, says: ["leave alone route 10.2.0.0/24 table 254 metric 0: exists and is not Podway's (protocol 4 instead of 112)"] },

  { kind: 'rule', op: 'create', desired: { rules: [rule] }, observed: {}, says: ['add rule inet 9 10.0.0.0/8 all - - - 100: missing'] },
  { kind: 'rule', op: 'change', desired: { rules: [{ ...rule, ipProto: 6 }] }, observed: { rules: [rule] }, says: ['change rule inet 9 10.0.0.0/8 all - - - 100: ipProto none instead of 6'] },
  { kind: 'rule', op: 'delete', desired: {}, observed: { rules: [rule] }, says: ['remove rule inet 9 10.0.0.0/8 all - - - 100: no longer wanted'] },
  { kind: 'rule', op: 'conflict', desired: { rules: [{ ...rule, ipProto: 6 }] }, observed: { rules: [{ ...rule, protocol: 4 }] }, says: ["leave alone rule inet 9 10.0.0.0/8 all - - - 100: exists and is not Podway's (ipProto none instead of 6)"] },

  { kind: 'neighbour', op: 'create', desired: { ...on, neighbours: [neighbour] }, observed: on, says: ['add neighbour 10.2.0.0 dev vx0: missing'] },
  { kind: 'neighbour', op: 'change', desired: { ...on, neighbours: [neighbour] }, observed: { ...on, neighbours: [{ ...neighbour, lladdr: '02:00:00:00:00:01', state: 'stale' }] }, says: ['change neighbour 10.2.0.0 dev vx0: lladdr 02:00:00:00:00:01 instead of 0e:70:77:02:00:00, state stale instead of permanent'] },
  { kind: 'neighbour', op: 'delete', desired: on, observed: { ...on, neighbours: [neighbour] }, says: ['remove neighbour 10.2.0.0 dev vx0: no longer wanted'] },
  { kind: 'neighbour', op: 'conflict', desired: { ...on, neighbours: [neighbour] }, observed: { links: [foreignVx], neighbours: [{ ...neighbour, state: 'stale' }] }, says: [conflictLine, "leave alone neighbour 10.2.0.0 dev vx0: link vx0 is not Podway's"] },

  { kind: 'fdb', op: 'create', desired: { ...on, fdb: [fdb] }, observed: on, says: ['add FDB entry 0e:70:77:02:00:00 dev vx0: missing'] },
  { kind: 'fdb', op: 'change', desired: { ...on, fdb: [fdb] }, observed: { ...on, fdb: [{ ...fdb, dst: '172.18.0.9' }] }, says: ['change FDB entry 0e:70:77:02:00:00 dev vx0: dst 172.18.0.9 instead of 172.18.0.3'] },
  { kind: 'fdb', op: 'delete', desired: on, observed: { ...on, fdb: [fdb] }, says: ['remove FDB entry 0e:70:77:02:00:00 dev vx0: no longer wanted'] },
  { kind: 'fdb', op: 'conflict', desired: { ...on, fdb: [fdb] }, observed: { links: [foreignVx] }, says: [conflictLine, "leave alone FDB entry 0e:70:77:02:00:00 dev vx0: link vx0 is not Podway's"] },

  { kind: 'peer', op: 'create', desired: { ...on, wireguardPeers: [wgPeer] }, observed: on, says: ['add WireGuard peer KEY= dev vx0: missing'] },
  { kind: 'peer', op: 'change', desired: { ...on, wireguardPeers: [wgPeer] }, observed: { ...on, wireguardPeers: [{ ...wgPeer, endpoint: '172.18.0.9:1' }] }, says: ['change WireGuard peer KEY= dev vx0: endpoint 172.18.0.9:1 instead of 172.18.0.3:51820'] },
  { kind: 'peer', op: 'delete', desired: on, observed: { ...on, wireguardPeers: [wgPeer] }, says: ['remove WireGuard peer KEY= dev vx0: no longer wanted'] },
  { kind: 'peer', op: 'conflict', desired: { ...on, wireguardPeers: [wgPeer] }, observed: { links: [foreignVx] }, says: [conflictLine, "leave alone WireGuard peer KEY= dev vx0: link vx0 is not Podway's"] },

  { kind: 'qdisc', op: 'create', desired: { ...on, qdiscs: [qdisc] }, observed: { ...on, qdiscs: [{ dev: 'vx0', kind: 'noqueue', handle: '0:', parent: 'root' }] }, says: ['add qdisc root dev vx0: missing'] },
  { kind: 'qdisc', op: 'create', desired: { links: [{ ...vx, vxlan: { ...vx.vxlan!, port: 1 } }], qdiscs: [qdisc] }, observed: { ...on, qdiscs: [qdisc] }, says: ['make anew link vx0: port 8472 instead of 1', 'add qdisc root dev vx0: missing'] },
  { kind: 'qdisc', op: 'change', desired: { ...on, qdiscs: [qdisc] }, observed: { ...on, qdiscs: [{ ...qdisc, tbf: { rate: 2, burst: 20000, limit: 60000 } }] }, says: ['change qdisc root dev vx0: rate 2 instead of 125000 bytes/s, burst 20000 instead of 30000 bytes'] },
  { kind: 'qdisc', op: 'change', desired: { ...on, qdiscs: [ingress] }, observed: { ...on, qdiscs: [{ ...ingress, redirect: 'eth0' }] }, says: ['change qdisc ingress dev vx0: redirect eth0 instead of vx0'] },
  { kind: 'qdisc', op: 'delete', desired: on, observed: { ...on, qdiscs: [qdisc, ingress, { dev: 'vx0', kind: 'htb', handle: '1:', parent: '2:' }] }, says: ['remove qdisc root dev vx0: no longer wanted', 'remove qdisc ingress dev vx0: no longer wanted'] },

  { kind: 'sysctl', op: 'change', desired: { sysctls: { 'net.ipv4.ip_forward': '1', 'net.ipv4.x': 'a b', 'net.ipv4.y': '2' } }, observed: { sysctls: { 'net.ipv4.ip_forward': '0', 'net.ipv4.x': 'a\tb' } }, says: ['change sysctl net.ipv4.ip_forward: is 0, must be 1', 'change sysctl net.ipv4.y: is unset, must be 2'] },
  { kind: 'sysctl', op: 'change', desired: { links: [{ ...vx, vxlan: { ...vx.vxlan!, port: 1 } }], sysctls: { 'net.ipv4.conf.vx0.forwarding': '1' } }, observed: { ...on, sysctls: { 'net.ipv4.conf.vx0.forwarding': '1' } }, says: ['make anew link vx0: port 8472 instead of 1', 'change sysctl net.ipv4.conf.vx0.forwarding: link vx0 is made anew, must be 1'] },

  { kind: 'nft', op: 'create', desired: { nft: table('podway', 'a') }, observed: { nft: table('other') }, says: ['add nftables table inet podway: missing'] },
  { kind: 'nft', op: 'change', desired: { nft: table('podway', 'a') }, observed: { nft: table('podway', 'b') }, says: ['change nftables table inet podway: its rules differ'] },
  {
    kind: 'nft', op: 'change', desired: { nft: withElements(['10.0.0.1', '10.0.0.2']) }, observed: { nft: withElements(['10.0.0.2', { prefix: { addr: '10.9.0.0', len: 16 } }]) },
    says: ['change nftables table inet podway: missing in a: 10.0.0.1; extra in a: 10.9.0.0/16'],
  },
  { kind: 'nft', op: 'delete', desired: {}, observed: { nft: table('podway', 'a') }, says: ['remove nftables table inet podway: no longer wanted'] },
  { kind: 'nft', op: 'conflict', desired: { nft: table('other', 'a') }, observed: { nft: table('other', 'b') }, says: ["leave alone nftables table inet other: a table of that name exists and is not Podway's"] },
];

/** Only links are made anew; what stands where our qdisc must be gives way; a sysctl exists or does not exist, and is never ours to remove. */
const CANNOT: ReadonlySet<string> = new Set([
  ...(['address', 'route', 'rule', 'neighbour', 'fdb', 'peer', 'sysctl', 'nft', 'qdisc'] as const).map((k) => `${k} recreate`), 'qdisc conflict', 'sysctl create', 'sysctl delete', 'sysctl conflict',
]);

for (const row of ROWS) {
  test(`${row.op} ${row.kind}: ${row.says.at(-1)}`, () => {
    const changes = diff(state(row.desired), state(row.observed), ownership);
    assert.deepEqual(changes.map(describe), row.says);
    assert.equal(changes.some((c) => c.kind === row.kind && c.op === row.op), true);
    // What leads back leads nowhere else: undone twice, the same objects are touched.
    assert.deepEqual(invert(invert(changes)).map((c) => `${c.op} ${c.kind} ${c.key}`), changes.filter((c) => c.op !== 'conflict' && !(c.op === 'change' && c.observed === undefined)).map((c) => `${c.op} ${c.kind} ${c.key}`));
  });
}

test('every kind was tried with every operation that can befall it', () => {
  const kinds = Object.keys(keyOf) as Kind[];
  const ops: Op[] = ['create', 'change', 'recreate', 'delete', 'conflict'];
  const tried = new Set(ROWS.map((r) => `${r.kind} ${r.op}`));
  for (const kind of kinds) for (const op of ops) assert.equal(tried.has(`${kind} ${op}`), !CANNOT.has(`${kind} ${op}`), `${kind} ${op}`);
});

test('no operation occurs that cannot', () => {
  fc.assert(fc.property(desiredState, desiredState, (a, b) => {
    for (const c of diff(a, b, ownership)) assert.equal(CANNOT.has(`${c.kind} ${c.op}`), false, describe(c));
  }));
});

test('a state does not differ from itself, nor from its copy through JSON', () => {
  fc.assert(fc.property(desiredState, (s) => {
    assert.deepEqual(diff(s, s, ownership), []);
    assert.deepEqual(diff(s, JSON.parse(JSON.stringify(s)) as NetnsState, ownership), []);
  }));
});

test('what a desired object leaves out is not compared', () => {
  fc.assert(fc.property(desiredState, fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 8 }), (s, drops) => {
    const lists = [s.addresses, s.routes, s.neighbours, s.fdb, s.rules, s.links] as readonly (readonly object[])[];
    const droppable = ['broadcast', 'scope', 'mtu', 'onlink', 'prefsrc', 'fwmask', 'ipProto', 'invert', 'address', 'bridge'];
    const copy = structuredClone(s);
    const copies = [copy.addresses, copy.routes, copy.neighbours, copy.fdb, copy.rules, copy.links] as readonly (readonly object[])[];
    for (const [which, field] of drops) {
      const list = which % lists.length;
      const name = droppable[field % droppable.length]!;
      // An address is part of an address's key.
      for (const o of copies[list]!) if (!(list === 0 && name === 'address')) Reflect.deleteProperty(o, name);
    }
    assert.deepEqual(diff(copy, s, ownership), []);
  }));
});

test('the two halves of a key say what its full text says', () => {
  fc.assert(fc.property(desiredState, desiredState, (a, b) => {
    for (const [kind, list] of [['address', 'addresses'], ['route', 'routes'], ['rule', 'rules'], ['neighbour', 'neighbours'], ['fdb', 'fdb']] as const) {
      const parts = KEY_PARTS[kind] as { head: (o: object) => string; same: (x: object, y: object) => boolean };
      const text = keyOf[kind] as (o: ObjectByKind[typeof kind]) => string;
      const all = [...a[list], ...b[list]] as ObjectByKind[typeof kind][];
      for (const x of all) for (const y of all) assert.equal(parts.head(x) === parts.head(y) && parts.same(x, y), text(x) === text(y), `${text(x)} and ${text(y)}`);
    }
  }));
});

test('an undo of an undo is the change again', () => {
  fc.assert(fc.property(desiredState, desiredState, (a, b) => {
    const changes: Change[] = diff(a, b, ownership).filter((c) => c.op !== 'conflict' && (c.op !== 'change' || c.observed !== undefined));
    const bare = (list: readonly Change[]) => list.map(({ reason: _, ...c }) => c);
    assert.deepEqual(bare(invert(invert(changes))), bare(changes));
  }));
});
