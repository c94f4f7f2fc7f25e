import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { listSysctlKeys, Nftables, readSysctl, readSysctls, RtNetlink, sysctlDevices, sysctlPath, writeSysctl } from '../src/index.js';
import { inScratch, inside } from './scratch.js';

test('a sysctl is the namespace\'s own', () => {
  inScratch((a) => inScratch((b) => {
    writeSysctl(a, 'net.ipv4.ip_forward', '1');
    writeSysctl(b, 'net.ipv4.ip_forward', '0');
    assert.equal(readSysctl(a, 'net.ipv4.ip_forward'), '1');
    assert.equal(readSysctl(b, 'net.ipv4.ip_forward'), '0');
    assert.equal(inside(a, 'sysctl', '-n', 'net.ipv4.ip_forward').trim(), '1');
  }));
});

test('devices with a dot in their name', () => {
  inScratch((ns) => {
    RtNetlink.with(ns, (nl) => nl.createLink({ name: 'flannel.1', kind: 'vxlan', vxlan: { id: 1, port: 8472 } }));
    writeSysctl(ns, 'net.ipv4.conf.flannel/1.rp_filter', '2');
    assert.equal(readSysctl(ns, 'net.ipv4.conf.flannel/1.rp_filter'), '2');
    assert.equal(inside(ns, 'sysctl', '-n', 'net.ipv4.conf.flannel/1.rp_filter').trim(), '2');
    assert.ok(sysctlDevices(ns, 'ipv4').includes('flannel.1'));
    const all = readSysctls(ns, listSysctlKeys(['flannel.1', 'gone']));
    assert.equal(all['net.ipv4.conf.flannel/1.rp_filter'], '2');
    assert.ok(!Object.keys(all).some((k) => k.includes('gone')), 'missing ones are left out');
  });
});

test('what is no sysctl is refused before any file is opened', () => {
  for (const key of ['', 'net', 'net..x', '../etc/passwd', 'net.ipv4.conf./../x', 'net.ipv4.conf.a b.x', 'net.ipv4.conf.//.x', 'net.ipv4.\0']) {
    assert.throws(() => sysctlPath(key), (e) => isPodwayError(e, 'BAD_SYSCTL'), key);
  }
  assert.equal(sysctlPath('net.ipv4.conf.flannel/1.rp_filter'), '/proc/sys/net/ipv4/conf/flannel.1/rp_filter');
});

test('absent and refused sysctls', () => {
  inScratch((ns) => {
    assert.equal(readSysctl(ns, 'net.ipv4.no_such_thing'), undefined);
    assert.throws(() => writeSysctl(ns, 'net.ipv4.ip_forward', 'many'), (e) => isPodwayError(e, 'SYSCTL_WRITE') && e.errno === 'EINVAL' && /net.ipv4.ip_forward in scratch/.test(e.object ?? ''));
    assert.throws(() => writeSysctl(ns, 'net.ipv4.no_such_thing', '1'), (e) => isPodwayError(e, 'SYSCTL_WRITE'));
  });
});

const table = { family: 'ip', name: 'podway' } as const;

test('nftables: a transaction in JSON is what nft lists', () => {
  inScratch((ns) => {
    Nftables.with(ns, (nft) => {
      nft.run([
        { add: { table } },
        { add: { set: { ...table, table: 'podway', name: 'pods', type: 'ipv4_addr', elem: ['10.244.0.2', '10.244.0.3'] } } },
        { add: { chain: { family: 'ip', table: 'podway', name: 'post', type: 'nat', hook: 'postrouting', prio: 100, policy: 'accept' } } },
        { add: { rule: { family: 'ip', table: 'podway', chain: 'post', expr: [{ match: { op: '==', left: { payload: { protocol: 'ip', field: 'saddr' } }, right: '@pods' } }, { masquerade: null }], comment: 'out' } } },
      ]);
      const shown = inside(ns, 'nft', 'list', 'ruleset');
      assert.match(shown, /ip saddr @pods masquerade comment "out"/);
      assert.equal(nft.text('list ruleset').replace(/ # handle \d+/g, '').trim(), shown.trim());
      const theirs = JSON.parse(inside(ns, 'nft', '-j', '-a', 'list', 'ruleset')) as { nftables: object[] };
      assert.deepEqual(nft.list().length, theirs.nftables.filter((o) => !('metainfo' in o)).length);
      assert.ok(nft.list(table).some((o) => 'set' in o && Array.isArray(o['set']?.['elem'])));
      assert.ok(nft.list(table, true).every((o) => !('set' in o) || o['set']?.['elem'] === undefined), 'terse leaves elements out');
    });
  });
});

test('nftables: a refused transaction changes nothing and says why', () => {
  inScratch((ns) => {
    Nftables.with(ns, (nft) => {
      assert.throws(
        () => nft.run([{ add: { table } }, { add: { rule: { family: 'ip', table: 'podway', chain: 'nowhere', expr: [{ accept: null }] } } }]),
        (e) => isPodwayError(e, 'NFT_NOT_FOUND') && /nowhere|No such file/.test(e.message),
      );
      assert.deepEqual(nft.list(), []);
      assert.throws(() => nft.text('add nonsense'), (e) => isPodwayError(e, 'NFT_REFUSED'));
      assert.throws(() => nft.list({ family: 'ip', name: 'absent' }), (e) => isPodwayError(e, 'NFT_NOT_FOUND'));
      assert.deepEqual(nft.list(), [], 'and it goes on working');
    });
  });
});

test('nftables: namespaces do not see each other, also when both are open', () => {
  inScratch((a) => inScratch((b) => {
    Nftables.with(a, (in1) => Nftables.with(b, (in2) => {
      in1.run([{ add: { table } }]);
      in2.run([{ add: { table: { family: 'inet', name: 'other' } } }]);
      const names = (nft: Nftables): unknown[] => nft.list().map((o) => o['table']?.['name']);
      assert.deepEqual([names(in1), names(in2)], [['podway'], ['other']]);
    }));
  }));
});

test('nftables: a closed handle says so', () => {
  inScratch((ns) => {
    const nft = Nftables.open(ns);
    nft.close();
    nft.close();
    assert.throws(() => nft.list(), (e) => isPodwayError(e, 'NFT_CLOSED'));
  });
});
