/**
 * Devices and queues that not every kernel has, under one that has them: what we read of them is what `ip -j -d`
 * and `tc -j` read. One test per device, since each loads a module.
 */
// needs kernel modules: ipip, wireguard, dummy, vrf, ipvlan, vxlan, sch_netem, ip_vs
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { test } from 'node:test';
import { type Netns, RtNetlink } from '../src/index.js';
import { inScratch, inside, ip, ipJson, type Json } from './scratch.js';

/** Run by hand on a kernel that lacks the device, a test is skipped; in the lane the device must be there. */
const lane = process.env['PODWAY_KERNEL_LANE'] ?? '';
/** What `ip` insists on for some kinds. */
const EXTRA: Readonly<Record<string, readonly string[]>> = { vrf: ['table', '10'], vxlan: ['id', '1', 'dstport', '4789'] };
function skipWithout(kind: string): string | false {
  if (lane) return false;
  try {
    inScratch((ns) => ip(ns, 'link', 'add', 'x0', 'type', kind, ...(EXTRA[kind] ?? [])));
    return false;
  } catch {
    return `this kernel has no ${kind} devices: ./podway test --kernel`;
  }
}

const sub = (o: Json, ...path: string[]): Json => path.reduce<Json>((at, key) => (at[key] ?? {}) as Json, o);

/** Hardware addresses as bytes: `ip` writes those of IPv4 tunnels as IPv4 addresses. */
const asBytes = (address: unknown): unknown =>
  typeof address === 'string' && /^[\d.]+$/.test(address) ? address.split('.').map((n) => Number(n).toString(16).padStart(2, '0')).join(':') : address;

/** Our reading of a link next to that of `ip -j -d`. */
function compare(ns: Netns, name: string): Json {
  const ours = RtNetlink.with(ns, (nl) => nl.links()).find((l) => l.name === name);
  const theirs = ipJson(ns, '-d', 'link', 'show', 'dev', name)[0]!;
  assert.ok(ours);
  assert.deepEqual(
    { index: ours.index, kind: ours.kind, mtu: ours.mtu, address: ours.address, qdisc: ours.qdisc, operstate: ours.operstate, flags: ours.flags },
    {
      index: theirs['ifindex'], kind: sub(theirs, 'linkinfo')['info_kind'], mtu: theirs['mtu'], address: asBytes(theirs['address']), qdisc: theirs['qdisc'],
      operstate: theirs['operstate'], flags: (theirs['flags'] as string[]).filter((f) => f !== 'NO-CARRIER' && f !== 'M-DOWN'),
    },
  );
  return theirs;
}

test('the lane runs the kernel that it says', { skip: lane ? false : 'not in the kernel lane' }, () => {
  assert.equal(release(), lane);
});

const DEVICES = [
  { kind: 'ipip', args: ['local', '192.0.2.1', 'remote', '192.0.2.2'], mtu: 1480, says: { remote: '192.0.2.2', local: '192.0.2.1' } },
  { kind: 'wireguard', args: [], mtu: 1420, says: {} },
  { kind: 'dummy', args: [], mtu: 1500, says: {} },
  { kind: 'vrf', args: ['table', '10'], mtu: 65575, says: { table: 10 } },
  { kind: 'ipvlan', args: ['mode', 'l2'], lower: true, mtu: 1500, says: { mode: 'l2' } },
] as const;

for (const { kind, args, says, mtu, ...rest } of DEVICES) {
  test(`a device of the kind ${kind} reads as ip shows it`, { skip: skipWithout(kind === 'ipvlan' ? 'dummy' : kind) }, () => {
    inScratch((ns) => {
      const lower = 'lower' in rest ? ['link', 'under0'] : [];
      if (lower.length) ip(ns, 'link', 'add', 'under0', 'up', 'mtu', '1500', 'type', 'dummy');
      // An IPIP device without a route to its peer takes the MTU of no device: 1480 of 1500.
      ip(ns, 'link', 'add', ...lower, 'name', 'dev0', 'type', kind, ...args);
      const shown = compare(ns, 'dev0');
      assert.equal(shown['mtu'], mtu);
      for (const [key, value] of Object.entries(says)) assert.equal(sub(shown, 'linkinfo', 'info_data')[key], value, key);
      ip(ns, 'link', 'set', 'dev0', 'up');
      compare(ns, 'dev0');
      RtNetlink.with(ns, (nl) => assert.equal(nl.deleteLink('dev0'), true));
      assert.deepEqual(ipJson(ns, 'link').map((l) => l['ifname']).filter((n) => n === 'dev0'), []);
    });
  });
}

test('a netem queue is seen, and delays', { skip: skipWithout('dummy') }, () => {
  inScratch((ns) => {
    ip(ns, 'link', 'set', 'lo', 'up');
    inside(ns, 'tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '60ms');
    assert.equal(RtNetlink.with(ns, (nl) => nl.links()).find((l) => l.name === 'lo')?.qdisc, 'netem');
    assert.equal((JSON.parse(inside(ns, 'tc', '-j', 'qdisc', 'show', 'dev', 'lo')) as Json[])[0]?.['kind'], 'netem');
    const ms = Number(/time=([\d.]+) ms/.exec(inside(ns, 'busybox', 'ping', '-c', '1', '-W', '10', '127.0.0.1'))?.[1]);
    assert.ok(ms >= 120, `both ways through the queue: ${ms} ms`);
  });
});

test('IPVS can be loaded and lists its services', { skip: lane ? false : 'loads a module: only in the kernel lane' }, () => {
  execFileSync('modprobe', ['-a', 'ip_vs', 'ip_vs_rr'], { stdio: 'pipe' });
  assert.match(readFileSync('/proc/net/ip_vs', 'utf8'), /^IP Virtual Server version/);
});

test('a ping through VXLAN between two namespaces on a veth', { skip: skipWithout('vxlan') }, () => {
  inScratch((left) => inScratch((right) => {
    RtNetlink.with(left, (nl) => nl.createLink({ name: 'up0', kind: 'veth', peer: { name: 'up0', netnsFd: right.fd } }));
    for (const [ns, me, peer] of [[left, 1, 2], [right, 2, 1]] as const) {
      ip(ns, 'addr', 'add', `192.0.2.${me}/24`, 'dev', 'up0');
      ip(ns, 'link', 'set', 'up0', 'up');
      ip(ns, 'link', 'add', 'vx0', 'type', 'vxlan', 'id', '1', 'local', `192.0.2.${me}`, 'remote', `192.0.2.${peer}`, 'dstport', '8472', 'dev', 'up0');
      ip(ns, 'addr', 'add', `10.9.0.${me}/24`, 'dev', 'vx0');
      ip(ns, 'link', 'set', 'vx0', 'up');
    }
    assert.match(inside(left, 'busybox', 'ping', '-c', '1', '-W', '10', '10.9.0.2'), / 0% packet loss/);
    const sent = RtNetlink.with(left, (nl) => nl.links()).find((l) => l.name === 'vx0')?.stats?.txPackets;
    assert.ok(sent !== undefined && sent >= 1n, `through the tunnel: ${sent}`);
  }));
});
