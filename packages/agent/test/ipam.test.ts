import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CniError, formatIp, isCniError, parseIp } from '@podway/cni';
import { isPodwayError } from '@podway/errors';
import { type AttachmentStore, Ipam, MemoryStore, type ReserveRequest, setsOfPodCidrs } from '../src/ipam/index.js';

const want = (id: string, more: Partial<ReserveRequest> = {}): ReserveRequest => ({
  containerId: id,
  ifname: 'eth0',
  network: 'podway',
  netns: `/var/run/netns/${id}`,
  pod: { namespace: 'default', name: id },
  name: (ips) => ({ mac: `mac of ${ips.map(formatIp).join('+')}`, hostIfname: `veth${id}` }),
  ...more,
});

interface Setup {
  readonly store?: AttachmentStore;
  readonly cidrs?: string[];
  readonly clock?: { now: number };
}
const open = (o: Setup = {}): Promise<Ipam> => Ipam.open({ store: o.store ?? new MemoryStore(), sets: setsOfPodCidrs(o.cidrs ?? ['10.244.0.0/24']), now: () => o.clock?.now ?? 0 });
const addresses = (r: { record: { ips: readonly { address: string }[] } }): string[] => r.record.ips.map((i) => i.address);

test('dual stack: one address of each family, named before anything is made', async () => {
  const store = new MemoryStore();
  const ipam = await open({ store, cidrs: ['10.244.0.0/24', 'fd00:10:244::/64'] });
  const { record, existed } = await ipam.reserve(want('a'));
  assert.deepEqual({ ...record, created: '' }, {
    version: 1, containerId: 'a', ifname: 'eth0', network: 'podway', netns: '/var/run/netns/a', pod: { namespace: 'default', name: 'a' },
    ips: [{ address: '10.244.0.2/24', gateway: '10.244.0.1' }, { address: 'fd00:10:244::2/64', gateway: 'fd00:10:244::1' }],
    mac: 'mac of 10.244.0.2+fd00:10:244::2', hostIfname: 'vetha', phase: 'adding', created: '',
  });
  assert.equal(existed, false);
  assert.deepEqual((await store.load()).records, [record], 'recorded before it is answered');
});

test('a second ADD of the same attachment gets the same record', async () => {
  const ipam = await open();
  const first = await ipam.reserve(want('a'));
  assert.deepEqual(await ipam.reserve(want('a')), { record: first.record, existed: true });
});

test('ADDs at once never get the same address; the 254th is refused', async () => {
  const ipam = await open();
  const all = await Promise.allSettled(Array.from({ length: 260 }, (_, i) => ipam.reserve(want(`c${i}`))));
  const given = all.filter((r) => r.status === 'fulfilled').flatMap((r) => addresses(r.value));
  assert.deepEqual([given.length, new Set(given).size], [253, 253]);
  assert.ok(all.filter((r) => r.status === 'rejected').every((r) => isCniError(r.reason, 'RANGE_EXHAUSTED')));
  await ipam.release({ containerId: 'c7', ifname: 'eth0' });
  assert.deepEqual(addresses(await ipam.reserve(want('again'))), ['10.244.0.9/24'], 'the only free one, reuse delay or not');
});

test('phases are recorded, and an address is free only after release', async () => {
  const store = new MemoryStore();
  const clock = { now: 0 };
  const ipam = await open({ store, clock });
  const key = { containerId: 'a', ifname: 'eth0' };
  await ipam.reserve(want('a'));
  await ipam.markReady(key, { ips: [{ address: '10.244.0.2/24' }] });
  assert.deepEqual((await store.load()).records.map((r) => [r.phase, r.result]), [['ready', { ips: [{ address: '10.244.0.2/24' }] }]]);
  await ipam.markDeleting(key);
  assert.deepEqual([(await store.load()).records[0]?.phase, ipam.holder(parseIp('10.244.0.2'))], ['deleting', 'pod default/a']);
  assert.equal((await ipam.release(key))?.phase, 'deleting');
  assert.equal(ipam.holder(parseIp('10.244.0.2')), undefined);
  assert.equal(await ipam.release(key), undefined, 'a second release is success');
  await assert.rejects(ipam.markReady(key, {}), (e) => isPodwayError(e, 'ATTACHMENT_UNKNOWN'));
});

