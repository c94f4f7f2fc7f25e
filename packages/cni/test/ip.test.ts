import assert from 'node:assert/strict';
import { BlockList, isIP } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import { isPodwayError } from '@podway/errors';
import { cidrContains, cidrContainsCidr, cidrFirst, cidrLast, cidrNetmask, cidrNth, cidrOverlaps, cidrSize, formatCidr, formatIp, parseCidr, parseIp, parseIpCidr, tryParseIp, tryParseIpCidr } from '@podway/cni';

const value4 = fc.bigInt(0n, 2n ** 32n - 1n);
const value6 = fc.oneof(
  fc.bigInt(0n, 2n ** 128n - 1n),
  // many zero groups, where :: is decided
  fc.array(fc.oneof(fc.constant(0n), fc.bigInt(0n, 0xffffn)), { minLength: 8, maxLength: 8 }).map((g) => g.reduce((v, x) => (v << 16n) | x, 0n)),
);
const ipArb = fc.oneof(value4.map((value) => ({ family: 4 as const, value })), value6.map((value) => ({ family: 6 as const, value })));

test('canonical text', () => {
  const table: [string, string][] = [
    ['10.244.0.1', '10.244.0.1'],
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['2001:DB8:0:0:8:800:200C:417A', '2001:db8::8:800:200c:417a'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['::ffff:0a00:0001', '::ffff:10.0.0.1'],
    ['fd00::1.2.3.4', 'fd00::102:304'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ];
  for (const [text, canonical] of table) assert.equal(formatIp(parseIp(text)), canonical, text);
});

test('what is no address is refused', () => {
  for (const text of ['', '1.2.3', '1.2.3.4.5', '01.2.3.4', '256.1.1.1', '1.2.3.a', ' 1.2.3.4', ':', ':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8::', '::12345', 'fe80::1%eth0', '1.2.3.4::', '::1.2.3', '1:2:3:4:5:6:7:1.2.3.4']) {
    assert.equal(tryParseIp(text), undefined, text);
    assert.equal(isIP(text.replace(/%.*/, '%')), 0, `${text} disagrees with node:net`);
  }
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/', '10.0.0.0/08', '::/129', '/24', '10.0.0.0/-1']) assert.equal(tryParseIpCidr(text), undefined, text);
  assert.throws(() => parseIp('x'), (e) => isPodwayError(e, 'BAD_ADDRESS'));
  assert.throws(() => parseCidr('10.0.0.1'), (e) => isPodwayError(e, 'BAD_ADDRESS'));
});

test('text and value round-trip, and the text is what the URL parser writes', () => {
  fc.assert(
    fc.property(ipArb, (ip) => {
      const text = formatIp(ip);
      assert.deepEqual(parseIp(text), ip);
      assert.equal(isIP(text), ip.family);
      if (ip.family === 6 && !text.startsWith('::ffff:')) assert.equal(new URL(`http://[${text}]/`).hostname, `[${text}]`);
    }),
    { numRuns: 1000 },
  );
});

test('any text: accepted exactly when node:net accepts it', () => {
  const noise = fc.stringMatching(/^[0-9a-f:.]{0,20}$/);
  fc.assert(fc.property(noise, (text) => assert.equal(tryParseIp(text) !== undefined, isIP(text) !== 0, text)), { numRuns: 2000 });
});

test('contains agrees with net.BlockList', () => {
  const near = fc.tuple(ipArb, fc.nat(128), fc.bigInt(0n, 2n ** 128n - 1n), fc.boolean());
  fc.assert(
    fc.property(near, ([ip, p, flip, close]) => {
      const bits = ip.family === 4 ? 32 : 128;
      const prefix = p % (bits + 1);
      const { cidr } = parseIpCidr(`${formatIp(ip)}/${prefix}`);
      const other = { family: ip.family, value: (ip.value ^ (close ? flip >> BigInt(prefix) : flip)) & (2n ** BigInt(bits) - 1n) };
      const list = new BlockList();
      const family = ip.family === 4 ? 'ipv4' : 'ipv6';
      list.addSubnet(formatIp(cidrFirst(cidr)), prefix, family);
      // BlockList treats ::ffff:a.b.c.d as IPv4, which we do not
      fc.pre(!formatIp(other).startsWith('::ffff:') && !formatIp(cidrFirst(cidr)).startsWith('::ffff:'));
      assert.equal(cidrContains(cidr, other), list.check(formatIp(other), family), `${formatCidr(cidr)} ${formatIp(other)}`);
    }),
    { numRuns: 1000 },
  );
});

test('first, last, nth, size, overlap', () => {
  const c = parseCidr('10.244.3.77/24');
  assert.deepEqual([formatCidr(c), formatIp(cidrFirst(c)), formatIp(cidrLast(c)), cidrSize(c), formatIp(cidrNetmask(c))], ['10.244.3.0/24', '10.244.3.0', '10.244.3.255', 256n, '255.255.255.0']);
  assert.deepEqual([0, 1, -2].map((n) => formatIp(cidrNth(c, n))), ['10.244.3.0', '10.244.3.1', '10.244.3.254']);
  assert.throws(() => cidrNth(c, 256), (e) => isPodwayError(e, 'BAD_ADDRESS'));
  assert.throws(() => cidrNth(c, -257), (e) => isPodwayError(e, 'BAD_ADDRESS'));
  assert.equal(formatIp(cidrLast(parseCidr('fd00::/64'))), 'fd00::ffff:ffff:ffff:ffff');
  assert.equal(cidrSize(parseCidr('::/0')), 2n ** 128n);
  const overlaps = (a: string, b: string): boolean => cidrOverlaps(parseCidr(a), parseCidr(b));
  assert.deepEqual([overlaps('10.0.0.0/8', '10.9.0.0/16'), overlaps('10.9.0.0/16', '10.0.0.0/8'), overlaps('10.0.0.0/16', '10.1.0.0/16'), overlaps('0.0.0.0/0', '::/0')], [true, true, false, false]);
  assert.equal(cidrContainsCidr(parseCidr('10.9.0.0/16'), parseCidr('10.0.0.0/8')), false);
});
