/** The verbs, asked as a runtime asks them: the real shim, a real agent, real namespaces. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CNI_VERSIONS } from '@podway/cni';
import { RtNetlink, type Netns } from '@podway/kernel';
import { Pods, type Pod } from '@podway/kube';
import { hostIfname } from '../src/index.js';
import { addressIn, conf, inNs, lines, needsRoot, pathOf, podArgs, runShim, until, withNode, type Answer } from './network.js';

const skip = needsRoot;
const NOTHING = { links: [], files: [] };
const error = (a: Answer): { code: number; msg: string; details: string } => {
  assert.equal(a.code, 1, JSON.stringify(a.out));
  const { code, msg, details = '' } = a.out as { code: number; msg: string; details?: string };
  return { code, msg, details };
};
const linksOf = (ns: Netns): string[] => RtNetlink.with(ns, (nl) => nl.links().map((l) => l.name).sort());

for (const version of CNI_VERSIONS) {
  test(`CNI ${version}: ADD, again, CHECK, DEL, DEL again, with that version's result`, { skip }, () =>
    withNode(async (node, net) => {
      const pod = net.pod('web-a');
      const before = linksOf(pod.ns);
      const add = await node.cni('ADD', pod.vars, conf(version));
      assert.equal(add.code, 0, JSON.stringify(add.out));
      assert.equal(add.stderr, '');
      const host = RtNetlink.with(node.ns, (nl) => nl.links().find((l) => l.alias?.includes('default/web-a')));
      const bridge = RtNetlink.with(node.ns, (nl) => nl.mustLink('cni0'));
      const inside = RtNetlink.with(pod.ns, (nl) => nl.mustLink('eth0'));
      assert.ok(host);
      const mtu = version === '1.1.0' ? { mtu: 1450 } : {};
      assert.deepEqual(add.out, {
        cniVersion: version,
        interfaces: [
          { name: 'cni0', mac: bridge.address },
          { name: host.name, mac: host.address, ...mtu },
          { name: 'eth0', mac: '0a:58:0a:f4:00:02', ...mtu, sandbox: pathOf(pod.ns) },
        ],
        ips: [{ ...(version < '1' ? { version: '4' } : {}), interface: 2, address: '10.244.0.2/24', gateway: '10.244.0.1' }],
        routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1' }, { dst: '10.244.0.0/16', gw: '10.244.0.1' }],
      });
      assert.equal(inside.address, '0a:58:0a:f4:00:02');
      assert.deepEqual([inside.mtu, host.mtu, bridge.mtu, host.master], [1450, 1450, 1450, bridge.index]);
      assert.match(inNs(pod.ns, 'ip', '-4', 'addr', 'show', 'eth0'), /inet 10\.244\.0\.2\/24 brd 10\.244\.0\.255 scope global eth0/);
      assert.deepEqual(lines(inNs(pod.ns, 'ip', 'route')), [
        'default via 10.244.0.1 dev eth0', '10.244.0.0/24 dev eth0 proto kernel scope link src 10.244.0.2', '10.244.0.0/16 via 10.244.0.1 dev eth0',
      ]);

      assert.deepEqual((await node.cni('ADD', pod.vars, conf(version))).out, add.out, 'the same attachment again: the same answer');
      assert.equal(RtNetlink.with(pod.ns, (nl) => nl.mustLink('eth0')).index, inside.index, 'and the same device');
      const check = await node.cni('CHECK', pod.vars, conf(version, { prevResult: add.out }));
      if (version < '0.4.0') assert.equal(error(check).code, 1);
      else assert.deepEqual(check, { code: 0, out: undefined, stderr: '' });
      const versions = await node.cni('VERSION', {}, JSON.stringify({ cniVersion: version }));
      assert.deepEqual(versions.out, { cniVersion: version, supportedVersions: CNI_VERSIONS });
      for (let i = 0; i < 2; i++) assert.deepEqual(await node.cni('DEL', pod.vars, conf(version)), { code: 0, out: undefined, stderr: '' });
      assert.deepEqual(await node.leavings(), NOTHING);
      assert.deepEqual(linksOf(pod.ns), before);
    }));
}

test('CHECK finds what somebody changed, in words; a foreign prevResult is refused', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('web-a');
    const { out: prevResult } = await node.cni('ADD', pod.vars);
    const check = (more: object = { prevResult }): Promise<Answer> => node.cni('CHECK', pod.vars, conf('1.1.0', more));
    assert.equal((await check()).code, 0);
    inNs(pod.ns, 'ip', 'route', 'del', 'default');
    inNs(pod.ns, 'ip', 'link', 'set', 'eth0', 'mtu', '1400');
    const e = error(await check());
    assert.deepEqual([e.code, e.msg], [104, 'the container network is not as ADD left it']);
    assert.match(e.details, /link eth0: mtu 1400 instead of 1450/);
    assert.match(e.details, /route .*0\.0\.0\.0\/0.*: missing/);
    inNs(pod.ns, 'ip', 'link', 'set', 'eth0', 'mtu', '1450');
    inNs(pod.ns, 'ip', 'route', 'add', 'default', 'via', '10.244.0.1');
    assert.equal((await check()).code, 0);
    const foreign = structuredClone(prevResult) as { ips: { address: string }[] };
    foreign.ips[0]!.address = '10.244.0.99/24';
    assert.match(error(await check({ prevResult: foreign })).details, /10\.244\.0\.99\/24; recorded: 10\.244\.0\.2\/24/);
    assert.equal(error(await node.cni('CHECK', net.pod('nobody').vars)).code, 3);
  }));

const SHORT = { CNI_IFNAME: 'eth0' };
const wrong: { what: string; vars?: Record<string, string>; stdin?: string; code: number; says: RegExp }[] = [
  { what: 'a configuration that is no JSON', stdin: '{', code: 6, says: /not JSON/ },
  { what: 'a configuration without a name', stdin: JSON.stringify({ cniVersion: '1.1.0', type: 'podway-cni' }), code: 7, says: /name/ },
  { what: 'a version from the future', stdin: conf('9.9.9'), code: 1, says: /config is "9\.9\.9", plugin supports/ },
  { what: 'an address that is none', stdin: conf('1.1.0', { runtimeConfig: { ips: ['10.0.0.999'] } }), code: 7, says: /runtimeConfig\.ips/ },
  { what: 'a namespace that does not exist', vars: { CNI_NETNS: '/run/netns/podway-nowhere' }, code: 8, says: /\/run\/netns\/podway-nowhere/ },
  { what: 'a namespace that is a file', vars: { CNI_NETNS: '/etc/hostname' }, code: 8, says: /not a network namespace/ },
  { what: 'no namespace', vars: { CNI_NETNS: '' }, code: 4, says: /CNI_NETNS/ },
  { what: 'no pod', vars: { CNI_ARGS: '' }, code: 4, says: /K8S_POD_NAMESPACE, K8S_POD_NAME/ },
  { what: 'an interface name too long', vars: { CNI_IFNAME: 'a-name-of-16-chr' }, code: 4, says: /longer than 15 bytes/ },
  { what: 'an interface name that is taken', vars: { CNI_IFNAME: 'lo' }, code: 103, says: /there is already an interface lo/ },
  { what: 'a requested address outside', vars: { CNI_ARGS: `${podArgs('web-a')};IP=10.9.0.1` }, code: 102, says: /it is not in 10\.244\.0\.0\/24/ },
  { what: 'the gateway as a requested address', stdin: conf('1.1.0', { runtimeConfig: { ips: ['10.244.0.1/24'] } }), code: 102, says: /it is the gateway/ },
];

test('what cannot be done is said with its code, and nothing is left behind', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('web-a');
    const links = [linksOf(node.ns), linksOf(pod.ns)];
    for (const w of wrong) {
      const e = error(await node.cni('ADD', { ...pod.vars, ...SHORT, ...w.vars }, w.stdin));
      assert.equal(e.code, w.code, `${w.what}: ${JSON.stringify(e)}`);
      assert.match(`${e.msg}: ${e.details}`, w.says, w.what);
      assert.deepEqual(await node.leavings(), NOTHING, w.what);
      assert.deepEqual([linksOf(node.ns), linksOf(pod.ns)], links, w.what);
    }
    assert.equal(await net.added(node, pod), '10.244.0.3', 'one address was given to the attempt at lo and taken back');
    assert.equal(error(await node.cni('ADD', { ...net.pod('web-b').vars, CNI_NETNS: pathOf(pod.ns) })).code, 103, 'eth0 is there already');
    assert.equal((await node.leavings()).links.length, 1);
    assert.equal(linksOf(pod.ns).includes('eth0'), true, 'the one who was there keeps its interface');
  }));

test('a device of somebody else with the name of the host end: ADD says so and does not touch it', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('web-a');
    const name = hostIfname({ containerId: 'web-a', ifname: 'eth0' });
    const before = RtNetlink.with(node.ns, (nl) => nl.createLink({ kind: 'bridge', name, alias: 'mine' }));
    const e = error(await node.cni('ADD', pod.vars));
    assert.deepEqual([e.code, e.msg], [103, `there is already a device ${name} on the node, and it is not Podway's`]);
    assert.equal((await node.cni('DEL', pod.vars)).code, 0);
    const { stats: _, ...after } = RtNetlink.with(node.ns, (nl) => nl.mustLink(name));
    assert.deepEqual(after, (({ stats: _s, ...rest }) => rest)(before));
    assert.deepEqual((await node.leavings()).files, []);
    assert.deepEqual(linksOf(pod.ns), ['lo']);
  }));

test('DEL of the unknown, DEL without a namespace, DEL after the namespace has gone', { skip }, () =>
  withNode(async (node, net) => {
    const stranger = net.pod('stranger');
    assert.equal((await node.cni('DEL', stranger.vars)).code, 0);
    assert.equal((await node.cni('DEL', { ...stranger.vars, CNI_NETNS: '' })).code, 0);
    const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
    for (const p of [a, b, c]) await net.added(node, p);
    assert.equal((await node.cni('DEL', { CNI_CONTAINERID: 'a' })).code, 0);
    b.ns.close();
    await until('the kernel has ended the namespace and both ends of the pair', async () => (await node.leavings()).links.length === 1);
    assert.equal((await node.cni('DEL', b.vars)).code, 0);
    const host = RtNetlink.with(node.ns, (nl) => nl.links().find((l) => l.alias?.includes('default/c')));
    RtNetlink.with(node.ns, (nl) => nl.deleteLink(host!.name));
    assert.deepEqual(linksOf(c.ns).includes('eth0'), false, 'deleting one end removes the other');
    assert.equal((await node.cni('DEL', c.vars)).code, 0);
    assert.deepEqual(await node.leavings(), NOTHING);
  }));

test('a range of 253 pods: the 254th is told so; one DEL makes room again', { skip }, () =>
  withNode(async (node, net) => {
    const given = new Set<string>();
    for (let i = 0; i < 253; i++) given.add(await net.added(node, net.pod(`p${i}`)));
    assert.equal(given.size, 253);
    assert.ok(!given.has('10.244.0.0') && !given.has('10.244.0.1') && !given.has('10.244.0.255'));
    const last = net.pod('last');
    const before = await node.leavings();
    const e = error(await node.cni('ADD', last.vars));
    assert.equal(e.code, 101);
    assert.match(e.details, /all 253 addresses are in use: 10\.244\.0\.2 pod default\/p0; /);
    assert.deepEqual(await node.leavings(), before);
    assert.equal((await node.cni('DEL', { CNI_CONTAINERID: 'p100' })).code, 0);
    assert.equal(await net.added(node, last), '10.244.0.102', 'the only free one, though it was used a moment ago');
  }));

test('a dead agent: the shim says try again later, at once, for ADD and DEL', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('web-a');
    await net.added(node, pod);
    await node.stop();
    for (const verb of ['ADD', 'DEL', 'CHECK', 'STATUS']) {
      const e = error(await node.cni(verb, pod.vars));
      assert.deepEqual([e.code, e.msg], [11, 'the Podway agent did not answer, try again later'], verb);
    }
    assert.equal((await node.cni('VERSION')).code, 0);
    await node.start();
    assert.equal((await node.cni('DEL', pod.vars)).code, 0);
    assert.deepEqual(await node.leavings(), NOTHING);
  }));

test('20 ADDs at once: 20 addresses, all reachable; 20 DELs at once: nothing left', { skip }, () =>
  withNode(async (node, net) => {
    const pods = Array.from({ length: 20 }, (_, i) => net.pod(`p${i}`));
    const addresses = await Promise.all(pods.map((p) => net.added(node, p)));
    assert.equal(new Set(addresses).size, 20);
    assert.equal((await node.leavings()).links.length, 20);
    for (const p of pods) assert.equal((await node.cni('CHECK', p.vars)).code, 0);
    const answers = await Promise.all(pods.map((p) => node.cni('DEL', p.vars)));
    assert.ok(answers.every((a) => a.code === 0));
    assert.deepEqual(await node.leavings(), NOTHING);
  }));

test('STATUS and ADD before the node has a pod CIDR: 50, with the reason; ready when it comes', { skip }, () =>
  withNode(async (node, net) => {
    const other = net.addNode(1, { register: false });
    await other.start();
    const e = error(await other.cni('STATUS'));
    assert.deepEqual([e.code, e.details], [50, 'node m2 has no pod CIDR or no uplink yet']);
    assert.equal(error(await other.cni('ADD', net.pod('x').vars)).code, 50);
    assert.deepEqual(await other.leavings(), NOTHING);
    assert.equal((await node.cni('STATUS')).code, 0);
  }));

test('GC: what is not in the list goes, with damaged records and devices of no record; the rest stays', { skip }, () =>
  withNode(async (node, net) => {
    const [a, b, c] = [net.pod('a'), net.pod('b'), net.pod('c')];
    for (const p of [a, b]) await net.added(node, p);
    const other = await node.cni('ADD', c.vars, conf('1.1.0', { name: 'another' }));
    assert.equal(other.code, 0);
    const foreign = RtNetlink.with(node.ns, (nl) => {
      nl.createLink({ kind: 'veth', name: 'vethforeign', peer: { name: 'vethpeer' } });
      nl.createLink({ kind: 'veth', name: 'vethorphan', alias: 'podway: pod default/gone eth0 (x)', peer: { name: 'orphanpeer' } });
      return nl.mustLink('vethforeign').index;
    });
    const damaged = net.pod('damaged');
    assert.equal(await net.added(node, damaged), '10.244.0.5');
    await node.stop();
    await writeFile(join(node.stateDir, 'attachments', 'damaged@eth0.json'), '{"ips":[{"address":"10.244.0.5/24"}');
    await (await node.start(), node.ready());
    assert.match(node.seen('damaged-record')[0]?.reason ?? '', /not JSON/);
    const gc = await node.cni('GC', {}, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }));
    assert.deepEqual(gc, { code: 0, out: undefined, stderr: '' });
    assert.deepEqual((await node.leavings()).files, ['attachments/b@eth0.json', 'attachments/c@eth0.json']);
    assert.equal(RtNetlink.with(node.ns, (nl) => nl.mustLink('vethforeign').index), foreign);
    assert.deepEqual(node.seen('orphan').map((e) => e.link), ['vethorphan']);
    assert.deepEqual(node.seen('collected').map((e) => [e.pod, e.addresses]), [['pod default/a', ['10.244.0.2/24']], ['a damaged record', ['10.244.0.5/24']]]);
    assert.deepEqual(linksOf(damaged.ns), ['lo']);
    assert.equal((await node.cni('CHECK', b.vars)).code, 0);
    assert.equal(error(await node.cni('GC', {}, conf())).code, 7, 'no list is not an empty list');
  }));

test('a pod made anew has another address; an address by annotation or by the runtime is the one given', { skip }, () =>
  withNode(async (node, net) => {
    const first = net.pod('web-a');
    assert.equal(await net.added(node, first), '10.244.0.2');
    await node.cni('DEL', first.vars);
    const wants = (name: string, annotations: Record<string, string>): void =>
      net.client.put(Pods, { metadata: { name, namespace: 'default', annotations }, spec: { nodeName: 'm1' } } as Pod);
    assert.equal(await net.added(node, net.pod('web-b')), '10.244.0.3');
    wants('podways', { 'podway.io/ip-addrs': '["10.244.0.50"]', 'cni.projectcalico.org/ipAddrs': '["10.244.0.60"]' });
    wants('calicos', { 'cni.projectcalico.org/ipAddrs': '["10.244.0.60"]' });
    wants('second', { 'podway.io/ip-addrs': '10.244.0.50' });
    wants('nonsense', { 'podway.io/ip-addrs': '["10.244.0"]' });
    assert.equal(await net.added(node, net.pod('podways')), '10.244.0.50');
    assert.equal(await net.added(node, net.pod('calicos')), '10.244.0.60');
    assert.equal(await net.added(node, net.pod('web-c')), '10.244.0.4', 'a fixed address does not move the next one');
    const before = await node.leavings();
    const e = error(await node.cni('ADD', net.pod('second').vars));
    assert.deepEqual(e, { code: 102, msg: 'requested address 10.244.0.50 is in use', details: 'by pod default/podways' });
    assert.match(error(await node.cni('ADD', net.pod('nonsense').vars)).msg, /podway\.io\/ip-addrs is not a list of addresses/);
    assert.deepEqual(await node.leavings(), before);
    const asked = await node.cni('ADD', net.pod('by-runtime').vars, conf('1.1.0', { runtimeConfig: { ips: ['10.244.0.70/24'], mac: '02:00:00:00:00:07' } }));
    assert.equal(addressIn(asked.out), '10.244.0.70');
    assert.equal((asked.out as { interfaces: { mac: string }[] }).interfaces[2]?.mac, '02:00:00:00:00:07', 'the capability mac, which the configuration offers');
  }));

test('a run by hand, with its pod not in the API, gives the same as a runtime', { skip }, () =>
  withNode(async (node, net) => {
    const pod = net.pod('by-hand');
    const { code, out } = await runShim(node.socket, { ...pod.vars, CNI_COMMAND: 'ADD', CNI_IFNAME: 'eth0' }, conf());
    assert.equal(code, 0);
    assert.equal(addressIn(out), '10.244.0.2');
  }));
