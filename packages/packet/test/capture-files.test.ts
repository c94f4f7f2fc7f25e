/** Files of ours opened by tshark, capinfos and tcpdump; files of theirs, and files made by hand, read by us. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createPcapngFile, encode, LINKTYPE, pcapHeader, pcapRecord, PcapngWriter, readCapture, timeNs, type CaptureFile, type CaptureRecord } from '../src/index.js';
import { bytes, ECHO, ETH, filler, V4, V6, VXLAN } from './corpus.js';
import { missing, output, withFile } from './oracle.js';

const START = 1_763_686_800_123_456_789n;
const PING = encode([ETH, V4, ECHO], filler(56));
const TUNNELLED = encode([...VXLAN, ETH, V4, ECHO], filler(56));
const RAW = encode([V6, { type: 'icmpv6', message: { kind: 'echo-request', id: 1, sequence: 2 } }]);

/** A trace of three hops, the last interface added after the first packet. */
function trace(sink: (b: Uint8Array) => void): void {
  const writer = new PcapngWriter(sink, { comment: 'web-a to web-d' });
  const pod = writer.addInterface({ name: 'web-a/eth0', description: 'pod web-a on m1', filter: 'icmp' });
  writer.packet({ interfaceId: pod, timeNs: START, bytes: PING, direction: 'outbound', comments: ['hop 1: route default via 10.244.0.1', '第一跳'] });
  const uplink = writer.addInterface({ name: 'm1/eth0', description: 'uplink of m1', snapLength: 512 });
  const tun = writer.addInterface({ name: 'm1/tun0', linkType: LINKTYPE.raw });
  writer.packet({ interfaceId: uplink, timeNs: START + 40_001n, bytes: TUNNELLED, direction: 'inbound' });
  writer.packet({ interfaceId: tun, timeNs: START + 50_000n, bytes: RAW.subarray(0, 45), originalLength: RAW.length });
  writer.statistics(pod, { timeNs: START + 60_000n, received: 7, dropped: 2 });
}

function gathered(): Uint8Array {
  const parts: Uint8Array[] = [];
  trace((b) => parts.push(b));
  return Buffer.concat(parts);
}

const simple = (record: CaptureRecord): object => ({ ...record, bytes: Buffer.from(record.bytes).toString('hex') });
const read = (file: CaptureFile): { records: CaptureRecord[]; problems: string[] } => {
  const records = [...file];
  return { records, problems: file.problems.map((p) => `${p.offset}: ${p.message}`) };
};

test('what is written is read again', () => {
  const file = readCapture(gathered());
  const { records, problems } = read(file);
  assert.deepEqual(problems, []);
  assert.equal(file.format, 'pcapng');
  assert.deepEqual(file.interfaces, [
    { linkType: 1, snapLength: 0, name: 'web-a/eth0', description: 'pod web-a on m1', filter: 'icmp' },
    { linkType: 1, snapLength: 512, name: 'm1/eth0', description: 'uplink of m1' },
    { linkType: 101, snapLength: 0, name: 'm1/tun0' },
  ]);
  assert.deepEqual(records.map(timeNs), [START, START + 40_001n, START + 50_000n]);
  assert.deepEqual(records.map((r) => r.interfaceId), [0, 1, 2]);
  assert.deepEqual(records.map((r) => r.direction), ['outbound', 'inbound', undefined]);
  assert.deepEqual(records.map((r) => r.comments), [['hop 1: route default via 10.244.0.1', '第一跳'], undefined, undefined]);
  assert.deepEqual(records.map((r) => [r.bytes.length, r.originalLength]), [[98, 98], [148, 148], [45, 48]]);
  assert.deepEqual(Buffer.from(records[1]?.bytes ?? []), Buffer.from(TUNNELLED));
});

