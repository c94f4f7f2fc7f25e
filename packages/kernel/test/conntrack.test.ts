/** Connection tracking: what we read against `conntrack -L`, and deletions that take only what matches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Conntrack, conntrackMatcher, deleteConntrackRequest, RtNetlink, writeSysctl, type ConntrackEntry, type ConntrackFilter, type ConntrackTuple, type Netns } from '../src/index.js';
import { Writer } from '../src/netlink/codec.js';
import { decodeConntrack } from '../src/netlink/conntrack.js';
import { inScratch, inside } from './scratch.js';

const ENTRIES: readonly string[] = [
  '-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --state ESTABLISHED -t 300 -m 7 -u ASSURED,SEEN_REPLY',
  '-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1001 --dport 80 --state SYN_SENT -t 300',
  '-p tcp -s 10.0.0.3 -d 10.96.0.1 --sport 1001 --dport 443 --state ESTABLISHED -t 300 --dst-nat 10.244.1.7:6443',
  '-p udp -s 10.0.0.1 -d 10.96.0.10 --sport 1000 --dport 53 -t 30 --dst-nat 10.244.1.5:53',
  '-p udp -s 10.0.0.1 -d 10.96.0.10 --sport 1001 --dport 53 -t 30 --dst-nat 10.244.1.6:53',
  '-p udp -s 10.0.0.1 -d 8.8.8.8 --sport 1001 --dport 53 -t 30 --src-nat 172.18.0.2:4444',
  '-p udp -s fd00::1 -d fd00::2 --sport 1000 --dport 53 -t 30 -w 5',
  '-p udp -s fd00::1 -d fd00::2 --sport 1000 --dport 53 -t 30',
  '-p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 30',
  '-p icmpv6 -s fd00::1 -d fd00::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 78 -t 30',
  '-p sctp -s 10.0.0.1 -d 10.0.0.2 --orig-port-src 5 --orig-port-dst 6 --state ESTABLISHED --orig-vtag 1 --reply-vtag 2 -t 30',
  '-p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 1 --dstkey 2 -t 30',
];
const NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 47: 'gre', 58: 'icmpv6', 132: 'sctp' };

/** Our entry in the words of `conntrack -L -o extended,id`, without the seconds left and the use count. */
function line(e: ConntrackEntry): string {
  const hex = (n: number): string => `0x${n.toString(16)}`;
  const tuple = (t: ConntrackTuple): string[] => [
    `src=${t.src}`, `dst=${t.dst}`,
    ...(t.sport === undefined ? [] : e.protocol === 47 ? [`srckey=${hex(t.sport)}`, `dstkey=${hex(t.dport!)}`] : [`sport=${t.sport}`, `dport=${t.dport}`]),
    ...(t.icmp ? [`type=${t.icmp.type}`, `code=${t.icmp.code}`, `id=${t.icmp.id}`] : []),
  ];
  const count = (packets: bigint | undefined, bytes: bigint | undefined): string[] => (packets === undefined ? [] : [`packets=${packets}`, `bytes=${bytes}`]);
  return [
    ...(e.family === 'inet' ? ['ipv4', '2'] : ['ipv6', '10']), NAMES[e.protocol], e.protocol, ...(e.state === undefined ? [] : [e.state]),
    ...tuple(e.orig), ...count(e.counters?.origPackets, e.counters?.origBytes), ...(e.status.includes('seen-reply') ? [] : ['[UNREPLIED]']),
    ...tuple(e.reply), ...count(e.counters?.replyPackets, e.counters?.replyBytes), ...(e.status.includes('assured') ? ['[ASSURED]'] : []),
    `mark=${e.mark}`, ...(e.zone ? [`zone=${e.zone}`] : []), `id=${e.id}`,
  ].join(' ');
}

/** The seconds left stand fifth, in every line. */
const theirs = (ns: Netns): { lines: string[]; timeouts: number[] } => {
  const rows = ['ipv4', 'ipv6'].flatMap((f) => inside(ns, 'conntrack', '-L', '-f', f, '-o', 'extended,id').split('\n').filter(Boolean)).map((l) => l.split(/\s+/));
  return { lines: rows.map((r) => r.filter((w, i) => i !== 4 && !w.startsWith('use=')).join(' ')).sort(), timeouts: rows.map((r) => Number(r[4])).sort(ascending) };
};

