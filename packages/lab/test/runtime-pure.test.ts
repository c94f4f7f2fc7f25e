/** What the runtime decides without touching anything: plans, back-off, environments, names, statuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Pod } from '@podway/kube';
import { builtinImages, findImage, repositoryOf, unknownImageMessage } from '../src/images/index.js';
import { decideRestart, FIRST_DELAY, goDuration, MAX_DELAY, type Backoff } from '../src/runtime/backoff.js';
import { parseLogLine } from '../src/runtime/cri-log.js';
import { commandLine, environment, expand, hostnameOf, hostNetworkHostsFile, hostsFile } from '../src/runtime/env.js';
import { bandwidthOf, quantity } from '../src/runtime/bandwidth.js';
import { parseResolvConf, resolvConf } from '../src/runtime/dns.js';
import { newState, plan, type ContainerState } from '../src/runtime/plan.js';
import { portMappingsOf } from '../src/runtime/sandbox.js';
import { defaultCapabilities, identityOf } from '../src/runtime/security.js';
import { phaseOf, podStatus } from '../src/runtime/status.js';
import { containerMounts } from '../src/runtime/volumes.js';

const busybox = builtinImages.find((i) => i.name === 'busybox')!;
const podOf = (spec: Partial<NonNullable<Pod['spec']>>): Pod => ({ metadata: { name: 'p', namespace: 'ns', uid: 'u' }, spec: { containers: [], ...spec } });
const c = (name: string, extra: object = {}) => ({ name, image: 'busybox', ...extra });
const ended = (exitCode: number, finishedAt = 0) => ({ exitCode, signal: 0, reason: 'x', startedAt: 0, finishedAt, id: 'i' });

test('back-off: at once, then 10 s doubling to 5 min, forgotten after ten minutes of running', () => {
  const waits: number[] = [];
  let now = 0;
  let backoff: Backoff | undefined;
  for (let i = 0; i < 8; i++) {
    const endedAt = now;
    let d = decideRestart(backoff, endedAt, now);
    if (d.kind === 'wait') {
      now = d.until;
      d = decideRestart(backoff, endedAt, now);
    }
    assert.equal(d.kind, 'start');
    waits.push(now - endedAt);
    backoff = d.kind === 'start' ? d.backoff : undefined;
    now += 1; // and ends again at once
  }
  assert.deepEqual(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  const later = now + 2 * MAX_DELAY + 10_000;
  const d = decideRestart(backoff, later, later);
  assert.deepEqual(d, { kind: 'start', backoff: { delay: FIRST_DELAY, updated: later } });
  assert.deepEqual([goDuration(10_000), goDuration(80_000), goDuration(300_000)], ['10s', '1m20s', '5m0s']);
});

test('plan: init containers one after the other, then all containers at once', () => {
  const pod = podOf({ initContainers: [c('i1'), c('i2')], containers: [c('a'), c('b')] });
  const states = new Map<string, ContainerState>(['i1', 'i2', 'a', 'b'].map((n) => [n, newState(n)]));
  const names = () => plan(pod, states, 0).start.map((x) => x.name);
  assert.deepEqual(names(), ['i1']);
  states.get('i1')!.running = { id: '', pid: 1, startedAt: 0 };
  assert.deepEqual(names(), []);
  delete states.get('i1')!.running;
  states.get('i1')!.terminated = ended(0);
  assert.deepEqual(names(), ['i2']);
  states.get('i2')!.terminated = ended(0);
  assert.deepEqual(names(), ['a', 'b']);
  assert.equal(plan(pod, states, 0).initialized, true);
});

test('plan: a sidecar starts first, stays, and does not keep a finished pod going', () => {
  const pod = podOf({ restartPolicy: 'Never', initContainers: [c('side', { restartPolicy: 'Always' })], containers: [c('a')] });
  const states = new Map<string, ContainerState>(['side', 'a'].map((n) => [n, newState(n)]));
  assert.deepEqual(plan(pod, states, 0).start.map((x) => x.name), ['side']);
  Object.assign(states.get('side')!, { running: { id: '', pid: 1, startedAt: 0 }, started: true });
  assert.deepEqual(plan(pod, states, 0).start.map((x) => x.name), ['a']);
  states.get('a')!.terminated = ended(1);
  assert.equal(plan(pod, states, 0).finished, true);
});

test('plan and phase by restart policy and exit code', () => {
  const rows: [string, number, boolean, string][] = [
    ['Always', 0, false, 'Running'], ['Always', 1, false, 'Running'],
    ['OnFailure', 0, true, 'Succeeded'], ['OnFailure', 1, false, 'Running'],
    ['Never', 0, true, 'Succeeded'], ['Never', 1, true, 'Failed'],
  ];
  for (const [restartPolicy, code, finished, phase] of rows) {
    const pod = podOf({ restartPolicy, containers: [c('a')] });
    const states = new Map([['a', { ...newState('a'), terminated: ended(code) }]]);
    assert.equal(plan(pod, states, 0).finished, finished, `${restartPolicy} ${code}`);
    assert.equal(phaseOf(pod, states, true), phase, `${restartPolicy} ${code}`);
  }
});

test('plan: what waits for its back-off is told with its time, and starts then', () => {
  const pod = podOf({ containers: [c('a')] });
  const states = new Map([['a', { ...newState('a'), terminated: ended(1, 1000), backoff: { delay: 10_000, updated: 900 } }]]);
  const p = plan(pod, states, 2000);
  assert.deepEqual([p.start.length, p.backingOff.map((b) => b.delay), p.wakeAt], [0, [10_000], 11_000]);
  assert.equal(plan(pod, states, 11_000).start.length, 1);
});

test('status: conditions keep their transition times and those of others', () => {
  const pod = podOf({ containers: [c('a')] });
  const running = { ...newState('a'), running: { id: 'x', pid: 1, startedAt: 0 }, ready: true, started: true };
  delete (running as Partial<ContainerState>).waiting;
  const input = { pod, states: new Map([['a', running]]), imageIDs: new Map(), podIPs: ['10.0.0.1'], hostIPs: ['172.18.0.2'], startedAt: 0, initialized: true, sandboxReady: true };
  const first = podStatus({ ...input, now: 1000 });
  const withForeign: Pod = { ...pod, status: { ...first, conditions: [...(first.conditions ?? []), { type: 'example.com/gate', status: 'True' }] } };
  const second = podStatus({ ...input, pod: withForeign, now: 99_000 });
  const byType = (s: typeof first, t: string) => s.conditions?.find((x) => x.type === t);
  assert.deepEqual(byType(second, 'Ready'), byType(first, 'Ready'));
  assert.equal(byType(second, 'example.com/gate')?.status, 'True');
  const third = podStatus({ ...input, pod: withForeign, states: new Map([['a', { ...running, ready: false }]]), now: 99_000 });
  assert.deepEqual([byType(third, 'Ready')?.status, String(byType(third, 'Ready')?.lastTransitionTime)], ['False', '1970-01-01T00:01:39Z']);
  assert.equal(byType(third, 'Ready')?.message, 'containers with unready status: [a]');
});

test('image names: registry, tag, digest and mirrors do not matter; what is not known is not guessed', () => {
  assert.equal(repositoryOf('registry.example:5000/library/busybox:1.36@sha256:abc'), 'busybox');
  assert.equal(repositoryOf('nicolaka/netshoot'), 'nicolaka/netshoot');
  for (const [image, name] of [
    ['busybox', 'busybox'], ['docker.io/library/busybox:1.36', 'busybox'], ['mirror.example/docker.io/library/busybox', 'busybox'], ['podway/web:latest', 'web'],
    ['registry.k8s.io/pause:3.9', 'pause'], ['registry.cn-hangzhou.aliyuncs.com/google_containers/pause:3.6', 'pause'], ['nicolaka/netshoot:v0.11', 'netshoot'],
    ['docker.m.daocloud.io/nicolaka/netshoot', 'netshoot'], ['networkstatic/iperf3', 'iperf3'], ['ubuntu:22.04', 'ubuntu'], ['alpine:3', 'alpine'], ['nginx:1.25', 'nginx'],
  ] as const) assert.equal(findImage(image)?.name, name, image);
  for (const image of ['my/busybox-tools', 'someone/nginx', 'example.com/team/app:1', '']) assert.equal(findImage(image), undefined, image);
  assert.equal(findImage('my/app:1', { 'my/app': 'netshoot' })?.name, 'netshoot');
  assert.deepEqual([findImage('my/app', { 'my/app': '/srv/root' })?.root, findImage('/etc')], ['directory', undefined]);
  assert.match(unknownImageMessage('my/app:1'), /map it in the lab file: images: \{ "my\/app": netshoot \}$/);
});

test('$(NAME) expansion as Kubernetes documents it', () => {
  const v = { A: '1', EMPTY: '' };
  for (const [text, result] of [
    ['$(A)', '1'], ['x$(A)y', 'x1y'], ['$$(A)', '$(A)'], ['$$$(A)', '$1'], ['$(NONE)', '$(NONE)'], ['$A', '$A'], ['$(EMPTY)', ''], ['$(', '$('], ['$(toString)', '$(toString)'], ['$', '$'],
  ] as const) assert.equal(expand(text, v), result, text);
  fc.assert(fc.property(fc.string().filter((s) => !s.includes('$')), (s) => expand(s, v) === s));
});

test('command and args against entrypoint and cmd', () => {
  const image = { ...busybox, entrypoint: ['/entry'], cmd: ['one', 'two'] };
  const line = (x: object) => commandLine(c('a', x), image, { V: 'v' });
  assert.deepEqual(line({}), ['/entry', 'one', 'two']);
  assert.deepEqual(line({ command: ['run'] }), ['run']);
  assert.deepEqual(line({ args: ['$(V)'] }), ['/entry', 'v']);
  assert.deepEqual(line({ command: ['run'], args: ['$(V)'] }), ['run', 'v']);
});

test('environment: what this lab cannot read is refused by name, unless optional', () => {
  const addresses = { podIPs: ['10.0.0.9'], hostIPs: ['172.18.0.2'] };
  const env = (list: object[]) => environment(podOf({ nodeName: 'm1' }), c('a', { env: list }), busybox, addresses);
  assert.equal(env([{ name: 'X', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } }])['X'], '10.0.0.9');
  assert.throws(() => env([{ name: 'X', valueFrom: { fieldRef: { fieldPath: 'spec.magic' } } }]), { code: 'FIELD_UNKNOWN' });
  assert.throws(() => env([{ name: 'X', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }]), { code: 'ENV_SOURCE_UNKNOWN' });
  assert.equal(env([{ name: 'X', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: true } } }])['X'], undefined);
});

test('hosts files', () => {
  const pod = podOf({ hostname: 'h', subdomain: 's', hostAliases: [{ ip: '1.2.3.4', hostnames: ['x', 'y'] }] });
  assert.match(hostsFile(pod, ['10.0.0.9'], undefined), /^10\.0\.0\.9\th\.s\.ns\.svc\.cluster\.local\th\n\n# Entries added by HostAliases\.\n1\.2\.3\.4\tx\ty\n$/m);
  assert.equal(hostNetworkHostsFile(pod, '127.0.0.1 localhost\n'), '# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n\n# Entries added by HostAliases.\n1.2.3.4\tx\ty\n');
  assert.equal(hostnameOf(podOf({ hostname: `${'a'.repeat(62)}-bcd` })), 'a'.repeat(62));
});

const NODE_RESOLV = '# the node\nsearch corp.example\nnameserver 192.0.2.53\noptions timeout:1 edns0\n';
const CLUSTER_DNS = { nameservers: ['10.96.0.10'], domain: 'cluster.local' };
const CLUSTER_TEXT = 'search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n';
const DNS: { what: string; spec: Partial<NonNullable<Pod['spec']>>; cluster?: boolean; text: string; warnings?: RegExp[] }[] = [
  { what: 'no policy is ClusterFirst', spec: {}, text: CLUSTER_TEXT },
  { what: 'ClusterFirst', spec: { dnsPolicy: 'ClusterFirst' }, text: CLUSTER_TEXT },
  { what: 'ClusterFirst with hostNetwork is Default', spec: { dnsPolicy: 'ClusterFirst', hostNetwork: true }, text: NODE_RESOLV },
  { what: 'ClusterFirstWithHostNet', spec: { dnsPolicy: 'ClusterFirstWithHostNet', hostNetwork: true }, text: CLUSTER_TEXT },
  { what: 'Default', spec: { dnsPolicy: 'Default' }, text: NODE_RESOLV },
  { what: 'Default with dnsConfig', spec: { dnsPolicy: 'Default', dnsConfig: { nameservers: ['9.9.9.9', '192.0.2.53'], options: [{ name: 'timeout', value: '3' }] } }, text: 'search corp.example\nnameserver 192.0.2.53\nnameserver 9.9.9.9\noptions edns0 timeout:3\n' },
  { what: 'None', spec: { dnsPolicy: 'None', dnsConfig: { nameservers: ['1.2.3.4'], searches: ['ns1.svc.cluster-domain.example', 'my.dns.search.suffix'], options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }] } }, text: 'search ns1.svc.cluster-domain.example my.dns.search.suffix\nnameserver 1.2.3.4\noptions ndots:2 edns0\n' },
  { what: 'ClusterFirst with dnsConfig', spec: { dnsConfig: { searches: ['x.example', 'cluster.local'], options: [{ name: 'ndots', value: '1' }] } }, text: 'search ns.svc.cluster.local svc.cluster.local cluster.local corp.example x.example\nnameserver 10.96.0.10\noptions ndots:1\n' },
  { what: 'no cluster DNS', spec: {}, cluster: false, text: NODE_RESOLV, warnings: [/^pod: "p_ns\(u\)"\. kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy\. Falling back to "Default" policy\.$/] },
  { what: 'no cluster DNS, and none wanted', spec: { dnsPolicy: 'Default' }, cluster: false, text: NODE_RESOLV },
  { what: 'too many servers', spec: { dnsPolicy: 'None', dnsConfig: { nameservers: ['1.1.1.1', '2.2.2.2', '3.3.3.3', '4.4.4.4'] } }, text: 'nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver 3.3.3.3\n', warnings: [/^Nameserver limits were exceeded, .* line is: 1\.1\.1\.1 2\.2\.2\.2 3\.3\.3\.3$/] },
];
for (const d of DNS) {
  test(`resolv.conf: ${d.what}`, () => {
    const made = resolvConf(podOf(d.spec), d.cluster === false ? undefined : CLUSTER_DNS, NODE_RESOLV);
    assert.equal(made.text, d.text);
    assert.equal(made.warnings.length, d.warnings?.length ?? 0);
    d.warnings?.forEach((w, i) => assert.match(made.warnings[i]!.message, w));
  });
}

test('resolv.conf: searches beyond the limits are left out and told; what is read is what the resolver reads', () => {
  const searches = Array.from({ length: 40 }, (_, i) => `${'x'.repeat(60)}${i}.example`);
  const made = resolvConf(podOf({ dnsPolicy: 'None', dnsConfig: { nameservers: ['1.1.1.1'], searches } }), undefined, '');
  assert.equal(parseResolvConf(made.text).searches.length, 29, '2048 characters');
  assert.match(made.warnings[0]!.message, /^Search Line limits were exceeded/);
  assert.deepEqual(parseResolvConf('domain a.example\nsearch b.example c.example ; no\n#nameserver 1.1.1.1\nnameserver\t2.2.2.2\n'), { nameservers: ['2.2.2.2'], searches: ['b.example', 'c.example'], options: [] });
});

test('bandwidth annotations, as kubelet reads them and containerd hands them on', () => {
  const of = (annotations: Record<string, string>) => bandwidthOf({ ...podOf({}), metadata: { name: 'p', namespace: 'ns', annotations } });
  assert.equal(of({}), undefined);
  assert.deepEqual(of({ 'kubernetes.io/ingress-bandwidth': '10M' }), { ingressRate: 10_000_000, ingressBurst: 4_294_967_295 });
  assert.deepEqual(of({ 'kubernetes.io/egress-bandwidth': '1Gi', 'kubernetes.io/ingress-bandwidth': '1P' }), { ingressRate: 1e15, ingressBurst: 4_294_967_295, egressRate: 2 ** 30, egressBurst: 4_294_967_295 });
  for (const [text, n] of [['1k', 1000], ['1.1M', 1_100_000], ['1e6', 1_000_000], ['1500m', 2], ['.5k', 500], ['2Ki', 2048], ['x', undefined], ['', undefined], ['1 M', undefined]] as const) assert.equal(quantity(text), n, text);
  for (const [text, says] of [['999', /< 1kbit/], ['1.1P', /> 1Pbit/], ['-1M', /< 1kbit/], ['fast', /quantities must match/]] as const) {
    assert.throws(() => of({ 'kubernetes.io/egress-bandwidth': text }), (e: Error) => says.test(e.message) && e.message.includes('kubernetes.io/egress-bandwidth'), text);
  }
});

test('securityContext: user, groups, capabilities', () => {
  const id = (own: object, shared: object = {}) => identityOf(podOf({ securityContext: shared }), c('a', { securityContext: own }));
  assert.equal(defaultCapabilities, 0xa80425fbn, 'the mask Docker shows in CapEff');
  assert.deepEqual(id({ capabilities: { drop: ['ALL'], add: ['NET_RAW'] } }).caps, 1n << 13n);
  assert.equal(id({ capabilities: { add: ['CAP_NET_ADMIN'] } }).caps, defaultCapabilities | (1n << 12n));
  assert.deepEqual(id({ runAsUser: 5 }, { runAsGroup: 6, fsGroup: 7, supplementalGroups: [8] }).groups, [8, 7]);
  assert.throws(() => id({ capabilities: { add: ['FLY'] } }), { code: 'CAPABILITY_UNKNOWN' });
  assert.throws(() => id({ runAsNonRoot: true }), { code: 'RUN_AS_NON_ROOT' });
  assert.equal(id({ privileged: true }).privileged, true);
});

test('volumes: a kind this lab lacks and a subPath that leaves are refused', async () => {
  const node = { lab: 'l', name: 'n', holderPid: 1, addresses: [], dirs: { pods: '/nowhere', logs: '/nowhere' } };
  const mounts = (volume: object, mount: object) =>
    containerMounts(podOf({ volumes: [{ name: 'v', ...volume }] }), c('a', { volumeMounts: [{ name: 'v', mountPath: '/m', ...mount }] }), { node, init: '', shm: '/s' });
  await assert.rejects(mounts({ secret: {} }, {}), { code: 'VOLUME_UNKNOWN', message: /kind secret is not provided/ });
  await assert.rejects(mounts({ hostPath: { path: '/var/log' } }, { subPath: '../lib' }), { code: 'VOLUME_PATH' });
  await assert.rejects(mounts({ hostPath: { path: '/var/log' } }, { subPath: '../log2' }), { code: 'VOLUME_PATH' });
  assert.deepEqual((await mounts({ hostPath: { path: '/var/log' } }, { subPath: 'pods' })).nodeBinds[1], { source: '/var/log/pods', target: '/m', readOnly: false });
});

test('hostPorts as the portMappings capability has them', () => {
  assert.deepEqual(portMappingsOf(podOf({ containers: [c('a', { ports: [{ containerPort: 80, hostPort: 8080 }, { containerPort: 53, hostPort: 53, protocol: 'UDP', hostIP: '1.1.1.1' }, { containerPort: 1 }] })] })), [
    { hostPort: 8080, containerPort: 80, protocol: 'tcp' }, { hostPort: 53, containerPort: 53, protocol: 'udp', hostIP: '1.1.1.1' },
  ]);
});

test('log lines: CRI format or nothing', () => {
  assert.deepEqual(parseLogLine('2016-10-06T00:17:09.669794202Z stdout F a b'), { time: '2016-10-06T00:17:09.669794202Z', stream: 'stdout', text: 'a b\n' });
  assert.deepEqual(parseLogLine('t stderr P part')?.text, 'part');
  assert.equal(parseLogLine('t stdout F ')?.text, '\n');
  fc.assert(fc.property(fc.string(), (s) => {
    const e = parseLogLine(s);
    return e === undefined || / (stdout|stderr) [FP]/.test(s);
  }));
});
