/** Further networks of pods: both forms of the annotation, and real plugins on real devices through all verbs. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCniError } from '@podway/cni';
import { kernelHas, RtNetlink } from '@podway/kernel';
import { NetworkAttachmentDefinitions, Pods, type Pod } from '@podway/kube';
import { NETWORKS_ANNOTATION, selectedNetworks, STATUS_ANNOTATION, type NetworkStatus } from '../src/index.js';
import { conf, inNs, lines, needsRoot, NETWORK, pathOf, podArgs, until, withNetwork, withNode, type Answer, type TestNetwork, type TestNode, type TestPod } from './network.js';

const PLUGINS = '/usr/lib/cni';
const missing = ['macvlan', 'host-local', 'bridge', 'static'].filter((p) => !existsSync(join(PLUGINS, p)));
const skip = needsRoot || (missing.length ? `the reference plugins are missing (Debian package containernetworking-plugins)` : false);
const skipMacvlan = skip || (kernelHas('link', 'macvlan') ? false : 'this kernel has no macvlan');

const annotated = (text: string): Record<string, string> => ({ [NETWORKS_ANNOTATION]: text });

test('the annotation, short and long', () => {
  const cases: [string, { namespace: string; name: string; ifname: string; ips?: string[]; mac?: string }[]][] = [
    ['', []],
    ['macvlan-conf', [{ namespace: 'ns', name: 'macvlan-conf', ifname: 'net1' }]],
    ['a, other/b@eth7 ,c', [{ namespace: 'ns', name: 'a', ifname: 'net1' }, { namespace: 'other', name: 'b', ifname: 'eth7' }, { namespace: 'ns', name: 'c', ifname: 'net3' }]],
    ['[{"name":"a"},{"name":"b","namespace":"other","interface":"eth7","ips":["192.168.1.9/24"],"mac":"02:00:00:00:00:0A","cni-args":{}}]',
      [{ namespace: 'ns', name: 'a', ifname: 'net1' }, { namespace: 'other', name: 'b', ifname: 'eth7', ips: ['192.168.1.9/24'], mac: '02:00:00:00:00:0a' }]],
  ];
  for (const [text, wanted] of cases) assert.deepEqual(selectedNetworks(annotated(text), 'ns'), wanted.map((w) => ({ ips: [], ...w })), text);
  const bad: [string, RegExp][] = [
    ['a b', /"a b" is not of the form/], ['a,,b', /"" is not of the form/], ['A', /not of the form/], ['a@', /not of the form/], ['a@this-name-is-too-long', /longer than 15 bytes/],
    ['a@x,b@x', /two networks ask for the interface x/], ['[{', /not JSON/], ['[{"interface":"x"}]', /name/], ['[{"name":"a","ips":["1.2.3"]}]', /not an IP address/],
    ['[{"name":"a","mac":"1"}]', /not a MAC address/],
  ];
  for (const [text, says] of bad) assert.throws(() => selectedNetworks(annotated(text), 'ns'), (e) => isCniError(e, 'INVALID_CONFIG') && says.test(e.message), text);
});

test('whatever the annotation says: selections or a refusal that names it', () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
    try {
      for (const s of selectedNetworks(annotated(text), 'ns')) assert.match(s.ifname, /^[^/:\s]{1,15}$/);
    } catch (e) {
      assert.ok(isCniError(e, 'INVALID_CONFIG'), String(e));
    }
  }));
});

const MACVLAN = {
  cniVersion: '0.3.1', type: 'macvlan', master: 'eth0', mode: 'bridge',
  ipam: { type: 'host-local', subnet: '192.168.1.0/24', rangeStart: '192.168.1.200', rangeEnd: '192.168.1.216' },
};

const define = (net: TestNetwork, name: string, config: object, namespace = 'default'): void =>
  net.client.put(NetworkAttachmentDefinitions, { metadata: { name, namespace }, spec: { config: JSON.stringify(config) } });

/** A pod in the API that asks for networks; host-local's files are kept with the test. */
function asking(net: TestNetwork, name: string, networks: string): TestPod {
  const pod = net.pod(name);
  net.client.put(Pods, { metadata: { name, namespace: 'default', annotations: annotated(networks) } } as Pod);
  return pod;
}

