/** Services in real namespaces: two nodes, pods on both, a host outside. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { EndpointSlices, Services } from '@podway/kube';
import { type Netns, Nftables } from '@podway/kernel';
import { observedTable, SERVICES_TABLE, TABLE } from '../src/index.js';
import { inNs, needsRoot as skip, OUTSIDE, pathOf, TestNetwork, until, type TestNode } from './network.js';
import { asker, change, put, serves, serviceObject, sliceObject, type Asker } from './service-network.js';

const list = (ns: Netns) => Nftables.with(ns, (nft) => nft.list(TABLE));
const total = (o: Readonly<Record<string, number>>): number => Object.values(o).reduce((a, b) => a + b, 0);

if (skip) test('Services in real namespaces', { skip });
else {
  const net = new TestNetwork();
  let m1: TestNode;
  let m2: TestNode;
  /** a and b on m1, c on m2. */
  const ip: Record<string, string> = {};
  let [a, b, host, outside]: Asker[] = [];
  const ends = (...names: string[]) => names.map((n) => ({ address: ip[n]!, node: n === 'c' ? 'm2' : 'm1' }));
  let next = 10;
  const clusterIP = (): string => `10.96.0.${next++}`;

  before(async () => {
    m1 = net.addNode(0);
    m2 = net.addNode(1);
    for (const n of [m1, m2]) await n.start();
    for (const n of [m1, m2]) await n.ready();
    await until('the nodes know each other', () => [m1, m2].every((n) => n.seen('peers').some((e) => e.joined.length > 0)));
    const pods = { a: net.pod('a'), b: net.pod('b'), c: net.pod('c') };
    for (const [name, pod] of Object.entries(pods)) {
      ip[name] = await net.added(name === 'c' ? m2 : m1, pod);
      await serves(net, pod.ns, name, 8080, 5353);
    }
    [a, b, host, outside] = await Promise.all([asker(net, pods.a.ns), asker(net, pods.b.ns), asker(net, m1.ns), asker(net, net.outside)]);
  });
  after(() => net.close());

  test('a pod reaches endpoints on its node, on another, and itself; the client address stays, but for itself', async () => {
    const address = clusterIP();
    await put(net, serviceObject('web', { clusterIP: address, ports: [{ port: 80 }] }), sliceObject('web', ends('a', 'b', 'c'), [{ port: 8080 }]));
    const r = await a!.ask('tcp', address, 80, 40);
    assert.deepEqual([Object.keys(r.by).sort(), r.errors], [['a', 'b', 'c'], {}]);
    assert.deepEqual(r.clients.slice().sort(), [ip['a'], '10.244.0.1'].sort(), 'its own address, and the bridge\'s when it reached itself');
    for (const only of ['a', 'b', 'c']) {
      await change(net, sliceObject('web', ends(only), [{ port: 8080 }]));
      const one = await a!.ask('tcp', address, 80, 3);
      assert.deepEqual([one.by, one.errors], [{ [only]: 3 }, {}], JSON.stringify(one));
    }
  });

  test('a node reaches a ClusterIP; endpoints are drawn about equally', async () => {
    const address = clusterIP();
    await put(net, serviceObject('even', { clusterIP: address, ports: [{ port: 80 }] }), sliceObject('even', ends('a', 'b', 'c'), [{ port: 8080 }]));
    const r = await host!.ask('tcp', address, 80, 300);
    assert.deepEqual(r.errors, {});
    // Binomial with p = 1/3: 100 ± 8; six deviations.
    for (const n of ['a', 'b', 'c']) assert.ok(r.by[n]! > 50 && r.by[n]! < 150, JSON.stringify(r.by));
  });

  test('UDP, several ports, and a port the Service does not have', async () => {
    const address = clusterIP();
    await put(net,
      serviceObject('dns', { clusterIP: address, ports: [{ name: 'dns', port: 53, protocol: 'UDP' }, { name: 'web', port: 80 }] }),
      sliceObject('dns', ends('b', 'c'), [{ name: 'dns', port: 5353, protocol: 'UDP' }, { name: 'web', port: 8080 }]));
    const r = await a!.ask('udp', address, 53, 40);
    assert.deepEqual([Object.keys(r.by).sort(), r.errors, r.clients], [['b', 'c'], {}, [ip['a']]]);
    assert.deepEqual(Object.keys((await a!.ask('tcp', address, 80, 40)).by).sort(), ['b', 'c']);
    for (const proto of ['tcp', 'udp'] as const) {
      const none = await a!.ask(proto, address, 81);
      assert.deepEqual(none.errors, { ECONNREFUSED: 1 });
    }
  });

  test('without endpoints the refusal comes at once, from pod and node, TCP and UDP; with one it is gone', async () => {
    const address = clusterIP();
    const spec = { clusterIP: address, type: 'NodePort', externalTrafficPolicy: 'Cluster', ports: [{ name: 't', port: 80, nodePort: 30100 }, { name: 'u', port: 80, protocol: 'UDP', nodePort: 30100 }] };
    await put(net, serviceObject('empty', spec));
    for (const who of [a!, host!]) for (const proto of ['tcp', 'udp'] as const) {
      const r = await who.ask(proto, address, 80);
      // Of its own datagram a node is told by send() itself.
      assert.deepEqual(r.errors, { [who === host && proto === 'udp' ? 'EPERM' : 'ECONNREFUSED']: 1 }, proto);
      assert.ok(r.slowest < 2500, `not by a time-out: ${r.slowest} ms`);
    }
    for (const proto of ['tcp', 'udp'] as const) assert.deepEqual((await outside!.ask(proto, '172.18.0.2', 30100)).errors, { ECONNREFUSED: 1 }, `node port, ${proto}`);
    await change(net, sliceObject('empty', ends('c'), [{ name: 't', port: 8080 }, { name: 'u', port: 5353, protocol: 'UDP' }]));
    for (const proto of ['tcp', 'udp'] as const) assert.deepEqual((await a!.ask(proto, address, 80)).by, { c: 1 });
  });

  test('a NodePort from outside, from a pod and from nodes, on any node; the sender is the node', async () => {
    const spec = { clusterIP: clusterIP(), type: 'NodePort', externalTrafficPolicy: 'Cluster', ports: [{ port: 80, nodePort: 30080 }] };
    await put(net, serviceObject('np', spec), sliceObject('np', ends('b', 'c'), [{ port: 8080 }]));
    for (const node of ['172.18.0.2', '172.18.0.3']) {
      for (const [who, asks] of [['outside', outside!], ['pod', a!], ['node', host!]] as const) {
        const r = await asks.ask('tcp', node, 30080, 40);
        assert.deepEqual([Object.keys(r.by).sort(), r.errors], [['b', 'c'], {}], `${who} at ${node}`);
        if (who === 'outside') assert.ok(!r.clients.includes(OUTSIDE), `translated: ${r.clients.join()}`);
      }
    }
  });

  test('externalTrafficPolicy Local: only endpoints of the node asked, and they see the client; others reach all', async () => {
    const address = clusterIP();
    const spec = { clusterIP: address, type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ port: 80, nodePort: 30081 }] };
    await put(net, serviceObject('local', spec), sliceObject('local', ends('a', 'b'), [{ port: 8080 }]));
    const r = await outside!.ask('tcp', '172.18.0.2', 30081, 40);
    assert.deepEqual([Object.keys(r.by).sort(), r.errors, r.clients], [['a', 'b'], {}, [OUTSIDE]]);
    assert.deepEqual((await outside!.ask('tcp', '172.18.0.3', 30081)).errors, { ETIMEDOUT: 1 }, 'no endpoint there: dropped');
    const c = await asker(net, m2.ns);
    assert.equal(total((await c.ask('tcp', '172.18.0.3', 30081, 5)).by), 5, 'the node itself reaches all');
    assert.equal(total((await a!.ask('tcp', '172.18.0.2', 30081, 5)).by), 5, 'and so does a pod');
  });

  test('internalTrafficPolicy Local: only the node\'s own endpoints, and nothing where it has none', async () => {
    const address = clusterIP();
    await put(net, serviceObject('inner', { clusterIP: address, internalTrafficPolicy: 'Local', ports: [{ port: 80 }] }), sliceObject('inner', ends('b', 'c'), [{ port: 8080 }]));
    assert.deepEqual((await a!.ask('tcp', address, 80, 10)).by, { b: 10 });
    // On m2 nothing changes by it.
    await change(net, sliceObject('inner', ends('c'), [{ port: 8080 }]), [m1]);
    assert.deepEqual((await a!.ask('tcp', address, 80)).errors, { ETIMEDOUT: 1 });
  });

  test('externalIPs and load balancer addresses, with source ranges', async () => {
    const spec = {
      clusterIP: clusterIP(), type: 'LoadBalancer', externalTrafficPolicy: 'Cluster', externalIPs: ['198.51.100.7'], loadBalancerSourceRanges: ['203.0.113.0/24', '10.244.0.0/16'],
      ports: [{ port: 80, nodePort: 30082 }],
    };
    await put(net, serviceObject('lb', spec, { loadBalancer: { ingress: [{ ip: '198.51.100.8' }] } }), sliceObject('lb', ends('b', 'c'), [{ port: 8080 }]));
    inNs(net.outside, 'ip', 'route', 'add', '198.51.100.0/24', 'via', '203.0.113.1');
    net.routeOnUnderlay('198.51.100.0/24', '172.18.0.2');
    assert.equal(total((await outside!.ask('tcp', '198.51.100.7', 80, 6)).by), 6);
    assert.equal(total((await outside!.ask('tcp', '198.51.100.8', 80, 6)).by), 6);
    assert.equal(total((await a!.ask('tcp', '198.51.100.8', 80, 6)).by), 6);
    await put(net, serviceObject('lb', { ...spec, loadBalancerSourceRanges: ['192.0.2.0/24'] }, { loadBalancer: { ingress: [{ ip: '198.51.100.8' }] } }));
    assert.deepEqual((await outside!.ask('tcp', '198.51.100.8', 80)).errors, { ETIMEDOUT: 1 }, 'from elsewhere: dropped');
    assert.equal(total((await outside!.ask('tcp', '198.51.100.7', 80, 3)).by), 3, 'external addresses are not guarded');
  });

  test('session affinity: a client stays with its endpoint, also while others come; a lost endpoint is replaced', async () => {
    const address = clusterIP();
    await put(net, serviceObject('sticky', { clusterIP: address, sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } }, ports: [{ port: 80 }] }),
      sliceObject('sticky', ends('b', 'c'), [{ port: 8080 }]));
    const first = await a!.ask('tcp', address, 80, 15);
    const [mine] = Object.keys(first.by);
    assert.deepEqual([Object.keys(first.by).length, first.errors], [1, {}], JSON.stringify(first));
    await change(net, sliceObject('sticky', ends('a', 'b', 'c'), [{ port: 8080 }]));
    assert.deepEqual((await a!.ask('tcp', address, 80, 15)).by, { [mine!]: 15 }, 'others came: it stays');
    const other = mine === 'b' ? 'c' : 'b';
    await change(net, sliceObject('sticky', ends(other), [{ port: 8080 }]));
    const moved = await a!.ask('tcp', address, 80, 5);
    assert.deepEqual([moved.by, moved.errors], [{ [other]: 5 }, {}]);
  });

  test('a UDP flow to an endpoint that goes is led to another with its next datagram', async () => {
    const address = clusterIP();
    await put(net, serviceObject('flow', { clusterIP: address, ports: [{ port: 53, protocol: 'UDP' }] }), sliceObject('flow', ends('c'), [{ port: 5353, protocol: 'UDP' }]));
    const socketBefore = await b!.ask('udp', address, 53, 3, 'same');
    assert.deepEqual(socketBefore.by, { c: 3 });
    // One socket all along: its flow is the same five numbers before and after.
    const held = b!.ask('udp', address, 53, 400, 'same');
    await change(net, sliceObject('flow', ends('a'), [{ port: 5353, protocol: 'UDP' }]));
    const r = await held;
    // The one datagram whose answer is under way while its flow is forgotten.
    assert.ok(total(r.errors) <= 1, JSON.stringify(r));
    assert.ok((r.by['a'] ?? 0) > 0, JSON.stringify(r));
    assert.deepEqual((await b!.ask('udp', address, 53, 3, 'same')).by, { a: 3 });
  });

  test('all endpoints replaced again and again under load: no connection fails', async () => {
    const address = clusterIP();
    await put(net, serviceObject('roll', { clusterIP: address, ports: [{ port: 80 }] }), sliceObject('roll', ends('a', 'b'), [{ port: 8080 }]));
    const loads = [a!, b!, host!].map((x) => x.ask('tcp', address, 80, 250));
    for (const set of [['b', 'c'], ['c'], ['c', 'a'], ['a'], ['a', 'b', 'c'], ['b']]) await change(net, sliceObject('roll', ends(...set), [{ port: 8080 }]));
    for (const r of await Promise.all(loads)) assert.deepEqual([total(r.by), r.errors], [250, {}]);
  });

  test('an ending endpoint that still answers serves only while there is no ready one', async () => {
    const address = clusterIP();
    const ending = { address: ip['b']!, node: 'm1', ready: false, serving: true, terminating: true };
    await put(net, serviceObject('ending', { clusterIP: address, ports: [{ port: 80 }] }), sliceObject('ending', [ending, ...ends('c')], [{ port: 8080 }]));
    assert.deepEqual((await a!.ask('tcp', address, 80, 8)).by, { c: 8 });
    await change(net, sliceObject('ending', [ending], [{ port: 8080 }]));
    assert.deepEqual((await a!.ask('tcp', address, 80, 3)).by, { b: 3 });
    await change(net, sliceObject('ending', [{ ...ending, serving: false }], [{ port: 8080 }]));
    assert.deepEqual((await a!.ask('tcp', address, 80)).errors, { ECONNREFUSED: 1 });
  });

  test('the health check of a load balancer tells whether the node has endpoints', async () => {
    const spec = { clusterIP: clusterIP(), type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 32001, ports: [{ port: 80, nodePort: 30083 }] };
    await put(net, serviceObject('health', spec), sliceObject('health', ends('a', 'b'), [{ port: 8080 }]));
    // Not execFileSync: the agents that answer live in this process.
    const check = async (node: string): Promise<string> =>
      (await promisify(execFile)('nsenter', [`--net=${pathOf(net.outside)}`, 'curl', '-s', '-m', '3', '-w', '%{http_code}', `http://${node}:32001/healthz`])).stdout;
    await until('m1 answers', async () => (await check('172.18.0.2')).endsWith('200'));
    assert.match(await check('172.18.0.2'), /"localEndpoints": 2/);
    assert.match(await check('172.18.0.3'), /503$/);
    await change(net, sliceObject('health', ends('c'), [{ port: 8080 }]));
    await until('it follows', async () => (await check('172.18.0.2')).endsWith('503') && (await check('172.18.0.3')).endsWith('200'));
  });

  test('a restart changes nothing; what somebody altered is mended', async () => {
    const ruleset = (): string => inNs(m1.ns, 'nft', '-a', '-j', 'list', 'table', 'inet', SERVICES_TABLE).replace(/"packets": ?\d+, ?"bytes": ?\d+/g, '').replace(/"expires": ?\d+/g, '');
    const was = ruleset();
    await m1.stop();
    await m1.start({ resyncMs: 20 });
    await m1.ready();
    await until('several comparisons', () => m1.events.length > 0);
    assert.equal(ruleset(), was, 'handles and all');
    assert.deepEqual(m1.seen('services'), []);
    const before = observedTable(list(m1.ns))!;
    const [key] = [...before.elements.get('services4')!.keys()];
    for (const [what, command] of [
      ['a lost element', `delete element inet ${SERVICES_TABLE} services4 { ${key} }`],
      ['a strange element', `add element inet ${SERVICES_TABLE} clusterips4 { 192.0.2.99 }`],
      ['a rule lost', `flush chain inet ${SERVICES_TABLE} masquerading`],
      ['a chain of somebody else', `add chain inet ${SERVICES_TABLE} any-77`],
      ['the table gone', `delete table inet ${SERVICES_TABLE}`],
    ] as const) {
      inNs(m1.ns, 'nft', command);
      await until(`${what} is mended`, () => {
        const now = observedTable(list(m1.ns));
        // What clients are remembered for is filled by packets, and goes with the table.
        const ours = (t: typeof now) => [...(t?.elements ?? [])].filter(([name]) => !name.startsWith('affinity')).map(([name, e]) => [name, [...e].sort()]);
        assert.deepEqual([ours(now), now?.rules], [ours(before), before.rules]);
        return true;
      });
    }
  });

  test('a Service that goes leaves nothing; Proxy none takes all of it away', async () => {
    for (const n of [m1, m2]) await n.stop();
    for (const s of await net.client.list(Services)) net.client.remove(Services, s.metadata!.name!, 'default');
    for (const s of await net.client.list(EndpointSlices)) net.client.remove(EndpointSlices, s.metadata!.name!, 'default');
    await m1.start();
    await m1.ready();
    await until('only the skeleton is left', () => [...observedTable(list(m1.ns))!.elements].every(([name, e]) => name.startsWith('affinity') || e.size === 0));
    assert.equal(observedTable(list(m1.ns))!.chains.size, 0);
    await m1.stop();
    await m1.start({ network: JSON.stringify({ Network: '10.244.0.0/16', Proxy: 'none', Backend: { Type: 'vxlan' } }) });
    await m1.ready();
    assert.throws(() => inNs(m1.ns, 'nft', 'list', 'table', 'inet', SERVICES_TABLE));
  });
}
