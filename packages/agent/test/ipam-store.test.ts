/** One contract for every attachment store, and what only the disk can get wrong. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { type AttachmentRecord, type AttachmentStore, DiskStore, Ipam, MemoryStore, recordFileName, setsOfPodCidrs } from '../src/ipam/index.js';

const record = (containerId: string, n: number, more: Partial<AttachmentRecord> = {}): AttachmentRecord => ({
  version: 1,
  containerId,
  ifname: 'eth0',
  network: 'podway',
  netns: `/var/run/netns/${containerId}`,
  pod: { namespace: 'default', name: `web-${n}`, uid: `u${n}` },
  ips: [{ address: `10.244.0.${n}/24`, gateway: '10.244.0.1' }],
  mac: '0a:58:0a:f4:00:05',
  hostIfname: `veth${n}`,
  phase: 'adding',
  created: `2030-01-01T00:00:00.${String(n).padStart(3, '0')}Z`,
  ...more,
});

async function inDir(use: (dir: string) => Promise<void>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'podway-store-test-'));
  try {
    await use(join(dir, 'attachments'));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

const byId = (r: readonly AttachmentRecord[]): AttachmentRecord[] => [...r].sort((a, b) => (a.containerId < b.containerId ? -1 : 1));

interface Kind {
  readonly name: string;
  /** A store, and how to open the same one again as a later process would. */
  with(use: (store: AttachmentStore, again: () => AttachmentStore) => Promise<void>): Promise<void>;
}

const kinds: Kind[] = [
  { name: 'memory', with: (use) => { const s = new MemoryStore(); return use(s, () => s); } },
  { name: 'disk', with: (use) => inDir((dir) => use(new DiskStore(dir), () => new DiskStore(dir))) },
];

for (const kind of kinds) {
  const contract = (what: string, body: (s: AttachmentStore, again: () => AttachmentStore) => Promise<void>): void =>
    void test(`${kind.name}: ${what}`, () =>
      kind.with(async (s, again) => {
        await body(s, again);
        await s.close();
      }));

  contract('starts empty', async (s) => assert.deepEqual(await s.load(), { records: [], problems: [], lastGiven: {} }));

  contract('what is put is there again, whole; the later put wins', async (s, again) => {
    const full = record('c1', 5, { phase: 'ready', result: { ips: [{ address: '10.244.0.5/24' }] } });
    await s.put(record('c1', 5));
    await s.put(record('c2', 6));
    await s.put(full);
    const { pod: _, ...podless } = record('c3', 7);
    await s.put(podless);
    const reopened = again();
    assert.deepEqual(byId((await reopened.load()).records), [full, record('c2', 6), podless]);
    await reopened.close();
  });

  contract('prepared: in force with its commit, and not at all when it is discarded', async (s, again) => {
    await s.put(record('c1', 5));
    const ready = s.prepare(record('c1', 5, { phase: 'ready' }));
    const never = s.prepare(record('c2', 6));
    const phases = async (): Promise<string[]> => {
      const reopened = again();
      const { records } = await reopened.load();
      if (reopened !== s) await reopened.close();
      return records.map((r) => `${r.containerId} ${r.phase}`).sort();
    };
    await ready.commit();
    await never.discard();
    assert.deepEqual(await phases(), ['c1 ready']);
  });

  contract('keys that look alike are told apart', async (s) => {
    const all = [record('a-b', 2, { ifname: 'c' }), record('a', 3, { ifname: 'b-c' }), record('a', 4, { ifname: '@x' }), record('a', 5, { ifname: 'x.json' })];
    for (const r of all) await s.put(r);
    assert.equal((await s.load()).records.length, 4);
    await s.remove({ containerId: 'a', ifname: 'b-c' });
    assert.deepEqual((await s.load()).records.map((r) => r.ifname).sort(), ['@x', 'c', 'x.json']);
  });

  contract('remove: gone for good; absent is success', async (s, again) => {
    await s.put(record('c1', 5));
    await s.remove({ containerId: 'c1', ifname: 'eth0' });
    await s.remove({ containerId: 'c1', ifname: 'eth0' });
    const reopened = again();
    assert.deepEqual((await reopened.load()).records, []);
    await reopened.close();
  });

  contract('the pointer', async (s, again) => {
    await s.saveLastGiven({ a: '10.0.0.5/32' });
    await s.saveLastGiven({ a: '10.0.0.6/32', b: 'fd00::1/128' });
    const reopened = again();
    assert.deepEqual((await reopened.load()).lastGiven, { a: '10.0.0.6/32', b: 'fd00::1/128' });
    await reopened.close();
  });

  contract('a container id of any length', async (s) => {
    const r = record('x'.repeat(400), 5);
    await s.put(r);
    assert.deepEqual((await s.load()).records, [r]);
    await s.remove(r);
    assert.deepEqual((await s.load()).records, []);
  });

  contract('many at once', async (s) => {
    await Promise.all(Array.from({ length: 50 }, (_, n) => s.put(record(`c${n}`, n))));
    await Promise.all(Array.from({ length: 25 }, (_, n) => s.remove(record(`c${n}`, n))));
    assert.equal((await s.load()).records.length, 25);
  });
}

