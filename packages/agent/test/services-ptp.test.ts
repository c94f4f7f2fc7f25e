/** ClusterIPs where pods are wired point to point: no bridge, no br_netfilter, every packet is routed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { needsRoot as skip, until, withNetwork } from './network.js';
import { asker, change, put, serves, serviceObject, sliceObject } from './service-network.js';

for (const gateway of ['host', 'link-local'] as const) {
  test(`${gateway}: a pod reaches a ClusterIP's endpoints on its node, on another, and itself; the node too`, { skip }, () =>
    withNetwork(async (net) => {
      const nodes = [net.addNode(0), net.addNode(1)] as const;
      for (const n of nodes) await n.start({ network: JSON.stringify({ Network: '10.244.0.0/16', Wiring: 'ptp', Gateway: gateway, Backend: { Type: 'vxlan' } }) });
      for (const n of nodes) await n.ready();
      await until('the nodes know each other', () => nodes.every((n) => n.seen('peers').some((e) => e.joined.length > 0)));
      const pods = { a: net.pod('a'), b: net.pod('b'), c: net.pod('c') };
      const ends: Record<string, { address: string; node: string }> = {};
      for (const [name, pod] of Object.entries(pods)) {
        const at = nodes[name === 'c' ? 1 : 0];
        ends[name] = { address: await net.added(at, pod), node: name === 'c' ? 'm2' : 'm1' };
        await serves(net, pod.ns, name, 8080, 5353);
      }
      const [a, host] = await Promise.all([asker(net, pods.a.ns), asker(net, nodes[0].ns)]);
      const ports = [{ name: 't', port: 8080 }, { name: 'u', port: 5353, protocol: 'UDP' }];
      const spec = { clusterIP: '10.96.0.10', ports: [{ name: 't', port: 80 }, { name: 'u', port: 53, protocol: 'UDP' }] };
      await put(net, serviceObject('web', spec), sliceObject('web', Object.values(ends), ports));
      for (const [name, end] of Object.entries(ends)) {
        await change(net, sliceObject('web', [end], ports));
        for (const [proto, port] of [['tcp', 80], ['udp', 53]] as const) {
          const r = await a.ask(proto, '10.96.0.10', port, 3);
          assert.deepEqual([r.by, r.errors], [{ [name]: 3 }, {}], `${proto} to ${name}`);
          // Who is led to itself is answered by way of the node: else it would take its own address for the sender.
          if (name === 'a') assert.ok(!r.clients.includes(end.address), r.clients.join());
          else assert.deepEqual(r.clients, [ends['a']!.address], 'the client is seen as it is');
        }
        const r = await host.ask('tcp', '10.96.0.10', 80, 3);
        assert.deepEqual([r.by, r.errors], [{ [name]: 3 }, {}], `the node to ${name}`);
      }
    }));
}