test('a deleted and made again pod gets another address, until the delay is over and the round is done', async () => {
  const clock = { now: 0 };
  const ipam = await open({ clock, cidrs: ['10.244.0.0/29'] });
  const seen: string[] = [];
  for (let i = 0; i < 6; i++) {
    const key = { containerId: `web-${i}`, ifname: 'eth0' };
    seen.push(...addresses(await ipam.reserve(want(key.containerId))));
    await ipam.release(key);
    clock.now += 10_000;
  }
  assert.deepEqual(seen, ['10.244.0.2/29', '10.244.0.3/29', '10.244.0.4/29', '10.244.0.5/29', '10.244.0.6/29', '10.244.0.2/29']);
});

test('after a restart: records are taken over, the round goes on', async () => {
  const store = new MemoryStore();
  const first = await open({ store });
  for (const id of ['a', 'b', 'c']) await first.reserve(want(id));
  await first.release({ containerId: 'c', ifname: 'eth0' });
  await first.close();
  const second = await open({ store });
  assert.deepEqual(second.list().map((r) => r.containerId), ['a', 'b']);
  assert.equal(second.holder(parseIp('10.244.0.3')), 'pod default/b');
  assert.deepEqual(addresses(await second.reserve(want('d'))), ['10.244.0.5/24'], 'not .4, which c had a moment ago');
});

test('after a restart without the pointer: the newest record stands in', async () => {
  const store = new MemoryStore();
  const first = await open({ store });
  for (const id of ['a', 'b', 'c']) await first.reserve(want(id));
  await first.release({ containerId: 'a', ifname: 'eth0' });
  await first.close();
  await store.saveLastGiven({});
  assert.deepEqual(addresses(await (await open({ store })).reserve(want('d'))), ['10.244.0.5/24']);
});

test('fixed addresses: honoured per family, kept across re-creation, conflicts named, nothing left of a refusal', async () => {
  const ipam = await open({ cidrs: ['10.244.0.0/24', 'fd00::/64'] });
  const fixed = (...a: string[]): Partial<ReserveRequest> => ({ fixed: a.map(parseIp) });
  assert.deepEqual(addresses(await ipam.reserve(want('a', fixed('10.244.0.100')))), ['10.244.0.100/24', 'fd00::2/64']);
  await ipam.release({ containerId: 'a', ifname: 'eth0' });
  assert.deepEqual(addresses(await ipam.reserve(want('a2', fixed('fd00::64', '10.244.0.100')))), ['10.244.0.100/24', 'fd00::64/64']);
  assert.deepEqual(addresses(await ipam.reserve(want('b'))), ['10.244.0.2/24', 'fd00::3/64'], 'a fixed address does not move the pointer');
  const refused: [string[], RegExp][] = [
    [['10.244.0.100'], /10\.244\.0\.100 is in use: by pod default\/a2/],
    [['10.244.9.9'], /10\.244\.9\.9 cannot be given: it is not in 10\.244\.0\.0\/24, fd00::\/64/],
    [['10.244.0.7', '10.244.0.8'], /another address of the same range/],
    [['10.244.0.9', 'fd00::64'], /fd00::64 is in use/],
  ];
  for (const [asked, why] of refused) await assert.rejects(ipam.reserve(want('x', fixed(...asked))), (e) => isCniError(e, 'ADDRESS_TAKEN') && why.test(e.message), asked.join());
  assert.equal(ipam.get({ containerId: 'x', ifname: 'eth0' }), undefined);
  assert.equal(ipam.holder(parseIp('10.244.0.9')), undefined);
});

test('no pod CIDR yet: not available; later it is', async () => {
  const ipam = await open({ cidrs: [] });
  await assert.rejects(ipam.reserve(want('a')), (e) => isCniError(e, 'NOT_AVAILABLE'));
  ipam.setRanges(setsOfPodCidrs(['10.244.7.0/24']));
  assert.deepEqual(addresses(await ipam.reserve(want('a'))), ['10.244.7.2/24']);
});

test('a store that fails: the address is not given away and not lost', async () => {
  class Failing extends MemoryStore {
    fail = true;
    override put(r: Parameters<MemoryStore['put']>[0]): Promise<void> {
      return this.fail ? Promise.reject(new Error('no space left on device')) : super.put(r);
    }
  }
  const store = new Failing();
  const ipam = await open({ store, cidrs: ['10.244.0.0/30'] });
  await assert.rejects(ipam.reserve(want('a')), (e) => e instanceof CniError && e.cniCode === 5 && /no space left/.test(e.message));
  assert.deepEqual(ipam.list(), []);
  store.fail = false;
  assert.deepEqual(addresses(await ipam.reserve(want('a'))), ['10.244.0.2/30']);
});
