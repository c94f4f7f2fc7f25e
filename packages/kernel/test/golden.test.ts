/**
 * Requests against the bytes that iproute2 6.1 sends for the same command (recorded with
 * `strace -e trace=sendmsg -e write=all`). Compared are type, flags, fixed header and the tree of
 * attributes; their order and the nested mark, which the kernel does not look at here, are not.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addAddrRequest, addFdbRequest, addNeighRequest, addRouteRequest, addRuleRequest, createRequests, deleteAddrRequest, deleteFdbRequest,
  deleteNeighRequest, deleteRequest, deleteRouteRequest, deleteRuleRequest, PROTOCOL, setBridgeRequest, setRequest, type Request,
} from '../src/index.js';
import { eachAttribute, Writer } from '../src/netlink/codec.js';
import { NLM_F_ACK, NLM_F_REQUEST } from '../src/netlink/socket.js';

const ETH9 = 9;
const VX = 20;
const rule = { family: 'inet', priority: 100, src: '10.0.0.0/8', dst: '10.9.0.0/16', iif: 'eth9', fwmark: 1, fwmask: 255, table: 100 } as const;
const fdb = (dst: string) => ({ index: VX, lladdr: '02:00:00:00:00:0b', dst });

interface Golden {
  readonly command: string;
  /** Type and flags, little endian, as sent. */
  readonly head: string;
  readonly body: string;
  readonly ours: Request | undefined;
  /** Bytes of the fixed header where we knowingly differ, and why. */
  readonly differs?: { readonly bytes: readonly number[]; readonly why: string };
}
const g = (command: string, head: string, body: string, ours: Request | undefined, differs?: Golden['differs']): Golden =>
  ({ command, head, body, ours, ...(differs ? { differs } : {}) });

const NOARP = { bytes: [8], why: 'bridge adds NUD_NOARP to NUD_PERMANENT; Flannel, whose form this is, does not' };
const NO_STATE = { bytes: [8], why: 'the state is not looked at on deletion' };