const path = { CNI_PATH: PLUGINS };
const cni = (node: TestNode, verb: string, pod: TestPod, stdin?: string): Promise<Answer> => node.cni(verb, { ...pod.vars, ...path }, stdin);
const failure = (a: Answer): { code: number; msg: string; details?: string } => (assert.equal(a.code, 1, JSON.stringify(a.out)), a.out as { code: number; msg: string; details?: string });
const interfaces = (pod: TestPod): string[] => RtNetlink.with(pod.ns, (nl) => nl.links().map((l) => l.name)).filter((n) => n !== 'lo').sort();
const status = async (net: TestNetwork, pod: TestPod): Promise<NetworkStatus[]> =>
  JSON.parse((await net.client.get(Pods, pod.name, 'default')).metadata?.annotations?.[STATUS_ANNOTATION] ?? '[]') as NetworkStatus[];
const cached = (node: TestNode): string[] => {
  const dir = join(node.stateDir, 'networks', 'results');
  return existsSync(dir) ? readdirSync(dir) : [];
};
/** host-local's reservations of one network. */
const reserved = (dir: string): string[] => (existsSync(dir) ? readdirSync(dir).filter((f) => /^\d/.test(f)) : []);

test('macvlan with host-local: net1 on the outer network, eth0 unchanged, the status annotation; 17 pods have room, the 18th is told', { skip: skipMacvlan }, () =>
  withNode(async (node, net) => {
    const dataDir = join(net.dir, 'host-local');
    define(net, 'macvlan-conf', { ...MACVLAN, ipam: { ...MACVLAN.ipam, dataDir } });
    const pods = Array.from({ length: 18 }, (_, i) => asking(net, `p${i}`, 'macvlan-conf'));
    const first = await cni(node, 'ADD', pods[0]!);
    assert.equal(first.code, 0, JSON.stringify(first.out));
    assert.deepEqual(interfaces(pods[0]!), ['eth0', 'net1']);
    assert.match(inNs(pods[0]!.ns, 'ip', 'addr', 'show', 'net1'), /inet 192\.168\.1\.200\/24/);
    assert.deepEqual(lines(inNs(pods[0]!.ns, 'ip', 'route', 'show', 'default')), ['default via 10.244.0.1 dev eth0']);
    const told = await status(net, pods[0]!);
    assert.deepEqual(told.map((s) => [s.name, s.interface, s.ips, s.default ?? false]), [
      ['podway', 'eth0', ['10.244.0.2'], true], ['default/macvlan-conf', 'net1', ['192.168.1.200'], false],
    ]);
    assert.equal(told[1]!.mac, RtNetlink.with(pods[0]!.ns, (nl) => nl.mustLink('net1').address));
    // A machine on the same wire, which knows nothing of pods.
    const other = net.addNode(1, { register: false });
    inNs(other.ns, 'ip', 'addr', 'add', '192.168.1.1/24', 'dev', 'eth0');
    inNs(other.ns, 'ping', '-c1', '-W3', '192.168.1.200');
    assert.deepEqual((await cni(node, 'ADD', pods[0]!)).out, first.out, 'again: the same answer, and no second address');
    assert.equal(reserved(join(dataDir, 'macvlan-conf')).length, 1);

    for (const p of pods.slice(1, 17)) assert.equal((await cni(node, 'ADD', p)).code, 0);
    const before = await node.leavings();
    const e = failure(await cni(node, 'ADD', pods[17]!));
    assert.match(e.msg, /^network default\/macvlan-conf \(net1\): plugin type="macvlan" failed \(add\): .*no IP addresses available in range set: 192\.168\.1\.200-192\.168\.1\.216/);
    assert.deepEqual(await node.leavings(), before, 'nothing of the 18th is left');
    assert.deepEqual(interfaces(pods[17]!), []);
    for (const p of pods.slice(0, 17)) assert.equal((await cni(node, 'DEL', p)).code, 0);
    assert.deepEqual(await node.leavings(), { links: [], files: [] });
    assert.deepEqual([reserved(join(dataDir, 'macvlan-conf')), cached(node)], [[], []]);
  }));

