/**
 * The matrix: every backend × wiring × family, each with real traffic between real namespaces and a capture on the
 * underlay that proves the way. A backend or wiring that is added to the lists is in it at once: without an entry here
 * this file does not compile. What this kernel lacks is skipped by name.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { Capture, kernelHas, RtNetlink, type Netns } from '@podway/kernel';
import { decode, innermost, type DecodedPacket } from '@podway/packet';
import { BACKEND_TYPES, parseNetworkConfig, podMtu, WIRINGS, type BackendType, type WiringType } from '../src/index.js';
import { needsBird } from './bgp-fixture.js';
import { needsRoot, pathOf, plansOf, until, withNetwork, type Families, type TestNetwork, type TestNode, type TestPod } from './network.js';
import { ask, digestOf, echo, Listeners } from './talk.js';
import { endPrograms, needsWireguard, wireguardGo } from './wireguard-fixture.js';

type Family = 'inet' | 'inet6';

interface Mode {
  /** The `Backend` of a net-conf.json, without its type. */
  readonly settings?: object;
  /** What is around a pod's packet on the underlay, Ethernet apart. */
  readonly around: (underlay: Family) => readonly string[];
  /** The family of the underlay, where it is not that of the pods. */
  readonly over?: (families: Families) => Family;
  /** Nobody sees on the underlay what is inside. */
  readonly sealed?: true;
  /** Bytes of the underlay's MTU that are kept free for ways which are not taken here. */
  readonly spare?: (families: Families) => number;
  /** Words: this kernel or machine cannot. */
  readonly skip?: string | false;
  /** Families that the configuration is refused with, and the words. */
  readonly refused?: { readonly families: readonly Families[]; readonly says: RegExp };
  /** Whoever makes the routes, when it is not Podway. */
  readonly routes?: (nodes: readonly TestNode[], families: Families) => void;
}

const bare = (): readonly string[] => [];
const IP = { inet: 'ipv4', inet6: 'ipv6' } as const;

const kernelHasWireguard = !needsRoot && kernelHas('link', 'wireguard');

const MODES: { readonly [T in BackendType]: readonly Mode[] } = {
  vxlan: [
    { around: (underlay) => [IP[underlay], 'udp', 'vxlan', 'ethernet'] },
    { settings: { CrossSubnet: true }, around: bare, spare: (families) => (families === '4' ? 50 : 70) },
  ],
  'host-gw': [{ around: bare }],
  wireguard: [{
    around: (underlay) => [IP[underlay], 'udp', 'wireguard'], sealed: true, over: (families) => (families === '6' ? 'inet6' : 'inet'), skip: !kernelHasWireguard && needsWireguard,
  }],
  bgp: [{ settings: { HoldTime: 6 }, around: bare, skip: needsBird }],
  ipip: [{
    around: (underlay) => [IP[underlay]], skip: !needsRoot && !kernelHas('link', 'ipip') && 'this kernel lacks the module ipip',
    refused: { families: ['6', 'both'], says: /"ipip" carries IPv4 packets only/ },
  }],
  none: [{ around: bare, routes: byHand }],
};

/** Somebody else's routes: `ip route add 10.244.1.0/24 via 172.18.0.3`. */
function byHand(nodes: readonly TestNode[], families: Families): void {
  for (const n of nodes) {
    RtNetlink.with(n.ns, (nl) => {
      for (const [i, o] of nodes.entries()) {
        if (o !== n) for (const p of plansOf(families)) nl.addRoute({ dst: p.podCidr(i), gateway: p.nodeAddress(i), index: nl.mustLink('eth0').index });
      }
    });
  }
}

const FAMILIES: readonly Families[] = ['4', '6', 'both'];
const UNDERLAY_MTU = 1500;
const BULK = 2 << 20;

interface Case {
  readonly type: BackendType;
  readonly mode: Mode;
  readonly wiring: WiringType;
  readonly families: Families;
}
const cases: Case[] = BACKEND_TYPES.flatMap((type) => MODES[type].flatMap((mode) => WIRINGS.flatMap((wiring) => FAMILIES.map((families) => ({ type, mode, wiring, families })))));

const textOf = ({ type, mode, wiring, families }: Case): string => {
  const has = (f: string): boolean => families === f || families === 'both';
  return JSON.stringify({
    ...(has('4') ? { Network: '10.244.0.0/16' } : {}), ...(has('6') ? { IPv6Network: 'fd00:10:244::/56' } : {}),
    EnableIPv4: has('4'), EnableIPv6: has('6'), Wiring: wiring, Backend: { Type: type, ...mode.settings },
  });
};
const titleOf = (c: Case): string => `${c.type}${c.mode.settings ? ` ${JSON.stringify(c.mode.settings)}` : ''} × ${c.wiring} × ${c.families === 'both' ? 'IPv4 and IPv6' : `IPv${c.families}`}`;

