/** The wireguard backend with the kernel's own WireGuard: the same code as with wireguard-go, and no program. */
// needs kernel modules: wireguard
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Capture } from '@podway/kernel';
import { backendContract } from './backend-contract.js';
import { inNs, lines, NETWORK, until } from './network.js';
import { changedTo, netConf, PingProgram, setNetwork, stateOf, withWireguard } from './wireguard-fixture.js';

const routes = ['10.244.1.0/24 proto 112 scope link', '10.244.2.0/24 proto 112 scope link'];
backendContract({
  settings: { Type: 'wireguard' }, overhead: { inet: 60, inet6: 80 }, routes: 'one a pod range', foreign: /it does not take WireGuard; it uses none/, skipForms: false,
  forms: [['ip -4 route show dev podway.wg', routes], ['ip -4 route show type blackhole', ['blackhole 10.244.0.0/16 proto 112 metric 4096']]],
});

test('agents choose the kernel\'s: vxlan to wireguard, new keys, and back, without a lost packet or a readable one', (t) =>
  withWireguard(2, { network: NETWORK }, async (net, nodes) => {
    const [m1, m2] = nodes as [typeof nodes[0], typeof nodes[0]];
    await until('vxlan stands', () => nodes.every((n) => lines(inNs(n.ns, 'ip', '-4', 'route', 'show', 'dev', 'flannel.1')).length === 1));
    const stream = new PingProgram(net, m1.ns, '10.244.1.1', 100);
    await until('it runs', () => stream.answers > 20, 30_000);
    const change = async (backend: object, way: string): Promise<void> => {
      setNetwork(net, netConf(backend));
      await changedTo(net, way);
    };
    await change({ Type: 'wireguard' }, 'wireguard');
    assert.equal(stateOf(m1).links.find((l) => l.name === 'podway.wg')?.kind, 'wireguard');
    const wire = Capture.open(m1.ns, { device: 'eth0', immediate: true, filter: 'net 10.244.0.0/16' });
    const at = stream.answers;
    await until('more pass', () => stream.answers > at + 50, 30_000);
    assert.deepEqual(wire.read(), [], 'nothing in plain text');
    wire.close();
    await change({ Type: 'wireguard', KeyGeneration: 1 }, 'wireguard/1');
    await change({ Type: 'vxlan' }, 'vxlan');
    await until('nothing of WireGuard is left', () => nodes.every((n) => !stateOf(n).links.some((l) => l.kind === 'wireguard')));
    const r = await stream.stop();
    t.diagnostic(`${r.sent} echoes, lost: ${r.lost.length}`);
    assert.deepEqual(r.lost, []);
    for (const n of [m1, m2]) assert.deepEqual([n.seen('refused'), n.seen('daemon-started')], [[], []]);
  }));
