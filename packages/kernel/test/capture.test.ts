import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { Capture, CaptureSet, checkFilter, Netns, netnsIdOf, ProbeSocket, RtNetlink } from '../src/index.js';

const isRoot = process.getuid?.() === 0;

describe('capture', { skip: isRoot ? false : 'needs root: makes network namespaces' }, () => {
  let a: Netns;
  let b: Netns;
  const receivers: ProbeSocket[] = [];

  before(() => {
    a = Netns.createNameless('netns a');
    b = Netns.createNameless('netns b');
    RtNetlink.with(a, (nl) => {
      const link = nl.createLink({ name: 'va', kind: 'veth', peer: { name: 'vb', netnsFd: b.fd } });
      nl.addAddr({ index: link.index, address: '10.9.0.1', prefix: 24 });
      nl.setLink('va', { up: true });
    });
    RtNetlink.with(b, (nl) => {
      nl.createLink({ name: 'down0', kind: 'bridge' });
      nl.addAddr({ index: nl.mustLink('vb').index, address: '10.9.0.2', prefix: 24 });
      nl.setLink('vb', { up: true });
    });
    // Without a receiver the kernel answers with ICMP errors, and the next send fails.
    for (const sourcePort of [7, 8, 9, 4000, 4001]) receivers.push(ProbeSocket.open(b, 'udp', { sourcePort }));
  });
  after(() => {
    for (const r of receivers) r.close();
    a.close();
    b.close();
  });

  /** Reads until `count` packets are there; fails after five seconds. */
  async function collect(set: CaptureSet<string>, count: number): Promise<{ tag: string; tsNs: bigint; length: number; bytes: Buffer }[]> {
    const packets = [];
    const end = Date.now() + 5000;
    while (packets.length < count) {
      assert.ok(Date.now() < end, `only ${packets.length} of ${count} packets came`);
      packets.push(...(await set.next(50)));
    }
    return packets;
  }

  it('sees one datagram at both ends of a veth pair, in time order, with nanoseconds', async () => {
    const set = new CaptureSet<string>();
    set.add('a', a, { device: 'va', filter: 'udp port 7', immediate: true });
    set.add('b', b, { device: 'vb', filter: 'udp port 7', immediate: true });
    const before = BigInt(Date.now()) * 1_000_000n;
    const socket = ProbeSocket.open(a, 'udp');
    socket.connect('10.9.0.2', 7);
    socket.send(Buffer.from('hello there'));
    const packets = await collect(set, 2);
    assert.deepEqual(packets.map((p) => p.tag), ['a', 'b']);
    for (const p of packets) {
      assert.equal(p.length, 14 + 20 + 8 + 11);
      assert.equal(p.bytes.subarray(42).toString(), 'hello there');
      assert.ok(p.tsNs >= before && p.tsNs - before < 5_000_000_000n);
    }
    assert.ok(packets.some((p) => p.tsNs % 1000n !== 0n), 'stamps have no nanoseconds');
    assert.deepEqual(set.stats().map((s) => [s.tag, s.stats.received, s.stats.dropped, s.problem]), [['a', 1, 0, undefined], ['b', 1, 0, undefined]]);
    await set.close();
    socket.close();
  });

  it('keeps the snap length and tells the length on the wire; direction is honoured', async () => {
    const set = new CaptureSet<string>();
    set.add('out', a, { device: 'va', filter: 'udp port 8', immediate: true, snaplen: 42 });
    set.add('in', a, { device: 'va', filter: 'udp port 8', immediate: true, direction: 'in' });
    const socket = ProbeSocket.open(a, 'udp');
    socket.connect('10.9.0.2', 8);
    socket.send(Buffer.alloc(1000));
    const [p, ...rest] = await collect(set, 1);
    assert.deepEqual([p?.tag, p?.bytes.length, p?.length, rest.length], ['out', 42, 1042, 0]);
    await set.close();
    socket.close();
  });

  it('says what is wrong, on which device, and what to do', () => {
    const failing = (o: Parameters<typeof Capture.open>[1], code: string, said?: RegExp) =>
      assert.throws(() => Capture.open(b, o), (e) => {
        assert.ok(isPodwayError(e, code), String(e));
        if (said) assert.match(`${e.message} ${e.hint ?? ''}`, said);
        return true;
      });
    failing({ device: 'nosuch' }, 'CAPTURE_NO_DEVICE', /nosuch/);
    failing({ device: 'down0' }, 'CAPTURE_DEVICE_DOWN', /ip link set down0 up/);
    failing({ device: 'vb', filter: 'host and' }, 'CAPTURE_BAD_FILTER', /syntax error|parse error/);
    assert.throws(() => checkFilter('tcp port nosuchservice'), (e) => isPodwayError(e, 'CAPTURE_BAD_FILTER'));
    checkFilter('udp port 8472 and udp[42:4] = 0x0af40005');
  });

  it('ends with a reason when the device goes away', async () => {
    RtNetlink.with(a, (nl) => {
      nl.createLink({ name: 'gone0', kind: 'veth', peer: { name: 'gone1' } });
      nl.setLink('gone0', { up: true });
    });
    const set = new CaptureSet<string>();
    const capture = set.add('x', a, { device: 'gone0', immediate: true });
    RtNetlink.with(a, (nl) => nl.deleteLink('gone0'));
    const end = Date.now() + 5000;
    while (capture.problem === undefined && Date.now() < end) await set.next(20);
    assert.match(capture.problem ?? '', /disappeared|went down/);
    await set.close();
  });

  it('streams until aborted and leaves no descriptor behind', async () => {
    const abort = new AbortController();
    const set = new CaptureSet<string>();
    const capture = set.add('s', a, { device: 'va', filter: 'udp port 9', immediate: true });
    const socket = ProbeSocket.open(a, 'udp');
    socket.connect('10.9.0.2', 9);
    for (let i = 0; i < 3; i++) socket.send(Buffer.from([i]));
    const seen: number[] = [];
    const giveUp = setTimeout(() => abort.abort(), 5000);
    for await (const p of set.stream(abort.signal)) {
      seen.push(p.bytes[42] ?? -1);
      if (seen.length === 3) abort.abort();
    }
    clearTimeout(giveUp);
    assert.deepEqual(seen, [0, 1, 2]);
    assert.deepEqual(capture.read(), []);
    assert.equal(capture.stats().received, 3);
    socket.close();
  });

  it('tells the id one namespace has for another', () => {
    const peer = RtNetlink.with(a, (nl) => ({ link: nl.mustLink('va'), id: netnsIdOf(nl.socket, b) }));
    assert.notEqual(peer.id, undefined);
    assert.equal(peer.id, peer.link.linkNetnsid);
    const other = Netns.createNameless('netns other');
    assert.equal(RtNetlink.with(a, (nl) => netnsIdOf(nl.socket, other)), undefined);
    other.close();
  });

  for (const snaplen of [128, 262144]) {
    it(`loses nothing at 50,000 packets a second (snap length ${snaplen})`, async (t) => {
      let rate = 0;
      for (let attempt = 0; attempt < 3 && rate < 45_000; attempt++) rate = await run();
      // What was sent was captured without loss all the same: that is asserted in every run.
      if (rate < 45_000) t.skip(`the machine is too busy: the generator reached only ${Math.round(rate)} packets/s`);

      async function run(): Promise<number> {
      const set = new CaptureSet<string>();
      const capture = set.add('b', b, { device: 'vb', filter: 'udp dst port 4000', snaplen });
      const count = 100_000;
      const done = new Promise<{ sent: number; seconds: number }>((resolve, reject) => {
        const program = fileURLToPath(new URL('support/blast.js', import.meta.url));
        execFile(process.execPath, [program, `/proc/${process.pid}/fd/${a.fd}`, '10.9.0.2', '4000', '50000', String(count)],
          (error, out) => (error ? reject(error) : resolve(JSON.parse(out) as { sent: number; seconds: number })));
      });
      let captured = 0;
      let last = 0n;
      let result: { sent: number; seconds: number } | undefined;
      void done.then((r) => (result = r), () => (result = { sent: -1, seconds: 0 }));
      const end = Date.now() + 20_000;
      while ((!result || captured < result.sent) && Date.now() < end) {
        for (const p of await set.next(50)) {
          assert.ok(p.tsNs >= last);
          last = p.tsNs;
          captured++;
        }
        if (result && capture.stats().dropped > 0) break;
      }
      const { sent, seconds } = await done;
      const stats = capture.stats();
      assert.equal(sent, count);
      assert.equal(captured + stats.dropped, sent, 'captured and said to be lost is not what was sent');
      assert.equal(stats.dropped, 0);
      await set.close();
      return sent / seconds;
      }
    });
  }

  it('counts what it loses', async () => {
    const capture = Capture.open(b, { device: 'vb', filter: 'udp dst port 4001', bufferBytes: 128 * 1024 });
    const socket = ProbeSocket.open(a, 'udp');
    socket.connect('10.9.0.2', 4001);
    const count = 5000;
    for (let i = 0; i < count; i++) assert.equal(socket.send(Buffer.alloc(200)), undefined);
    let captured = 0;
    const end = Date.now() + 5000;
    while (captured + capture.stats().dropped < count && Date.now() < end) {
      captured += capture.read().length;
      await new Promise((resolve) => setImmediate(resolve));
    }
    const { received, dropped } = capture.stats();
    assert.equal(received, count);
    assert.equal(captured + dropped, count);
    assert.ok(dropped > 0, 'the buffer was meant to be too small');
    capture.close();
    socket.close();
  });
});
