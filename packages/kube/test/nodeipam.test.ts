import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { allocatePodCidrs, formatCidr, nodeAddressOf, parseCidr, podCidrOf, podCidrsOf } from '../src/index.js';

describe('node IPAM', () => {
  it('gives /24 blocks of a /16 in order, and a freed one again', () => {
    const ranges = [{ cidr: '10.244.0.0/16' }];
    const taken: string[] = [];
    for (let i = 0; i < 3; i++) taken.push(...allocatePodCidrs(ranges, taken));
    assert.deepEqual(taken, ['10.244.0.0/24', '10.244.1.0/24', '10.244.2.0/24']);
    assert.deepEqual(allocatePodCidrs(ranges, ['10.244.0.0/24', '10.244.2.0/24']), ['10.244.1.0/24']);
  });

  it('is dual stack', () => {
    const ranges = [{ cidr: '10.244.0.0/16' }, { cidr: 'fd00:10:244::/56' }];
    assert.deepEqual(allocatePodCidrs(ranges, ['10.244.0.0/24', 'fd00:10:244::/64']), ['10.244.1.0/24', 'fd00:10:244:1::/64']);
  });

  it('says which range is full', () => {
    assert.throws(() => allocatePodCidrs([{ cidr: '10.0.0.0/30', nodePrefix: 31 }], ['10.0.0.0/31', '10.0.0.2/31']), { code: 'KUBE_CIDR_EXHAUSTED', object: 'cluster range 10.0.0.0/30' });
    assert.throws(() => allocatePodCidrs([{ cidr: '10.0.0.0/26' }], []), { code: 'KUBE_CIDR' });
  });

  it('never overlaps what is taken, whatever its size', () => {
    const block = fc.integer({ min: 18, max: 28 }).chain((prefix) =>
      fc.integer({ min: 0, max: 2 ** (prefix - 16) - 1 }).map((i) => formatCidr({ family: 4, base: (10n << 24n) + (BigInt(i) << BigInt(32 - prefix)), prefix })),
    );
    const span = (text: string): [bigint, bigint] => {
      const c = parseCidr(text);
      return [c.base, c.base + (1n << BigInt(32 - c.prefix))];
    };
    fc.assert(
      fc.property(fc.array(block, { maxLength: 40 }), (taken) => {
        let got: string;
        try {
          got = allocatePodCidrs([{ cidr: '10.0.0.0/16', nodePrefix: 22 }], taken)[0] ?? '';
        } catch (e) {
          assert.equal((e as { code: string }).code, 'KUBE_CIDR_EXHAUSTED');
          return;
        }
        const [from, to] = span(got);
        for (const t of taken) {
          const [a, b] = span(t);
          assert.ok(b <= from || to <= a, `${got} overlaps ${t}`);
        }
      }),
    );
  });

  it('reads and writes CIDRs of both families', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), fc.integer({ min: 0, max: 128 }), (address, prefix) => {
        const shift = BigInt(128 - prefix);
        const cidr = { family: 6 as const, base: (address >> shift) << shift, prefix };
        assert.deepEqual(parseCidr(formatCidr(cidr)), cidr);
      }),
    );
    assert.equal(formatCidr(parseCidr('2001:db8:0:0:1:0:0:0/80')), '2001:db8:0:0:1::/80');
    for (const bad of ['', '10.0.0.0', '10.0.0.1/24', '10.0.0/8', '1.2.3.4/33', '::1::/64', 'fd00::/129', '01.2.3.4/32']) assert.throws(() => parseCidr(bad), { code: 'KUBE_CIDR' }, bad);
  });

  it('reads a node', () => {
    const node = { spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00::/64'] }, status: { addresses: [{ type: 'Hostname', address: 'm1' }, { type: 'InternalIP', address: '172.18.0.2' }] } };
    assert.deepEqual(podCidrsOf(node), ['10.244.1.0/24', 'fd00::/64']);
    assert.equal(podCidrOf(node, 6), 'fd00::/64');
    assert.deepEqual(podCidrsOf({ spec: { podCIDR: '10.244.1.0/24' } }), ['10.244.1.0/24']);
    assert.deepEqual(podCidrsOf({}), []);
    assert.equal(nodeAddressOf(node), '172.18.0.2');
    assert.equal(nodeAddressOf(node, 6), undefined);
  });
});
