/**
 * Lab notes: what the model claims of the kernel, each as an experiment. A small network is built, a packet predicted, sent and
 * watched; prediction and observation must agree at every device.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Netns, ProbeSocket, RtNetlink, writeSysctl } from '@podway/kernel';
import { buildReport, observeFlow, readWorld, type Flow, type Report, type WorldSource } from '../src/index.js';
import { Cluster } from './fixture.js';
import { assertAsPredicted, needsRoot, trace } from './support.js';

interface Net {
  readonly spaces: Record<string, Netns>;
  close(): void;
}

const net = (...names: string[]): Net => {
  const spaces = Object.fromEntries(names.map((n) => [n, Netns.createNameless(n)]));
  for (const ns of Object.values(spaces)) RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
  return { spaces, close: () => Object.values(spaces).forEach((n) => n.close()) };
};

/** A veth pair between two namespaces, with an address at each end (`address/prefix`, or none). */
function wire(n: Net, a: [string, string, string?], b: [string, string, string?]): void {
  const [one, two] = [n.spaces[a[0]]!, n.spaces[b[0]]!];
  RtNetlink.with(one, (nl) => nl.createLink({ name: a[1], kind: 'veth', peer: { name: b[1], netnsFd: two.fd } }));
  for (const [ns, [, dev, address]] of [[one, a], [two, b]] as const) {
    RtNetlink.with(ns, (nl) => {
      const { index } = nl.mustLink(dev);
      if (address) nl.addAddr({ index, address: address.split('/')[0]!, prefix: Number(address.split('/')[1]) });
      nl.setLink(dev, { up: true });
    });
  }
}

const route = (n: Net, where: string, dst: string, to: { gateway?: string; dev: string; onlink?: boolean; metric?: number }): void =>
  RtNetlink.with(n.spaces[where]!, (nl) =>
    nl.addRoute({ dst, index: nl.mustLink(to.dev).index, ...(to.gateway ? { gateway: to.gateway } : {}), ...(to.onlink ? { onlink: true } : {}), ...(to.metric ? { metric: to.metric } : {}) }));

const forwards = (n: Net, ...names: string[]): void => names.forEach((x) => writeSysctl(n.spaces[x]!, 'net.ipv4.ip_forward', '1'));

async function run(n: Net, roles: Record<string, 'node' | 'pod' | 'router'>, flow: Flow, timeoutMs = 1500): Promise<Report> {
  const source: WorldSource = {
    nodes: Object.keys(roles).filter((k) => roles[k] === 'node').map((name) => ({ name, addresses: [], podCIDRs: [], netns: n.spaces[name]! })),
    pods: Object.keys(roles).filter((k) => roles[k] === 'pod').map((name) => ({ namespace: 'default', name, node: 'n1', ips: [], netns: n.spaces[name]! })),
    underlay: Object.keys(roles).filter((k) => roles[k] === 'router').map((name) => ({ name, role: 'router' as const, netns: n.spaces[name]! })),
  };
  const { world, live } = readWorld(source);
  const o = await observeFlow(world, live, flow, { count: 1, timeoutMs });
  return buildReport(world, o.prediction, o.observation);
}

