/** The lines we print against those that ip and bridge print of the same objects. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { Netns } from '@podway/kernel';
import { formatAddress, formatFdb, formatLink, formatNeighbour, formatRoute, formatRule, observe, type NetnsState } from '../src/index.js';

const run = (ns: Netns, line: string): string => ns.run(() => {
  const [program = '', ...args] = line.split(' ');
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
});
const lines = (text: string): string[] => text.split('\n').map((l) => l.trimEnd()).filter(Boolean);

const OBJECTS = `
ip link set lo up
ip link add br0 type bridge
ip link add eth0 type veth peer name far
ip link set far master br0
ip link set eth0 alias podway:uplink
ip link set br0 up
ip link set far up
ip link set eth0 up
ip link add v8 type veth peer name v9
ip link set v8 up
ip link add flannel.1 type vxlan id 1 local 10.1.1.1 dev eth0 dstport 8472 nolearning
ip link set flannel.1 up
ip link property add dev v9 altname an-alternative-name
ip link set v9 txqueuelen 7 group 5
ip addr add 10.1.1.1/24 brd 10.1.1.255 dev eth0
ip addr add 10.1.2.1/32 dev eth0 scope link
ip addr add 10.1.3.1 peer 10.1.3.2/32 dev eth0 noprefixroute
ip addr add 10.244.0.0/32 dev flannel.1
ip addr add 2001:db8::1/64 dev eth0 nodad
ip addr add 2001:db8:9::1/128 dev eth0 nodad noprefixroute
ip route add default via 10.1.1.2
ip route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
ip route add 10.20.0.5 via 10.1.1.3 metric 7 proto 112 mtu 1400
ip route add 10.21.0.0/16 dev eth0 src 10.1.1.1 tos 0x10 proto bird
ip route add 10.22.0.0/16 via inet6 fe80::2 dev eth0 proto static
ip route add 10.23.0.0/16 via 10.1.1.2 table 100
ip route add blackhole 10.24.0.0/16 proto bird
ip route add unreachable 10.25.0.0/16 metric 9
ip route add prohibit 10.26.0.0/16
ip route add throw 10.27.0.0/16 table 70000
ip route add 10.28.0.0/16 nexthop via 10.1.1.2 weight 1 nexthop via 10.1.1.3 weight 5
ip route add 10.29.0.0/16 nexthop via 10.1.1.2 nexthop via 10.244.9.0 dev flannel.1 onlink
ip -6 route add default via 2001:db8::2 metric 5
ip -6 route add 2001:db8:1::/48 via fe80::9 dev eth0 proto 112
ip -6 route add blackhole 2001:db8:2::/48
ip -6 route add unreachable 2001:db8:3::/48
ip -6 route add prohibit 2001:db8:4::/48 metric 3
ip -6 route add 2001:db8:5::7 dev eth0 pref high
ip -6 route add 2001:db8:6::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::3 weight 2
ip rule add priority 100 from 10.0.0.0/8 to 10.9.0.0/16 iif eth0 fwmark 1/255 lookup 100
ip rule add priority 101 not from 10.5.0.1 oif eth0 fwmark 7 lookup 70000
ip rule add priority 102 ipproto tcp lookup main suppress_prefixlength 0
ip rule add priority 103 from 10.3.0.0/16 blackhole
ip rule add priority 104 goto 32766
ip rule add priority 105 to 10.9.9.9 prohibit
ip -6 rule add priority 106 to 2001:db8::/32 lookup 5
ip neigh add 10.1.1.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
ip neigh add 10.1.1.3 lladdr 02:00:00:00:00:03 dev eth0 nud stale
ip neigh add 10.244.1.0 lladdr 02:00:00:00:00:04 dev flannel.1 nud permanent
ip neigh add proxy 10.1.1.9 dev eth0
ip -6 neigh add 2001:db8::2 lladdr 02:00:00:00:00:05 dev eth0 nud permanent router
ip neigh add 10.1.1.7 lladdr 02:00:00:00:00:07 dev eth0 nud permanent extern_learn
bridge fdb add 02:00:00:00:00:04 dev flannel.1 dst 172.18.0.3
bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 172.18.0.4
bridge fdb add 02:00:00:00:00:0c dev flannel.1 dst 172.18.0.5 port 9999 vni 44 via eth0
bridge fdb add 02:00:00:00:00:0d dev far master static
bridge fdb add 02:00:00:00:00:0e dev far master permanent
bridge fdb add 02:00:00:00:00:0f dev far master dynamic extern_learn
`;

/** One namespace for all tests: reading does not change it. Read when it has come to rest. */
function prepared(): { ns: Netns; state: NetnsState } {
  const ns = Netns.createNameless('format');
  for (const line of lines(OBJECTS)) run(ns, line);
  const calm = (): string => JSON.stringify({ ...observe(ns, { nft: false }), links: observe(ns, { nft: false }).links.map((l) => ({ ...l, counters: 0 })) });
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const end = performance.now() + 8000;
  for (let before = '', same = 0; same < 3 && performance.now() < end; ) {
    const now = calm();
    same = now === before ? same + 1 : 0;
    before = now;
    Atomics.wait(cell, 0, 0, 400);
  }
  return { ns, state: observe(ns, { nft: false }) };
}
const { ns, state } = prepared();