const GOLDEN: readonly Golden[] = [
  g('ip route add 10.2.0.0/16 via 10.1.1.2', '18000506', '02100000fe03000100000000080001000a020000080005000a010102', addRouteRequest({ dst: '10.2.0.0/16', gateway: '10.1.1.2' })),
  g('ip route add 10.3.0.0/24 via 10.3.0.0 dev vx onlink', '18000506', '02180000fe03000104000000080001000a030000080005000a0300000800040014000000',
    addRouteRequest({ dst: '10.3.0.0/24', gateway: '10.3.0.0', index: VX, onlink: true })),
  g('ip route add blackhole 10.4.0.0/24', '18000506', '02180000fe03000600000000080001000a040000', addRouteRequest({ dst: '10.4.0.0/24', type: 'blackhole' })),
  g('ip route add 10.5.0.0/24 dev eth9 metric 77 mtu 1400 table 1000 proto 112', '18000506',
    '021800000070fd0100000000080001000a050000080006004d00000008000f00e803000008000400090000000c0008000800020078050000',
    addRouteRequest({ dst: '10.5.0.0/24', index: ETH9, metric: 77, mtu: 1400, table: 1000, protocol: PROTOCOL.podway })),
  g('ip route add 10.6.0.0/24 via inet6 fe80::2 dev eth9', '18000506', '02180000fe03000100000000080001000a060000160012000a00fe80000000000000000000000000000200000800040009000000',
    addRouteRequest({ dst: '10.6.0.0/24', gateway: 'fe80::2', index: ETH9 })),
  g('ip route replace default via 10.1.1.2', '18000505', '02000000fe03000100000000080005000a010102', addRouteRequest({ dst: '0.0.0.0/0', gateway: '10.1.1.2' }, 'replace')),
  g('ip route add 2001:db8:1::/64 via 2001:db8::2 dev eth9', '18000506',
    '0a400000fe030001000000001400010020010db80001000000000000000000001400050020010db80000000000000000000000020800040009000000',
    addRouteRequest({ dst: '2001:db8:1::/64', gateway: '2001:db8::2', index: ETH9 })),
  g('ip route del 10.2.0.0/16', '19000500', '02100000fe00ff0000000000080001000a020000', deleteRouteRequest({ dst: '10.2.0.0/16' }),
    { bytes: [7], why: 'a spec always names its type, so that a blackhole is not deleted for a unicast route' }),
  g('ip addr add 10.1.1.7/24 dev eth9', '14000506', '0218000009000000080002000a010107080001000a010107', addAddrRequest({ index: ETH9, address: '10.1.1.7', prefix: 24 })),
  g('ip addr add 2001:db8::7/64 dev eth9 nodad', '14000506', '0a400200090000001400020020010db80000000000000000000000071400010020010db8000000000000000000000007',
    addAddrRequest({ index: ETH9, address: '2001:db8::7', prefix: 64 })),
  g('ip addr del 10.1.1.7/24 dev eth9', '15000500', '0218000009000000080002000a010107080001000a010107', deleteAddrRequest({ index: ETH9, address: '10.1.1.7', prefix: 24 })),
  g('ip neigh add 10.1.1.9 lladdr 02:00:00:00:00:09 dev eth9 nud permanent', '1c000506', '020000000900000080000000080001000a0101090a0002000200000000090000',
    addNeighRequest({ index: ETH9, dst: '10.1.1.9', lladdr: '02:00:00:00:00:09' })),
  g('ip neigh replace 10.1.1.9 lladdr 02:00:00:00:00:0a dev eth9 nud permanent', '1c000505', '020000000900000080000000080001000a0101090a00020002000000000a0000',
    addNeighRequest({ index: ETH9, dst: '10.1.1.9', lladdr: '02:00:00:00:00:0a' }, 'replace')),
  g('ip neigh del 10.1.1.9 dev eth9', '1d000500', '020000000900000080000000080001000a010109', deleteNeighRequest({ index: ETH9, dst: '10.1.1.9' }), NO_STATE),
  g('ip neigh add proxy 10.1.1.10 dev eth9', '1c000506', '020000000900000080000800080001000a01010a', addNeighRequest({ index: ETH9, dst: '10.1.1.10', proxy: true }),
    { bytes: [8], why: 'a proxy entry has no state' }),
  g('bridge fdb add 02:00:00:00:00:0b dev vx dst 172.18.0.3 self permanent', '1c000506', '0700000014000000c00002000a00020002000000000b000008000100ac120003', addFdbRequest(fdb('172.18.0.3')), NOARP),
  g('bridge fdb append 02:00:00:00:00:0b dev vx dst 172.18.0.4 self permanent', '1c00050c', '0700000014000000c00002000a00020002000000000b000008000100ac120004', addFdbRequest(fdb('172.18.0.4'), 'append'), NOARP),
  g('bridge fdb del 02:00:00:00:00:0b dev vx dst 172.18.0.3 self', '1d000500', '0700000014000000c00002000a00020002000000000b000008000100ac120003', deleteFdbRequest(fdb('172.18.0.3')), NOARP),
  g('ip rule add priority 100 from 10.0.0.0/8 to 10.9.0.0/16 iif eth9 fwmark 1/255 lookup 100', '20000506',
    '0210080064000001000000000800060064000000080002000a000000080001000a09000009000300657468390000000008000a000100000008001000ff000000', addRuleRequest(rule)),
  g('ip rule del priority 100 from 10.0.0.0/8 to 10.9.0.0/16 iif eth9 fwmark 1/255 lookup 100', '21000500',
    '0210080064000000000000000800060064000000080002000a000000080001000a09000009000300657468390000000008000a000100000008001000ff000000', deleteRuleRequest(rule),
    { bytes: [7], why: 'a spec always names its action' }),
  g('ip link set eth9 mtu 1400', '10000500', '000000000900000000000000000000000800040078050000', setRequest(ETH9, { mtu: 1400 })),
  g('ip link set eth9 up', '10000500', '00000000090000000100000001000000', setRequest(ETH9, { up: true })),
  g('ip link set eth9 alias podway:test', '10000500', '000000000900000000000000000000000f001400706f647761793a7465737400', setRequest(ETH9, { alias: 'podway:test' })),
  g('ip link set eth9 master br0', '10000500', '0000000009000000000000000000000008000a0002000000', setRequest(ETH9, { master: 2 })),
  g('ip link set br0 type bridge ageing_time 1000', '10000500', '000000000200000000000000000000001c0012000a00010062726964676500000c00020008000400e8030000', setBridgeRequest(2, { ageingTime: 1000 })),
  g('ip link add v1 mtu 1450 type veth peer name v2 mtu 1450', '10000506',
    '0000000000000000000000000000000008000400aa050000070003007631000034001200080001007665746828000200240001000000000000000000000000000000000008000400aa0500000700030076320000',
    createRequests({ name: 'v1', mtu: 1450, kind: 'veth', peer: { name: 'v2', mtu: 1450 } })[0]),
  g('ip link add b1 type bridge vlan_filtering 1', '10000506', '0000000000000000000000000000000007000300623100001c0012000a00010062726964676500000c0002000500070001000000',
    createRequests({ name: 'b1', kind: 'bridge', bridge: { vlanFiltering: true } })[0]),
  g('ip link add flannel.1 type vxlan id 1 local 10.1.1.1 dev eth9 dstport 8472 nolearning', '10000506',
    '000000000000000000000000000000000e000300666c616e6e656c2e310000003c0012000900010076786c616e0000002c00020008000300090000000800010001000000080004000a010101050007000000000006000f0021180000',
    createRequests({ name: 'flannel.1', kind: 'vxlan', vxlan: { id: 1, local: '10.1.1.1', link: ETH9, port: 8472, learning: false } })[0]),
  g('ip link del v1', '11000500', '00000000050000000000000000000000', deleteRequest(5)),
];