describe('lab notes', needsRoot, () => {
  it('point-to-point wiring: /32 routes on the node, a gateway nobody has, proxy ARP', async () => {
    const n = net('n1', 'a', 'b');
    try {
      forwards(n, 'n1');
      for (const [pod, address] of [['a', '10.1.0.2'], ['b', '10.1.0.3']] as const) {
        wire(n, ['n1', `cali${pod}`], [pod, 'eth0', `${address}/32`]);
        writeSysctl(n.spaces['n1']!, `net.ipv4.conf.cali${pod}.proxy_arp`, '1');
        route(n, 'n1', `${address}/32`, { dev: `cali${pod}` });
        RtNetlink.with(n.spaces[pod]!, (nl) => nl.addRoute({ dst: '169.254.1.1/32', index: nl.mustLink('eth0').index, scope: 'link' }));
        route(n, pod, '0.0.0.0/0', { gateway: '169.254.1.1', dev: 'eth0' });
      }
      // The kernel answers for others only where it would forward: the node needs a route to the gateway address itself.
      route(n, 'n1', '0.0.0.0/0', { dev: 'calib', metric: 5 });
      const r = await run(n, { n1: 'node', a: 'pod', b: 'pod' }, { from: 'default/a', dst: '10.1.0.3', proto: 'icmp' });
      assert.equal(r.verdict, 'delivered', r.headline);
      assertAsPredicted({ ...r, reply: undefined as never });
      assert.equal(r.request.rows.at(-1)?.observed?.ttl, 63);
      assert.ok(r.request.steps.some((s) => /as proxy/.test(s.why)));
    } finally {
      n.close();
    }
  });

  it('two subnets behind a router: one more decrement, MAC addresses anew', async () => {
    const n = net('n1', 'r', 'n2');
    try {
      forwards(n, 'r');
      wire(n, ['n1', 'eth0', '10.2.1.2/24'], ['r', 'left', '10.2.1.1/24']);
      wire(n, ['n2', 'eth0', '10.2.2.2/24'], ['r', 'right', '10.2.2.1/24']);
      route(n, 'n1', '0.0.0.0/0', { gateway: '10.2.1.1', dev: 'eth0' });
      route(n, 'n2', '0.0.0.0/0', { gateway: '10.2.2.1', dev: 'eth0' });
      const r = await run(n, { n1: 'node', n2: 'node', r: 'router' }, { from: 'n1', dst: '10.2.2.2', proto: 'icmp' });
      assert.equal(r.verdict, 'delivered', r.headline);
      assertAsPredicted(r);
      assert.deepEqual(r.request.rows.map((x) => x.observed?.ttl), [64, 64, 63, 63]);
    } finally {
      n.close();
    }
  });

  it('a routing loop ends when the TTL is used up, where predicted', async () => {
    const n = net('n0', 'n1', 'n2');
    try {
      forwards(n, 'n1', 'n2');
      wire(n, ['n0', 'eth0', '10.3.1.2/24'], ['n1', 'down0', '10.3.1.1/24']);
      wire(n, ['n1', 'eth0', '10.3.0.1/24'], ['n2', 'eth0', '10.3.0.2/24']);
      route(n, 'n0', '10.99.0.0/16', { gateway: '10.3.1.1', dev: 'eth0' });
      route(n, 'n1', '10.99.0.0/16', { gateway: '10.3.0.2', dev: 'eth0' });
      route(n, 'n2', '10.99.0.0/16', { gateway: '10.3.0.1', dev: 'eth0' });
      const r = await run(n, { n0: 'node', n1: 'node', n2: 'node' }, { from: 'n0', dst: '10.99.0.1', proto: 'icmp', ttl: 7 }, 400);
      assert.equal(r.verdict, 'dropped');
      assert.match(r.headline, /IP_INHDR.*TTL 1/);
      assertAsPredicted(r);
      assert.equal(r.request.rows.length, 14);
      assert.match(r.errors[0]?.summary ?? '', /time exceeded/);
    } finally {
      n.close();
    }
  });

  it('a packet that comes back to its sender is not believed', async () => {
    const n = net('n1', 'n2');
    try {
      forwards(n, 'n1', 'n2');
      wire(n, ['n1', 'eth0', '10.3.0.1/24'], ['n2', 'eth0', '10.3.0.2/24']);
      route(n, 'n1', '10.99.0.0/16', { gateway: '10.3.0.2', dev: 'eth0' });
      route(n, 'n2', '10.99.0.0/16', { gateway: '10.3.0.1', dev: 'eth0' });
      const r = await run(n, { n1: 'node', n2: 'node' }, { from: 'n1', dst: '10.99.0.1', proto: 'icmp' }, 400);
      assert.match(r.headline, /IP_LOCAL_SOURCE/);
      assertAsPredicted(r);
      assert.deepEqual(r.request.rows.map((x) => x.observed?.ttl), [64, 64, 63, 63]);
    } finally {
      n.close();
    }
  });

  it('equal ways: both are predicted, the one taken is recognised', async () => {
    const n = net('n1', 'n2');
    try {
      wire(n, ['n1', 'x', '10.4.1.1/24'], ['n2', 'x', '10.4.1.2/24']);
      wire(n, ['n1', 'y', '10.4.2.1/24'], ['n2', 'y', '10.4.2.2/24']);
      RtNetlink.with(n.spaces['n2']!, (nl) => nl.addAddr({ index: nl.mustLink('lo').index, address: '10.4.9.9', prefix: 32 }));
      // RouteSpec has one next hop: `ip` makes the route with two.
      const { execFileSync } = await import('node:child_process');
      execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${n.spaces['n1']!.fd}`, 'ip', 'route', 'add', '10.4.9.9/32', 'nexthop', 'via', '10.4.1.2', 'dev', 'x', 'nexthop', 'via', '10.4.2.2', 'dev', 'y']);
      const r = await run(n, { n1: 'node', n2: 'node' }, { from: 'n1', dst: '10.4.9.9', proto: 'icmp' });
      assert.equal(r.verdict, 'delivered', r.headline);
      assert.equal(r.request.alternatives, 1);
      assertAsPredicted({ ...r, reply: undefined as never });
    } finally {
      n.close();
    }
  });

  it('a port nobody listens on: the reset comes back as predicted', async () => {
    const c = Cluster.create();
    try {
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'tcp', dstPort: 81 });
      assert.equal(report.verdict, 'dropped');
      assertAsPredicted(report);
      assert.equal(report.reply?.rows.at(-1)?.observed?.ipLength, 40);
      const { report: udp } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'udp', dstPort: 81 });
      assert.match(udp.headline, /NO_SOCKET.*ICMP port unreachable/);
      assert.match(udp.errors[0]?.summary ?? '', /udp port 81 unreachable/);
    } finally {
      c.close();
    }
  });

  it('echo requests that are ignored arrive all the same', async () => {
    const c = Cluster.create();
    try {
      writeSysctl(c.pod('pod-m2-a').ns, 'net.ipv4.icmp_echo_ignore_all', '1');
      const { report } = await trace(c, { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'icmp' }, { timeoutMs: 250 });
      assert.match(report.headline, /icmp_echo_ignore_all/);
      assertAsPredicted(report);
    } finally {
      c.close();
    }
  });

  it('addresses the other end has on another device: arp_ignore decides who answers', async () => {
    for (const [ignore, verdict] of [['0', 'delivered'], ['1', 'dropped']] as const) {
      const n = net('n1', 'n2');
      try {
        wire(n, ['n1', 'eth0', '10.5.0.1/16'], ['n2', 'eth0', '10.6.0.2/24']);
        RtNetlink.with(n.spaces['n2']!, (nl) => nl.addAddr({ index: nl.mustLink('lo').index, address: '10.5.0.9', prefix: 32 }));
        route(n, 'n2', '10.5.0.1/32', { dev: 'eth0' });
        writeSysctl(n.spaces['n2']!, 'net.ipv4.conf.eth0.arp_ignore', ignore);
        const r = await run(n, { n1: 'node', n2: 'node' }, { from: 'n1', dst: '10.5.0.9', proto: 'icmp' }, 400);
        assert.equal(r.verdict, verdict, r.headline);
        assertAsPredicted({ ...r, reply: undefined as never });
      } finally {
        n.close();
      }
    }
  });

  it('an address of the own namespace goes over lo', async () => {
    const c = Cluster.create();
    try {
      const s = ProbeSocket.open(c.node('m1').ns, 'tcp', { sourcePort: 8080 });
      s.listen();
      const { report } = await trace(c, { from: 'm1', dst: '10.244.0.1', proto: 'tcp', dstPort: 8080 });
      assert.equal(report.verdict, 'delivered', report.headline);
      assert.ok(report.request.steps.some((x) => x.dev === 'lo'));
      s.close();
    } finally {
      c.close();
    }
  });

  it('a world is a file: read back, it gives the same prediction', () => {
    const c = Cluster.create({ podsPerNode: 2 });
    try {
      const { world } = c.read();
      const flow: Flow = { from: 'default/pod-m1-a', dst: '10.244.1.2', proto: 'tcp', dstPort: 80 };
      return import('../src/index.js').then(({ simulateRoundTrip }) =>
        assert.deepEqual(JSON.parse(JSON.stringify(simulateRoundTrip(JSON.parse(JSON.stringify(world)) as typeof world, flow))), JSON.parse(JSON.stringify(simulateRoundTrip(world, flow)))));
    } finally {
      c.close();
    }
  });
});
