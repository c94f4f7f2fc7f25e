/** Blocks of pools: which one is next, whose they are, and agents that claim, fill, announce and give them back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cidrContainsCidr, cidrOverlaps, formatCidr, parseCidr, parseIp, type Cidr } from '@podway/cni';
import { IPBlocks, IPPools, Nodes, Pods, type IPBlock, type IPPool, type Node, type Pod } from '@podway/kube';
import { blockName, nextBlock, ownedBlocks, usablePools, withBlocks, type Pool } from '../src/index.js';
import { addressIn, inNs, lines, needsRoot, nodeObject, until, withNetwork, type TestNetwork, type TestNode } from './network.js';
import { probe, serve } from './traffic.js';

const skip = needsRoot;
const pool = (cidr: string, more: Partial<Pool> = {}): Pool => ({ name: 'p', cidr: parseCidr(cidr), blockSize: 26, selector: '', disabled: false, ...more });
const node: Node = { metadata: { name: 'm1', labels: { rack: 'a' } } };

test('the next block: the lowest free one, of the first pool that may be used', () => {
  const next = (pools: Pool[], taken: string[] = [], wanted?: string): string | undefined => {
    const found = nextBlock(pools, taken.map(parseCidr), node, 4, wanted === undefined ? undefined : parseIp(wanted));
    return found && formatCidr(found.cidr);
  };
  assert.equal(next([pool('10.244.0.0/16')]), '10.244.0.0/26');
  assert.equal(next([pool('10.244.0.0/16')], ['10.244.0.0/26', '10.244.0.128/26']), '10.244.0.64/26', 'a gap');
  assert.equal(next([pool('10.244.0.0/16')], ['10.244.0.0/24']), '10.244.1.0/26', 'behind a block of another size');
  assert.equal(next([pool('10.244.0.0/26'), pool('10.9.0.0/24')], ['10.244.0.0/26']), '10.9.0.0/26', 'the second pool when the first is full');
  assert.equal(next([pool('10.244.0.0/24', { disabled: true })]), undefined);
  assert.equal(next([pool('10.244.0.0/24', { selector: 'rack=b' }), pool('10.9.0.0/24', { selector: 'rack=a' })]), '10.9.0.0/26', 'by label');
  assert.equal(next([pool('fd00::/64', { blockSize: 122 })]), undefined, 'of the other family');
  assert.equal(next([pool('10.244.0.0/16')], ['10.244.0.0/26'], '10.244.7.70'), '10.244.7.64/26', 'the one with a certain address');
  assert.equal(next([pool('10.244.0.0/16')], ['10.244.7.64/26'], '10.244.7.70'), undefined);
});

test('blocks never overlap, are of their pool, and fill it to the last', () => {
  fc.assert(fc.property(fc.integer({ min: 20, max: 26 }), fc.integer({ min: 24, max: 29 }), (prefix, blockSize) => {
    const p = pool(`10.244.0.0/${prefix}`, { blockSize: Math.max(prefix, blockSize) });
    const taken: Cidr[] = [];
    for (let next = nextBlock([p], taken, node, 4); next; next = nextBlock([p], taken, node, 4)) {
      assert.ok(cidrContainsCidr(p.cidr, next.cidr) && !taken.some((t) => cidrOverlaps(t, next.cidr)));
      taken.push(next.cidr);
    }
    assert.equal(taken.length, 2 ** (p.blockSize - prefix));
    assert.equal(new Set(taken.map(blockName)).size, taken.length, 'each has a name of its own');
    for (const t of taken) assert.match(blockName(t), /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/);
  }), { numRuns: 30 });
});

test('pools that cannot be used are named with the reason; the older of two that overlap counts', () => {
  const made = (name: string, cidr: string, at: string): IPPool => ({ metadata: { name, creationTimestamp: at }, spec: { cidr } });
  const { pools, problems } = usablePools([
    made('late', '10.244.1.0/24', '2026-01-02T00:00:00Z'), made('early', '10.244.0.0/16', '2026-01-01T00:00:00Z'),
    made('outside', '192.168.0.0/24', '2026-01-01T00:00:00Z'), made('nonsense', 'x', '2026-01-01T00:00:00Z'),
  ], ['10.244.0.0/16']);
  assert.deepEqual(pools.map((p) => [p.name, p.blockSize]), [['early', 26]]);
  assert.match(problems.find((p) => p.pool === 'late')?.reason ?? '', /overlaps with the older pool early/);
  assert.match(problems.find((p) => p.pool === 'outside')?.reason ?? '', /not within the cluster's 10\.244\.0\.0\/16/);
  assert.match(problems.find((p) => p.pool === 'nonsense')?.reason ?? '', /not a range/);
  const owned = ownedBlocks([{ spec: { cidr: '10.244.0.64/26', node: 'm1', claimed: '2' } }, { spec: { cidr: '10.244.9.0/26', node: 'm1', claimed: '1' } }, { spec: {} }]);
  assert.deepEqual(owned.map((b) => formatCidr(b.cidr)), ['10.244.9.0/26', '10.244.0.64/26'], 'in the order of claiming');
  assert.deepEqual(withBlocks([nodeObject('m1', 0)], owned.map((b) => b.object))[0]?.spec?.podCIDRs, ['10.244.9.0/26', '10.244.0.64/26']);
});

const network = (more: object = {}): string => JSON.stringify({ Network: '10.244.0.0/16', IPAM: 'pools', Backend: { Type: 'vxlan' }, ...more });

async function started(net: TestNetwork, count: number, o: { spec?: IPPool['spec']; text?: string; idleMs?: number } = {}): Promise<TestNode[]> {
  net.client.put(IPPools, { metadata: { name: 'default' }, spec: { cidr: '10.244.0.0/16', blockSize: 29, ...o.spec } });
  const all = Array.from({ length: count }, (_, n) => net.addNode(n));
  await Promise.all(all.map((n) => n.start({ network: o.text ?? network(), resyncMs: 20, ...(o.idleMs === undefined ? {} : { blockIdleMs: o.idleMs }) })));
  for (const n of all) await n.ready();
  return all;
}

const blocks = async (net: TestNetwork): Promise<string[]> => (await net.client.list(IPBlocks)).map((b) => `${b.spec?.node} ${b.spec?.cidr}`).sort();

test('five nodes claim at once: a block each, no two the same', { skip }, () =>
  withNetwork(async (net) => {
    const nodes = await started(net, 5);
    const held = (await net.client.list(IPBlocks)).map((b: IPBlock) => b.spec);
    assert.deepEqual(held.map((b) => b?.node).sort(), nodes.map((n) => n.name));
    assert.equal(new Set(held.map((b) => b?.cidr)).size, 5);
  }));

for (const wiring of ['bridge', 'ptp'] as const) {
  test(`a node that runs out of addresses claims further blocks; peers have routes to them; the empty ones go back (${wiring})`, { skip }, () =>
    withNetwork(async (net) => {
      const [m1, m2] = await started(net, 2, { text: network({ Wiring: wiring }), idleMs: 100 });
      const far = net.pod('far');
      await net.added(m2!, far);
      // A /29 has five addresses for pods.
      const pods = Array.from({ length: 12 }, (_, i) => net.pod(`p${i}`));
      const addresses = await Promise.all(pods.map((p) => net.added(m1!, p)));
      assert.equal(new Set(addresses).size, 12);
      const mine = (await net.client.list(IPBlocks)).flatMap((b) => (b.spec?.node === 'm1' ? [b.spec.cidr ?? ''] : []));
      assert.equal(mine.length, 3, JSON.stringify(await blocks(net)));
      await until('m2 has a route to each', () => mine.every((c) => lines(inNs(m2!.ns, 'ip', 'route')).some((l) => l.startsWith(`${c} via`))));
      for (const i of [0, 11]) {
        await serve(net, pods[i]!.ns, 7000);
        const r = await probe(net, far.ns, addresses[i]!, 7000);
        assert.equal(r.answered, r.sent, `${addresses[i]}: ${JSON.stringify(r)}`);
      }
      for (const p of pods) assert.equal((await m1!.cni('CHECK', p.vars)).code, 0);
      await until('the use of each is told', async () => (await net.client.list(IPBlocks)).filter((b) => b.spec?.node === 'm1').every((b) => (b.status?.used ?? 0) + (b.status?.free ?? 0) === 5));
      await m1!.stop();
      await m1!.start({ network: network({ Wiring: wiring }), resyncMs: 20, blockIdleMs: 100 });
      await m1!.ready();
      assert.deepEqual(m1!.seen('took-over').map((e) => [e.attachments, e.changes]), [[12, 0]], 'the same after a restart');
      for (const p of pods) assert.equal((await m1!.cni('DEL', p.vars)).code, 0);
      await until('all but the first block are released', async () => (await blocks(net)).filter((b) => b.startsWith('m1 ')).length === 1);
      assert.deepEqual((await blocks(net)).filter((b) => b.startsWith('m1 ')), [`m1 ${mine[0]}`]);
      await until('and the routes to them are gone', () => lines(inNs(m2!.ns, 'ip', 'route')).filter((l) => l.includes('flannel.1') && l.includes('/29')).length === 1);
      assert.deepEqual([m1!.seen('refused'), m2!.seen('refused')], [[], []]);
    }));
}

test('a pool without room, a pool that is disabled, and a fixed address: each said in words', { skip }, () =>
  withNetwork(async (net) => {
    const [m1, m2] = await started(net, 2, { spec: { cidr: '10.244.0.0/28', blockSize: 29 } });
    const own = (n: TestNode): string => n.seen('ready')[0]?.podCidrs[0] ?? '';
    for (let i = 0; i < 5; i++) await net.added(m1!, net.pod(`p${i}`));
    const full = (await m1!.cni('ADD', net.pod('sixth').vars)).out as { code: number; details: string };
    assert.deepEqual([full.code, /all 5 addresses are in use/.test(full.details)], [101, true]);
    const ask = (name: string, ip: string): void => net.client.put(Pods, { metadata: { name, namespace: 'default', annotations: { 'cni.projectcalico.org/ipAddrs': `["${ip}"]` } } } as Pod);
    const foreign = own(m2!).replace(/\d+\/29$/, (last) => String(Number(last.split('/')[0]) + 3));
    ask('a', foreign);
    const refused = (await m1!.cni('ADD', net.pod('a').vars)).out as { code: number; details: string };
    assert.equal(refused.code, 102);
    assert.match(refused.details, new RegExp(`it belongs to block ${own(m2!)} of node m2`));
    // Another pool: room again, and a fixed address brings its own block.
    net.client.put(IPPools, { metadata: { name: 'second' }, spec: { cidr: '10.244.8.0/24', blockSize: 29 } });
    ask('b', '10.244.8.83');
    await until('the new pool is known', async () => (await m1!.cni('ADD', net.pod('b').vars)).code === 0);
    assert.ok((await blocks(net)).includes('m1 10.244.8.80/29'));
    net.client.put(IPPools, { metadata: { name: 'second' }, spec: { cidr: '10.244.8.0/24', blockSize: 29, disabled: true } });
    for (let i = 0; i < 4; i++) await net.added(m1!, net.pod(`q${i}`));
    assert.equal(((await m1!.cni('ADD', net.pod('more').vars)).out as { code: number }).code, 101);
  }));

test('in a cluster without pools a fixed address of another node is refused with that node', { skip }, () =>
  withNetwork(async (net) => {
    const m1 = net.addNode(0);
    net.client.put(Nodes, nodeObject('m2', 1));
    await m1.start();
    await m1.ready();
    net.client.put(Pods, { metadata: { name: 'a', namespace: 'default', annotations: { 'podway.io/ip-addrs': '["10.244.1.9"]' } } } as Pod);
    const answer = await m1.cni('ADD', net.pod('a').vars);
    assert.match((answer.out as { details: string }).details, /it is not in 10\.244\.0\.0\/24, it belongs to node m2, which has 10\.244\.1\.0\/24/);
    assert.equal(addressIn((await m1.cni('ADD', net.pod('b').vars)).out), '10.244.0.2');
  }));
