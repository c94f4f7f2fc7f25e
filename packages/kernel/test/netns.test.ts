import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { listNetns, Netns, nsfsMounts, NETNS_DIR } from '../src/index.js';
import { ended, inScratch, ip, sitInside } from './scratch.js';

const own = (): string => readlinkSync('/proc/thread-self/ns/net');
const unique = (what: string): string => `podway-test-${process.pid}-${what}`;

/** A named namespace, removed afterwards. */
function withNamed<T>(what: string, work: (ns: Netns, name: string) => T): T {
  const name = unique(what);
  const ns = Netns.create(name);
  try {
    return work(ns, name);
  } finally {
    ns.close();
    Netns.remove(name);
  }
}

test('create, open by name, remove', () => {
  const name = withNamed('create', (ns, name) => {
    const again = Netns.open({ name });
    assert.equal(again.id, ns.id);
    again.close();
    assert.equal(ns.run(own), `net:[${ns.id}]`);
    assert.throws(() => Netns.create(name), (e) => isPodwayError(e, 'NETNS_EXISTS'));
    assert.match(ns.run(() => ip(ns, 'netns', 'identify')), new RegExp(name), 'ip netns knows it');
    return name;
  });
  assert.ok(!existsSync(`${NETNS_DIR}/${name}`));
  assert.equal(Netns.remove(name), false, 'absent now');
  assert.throws(() => Netns.open({ name }), (e) => isPodwayError(e, 'NETNS_NOT_FOUND') && e.errno === 'ENOENT');
});

test('a name that a crash left half made can be removed', () => {
  const name = unique('half');
  writeFileSync(`${NETNS_DIR}/${name}`, '');
  assert.throws(() => Netns.open({ name }), (e) => isPodwayError(e, 'NETNS_NOT_A_NAMESPACE'));
  assert.equal(Netns.remove(name), true);
  assert.ok(!existsSync(`${NETNS_DIR}/${name}`));
});

test('names that are no names, and files that are no namespaces', () => {
  for (const name of ['', '..', 'a/b', '-x', 'a b', 'ü']) assert.throws(() => Netns.open({ name }), (e) => isPodwayError(e, 'NETNS_BAD_NAME'), name);
  for (const path of ['/etc/passwd', '/proc/self/ns/uts', '/dev/null', '/']) assert.throws(() => Netns.open({ path }), (e) => isPodwayError(e, 'NETNS_NOT_A_NAMESPACE') && e.message.includes(path), path);
  assert.throws(() => Netns.open({ pid: 2 ** 22 }), (e) => isPodwayError(e, 'NETNS_NOT_FOUND'));
  assert.match(own(), /^net:/);
});

test('a nameless namespace held by a process: open by pid and path, and it is listed', async () => {
  const ns = Netns.createNameless();
  const child = sitInside(ns);
  const { id } = ns;
  try {
    const pid = child.pid ?? 0;
    const byPid = Netns.open({ pid });
    const byPath = Netns.open({ path: `/proc/${pid}/ns/net` });
    assert.deepEqual([byPid.id, byPath.id], [id, id]);
    byPid.close();
    byPath.close();
    ns.close();
    const found = listNetns().find((n) => n.id === id);
    assert.deepEqual(found?.pids, [pid]);
    assert.deepEqual(found.names, []);
  } finally {
    await ended(child);
  }
  assert.equal(listNetns().find((n) => n.id === id), undefined, 'it ended with its last process');
});

test('one held only by a file descriptor, and one only by a mount, are listed', () => {
  inScratch((ns) => {
    const found = listNetns().find((n) => n.id === ns.id);
    assert.deepEqual([found?.pids, found?.names, found?.holders], [[], [], [process.pid]]);
  });
  withNamed('mount', (ns, name) => {
    ns.close();
    const found = listNetns().find((n) => n.id === ns.id);
    assert.deepEqual([found?.pids, found?.holders, found?.names], [[], [], [name]]);
    assert.ok(found?.mounts.some((m) => m.path.endsWith(`/run/netns/${name}`)));
  });
});

test('this namespace is in the list, with this process', () => {
  const current = Netns.current();
  try {
    assert.ok(listNetns().find((n) => n.id === current.id)?.pids.includes(process.pid));
  } finally {
    current.close();
  }
});

test('mountinfo: names with blanks, other file systems, broken lines', () => {
  assert.deepEqual(nsfsMounts([
    '36 35 0:4 net:[4026532281] /run/netns/blue rw shared:1 - nsfs nsfs rw',
    '37 35 0:4 net:[4026532282] /mnt/with\\040blank rw - nsfs nsfs rw',
    '38 35 0:4 uts:[4026532283] /run/utsns/x rw - nsfs nsfs rw',
    '22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw', 'broken', '',
  ].join('\n')), [{ id: '4026532281', path: '/run/netns/blue' }, { id: '4026532282', path: '/mnt/with blank' }]);
});

test('run: nested, and back after a throw at any depth', () => {
  const before = own();
  inScratch((a) => inScratch((b) => {
    a.run(() => {
      assert.equal(own(), `net:[${a.id}]`);
      b.run(() => assert.equal(own(), `net:[${b.id}]`));
      assert.equal(own(), `net:[${a.id}]`);
      assert.throws(() => b.run(() => { throw new Error('within'); }), /within/);
      assert.equal(own(), `net:[${a.id}]`);
    });
    assert.equal(own(), before);
    assert.throws(() => a.run(() => b.run(() => { throw new Error('deep'); })), /deep/);
    assert.equal(own(), before);
    assert.equal(a.run(() => 42), 42);
  }));
});

test('work that is awaited is refused, and the namespace is left', async () => {
  const before = own();
  const ns = Netns.createNameless();
  const later: () => unknown = () => Promise.reject(new Error('late'));
  assert.throws(() => ns.run(later), (e) => isPodwayError(e, 'NETNS_ASYNC'));
  assert.equal(own(), before);
  ns.close();
  await new Promise((resolve) => setImmediate(resolve));
});

test('a socket and a child keep the namespace they were made in', async () => {
  const ns = Netns.createNameless();
  const child = sitInside(ns);
  assert.equal(readlinkSync(`/proc/${child.pid}/ns/net`), `net:[${ns.id}]`);
  await ended(child);
  ns.close();
});

test('a handle by descriptor outlives the name', () => {
  withNamed('outlive', (ns, name) => {
    const fd = openSync(`${NETNS_DIR}/${name}`, 'r');
    Netns.remove(name);
    const again = Netns.open({ path: `/proc/self/fd/${fd}` });
    assert.equal(again.id, ns.id);
    again.close();
    closeSync(fd);
    assert.match(ip(ns, 'link'), /lo:/);
  });
});

test('a closed handle says so, and closing twice does nothing', () => {
  const ns = Netns.createNameless('gone');
  ns.close();
  ns.close();
  assert.throws(() => ns.run(() => 1), (e) => isPodwayError(e, 'NETNS_CLOSED') && e.object === 'gone');
});