test('several networks, names of interfaces, an address and a MAC; CHECK finds what is gone; GC takes all of them', { skip: skipMacvlan }, () =>
  withNode(async (node, net) => {
    const dataDir = join(net.dir, 'host-local');
    define(net, 'wire', { ...MACVLAN, cniVersion: '1.0.0', ipam: { ...MACVLAN.ipam, dataDir } });
    define(net, 'fixed', { cniVersion: '1.0.0', plugins: [{ type: 'macvlan', master: 'eth0', capabilities: { ips: true, mac: true }, ipam: { type: 'static' } }] }, 'other');
    define(net, 'inner', { cniVersion: '1.0.0', type: 'bridge', bridge: 'br-inner', ipam: { type: 'host-local', subnet: '10.99.0.0/24', dataDir } });
    const pod = asking(net, 'a', JSON.stringify([
      { name: 'wire', interface: 'wan0' }, { name: 'fixed', namespace: 'other', ips: ['192.168.1.9/24'], mac: '02:00:00:00:00:99' }, { name: 'inner' },
    ]));
    const add = await cni(node, 'ADD', pod);
    assert.equal(add.code, 0, JSON.stringify(add.out));
    assert.deepEqual(interfaces(pod), ['eth0', 'net2', 'net3', 'wan0']);
    assert.deepEqual((await status(net, pod)).map((s) => [s.name, s.interface, s.ips.join()]), [
      ['podway', 'eth0', '10.244.0.2'], ['default/wire', 'wan0', '192.168.1.200'], ['other/fixed', 'net2', '192.168.1.9'], ['default/inner', 'net3', '10.99.0.2'],
    ]);
    assert.equal(RtNetlink.with(pod.ns, (nl) => nl.mustLink('net2').address), '02:00:00:00:00:99');
    assert.equal((await cni(node, 'CHECK', pod)).code, 0);
    inNs(pod.ns, 'ip', 'addr', 'flush', 'dev', 'net3');
    assert.match(failure(await cni(node, 'CHECK', pod)).details ?? '', /network default\/inner \(net3\): .*10\.99\.0\.2/);
    // The objects may change or go: the pod's networks are taken away as they were made.
    for (const [name, ns] of [['wire', 'default'], ['fixed', 'other'], ['inner', 'default']] as const) net.client.remove(NetworkAttachmentDefinitions, name, ns);
    const gc = await node.cni('GC', path, conf('1.1.0', { 'cni.dev/valid-attachments': [] }));
    assert.equal(gc.code, 0, JSON.stringify(gc.out));
    assert.deepEqual(interfaces(pod), []);
    assert.deepEqual([reserved(join(dataDir, 'wire')), reserved(join(dataDir, 'inner')), cached(node), await node.leavings()], [[], [], [], { links: [], files: [] }]);
  }));

test("Podway's own plugin for further interfaces, and a network of type flannel without flannel's plugin", { skip }, () =>
  withNode(async (node, net) => {
    define(net, 'own', { cniVersion: '1.1.0', type: 'podway-cni' });
    // To the letter what tutorials show: no name.
    define(net, 'flannel-conf', { cniVersion: '0.3.1', type: 'flannel', delegate: { isDefaultGateway: true } });
    const [pod, other] = [asking(net, 'a', 'own,flannel-conf'), net.pod('b')];
    const add = await cni(node, 'ADD', pod);
    assert.equal(add.code, 0, JSON.stringify(add.out));
    assert.deepEqual((await status(net, pod)).map((s) => [s.name, s.interface, s.ips.join()]), [
      ['podway', 'eth0', '10.244.0.2'], ['default/own', 'net1', '10.244.0.3'], ['default/flannel-conf', 'net2', '10.244.0.4'],
    ]);
    await net.added(node, other);
    for (const address of ['10.244.0.2', '10.244.0.3', '10.244.0.4']) inNs(other.ns, 'ping', '-c1', '-W2', address);
    assert.equal((await cni(node, 'CHECK', pod)).code, 0);
    const gc = await node.cni('GC', path, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'b', ifname: 'eth0' }] }));
    assert.equal(gc.code, 0, JSON.stringify(gc.out));
    assert.deepEqual((await node.leavings()).files, ['attachments/b@eth0.json']);
    assert.deepEqual(interfaces(pod), []);
  }));