/** Size of the fixed header by message type: ifinfomsg, ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr. */
const HEADER: Readonly<Record<number, number>> = { 16: 16, 17: 16, 20: 8, 21: 8, 24: 12, 25: 12, 28: 12, 29: 12, 32: 12, 33: 12 };
/** Paths of attribute numbers below a link or route message that hold attributes, with what stands before them. */
const NESTED: Readonly<Record<string, number>> = { '16.18': 0, '16.18.2': 0, '16.18.2.1': 16, '24.8': 0 };

/** Kind and alias: the kernel takes them with and without a closing NUL. */
const STRINGS = new Set(['16.18.1', '16.20']);

function tree(b: Buffer, start: number, end: number, path: string): string[] {
  return [...eachAttribute(b, start, end)]
    .flatMap((a) => {
      const here = `${path}.${a.number}`;
      const before = NESTED[here];
      const isPeer = here === '16.18.2.1' && a.end - a.start < 16;
      if (before !== undefined && !isPeer) return [`${here} {`, b.toString('hex', a.start, a.start + before), ...tree(b, a.start + before, a.end, here), `} ${here}`].join(' ');
      return `${here}=${b.toString('hex', a.start, a.end).replace(/(?<=^(?:[0-9a-f]{2})+)(00)$/, STRINGS.has(here) ? '' : '$1')}`;
    })
    .sort();
}

for (const golden of GOLDEN) {
  test(golden.command, () => {
    assert.ok(golden.ours);
    const w = new Writer();
    golden.ours.body(w);
    const head = Buffer.from(golden.head, 'hex');
    const type = head.readUInt16LE(0);
    assert.equal(golden.ours.type, type);
    assert.equal((golden.ours.flags | NLM_F_REQUEST | NLM_F_ACK).toString(16), head.readUInt16LE(2).toString(16), 'flags');
    const size = HEADER[type];
    assert.ok(size !== undefined);
    const theirs = Buffer.from(golden.body, 'hex');
    const fixed = (b: Buffer): string => {
      const copy = Buffer.from(b.subarray(0, size));
      for (const at of golden.differs?.bytes ?? []) copy[at] = 0;
      return copy.toString('hex');
    };
    assert.equal(fixed(w.bytes()), fixed(theirs), 'fixed header');
    assert.deepEqual(tree(w.bytes(), size, w.length, String(type)), tree(theirs, size, theirs.length, String(type)), 'attributes');
  });
}