test('nothing is left out: every backend, wiring and family is in the table, and what is not run says why', () => {
  for (const type of BACKEND_TYPES) assert.ok(MODES[type].length > 0, type);
  const modes = BACKEND_TYPES.reduce((n, t) => n + MODES[t].length, 0);
  assert.equal(new Set(cases.map(titleOf)).size, modes * WIRINGS.length * FAMILIES.length);
  for (const c of cases.filter((x) => x.mode.skip)) assert.match(String(c.mode.skip), /lacks|needs|not installed|root/);
});

describe('every way', { concurrency: 4 }, () => {
  for (const c of cases) {
    const { refused } = c.mode;
    if (refused?.families.includes(c.families)) test(`${titleOf(c)}: refused in words`, () => assert.throws(() => parseNetworkConfig(textOf(c)), refused.says));
    else test(titleOf(c), { skip: needsRoot || c.mode.skip || false }, (t) => withNetwork((net) => run(t, net, c).finally(() => endPrograms(net.nodes)), c.families));
  }
});

interface Pod extends TestPod {
  readonly node: TestNode;
  readonly addresses: Readonly<Partial<Record<Family, string>>>;
}

async function run(t: TestContext, net: TestNetwork, c: Case): Promise<void> {
  const plans = plansOf(c.families).map((p) => ({ ...p, family: p.any.includes(':') ? ('inet6' as const) : ('inet' as const) }));
  const nodes = [net.addNode(0), net.addNode(1)];
  for (const n of nodes) {
    // What runs beside the agent (BIRD, wireguard-go) belongs into the node's namespace, which is not this process's.
    const dir = mkdtempSync(join(net.dir, 'd'));
    await n.start({ network: textOf(c), daemons: { dir, wrap: ['nsenter', `--net=${pathOf(n.ns)}`] }, wireguardGo: wireguardGo(n) });
  }
  for (const n of nodes) await n.ready();
  c.mode.routes?.(nodes, c.families);
  await until('every node has a way to the other', () => nodes.every((n, i) => RtNetlink.with(n.ns, (nl) => plans.every((p) => nl.routes().some((r) => r.dst === p.podCidr(1 - i) && r.type === 'unicast')))), 20_000);
  const pods: Pod[] = [];
  for (const [name, node] of [['a', nodes[0]!], ['b', nodes[0]!], ['c', nodes[1]!], ['d', nodes[1]!]] as const) {
    const pod = net.pod(name);
    const all = await net.addedAll(node, pod);
    assert.deepEqual(all.map((x) => (x.includes(':') ? 'inet6' : 'inet')), plans.map((p) => p.family), 'one address of each family, in one ADD');
    pods.push({ ...pod, node, addresses: Object.fromEntries(plans.map((p, i) => [p.family, all[i]])) });
  }
  const listeners = new Listeners();
  try {
    for (const ns of [...pods, ...nodes].map((x) => x.ns).concat(net.outside)) await listeners.add(ns);
    for (const p of plans) {
      await allPairs(pods, p.family);
      await nodesAndOutside(nodes, pods, p.family, p);
      await bulk(pods[0]!, pods[2]!, p.family);
    }
    const sizes = [];
    for (const p of plans) sizes.push(await largest(net, c, nodes, pods, p.family));
    // The arithmetic is exact: where the way costs most, the largest packet fills the underlay's MTU to the byte.
    assert.equal(Math.max(...sizes.map((s) => s.outer)), UNDERLAY_MTU - (c.mode.spare?.(c.families) ?? 0));
    t.diagnostic(sizes.map((s) => `${s.text} of ${UNDERLAY_MTU}`).join('; '));
  } finally {
    await listeners.close();
  }
}

const at = (p: Pod, family: Family): string => p.addresses[family]!;

/** The receiver sees the sender's own address: nothing translates. */
async function allPairs(pods: readonly Pod[], family: Family): Promise<void> {
  for (const from of pods) {
    for (const to of pods.filter((x) => x !== from)) {
      assert.equal((await ask(from.ns, at(to, family))).seen, at(from, family), `${from.name} to ${to.name}`);
    }
  }
}