test('what cannot be made is said with the network in front, and nothing is left', { skip }, () =>
  withNode(async (node, net) => {
    define(net, 'no-device', { ...MACVLAN, master: 'eth9', ipam: { type: 'static', addresses: [{ address: '192.168.1.5/24' }] } });
    define(net, 'no-plugin', { cniVersion: '1.0.0', type: 'sriov' });
    define(net, 'good', { cniVersion: '1.0.0', type: 'bridge', bridge: 'br-good', ipam: { type: 'host-local', subnet: '10.98.0.0/24', dataDir: join(net.dir, 'hl') } });
    net.client.put(NetworkAttachmentDefinitions, { metadata: { name: 'no-json', namespace: 'default' }, spec: { config: '{' } });
    const wrong: [string, RegExp][] = [
      ['nowhere', /there is no network default\/nowhere.*network-attachment-definitions/],
      ['no-json', /configuration of network default\/no-json cannot be used.*JSON/],
      ['good,no-plugin', /network default\/no-plugin \(net2\): .*sriov.*Install the executable sriov/],
      ['good,no-device', /network default\/no-device \(net2\): there is no device eth9 on this node.*Devices of this node: .*eth0/],
      ['a b', /annotation k8s\.v1\.cni\.cncf\.io\/networks cannot be used/],
    ];
    for (const [networks, says] of wrong) {
      const pod = asking(net, 'a', networks);
      const e = failure(await cni(node, 'ADD', pod));
      assert.match(`${e.msg} ${e.details ?? ""}`, says, `${networks}: ${JSON.stringify(e)}`);
      assert.deepEqual(interfaces(pod), [], networks);
      assert.deepEqual([await node.leavings(), reserved(join(net.dir, 'hl', 'good')), cached(node)], [{ links: [], files: [] }, [], []], networks);
    }
  }));

test('an agent that died among the networks: DEL takes away what there is, ADD begins afresh; a pod that ended meanwhile leaves no address', { skip }, () =>
  withNode(async (node, net) => {
    const dataDir = join(net.dir, 'hl');
    define(net, 'good', { cniVersion: '1.0.0', type: 'bridge', bridge: 'br-good', ipam: { type: 'host-local', subnet: '10.98.0.0/24', dataDir } });
    const pod = asking(net, 'a', 'good');
    assert.equal((await cni(node, 'ADD', pod)).code, 0);
    await node.stop();
    // As a kill between the plugin's end and the last record leaves it.
    const { readFile, writeFile } = await import('node:fs/promises');
    const file = join(node.stateDir, 'attachments', 'a@eth0.json');
    await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), networksReady: false }));
    await node.start();
    await node.ready();
    const again = await cni(node, 'ADD', pod);
    assert.equal(again.code, 0, JSON.stringify(again.out));
    assert.deepEqual(interfaces(pod), ['eth0', 'net1']);
    assert.equal(reserved(join(dataDir, 'good')).length, 1);
    await node.stop();
    pod.ns.close();
    await until('the kernel has ended the namespace', () => RtNetlink.with(node.ns, (nl) => !nl.links().some((l) => l.alias?.includes('default/a '))));
    await node.start();
    await until('it is collected', () => node.seen('collected').length > 0);
    assert.deepEqual([reserved(join(dataDir, 'good')), await node.leavings()], [[], { links: [], files: [] }]);
  }));

test('where Multus does it, Podway makes its own interface only', { skip }, () =>
  withNetwork(async (net) => {
    const node = net.addNode(0);
    await node.start({ network: JSON.stringify({ ...(JSON.parse(NETWORK) as object), FurtherInterfaces: false }) });
    await node.ready();
    const pod = asking(net, 'a', 'nowhere');
    assert.equal((await cni(node, 'ADD', pod)).code, 0);
    assert.deepEqual(interfaces(pod), ['eth0']);
    // Multus itself calls for the second one, with the name of its own network.
    const second = await node.cni('ADD', { CNI_CONTAINERID: 'a', CNI_NETNS: pathOf(pod.ns), CNI_ARGS: podArgs('a'), CNI_IFNAME: 'net1' }, conf('1.0.0', { name: 'by-multus' }));
    assert.equal(second.code, 0, JSON.stringify(second.out));
    assert.deepEqual(interfaces(pod), ['eth0', 'net1']);
  }));