function withEntries<T>(work: (ns: Netns, ct: Conntrack) => T): T {
  return inScratch((ns) => {
    writeSysctl(ns, 'net.netfilter.nf_conntrack_acct', '1');
    for (const e of ENTRIES) inside(ns, 'conntrack', '-I', ...e.split(' '));
    return Conntrack.with(ns, (ct) => work(ns, ct));
  });
}

const ascending = (a: number, b: number): number => a - b;

test('entries are what conntrack shows', () => {
  withEntries((ns, ct) => {
    const ours = ct.list();
    assert.equal(ours.length, ENTRIES.length);
    const shown = theirs(ns);
    assert.deepEqual(ours.map(line).sort(), shown.lines);
    ours.map((e) => e.timeout).sort(ascending).forEach((t, i) => assert.ok(Math.abs(t - shown.timeouts[i]!) <= 2, `${t} s, they ${shown.timeouts[i]} s`));
    assert.equal(ct.count().entries, Number(inside(ns, 'conntrack', '-C')));
    assert.ok((ct.count().max ?? 0) > 1000);
    assert.deepEqual(ct.list({ dst: '10.96.0.1' })[0]?.status.filter((s) => s.endsWith('nat')), ['dst-nat']);
  });
});

test('real traffic: ping and its counters', () => {
  inScratch((ns) => {
    writeSysctl(ns, 'net.netfilter.nf_conntrack_acct', '1');
    RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
    for (const c of ['add table ip t', 'add chain ip t c { type filter hook output priority 0; }', 'add rule ip t c ct mark set 42']) inside(ns, 'nft', c);
    inside(ns, 'busybox', 'ping', '-c', '2', '-i', '0.05', '127.0.0.1');
    Conntrack.with(ns, (ct) => {
      const [e, ...rest] = ct.list({ protocol: 1 });
      assert.equal(rest.length, 0);
      assert.deepEqual([e?.counters?.origPackets, e?.counters?.replyPackets, e?.counters?.origBytes, e?.mark, e?.orig.icmp?.type, e?.reply.icmp?.type], [2n, 2n, 168n, 42, 8, 0]);
      assert.deepEqual([line(e!)], theirs(ns).lines);
    });
  });
});

test('one entry is deleted, exactly', () => {
  withEntries((_ns, ct) => {
    for (const e of ct.list()) {
      const before = ct.count().entries;
      assert.equal(ct.delete(e), true, line(e));
      assert.equal(ct.delete(e), false, 'gone already');
      assert.equal(ct.count().entries, before - 1);
      assert.ok(!ct.list().some((other) => other.id === e.id));
    }
    assert.equal(ct.count().entries, 0);
  });
});

test('an entry of the same tuple but another id or zone is left alone', () => {
  withEntries((_ns, ct) => {
    const [e] = ct.list({ protocol: 17, dst: '8.8.8.8' });
    assert.ok(e?.id !== undefined);
    assert.equal(ct.delete({ ...e, id: e.id ^ 1 }), false);
    assert.equal(ct.delete({ ...e, zone: 9 }), false);
    assert.equal(ct.list({ protocol: 17, dst: '8.8.8.8' }).length, 1);
    const [zoned] = ct.list({ zone: 5 });
    assert.ok(zoned && ct.delete(zoned));
    assert.equal(ct.list({ family: 'inet6', protocol: 17 }).length, 1, 'its twin without a zone stays');
  });
});