const sorted = (l: readonly string[]): string[] => [...l].sort();

test('routes', () => {
  // -d is what shows `unicast` and the like; without it ip is as terse as we are.
  const theirs = lines(run(ns, 'ip -4 route show table all') + run(ns, 'ip -6 route show table all'));
  assert.deepEqual(sorted(state.routes.flatMap((r) => lines(formatRoute(r)))), sorted(theirs));
});

test('rules', () => {
  assert.deepEqual(state.rules.map(formatRule), [...lines(run(ns, 'ip -4 rule')), ...lines(run(ns, 'ip -6 rule'))]);
});

test('neighbours', () => {
  const shown = ['-4', '-6'].flatMap((f) => [...lines(run(ns, `ip ${f} neigh show nud all`)), ...lines(run(ns, `ip ${f} neigh show proxy`))]);
  assert.deepEqual(sorted(state.neighbours.map(formatNeighbour)), sorted(shown));
});

test('FDB entries', () => {
  assert.deepEqual(sorted(state.fdb.map(formatFdb)), sorted(lines(run(ns, 'bridge fdb'))));
});

test('addresses', () => {
  const theirs = lines(run(ns, 'ip addr')).map((l) => l.trim()).filter((l) => /^inet6? /.test(l));
  assert.deepEqual(sorted(state.addresses.map(formatAddress)), sorted(theirs));
});

const links = new Map(state.links.map((l) => [l.index, l]));
const DETAIL = /^ {4}(vxlan|bridge|bridge_slave) /;

test('links', () => {
  const ours = state.links.flatMap((l) => formatLink(l, (index) => links.get(index)).split('\n')).filter((l) => !DETAIL.test(l));
  assert.deepEqual(ours.map((l) => l.trimEnd()), lines(run(ns, 'ip link')));
});

test('details of links: every word of ours stands in ip -d link, in the same order', () => {
  const all = run(ns, 'ip -d link');
  let seen = 0;
  for (const l of state.links) {
    const block = new RegExp(`^${l.index}: [\\s\\S]*?(?=^\\d+: |$(?![\\s\\S]))`, 'm').exec(all)?.[0] ?? '';
    for (const line of formatLink(l).split('\n').filter((x) => DETAIL.test(x))) {
      const theirs = lines(block).find((x) => x.startsWith(line.split(' ').slice(0, 5).join(' '))) ?? '';
      const words = theirs.trim().split(/\s+/);
      let at = -1;
      for (const word of line.trim().split(' ')) {
        const next = words.indexOf(word, at + 1);
        assert.ok(next > at, `"${word}" of\n${line}\nis not in\n${theirs}`);
        at = next;
      }
      seen++;
    }
  }
  assert.equal(seen, 3, 'a bridge, a port and a VTEP');
});

test('the lines that tutorials show', () => {
  const text = state.routes.map(formatRoute);
  assert.ok(text.includes('10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink'));
  assert.ok(state.fdb.map(formatFdb).includes('02:00:00:00:00:04 dev flannel.1 dst 172.18.0.3 self permanent'));
  assert.ok(state.neighbours.map(formatNeighbour).includes('10.244.1.0 dev flannel.1 lladdr 02:00:00:00:00:04 PERMANENT'));
});