test('tshark shows interfaces, times, directions and comments', { skip: missing('tshark') }, () => {
  const fields = ['frame.interface_name', 'frame.interface_description', 'frame.time_epoch', 'frame.packet_flags_direction', 'frame.comment', 'frame.len', 'frame.cap_len', 'ip.src', 'vxlan.vni'];
  const text = withFile(gathered(), (path) =>
    output(['tshark', '-n', '-r', path, '-d', 'udp.port==8472,vxlan', '-T', 'fields', '-E', 'separator=|', ...fields.flatMap((f) => ['-e', f])]),
  );
  assert.deepEqual(text.trimEnd().split('\n'), [
    'web-a/eth0|pod web-a on m1|1763686800.123456789|0x00000002|hop 1: route default via 10.244.0.1,第一跳|98|98|10.244.0.2|',
    'm1/eth0|uplink of m1|1763686800.123496790|0x00000001||148|148|172.18.0.2,10.244.0.2|1',
    'm1/tun0||1763686800.123506789|||48|45||',
  ]);
});

test('tshark reads the file as JSON', { skip: missing('tshark') }, () => {
  const json: unknown = JSON.parse(withFile(gathered(), (path) => output(['tshark', '-n', '-r', path, '-d', 'udp.port==8472,vxlan', '-T', 'json'])));
  assert.ok(Array.isArray(json));
  assert.equal(json.length, 3);
  assert.match(JSON.stringify(json[1]), /"vxlan.vni":"1"/);
});

test('capinfos finds the file sound, with its comment, filter and lost packets', { skip: missing('capinfos') }, () => {
  const text = withFile(gathered(), (path) => output(['capinfos', path]));
  for (const line of [/Number of packets: +3/, /Number of interfaces in file: 3/, /web-a to web-d/, /Name = web-a\/eth0/, /Filter string = icmp/, /Time precision = nanoseconds/, /Number of stat entries = 1/]) {
    assert.match(text, line);
  }
});

test('tcpdump reads a file whose interfaces have one link type', { skip: missing('tcpdump') }, () => {
  const parts: Uint8Array[] = [];
  const writer = new PcapngWriter((b) => parts.push(b));
  const id = writer.addInterface({ name: 'a' });
  writer.packet({ interfaceId: id, timeNs: START, bytes: PING, comments: ['x'] });
  writer.packet({ interfaceId: writer.addInterface({ name: 'b' }), timeNs: START, bytes: PING });
  const text = withFile(Buffer.concat(parts), (path) => output(['tcpdump', '-n', '-tt', '--nano', '-r', path]));
  const line = '1763686800.123456789 IP 10.244.0.2 > 10.244.2.2: ICMP echo request, id 7, seq 1, length 64\n';
  assert.equal(text, line + line);
});