test('disk: a record is a JSON file that anyone can read, for root only', () =>
  inDir(async (dir) => {
    const s = new DiskStore(dir);
    await s.put(record('c1', 5));
    assert.deepEqual(JSON.parse(await readFile(join(dir, 'c1@eth0.json'), 'utf8')), record('c1', 5));
    assert.deepEqual([(await stat(join(dir, 'c1@eth0.json'))).mode & 0o777, (await stat(dir)).mode & 0o777], [0o600, 0o700]);
    await s.close();
  }));

test('disk: damaged files are named, set aside, and their addresses kept until DEL', () =>
  inDir(async (dir) => {
    const first = new DiskStore(dir);
    for (const n of [2, 3, 4, 5]) await first.put(record(`c${n}`, n));
    await first.close();
    const whole = JSON.stringify(record('c3', 3));
    await writeFile(join(dir, 'c3@eth0.json'), whole.slice(0, whole.indexOf('"mac"'))); // cut after the addresses
    await writeFile(join(dir, 'c4@eth0.json'), '');
    await writeFile(join(dir, 'c5@eth0.json'), JSON.stringify({ ...record('c5', 5), phase: 'odd' }));
    await writeFile(join(dir, 'wrong@eth0.json'), JSON.stringify(record('other', 9)));
    await writeFile(join(dir, '.tmp-1-0-x'), '{"half');
    await writeFile(join(dir, 'last-given'), '{"10.244.0.0/24":"rubbish/');
    for (const round of ['first', 'second']) {
      const ipam = await Ipam.open({ store: new DiskStore(dir), sets: setsOfPodCidrs(['10.244.0.0/24']) });
      assert.deepEqual(ipam.list().map((r) => r.containerId), ['c2'], round);
      assert.deepEqual(ipam.problems.map((p) => [p.file.slice(dir.length), p.key?.containerId, p.addresses]), [
        ['/quarantine/c3@eth0.json', 'c3', ['10.244.0.3/24']],
        ['/quarantine/c4@eth0.json', 'c4', []],
        ['/quarantine/c5@eth0.json', 'c5', ['10.244.0.5/24']],
        ['/quarantine/wrong@eth0.json', 'wrong', ['10.244.0.9/24']],
      ]);
      assert.match(ipam.problems[0]?.reason ?? '', /not JSON/);
      assert.match(ipam.problems[2]?.reason ?? '', /phase/);
      assert.match(ipam.problems[3]?.reason ?? '', /record is of other@eth0/);
      assert.match(ipam.holder({ family: 4, value: 0x0af40003n }) ?? '', /a damaged record, .*c3@eth0\.json/);
      await ipam.close();
    }
    const ipam = await Ipam.open({ store: new DiskStore(dir), sets: setsOfPodCidrs(['10.244.0.0/24']) });
    const stale = (...valid: string[]): string[] => ipam.stale('podway', valid.map((containerId) => ({ containerId, ifname: 'eth0' }))).map((k) => k.containerId);
    assert.deepEqual([stale(), stale('c2', 'c4', 'wrong'), ipam.stale('other', []).length], [['c2', 'c3', 'c4', 'c5', 'wrong'], ['c3', 'c5'], 4]);
    await ipam.release({ containerId: 'c3', ifname: 'eth0' });
    assert.equal(ipam.holder({ family: 4, value: 0x0af40003n }), undefined);
    assert.equal(ipam.problems.length, 3);
    await ipam.close();
    assert.deepEqual((await readdir(join(dir, 'quarantine'))).sort(), ['c4@eth0.json', 'c5@eth0.json', 'wrong@eth0.json']);
    assert.deepEqual((await readdir(dir)).filter((f) => f.startsWith('.tmp')), []);
  }));

test('two records with one address (made by hand): it is free only when both are gone', () =>
  inDir(async (dir) => {
    const s = new DiskStore(dir);
    await s.put(record('c1', 5));
    await s.put(record('c2', 5));
    const ipam = await Ipam.open({ store: s, sets: setsOfPodCidrs(['10.244.0.0/24']) });
    await ipam.release({ containerId: 'c2', ifname: 'eth0' });
    assert.equal(ipam.holder({ family: 4, value: 0x0af40005n }), 'pod default/web-5');
    await ipam.release({ containerId: 'c1', ifname: 'eth0' });
    assert.equal(ipam.holder({ family: 4, value: 0x0af40005n }), undefined);
    await ipam.close();
  }));

test('disk: what cannot be written is said, with the file and errno', () =>
  inDir(async (dir) => {
    const s = new DiskStore(dir);
    await s.load();
    await rm(dir, { recursive: true });
    await assert.rejects(s.put(record('c1', 5)), (e) => isPodwayError(e, 'ATTACHMENT_STORE') && e.errno === 'ENOENT' && e.object === join(dir, recordFileName(record('c1', 5))));
    await s.close();
    await writeFile(dir, '');
    await chmod(dir, 0o600);
    await assert.rejects(new DiskStore(dir).load());
  }));