test('deleting by filter takes only what matches', () => {
  withEntries((_ns, ct) => {
    const all = ct.list();
    const filters = [
      { protocol: 17, replySrc: '10.244.1.5' }, { protocol: 17, dst: '10.96.0.0/16', dport: 53 }, { zone: 5 }, { mark: 4, markMask: 4 }, { family: 'inet6', protocol: 58 },
      { src: 'fd00::/16' }, { protocol: 6, status: 'dst-nat' }, { sport: 9 },
    ] as const;
    let left = all;
    for (const f of filters) {
      const matches = conntrackMatcher(f);
      const expected = left.filter((e) => !matches(e));
      assert.equal(ct.deleteMatching(f), left.length - expected.length, JSON.stringify(f));
      left = ct.list();
      assert.deepEqual(left.map((e) => e.id).sort(), expected.map((e) => e.id).sort());
    }
    assert.equal(left.length, 5, left.map(line).join('\n'));
    assert.throws(() => ct.deleteMatching({ src: 'nonsense' }), { code: 'BAD_ADDRESS' });
    assert.equal(ct.count().entries, 5, 'a bad filter deletes nothing');
  });
});

test('what the kernel leaves out is only what does not match', () => {
  withEntries((_ns, ct) => {
    const all = ct.list();
    for (const e of all) {
      const base = { protocol: e.protocol, family: e.family } as const;
      const ports = e.orig.sport === undefined ? {} : { sport: e.orig.sport, dport: e.orig.dport! };
      const filters: ConntrackFilter[] = [
        base, { ...base, src: e.orig.src }, { ...base, dst: e.orig.dst }, { ...base, replySrc: e.reply.src }, { ...base, replyDst: e.reply.dst }, { ...base, ...ports },
        { protocol: e.protocol, dst: e.orig.dst, ...ports }, { dst: e.orig.dst }, { protocol: e.protocol, src: `${e.orig.src}/8`, ...ports },
        ...(e.reply.sport === undefined ? [] : [{ ...base, replySport: e.reply.sport, replyDport: e.reply.dport! }]),
      ];
      for (const f of filters) {
        assert.deepEqual(ct.list(f).map((x) => x.id).sort(), all.filter(conntrackMatcher(f)).map((x) => x.id).sort(), JSON.stringify(f));
        assert.ok(ct.list(f).some((x) => x.id === e.id));
      }
    }
  });
});

test('the bytes of a deletion', () => {
  const entry: ConntrackEntry = {
    id: 0x01020304, family: 'inet', protocol: 17, status: [], state: undefined, timeout: 0, mark: 0, zone: 5, helper: undefined, counters: undefined,
    orig: { src: '10.0.0.1', dst: '10.96.0.10', sport: 1000, dport: 53, icmp: undefined, zone: undefined }, reply: { src: '10.96.0.10', dst: '10.0.0.1', sport: 53, dport: 1000, icmp: undefined, zone: undefined },
  };
  const w = new Writer();
  const request = deleteConntrackRequest(entry);
  request.body(w);
  assert.equal(request.type, 0x102);
  // nfgenmsg; TUPLE_ORIG { IP { src, dst }, PROTO { num, ports } }; ID; ZONE. In network order.
  assert.equal(w.bytes().toString('hex'), ['02000000', '34000180', '14000180', '080001000a000001', '080002000a60000a', '1c000280', '0500010011000000', '0600020003e80000', '0600030000350000', '08000c0001020304', '0600120000050000'].join(''));
});

test('prefixes match as they should', () => {
  const four = fc.ipV4();
  fc.assert(fc.property(four, four, fc.integer({ min: 0, max: 32 }), (address, base, bits) => {
    const number = (a: string): number => a.split('.').reduce((n, p) => n * 256 + Number(p), 0);
    const entry = { orig: { src: address } } as ConntrackEntry;
    assert.equal(conntrackMatcher({ src: `${base}/${bits}` })(entry), Math.floor(number(address) / 2 ** (32 - bits)) === Math.floor(number(base) / 2 ** (32 - bits)));
  }));
});

test('no bytes make the reader throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(2, 10, 7), (bytes, family) => {
    const b = Buffer.concat([Buffer.from([family, 0, 0, 0]), Buffer.from(bytes)]);
    decodeConntrack({ type: 0x100, buffer: b, start: 0, end: b.length });
    decodeConntrack({ type: 0x100, buffer: b, start: 0, end: Math.min(3, b.length) });
  }), { numRuns: 2000 });
});
