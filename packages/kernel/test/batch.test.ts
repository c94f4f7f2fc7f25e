/** Batches, refusals and large dumps on the real kernel. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { addAddrRequest, addFdbRequest, addNeighRequest, addRouteRequest, createRequests, deleteRouteRequest, RtNetlink, setRequest, type Netns, type Request, Netns as Ns } from '../src/index.js';
import { ended, inScratch, ip, until } from './scratch.js';

const withLo = <T>(work: (ns: Netns, nl: RtNetlink) => T): T => inScratch((ns) => RtNetlink.with(ns, (nl) => {
  nl.setLink('lo', { up: true });
  return work(ns, nl);
}));
const route = (i: number): Request => addRouteRequest({ dst: `10.${100 + (i >> 8)}.${i & 255}.0/24`, index: 1, protocol: 112 });

test('a batch with refusals: each is attributed to its request, and the others are done', () => {
  withLo((ns, nl) => {
    const requests = [
      route(1),
      route(1),
      addRouteRequest({ dst: '10.9.0.0/16', gateway: '192.0.2.1', index: 1 }),
      addAddrRequest({ index: 4242, address: '10.0.0.1', prefix: 24 }),
      route(2),
      deleteRouteRequest({ dst: '10.77.0.0/16' }),
      addNeighRequest({ index: 1, dst: '10.0.0.9', lladdr: '02:00:00:00:00:01' }),
      addFdbRequest({ index: 1, lladdr: '02:00:00:00:00:01', dst: '10.0.0.9' }),
    ];
    const refusals = nl.batch(requests);
    assert.deepEqual(refusals.map((r) => [r.index, r.error.errno]), [[1, 'EEXIST'], [2, 'ENETUNREACH'], [3, 'ENODEV'], [5, 'ESRCH'], [7, 'EINVAL']]);
    const [exists, gateway] = refusals.map((r) => r.error);
    assert.equal(gateway?.said, 'Nexthop has invalid gateway', 'the extended ACK of the kernel');
    assert.match(gateway.message, /cannot add route 10\.9\.0\.0\/16 via 192\.0\.2\.1 dev #1: Nexthop has invalid gateway \(ENETUNREACH\)/);
    assert.equal(exists?.object, 'scratch');
    assert.equal(exists.code, 'NETLINK_REFUSED');
    const shown = ip(ns, 'route', 'show', 'proto', '112');
    assert.match(shown, /10\.100\.1\.0\/24/);
    assert.match(shown, /10\.100\.2\.0\/24/);
  });
});

test('5,000 requests, the last of them refused too', () => {
  withLo((_, nl) => {
    const requests = Array.from({ length: 5000 }, (_unused, i) => route(i % 4990));
    const refusals = nl.batch(requests);
    assert.deepEqual(refusals.map((r) => r.index), [4990, 4991, 4992, 4993, 4994, 4995, 4996, 4997, 4998, 4999]);
    assert.ok(refusals.every((r) => r.error.errno === 'EEXIST'));
    assert.equal(nl.routes().filter((r) => r.protocol === 112).length, 4990);
  });
});

test('5,000 requests that are all refused', () => {
  withLo((_, nl) => {
    const refusals = nl.batch(Array.from({ length: 5000 }, (_unused, i) => addRouteRequest({ dst: `10.0.${i & 255}.0/24`, gateway: '192.0.2.1', index: 1 })));
    assert.equal(refusals.length, 5000);
    assert.deepEqual(refusals.map((r) => r.index), Array.from({ length: 5000 }, (_unused, i) => i));
  });
});

test('an empty batch asks nothing', () => {
  withLo((_, nl) => assert.deepEqual(nl.batch([]), []));
});

test('a dump larger than any buffer is complete', () => {
  withLo((_, nl) => {
    assert.deepEqual(nl.batch(Array.from({ length: 3000 }, (_unused, i) => route(i))), []);
    const dumped = nl.routes().filter((r) => r.protocol === 112).map((r) => r.dst);
    assert.equal(dumped.length, 3000);
    assert.equal(new Set(dumped).size, 3000);
  });
});

test('a dump while another process changes the table is complete and has nothing twice', async () => {
  const ns = Ns.createNameless('busy');
  const nl = RtNetlink.open(ns);
  try {
    nl.setLink('lo', { up: true });
    assert.deepEqual(nl.batch(Array.from({ length: 2000 }, (_unused, i) => route(i))), []);
    // Adds and removes routes of another protocol for as long as it lives.
    const lines = Array.from({ length: 200 }, (_unused, i) => `route replace 10.200.${i}.0/24 dev lo proto 99\nroute del 10.200.${i}.0/24 dev lo`).join('\n');
    const child = ns.run(() => spawn('ip', ['-batch', '-'], { stdio: ['pipe', 'ignore', 'ignore'] }));
    child.stdin.on('error', () => undefined);
    const feed = (): void => {
      if (child.exitCode === null && child.stdin.write(`${lines}\n`)) setImmediate(feed);
      else child.stdin.once('drain', feed);
    };
    feed();
    let dumps = 0;
    const end = performance.now() + 500;
    try {
      await until('the other process is at work', () => nl.routes().some((r) => r.protocol === 99));
      while (performance.now() < end) {
        await new Promise((resolve) => setImmediate(resolve));
        try {
          const own = nl.routes().filter((r) => r.protocol === 112).map((r) => r.dst);
          assert.equal(own.length, 2000);
          assert.equal(new Set(own).size, 2000);
          dumps++;
        } catch (e) {
          // Ten interrupted dumps in a row are said to be that, and nothing else.
          if (!isPodwayError(e, 'NETLINK_DUMP_INTERRUPTED')) throw e;
        }
      }
    } finally {
      child.stdin.destroy();
      await ended(child);
    }
    assert.ok(dumps > 0);
  } finally {
    nl.close();
    ns.close();
  }
});

test('the alias comes with the link in one batch, and a refusal names the link', () => {
  withLo((ns, nl) => {
    const requests = createRequests({ name: 'v0', alias: 'podway:x', kind: 'veth', peer: { name: 'v1' } });
    assert.equal(requests.length, 2);
    assert.deepEqual(nl.batch(requests), []);
    assert.match(ip(ns, 'link', 'show', 'v0'), /alias podway:x/);
    assert.throws(() => nl.createLink({ name: 'v0', kind: 'bridge' }), (e) => isPodwayError(e, 'NETLINK_REFUSED') && e.errno === 'EEXIST' && /create bridge link v0/.test(e.message));
    assert.throws(() => nl.mustLink('nope'), { code: 'LINK_NOT_FOUND' });
    assert.throws(() => nl.createLink({ name: 'a name', kind: 'bridge' }), { code: 'BAD_IFNAME' });
    assert.throws(() => nl.send(setRequest(4242, { mtu: 1 })), { errno: 'ENODEV' });
  });
});

test('a closed socket says so', () => {
  inScratch((ns) => {
    const nl = RtNetlink.open(ns);
    nl.close();
    nl.close();
    assert.throws(() => nl.links(), { code: 'NETLINK_CLOSED' });
  });
});