test('files that editcap wrote read the same: pcap, nanosecond pcap, pcapng', { skip: missing('editcap') }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'podway-packet-'));
  try {
    const ours = Buffer.concat([pcapHeader(), pcapRecord(PING, START), pcapRecord(TUNNELLED, START + 1_500n, 2000)]);
    withFile(ours, (path) => {
      for (const [format, exact] of [['pcap', false], ['nsecpcap', true], ['pcapng', true]] as const) {
        const to = join(directory, format);
        output(['editcap', '-F', format, path, to]);
        const { records, problems } = read(readCapture(readFileSync(to)));
        assert.deepEqual(problems, []);
        const cut = (t: bigint): bigint => (exact ? t : (t / 1000n) * 1000n);
        assert.deepEqual(records.map(timeNs), [START, START + 1_500n].map(cut), format);
        assert.deepEqual(records.map((r) => [Buffer.from(r.bytes).toString('hex'), r.originalLength]), [
          [Buffer.from(PING).toString('hex'), 98],
          [Buffer.from(TUNNELLED).toString('hex'), 2000],
        ]);
      }
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('big-endian pcap, microseconds', () => {
  const file = bytes('a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000001  00000010 0000000a 00000002 00000009 abcd');
  assert.deepEqual(read(readCapture(file)).records.map(simple), [
    { interfaceId: 0, linkType: 1, seconds: 16, nanoseconds: 10_000, bytes: 'abcd', originalLength: 9 },
  ]);
});

test('pcapng by hand: big-endian, unknown block, simple packet, binary and coarse time resolutions, time offset, two sections', () => {
  const section = '0a0d0d0a 0000001c 1a2b3c4d 0001 0000 ffffffffffffffff 0000001c';
  const file = bytes(
    section +
      // Interface 0: 2^-10 s a tick, offset 100 s; interface 1: 1 s a tick.
      '00000001 0000002c 0001 0000 00000000  0009 0001 8a000000  000e 0008 0000000000000064 0000 0000 0000002c' +
      '00000001 0000001c 0065 0000 00000004  0009 0001 00000000  0000001c' +
      '00000bad 00000010 deadbeef 00000010' +
      '00000006 00000024 00000000 00000000 00000600 00000002 00000005 abcd0000 00000024' +
      '00000006 00000024 00000001 00000000 00000007 00000001 00000001 ee000000 00000024' +
      '00000003 00000014 00000003 a1b2c300 00000014' +
      section +
      '00000001 00000014 0071 0000 00000000 00000014' +
      '00000006 00000024 00000000 00000000 000f4241 00000001 00000001 99000000 00000024',
  );
  const capture = readCapture(file);
  const { records, problems } = read(capture);
  assert.deepEqual(problems, []);
  assert.deepEqual(records.map(simple), [
    { interfaceId: 0, linkType: 1, seconds: 101, nanoseconds: 500_000_000, bytes: 'abcd', originalLength: 5 },
    { interfaceId: 1, linkType: 101, seconds: 7, nanoseconds: 0, bytes: 'ee', originalLength: 1 },
    { interfaceId: 0, linkType: 1, seconds: 0, nanoseconds: 0, bytes: 'a1b2c3', originalLength: 3 },
    { interfaceId: 2, linkType: 113, seconds: 1, nanoseconds: 1_000, bytes: '99', originalLength: 1 },
  ]);
  assert.equal(capture.interfaces.length, 3);
});

test('what is wrong with a file is said, and the records before it are given', () => {
  const sound = Buffer.concat([pcapHeader(), pcapRecord(PING, START), pcapRecord(PING, START)]);
  const cut = read(readCapture(sound.subarray(0, sound.length - 10)));
  assert.deepEqual(cut.records.map((r) => r.bytes.length), [98, 88]);
  assert.deepEqual(cut.problems, ['138: packet has 98 bytes, 88 are there: the file ends early']);
  const damaged = Buffer.from(sound);
  damaged.writeUInt32LE(0x7fffffff, 24 + 8);
  assert.deepEqual(read(readCapture(damaged)), { records: [], problems: ['24: packet length 2147483647 cannot be: the file is damaged here'] });
  assert.deepEqual(read(readCapture(filler(40))).problems, ['0: not a pcapng file: it does not begin with a section header']);
  assert.deepEqual(read(readCapture(new Uint8Array())).problems, ['0: the file is empty']);
  const ng = gathered();
  const half = read(readCapture(ng.subarray(0, ng.length - 4)));
  assert.equal(half.records.length, 3);
  assert.match(half.problems.join(), /the file ends early/);
});

test('a file on disk: 0600, readable after flush and while being written, closed once', () => {
  const directory = mkdtempSync(join(tmpdir(), 'podway-packet-'));
  try {
    const path = join(directory, 'hops.pcapng');
    const file = createPcapngFile(path, { comment: 'c' });
    const id = file.writer.addInterface({ name: 'm1/cni0' });
    file.writer.packet({ interfaceId: id, timeNs: START, bytes: PING });
    file.flush();
    assert.equal(read(readCapture(readFileSync(path))).records.length, 1);
    for (let i = 0; i < 2000; i++) file.writer.packet({ interfaceId: id, timeNs: START + BigInt(i), bytes: PING });
    assert.ok(statSync(path).size > 65536, 'full blocks are written without flush');
    file.close();
    file.close();
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const { records, problems } = read(readCapture(readFileSync(path)));
    assert.deepEqual([records.length, problems], [2001, []]);
    assert.throws(() => file.writer.packet({ interfaceId: id, timeNs: START, bytes: PING }), /has been closed/);
    assert.throws(() => createPcapngFile(join(directory, 'no', 'such')), { code: 'ENOENT' });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a packet of an interface that was not added is refused', () => {
  const writer = new PcapngWriter(() => undefined);
  assert.throws(() => writer.packet({ interfaceId: 0, timeNs: 0n, bytes: PING }), /interface 0 was not added: there are 0/);
});
