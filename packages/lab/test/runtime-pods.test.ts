/** The node runtime on a real node: from pod objects to processes, status, events and back. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Pod } from '@podway/kube';
import { Nodes, Pods } from '@podway/kube';
import { execInContainer, execInNamespaces, execInNode, namespaceInode, type CommandLine } from '../src/runtime/index.js';
import { initBinary, needsRoot, runs, testNode, until, type TestNode } from './runtime-support.js';

const call = (c: CommandLine) => spawnSync(c.file, c.args, { env: { ...c.env }, encoding: 'utf8' });
const condition = (p: Pod, type: string) => p.status?.conditions?.find((c) => c.type === type);
const ready = (p: Pod): boolean => condition(p, 'Ready')?.status === 'True';
const forever = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'];

describe('node runtime', { skip: needsRoot }, () => {
  let node: TestNode;
  let init: string;
  before(async () => {
    init = initBinary();
    node = await testNode();
  });
  after(async () => {
    await node.close();
    assert.deepEqual(node.warnings, []);
  });
  const pod = async (name: string, accept: (p: Pod) => boolean): Promise<Pod> =>
    until(`pod ${name}`, async () => {
      const p = await node.get(name);
      return accept(p) && p;
    }).catch(async (e: unknown) => {
      throw new Error(`${String(e)}: ${JSON.stringify((await node.get(name)).status)} ${JSON.stringify(await node.events(name))} ${node.warnings.join()}`);
    });
  const inPod = (name: string, container: string, ...command: string[]) => call(execInContainer(init, node.runtime.record('default', name), command, { container }));
  const gone = (name: string) => until(`${name} to be gone`, () => node.get(name).then(() => false, () => true));

  test('the node is registered and ready, with what a kubelet says', async () => {
    const n = await node.client.get(Nodes, 'm1');
    const c = n.status?.conditions?.find((x) => x.type === 'Ready');
    assert.deepEqual([c?.status, c?.reason, c?.message], ['True', 'KubeletReady', 'kubelet is posting ready status']);
    assert.deepEqual(n.status?.addresses, [{ type: 'InternalIP', address: '172.18.0.2' }, { type: 'Hostname', address: 'm1' }]);
    assert.equal(n.metadata?.labels?.['kubernetes.io/hostname'], 'm1');
    assert.match(String(n.status?.nodeInfo?.containerRuntimeVersion), /^podway:\/\//);
  });

  test('a pod comes up: order, status, events, record', async () => {
    await node.pod('web-a', { containers: [{ name: 'web', image: 'podway/web', env: [{ name: 'PORT', value: '8081' }] }] });
    const p = await pod('web-a', ready);
    assert.equal(p.status?.phase, 'Running');
    assert.match(p.status?.podIP ?? '', /^127\.0\.1\.\d+$/);
    assert.deepEqual([p.status?.hostIP, p.status?.podIPs], ['172.18.0.2', [{ ip: p.status?.podIP }]]);
    const s = p.status?.containerStatuses?.[0];
    assert.match(s?.containerID ?? '', /^podway:\/\/[0-9a-f]{64}$/);
    assert.deepEqual([s?.ready, s?.started, s?.restartCount, s?.image], [true, true, 0, 'podway/web']);
    for (const t of ['PodScheduled', 'Initialized', 'ContainersReady', 'Ready']) assert.equal(condition(p, t)?.status, 'True', t);
    assert.deepEqual((await node.events('web-a')).map((e) => `${e.reason}: ${e.message}`), [
      `MissingClusterDNS: pod: "web-a_default(${p.metadata?.uid})". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
      'Pulled: Container image "podway/web" already present on machine', 'Created: Created container: web', 'Started: Started container web',
    ]);
    const record = node.runtime.record('default', 'web-a');
    const path = join(node.dir, 'pods', `${record.uid}.json`);
    assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), JSON.parse(JSON.stringify(record)));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(namespaceInode(record.containers[0]?.pid ?? 0, 'net'), record.sandbox.netnsInode);
    assert.equal(call(execInNode(init, record.nodePid, ['stat', '-L', '-c', '%i', record.sandbox.netns ?? ''])).stdout.trim(), String(record.sandbox.netnsInode));
  });

  test('the sample application says who and where it is, and whom it saw', async () => {
    const ask = (...args: string[]) =>
      until('an answer', () => {
        const r = call(execInNamespaces(init, node.runtime.record('default', 'web-a').sandbox.pid, ['n'], ['curl', '-sL', ...args]));
        return r.status === 0 && r.stdout;
      });
    const ip = (await node.get('web-a')).status?.podIP;
    assert.equal(await ask('http://127.0.0.1:8081/'), `pod     web-a\nns      default\nip      ${ip}\nnode    m1\nclient  127.0.0.1\n`);
    const json = JSON.parse(await ask('http://127.0.0.1:8081/json')) as Record<string, unknown>;
    assert.deepEqual({ ...json, client: undefined }, { pod: 'web-a', namespace: 'default', podIP: ip, node: 'm1', hostIP: '172.18.0.2', path: '/json/', client: undefined });
    assert.equal((JSON.parse(await ask('-H', 'Accept: application/json', 'http://127.0.0.1:8081/')) as { pod: string }).pod, 'web-a');
    await until('the request in the log', async () => {
      let log = '';
      for await (const t of node.runtime.log('default', 'web-a', { timestamps: true, tailLines: 1 })) log += t;
      return /^\d{4}-\d\d-\d\dT\S+Z 127\.0\.0\.1:\d+ GET \/\n$/.test(log);
    });
  });

  test('two containers of a pod share net and ipc and reach each other on localhost; two pods do not', async () => {
    await node.pod('pair', {
      containers: [
        { name: 'a', image: 'busybox:1.36', command: forever },
        { name: 'b', image: 'docker.io/library/busybox', command: ['sh', '-c', 'mkdir /w; echo page > /w/index.html; trap "exit 0" TERM; httpd -f -p 127.0.0.1:8080 -h /w & wait'] },
      ],
    });
    await pod('pair', ready);
    await until('the page', () => inPod('pair', 'a', 'wget', '-qO-', '127.0.0.1:8080').stdout === 'page\n');
    const [a, b] = node.runtime.record('default', 'pair').containers.map((c) => c.pid) as [number, number];
    for (const k of ['net', 'ipc', 'uts']) assert.equal(namespaceInode(a, k), namespaceInode(b, k), k);
    for (const k of ['mnt', 'pid']) assert.notEqual(namespaceInode(a, k), namespaceInode(b, k), k);
    assert.notEqual(namespaceInode(a, 'net'), node.runtime.record('default', 'web-a').sandbox.netnsInode);
  });

  test('environment, arguments, working directory, user, hosts file, emptyDir', async () => {
    await node.pod('conf', {
      hostname: 'box', subdomain: 'sub',
      volumes: [{ name: 'v', emptyDir: {} }],
      initContainers: [{ name: 'prepare', image: 'busybox', command: ['sh', '-c', 'echo made > /data/f'], volumeMounts: [{ name: 'v', mountPath: '/data' }] }],
      containers: [{
        name: 'c', image: 'busybox', workingDir: '/srv/x', volumeMounts: [{ name: 'v', mountPath: '/data', readOnly: true }],
        securityContext: { runAsUser: 1001, capabilities: { drop: ['ALL'] } },
        env: [
          { name: 'A', value: '1' }, { name: 'B', value: '$(A)2$(NONE)$$(A)' },
          { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }, { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
        ],
        command: ['sh', '-c', 'echo "$0 $(A) $B $IP $NODE $PWD $(id -u) $(cat /data/f) $HOSTNAME"; sleep 1000'], args: ['$(B)'],
      }],
    });
    const p = await pod('conf', ready);
    let log = '';
    for await (const t of node.runtime.log('default', 'conf', { follow: true })) {
      log += t;
      if (log.includes('\n')) break;
    }
    // `$(A)` in a command is the runtime's, `$(id -u)` has no variable of that name and is the shell's.
    assert.equal(log, `12$(NONE)$(A) 1 12$(NONE)$(A) ${p.status?.podIP} m1 /srv/x 1001 made box\n`);
    assert.match(inPod('conf', 'c', 'cat', '/etc/hosts').stdout, new RegExp(`${p.status?.podIP}\tbox\\.sub\\.default\\.svc\\.cluster\\.local\tbox\n`));
    assert.equal(inPod('conf', 'c', 'id', '-u').stdout, '1001\n');
    assert.notEqual(inPod('conf', 'c', 'sh', '-c', 'echo x > /data/g').status, 0);
    const t = p.status?.initContainerStatuses?.[0]?.state?.terminated;
    assert.deepEqual([t?.exitCode, t?.reason], [0, 'Completed']);
  });

  test('a killed container is started again in the same sandbox: same address, same net inode', async () => {
    const before = node.runtime.record('default', 'web-a');
    const adds = node.network.calls.filter((c) => c === 'ADD web-a').length;
    process.kill(before.containers[0]?.pid ?? 0, 'SIGKILL');
    const p = await pod('web-a', (x) => x.status?.containerStatuses?.[0]?.restartCount === 1 && ready(x));
    const s = p.status?.containerStatuses?.[0];
    assert.deepEqual([s?.lastState?.terminated?.exitCode, s?.lastState?.terminated?.reason, s?.lastState?.terminated?.signal], [137, 'Error', 9]);
    const now = node.runtime.record('default', 'web-a');
    assert.deepEqual(now.sandbox, before.sandbox);
    assert.equal(namespaceInode(now.containers[0]?.pid ?? 0, 'net'), before.sandbox.netnsInode);
    assert.equal(node.network.calls.filter((c) => c === 'ADD web-a').length, adds);
    let old = '';
    for await (const t of node.runtime.log('default', 'web-a', { previous: true })) old += t;
    assert.match(old, /GET \/json/);
  });

  test('when the holder of a sandbox dies, the pod gets a new one with a new netns', async () => {
    const before = node.runtime.record('default', 'pair');
    process.kill(before.sandbox.pid, 'SIGKILL');
    const p = await pod('pair', (x) => x.status?.containerStatuses?.every((c) => c.restartCount === 1) === true && ready(x));
    const now = node.runtime.record('default', 'pair');
    assert.notEqual(now.sandbox.id, before.sandbox.id);
    assert.notEqual(now.sandbox.netns, before.sandbox.netns);
    assert.equal(p.status?.phase, 'Running');
    for (const c of before.containers) assert.ok(!runs(c.pid), c.name);
    assert.ok((await node.events('pair')).some((e) => e.reason === 'SandboxChanged'));
    assert.ok(!call(execInNode(init, now.nodePid, ['cat', '/proc/self/mountinfo'])).stdout.includes(before.sandbox.id));
  });

  test('restart policies: phases and statuses of what ends', async () => {
    await node.pod('ok', { restartPolicy: 'Never', containers: [{ name: 'c', image: 'busybox', command: ['true'] }] });
    await node.pod('bad', { restartPolicy: 'Never', containers: [{ name: 'c', image: 'busybox', command: ['sh', '-c', 'exit 3'] }] });
    await node.pod('init-bad', { restartPolicy: 'Never', initContainers: [{ name: 'i', image: 'busybox', command: ['false'] }], containers: [{ name: 'c', image: 'busybox' }] });
    await node.pod('crash', { containers: [{ name: 'c', image: 'busybox', command: ['sh', '-c', 'exit 5'] }] });
    await node.pod('noexec', { restartPolicy: 'Never', containers: [{ name: 'c', image: 'busybox', command: ['nope'] }] });
    const ok = await pod('ok', (p) => p.status?.phase === 'Succeeded');
    assert.equal(condition(ok, 'Ready')?.reason, 'PodCompleted');
    const bad = await pod('bad', (p) => p.status?.phase === 'Failed');
    assert.equal(bad.status?.containerStatuses?.[0]?.state?.terminated?.exitCode, 3);
    const initBad = await pod('init-bad', (p) => p.status?.phase === 'Failed');
    assert.equal(initBad.status?.containerStatuses?.[0]?.state?.waiting?.reason, 'PodInitializing');
    const crash = await pod('crash', (p) => p.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CrashLoopBackOff');
    assert.equal(crash.status?.phase, 'Running');
    assert.match(crash.status?.containerStatuses?.[0]?.state?.waiting?.message ?? '', /^back-off 10s restarting failed container=c pod=crash_default\(/);
    assert.equal(crash.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode, 5);
    const noexec = await pod('noexec', (p) => p.status?.phase === 'Failed');
    const t = noexec.status?.containerStatuses?.[0]?.state?.terminated;
    assert.deepEqual([t?.exitCode, t?.reason, t?.message], [128, 'StartError', 'exec nope: executable file not found in $PATH']);
    assert.equal(node.network.calls.filter((c) => c === 'DEL ok').length, 1, 'a pod that is over gives its network back');
  });

  test('an image nobody knows: ErrImagePull, then ImagePullBackOff, and what to do', async () => {
    await node.pod('unknown', { containers: [{ name: 'c', image: 'example.com/my/app:1' }] });
    const p = await pod('unknown', (x) => x.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'ImagePullBackOff');
    assert.equal(p.status?.phase, 'Pending');
    const e = (await node.events('unknown')).find((x) => x.reason === 'Failed');
    assert.match(e?.message ?? '', /^failed to pull image "example.com\/my\/app:1".*busybox.*nicolaka\/netshoot.*images: \{ "my\/app": netshoot \}/s);
  });

  test('a network that fails: no container starts, the event has the plugin’s words, a retry brings it up', async () => {
    node.network.failure = new Error('plugin type="podway-cni" failed (add): no free address in 10.244.0.0/24');
    await node.pod('late', { containers: [{ name: 'c', image: 'busybox', command: forever }] });
    const e = await until('the event', async () => (await node.events('late')).find((x) => x.reason === 'FailedCreatePodSandBox'));
    assert.match(e.message, /^Failed to create pod sandbox: failed to setup network for sandbox "[0-9a-f]{64}": plugin type="podway-cni" failed \(add\): no free address/);
    assert.equal((await node.get('late')).status?.phase, 'Pending');
    assert.ok(!(await node.events('late')).some((x) => x.reason === 'Created'));
    assert.ok(node.network.calls.includes('DEL late'), 'what ADD may have left is undone');
    node.network.failure = undefined;
    await pod('late', ready);
  });

  test('the node is not ready while its network is not', async () => {
    node.network.state = { ready: false, message: 'cni plugin not initialized' };
    await node.runtime.heartbeat();
    const read = async () => (await node.client.get(Nodes, 'm1')).status?.conditions?.find((c) => c.type === 'Ready');
    const c = await read();
    assert.deepEqual([c?.status, c?.reason, c?.message], ['False', 'KubeletNotReady', 'container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized']);
    node.network.state = { ready: true };
    await until('the node to be ready again', async () => (await read())?.status === 'True');
  });

  test('probes: readiness by http, liveness by exec', async () => {
    await node.pod('probed', {
      hostNetwork: true,
      containers: [{
        name: 'c', image: 'busybox', command: ['sh', '-c', 'mkdir -p /w; trap "exit 0" TERM; httpd -f -p 18080 -h /w & wait'],
        readinessProbe: { httpGet: { path: '/ok', port: 18080, host: '127.0.0.1' }, periodSeconds: 1 },
        livenessProbe: { exec: { command: ['sh', '-c', '! test -e /dead'] }, periodSeconds: 1, failureThreshold: 1 },
      }],
    });
    assert.equal(call(execInNode(init, node.holder.pid, ['ip', 'link', 'set', 'lo', 'up'])).status, 0);
    await pod('probed', (p) => p.status?.phase === 'Running' && condition(p, 'Ready')?.status === 'False');
    await until('an Unhealthy event', async () => (await node.events('probed')).find((e) => e.reason === 'Unhealthy' && e.message.startsWith('Readiness probe failed: ')));
    assert.equal(inPod('probed', 'c', 'touch', '/w/ok').status, 0);
    const p = await pod('probed', ready);
    assert.equal(p.status?.podIP, '172.18.0.2', 'hostNetwork: the node’s address');
    assert.equal(inPod('probed', 'c', 'hostname').stdout, 'm1\n');
    assert.equal(inPod('probed', 'c', 'touch', '/dead').status, 0);
    await pod('probed', (x) => x.status?.containerStatuses?.[0]?.restartCount === 1);
    assert.ok((await node.events('probed')).some((e) => e.reason === 'Killing' && e.message === 'Container c failed liveness probe, will be restarted'));
  });

  test('the machine’s own tools are in images that promise them', async () => {
    await node.pod('shoot', { containers: [{ name: 'c', image: 'nicolaka/netshoot', command: ['sleep', '1000'], securityContext: { capabilities: { add: ['NET_ADMIN'] } } }] });
    await pod('shoot', ready);
    assert.match(inPod('shoot', 'c', 'ip', '-br', 'addr').stdout, /^lo\s+UNKNOWN\s+127\.0\.0\.1\/8/);
    assert.equal(inPod('shoot', 'c', 'ip', 'link', 'set', 'lo', 'mtu', '1500').status, 0);
    assert.equal(inPod('shoot', 'c', 'bash', '-c', 'echo $HOSTNAME').stdout, 'shoot\n');
    assert.equal(inPod('shoot', 'c', 'awk', 'BEGIN { print 1 }').stdout, '1\n', 'through /etc/alternatives');
    assert.notEqual(inPod('shoot', 'c', 'touch', '/usr/x').status, 0);
    assert.equal(inPod('shoot', 'c', 'ls', '/root').stdout, '');
  });

  test('deletion: TERM, grace, KILL, network DEL, sandbox, files, object', async () => {
    const shoot = node.runtime.record('default', 'shoot'); // sleep as PID 1 ignores TERM
    const web = node.runtime.record('default', 'web-a');
    const start = Date.now();
    await node.client.delete(Pods, { name: 'web-a', namespace: 'default' });
    await gone('web-a');
    assert.ok(Date.now() - start < 900, 'the sample ends at TERM, before its grace period of a second');
    await node.client.delete(Pods, { name: 'shoot', namespace: 'default' });
    await gone('shoot');
    assert.ok(node.network.calls.includes('DEL shoot'));
    for (const r of [shoot, web]) {
      await until('processes to be gone', () => ![r.sandbox.pid, ...r.containers.flatMap((c) => [c.pid, c.monitorPid])].some(runs));
      assert.ok(!existsSync(join(node.dir, 'pods', `${r.uid}.json`)) && !existsSync(join(node.dir, 'pods', r.uid)));
    }
    assert.ok(!readdirSync(join(node.dir, 'logs')).some((d) => d.includes('_shoot_')));
    assert.ok((await node.events('shoot')).some((e) => e.reason === 'Killing' && e.message === 'Stopping container c'));
    const mounts = call(execInNode(init, node.holder.pid, ['cat', '/proc/self/mountinfo'])).stdout;
    assert.ok(!mounts.includes(shoot.sandbox.id) && !mounts.includes(shoot.sandbox.netns?.slice('/var'.length) ?? '-'));
  });

  test('no pod is left with a network, a process or a mount when all are deleted', async () => {
    for (const p of await node.client.list(Pods)) await node.client.delete(Pods, { name: p.metadata?.name ?? '', namespace: 'default' });
    await until('all pods to be gone', async () => (await node.client.list(Pods)).length === 0);
    assert.equal(node.network.attached.size, 0);
    assert.deepEqual(readdirSync(join(node.dir, 'pods')), []);
    await until('an empty node', () => call(execInNode(init, node.holder.pid, ['ps', '-e', '-o', 'comm='])).stdout.trim() === 'podway-node\nps');
    const mounts = call(execInNode(init, node.holder.pid, ['cat', '/proc/self/mountinfo'])).stdout;
    assert.doesNotMatch(mounts, /nsfs|podway\/sandboxes/);
  });
});

describe('a lab process that starts again', { skip: needsRoot }, () => {
  test('ends what its predecessor left of a pod, and starts the pod anew', async () => {
    const first = await testNode();
    try {
      await first.pod('p', { containers: [{ name: 'c', image: 'busybox', command: forever }] });
      await until('the pod', async () => ready(await first.get('p')));
      const old = first.runtime.record('default', 'p');
      await first.runtime.close();
      assert.ok(runs(old.containers[0]?.pid ?? 0), 'containers go on without the runtime');
      const { NodeRuntime } = await import('../src/runtime/index.js');
      const { ImageStore } = await import('../src/images/index.js');
      const second = new NodeRuntime({ node: first.descriptor, client: first.client, network: first.network, init: initBinary(), images: new ImageStore({ dir: join(first.dir, 'images') }) });
      await second.start();
      try {
        const p = await until('the pod again', async () => {
          const x = await first.get('p');
          return ready(x) && x.status?.containerStatuses?.[0]?.restartCount === 1 && x;
        });
        assert.equal(p.status?.phase, 'Running');
        assert.notEqual(second.record('default', 'p').sandbox.id, old.sandbox.id);
        assert.ok(![old.sandbox.pid, ...old.containers.flatMap((c) => [c.pid, c.monitorPid])].some(runs));
        assert.equal(first.network.attached.size, 1);
      } finally {
        await second.close();
      }
    } finally {
      await first.close();
    }
  });
});
