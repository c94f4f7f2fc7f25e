/** A real container runtime calls the plugin: containerd, asked by its CRI as a kubelet asks it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Netns, RtNetlink } from '@podway/kernel';
import { Nodes } from '@podway/kube';
import { cannotRunContainerd, Containerd } from './containerd.js';
import { needsRoot, NETWORK, OUTSIDE, pathOf, until, withNetwork } from './network.js';
import { DiskStore } from '../src/index.js';
import { ask, tellWho } from './tcp.js';

const skip = needsRoot || cannotRunContainerd();
const AGENT = fileURLToPath(new URL('./agent-child.js', import.meta.url));
const M1 = '172.18.0.2';

test('containerd: a sandbox with host port and bandwidth, reached; containerd restarted and killed under it; removed, nothing left', { skip, timeout: 120_000 }, (t) =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    const dir = join(net.dir, 'containerd');
    mkdirSync(dir);
    const runtime = await Containerd.create(dir, node);
    const options = {
      node: node.name, netns: pathOf(node.ns), network: NETWORK, socketPath: node.socket, stateDir: node.stateDir, cniConfDir: node.confDir, nodes: await net.client.list(Nodes),
    };
    const [file = '', ...args] = runtime.beside([process.execPath, AGENT, JSON.stringify(options)]);
    const agent = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      assert.match((await runtime.conditions()).join('; '), /NetworkReady false: .*cni plugin not initialized/);
      const lines = createInterface({ input: agent.stdout });
      await once(lines, 'line');
      agent.stdin.write('begin\n');
      await until('the runtime says that the network is ready', async () => (await runtime.conditions()).includes('NetworkReady true'));

      const began = performance.now();
      const id = await runtime.runSandbox({
        name: 'web', ports: [{ host: 8080, container: 80 }],
        annotations: { 'kubernetes.io/ingress-bandwidth': '10M', 'kubernetes.io/egress-bandwidth': '10M' },
      });
      t.diagnostic(`RunPodSandbox: ${(performance.now() - began).toFixed(0)} ms`);
      assert.deepEqual(await runtime.status(id), { ready: true, ip: '10.244.0.2' });
      const other = await runtime.runSandbox({ name: 'other' });
      assert.equal((await runtime.status(other)).ip, '10.244.0.3');
      await assert.rejects(runtime.runSandbox({ name: 'clash', ports: [{ host: 8080, container: 81 }] }), /host port 8080\/tcp is taken by pod default\/web/);

      const records = (await new DiskStore(join(node.stateDir, 'attachments')).load()).records;
      const web = records.find((r) => r.containerId === id);
      assert.deepEqual([web?.pod, web?.hostPorts, web?.shaping?.ingress?.rate, web?.shaping?.egress?.burst], [
        { namespace: 'default', name: 'web', uid: 'uid-web' }, [{ protocol: 'tcp', hostPort: 8080, containerPort: 80 }], 1_250_000, 62_500,
      ]);
      assert.equal(records.length, 2, 'nothing is left of the one that was refused');
      const open = (path: string): Netns => Netns.open({ path: `/proc/${runtime.holder.pid}/root${path}` });
      const [pod, neighbour] = [open(web!.netns), open(records.find((r) => r.containerId === other)!.netns)];
      const end = await tellWho(pod, 'web', 80);
      const reached = async (when: string): Promise<void> => {
        assert.equal(await ask(net.outside, M1, 8080), `web sees ${OUTSIDE}`, `${when}: host port from outside`);
        assert.equal(await ask(node.ns, '127.0.0.1', 8080), 'web sees 10.244.0.1', `${when}: host port on the node`);
        assert.equal(await ask(neighbour, '10.244.0.2', 80), 'web sees 10.244.0.3', `${when}: pod to pod`);
      };
      await reached('at first');
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        await runtime.stop(signal);
        await reached(`containerd ended by ${signal}`);
        await runtime.start();
        await until('it has its sandboxes again', async () => (await runtime.status(id)).ready);
        assert.deepEqual(await runtime.status(id), { ready: true, ip: '10.244.0.2' }, signal);
      }
      await reached('after the restarts');
      end();
      for (const s of [id, other]) await runtime.removeSandbox(s);
      assert.equal(await ask(net.outside, M1, 8080), 'ECONNREFUSED');
      assert.deepEqual(await node.leavings(), { links: [], files: [] });
      assert.deepEqual(RtNetlink.with(node.ns, (nl) => nl.links().filter((l) => l.kind === 'ifb')), []);
      const again = await runtime.runSandbox({ name: 'web', ports: [{ host: 8080, container: 80 }] });
      assert.equal((await runtime.status(again)).ip, '10.244.0.4', 'port free, address not used again at once');
      await runtime.removeSandbox(again);
      for (const ns of [pod, neighbour]) ns.close();
    } finally {
      await runtime.close();
      agent.kill('SIGKILL');
    }
  }));