async function nodesAndOutside(
  nodes: readonly TestNode[], pods: readonly Pod[], family: Family, plan: { nodeAddress(n: number): string; outside: string },
): Promise<void> {
  for (const [i, node] of nodes.entries()) {
    const own = RtNetlink.with(node.ns, (nl) => nl.addrs().map((a) => a.address));
    for (const p of pods) {
      const { seen } = await ask(node.ns, at(p, family));
      assert.ok(own.includes(seen), `${node.name} to ${p.name}: it saw ${seen}`);
      // A node's own pods come as they are; other nodes are beyond the cluster's range.
      const expected = p.node === node ? at(p, family) : plan.nodeAddress(nodes.indexOf(p.node));
      assert.equal((await ask(p.ns, plan.nodeAddress(i))).seen, expected, `${p.name} to ${node.name}`);
    }
  }
  for (const p of pods) assert.equal((await ask(p.ns, plan.outside)).seen, plan.nodeAddress(nodes.indexOf(p.node)), `${p.name} to the outside and back`);
}

async function bulk(from: Pod, to: Pod, family: Family): Promise<void> {
  const bytes = randomBytes(BULK);
  assert.equal((await ask(from.ns, at(to, family), bytes)).digest, digestOf(bytes), `${BULK} bytes by TCP`);
}

/** The largest packet passes whole and one byte more does not; on the underlay it is in what the mode puts around it. */
async function largest(net: TestNetwork, c: Case, nodes: readonly TestNode[], pods: readonly Pod[], family: Family): Promise<{ outer: number; text: string }> {
  const [from, to] = [pods[0]!, pods[2]!];
  const mtu = mtuOf(from.ns, from.vars['CNI_IFNAME'] ?? 'eth0');
  const capture = Capture.open(net.underlay, { device: 'u1', snaplen: 256, immediate: true });
  try {
    assert.equal(await echo(from.ns, at(to, family), mtu), 'answered', `${mtu} bytes with DF`);
    assert.equal(await echo(from.ns, at(to, family), mtu + 1), 'EMSGSIZE', `${mtu + 1} bytes with DF`);
    const frames: DecodedPacket[] = [];
    const carries = (f: DecodedPacket): boolean => innermost(f)?.ip.src === at(from, family) && innermost(f)?.ip.dst === at(to, family);
    const node = plansOf(c.families)[0]!.nodeAddress(0);
    // Larger than any packet of pods: only the largest one can be in it.
    const conceals = (f: DecodedPacket): boolean => f.layers.some((l) => l.type === 'wireguard') && innermost(f)?.ip.src === node && f.originalLength - f.layers[0]!.headerLength > mtu;
    const request = await until('the request is on the underlay', () => {
      frames.push(...capture.read().map((p) => decode(p.bytes, capture.linkType, { originalLength: p.length, vxlanPorts: [8472] })));
      return frames.find(c.mode.sealed ? conceals : carries);
    });
    const inner = innermost(request)!;
    const layers = request.layers.map((l) => l.type as string);
    const underlay: Family = layers[1] === 'ipv6' ? 'inet6' : 'inet';
    const around = ['ethernet', ...c.mode.around(underlay)];
    assert.deepEqual(layers.slice(0, c.mode.sealed ? around.length : inner.index), around, `around ${at(from, family)} → ${at(to, family)}`);
    assert.equal(underlay, c.mode.over?.(c.families) ?? family, 'on the underlay of its own family, or of the one there is');
    if (c.mode.sealed) assert.deepEqual(frames.filter(carries), [], 'nothing is seen of what is inside');
    assert.ok(!layers.includes('ipv6-fragment'), 'whole');
    const config = parseNetworkConfig(textOf(c));
    const outer = request.originalLength - request.layers[0]!.headerLength;
    assert.ok(outer <= UNDERLAY_MTU);
    assert.equal(mtu, podMtu(config, { name: nodes[0]!.name, podCidrs: plansOf(c.families).map((p) => p.podCidr(0)), uplink: uplinkOf(c.families) }));
    return { outer, text: `${family === 'inet' ? 'IPv4' : 'IPv6'}: ${mtu} in ${outer}` };
  } finally {
    capture.close();
  }
}

const mtuOf = (ns: Netns, dev: string): number => RtNetlink.with(ns, (nl) => nl.mustLink(dev).mtu);
function uplinkOf(families: Families): Parameters<typeof podMtu>[1]['uplink'] {
  const [first, second] = plansOf(families).map((p) => ({ address: p.nodeAddress(0), prefix: p.prefix }));
  return { dev: 'eth0', mtu: UNDERLAY_MTU, ...first!, ...(second ? { second } : {}) };
}
