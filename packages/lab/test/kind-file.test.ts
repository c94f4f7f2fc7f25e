/** kind's cluster configuration: what becomes of every key, and that no key is dropped in silence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '@podway/errors';
import { readLabFile } from '../src/cluster/lab-file.js';

const HEAD = 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n';
const TAINT = [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }];

/** Every key that kind's types have. */
const ALL = `${HEAD}name: all
networking:
  ipFamily: ipv4
  apiServerPort: 45678
  apiServerAddress: 10.0.0.1
  podSubnet: 10.111.0.0/16
  serviceSubnet: 10.112.0.0/12
  disableDefaultCNI: true
  kubeProxyMode: ipvs
  dnsSearch: [a.example]
featureGates: {SomeGate: true}
runtimeConfig: {api/alpha: "false"}
kubeadmConfigPatches: ["x"]
kubeadmConfigPatchesJSON6902: [{group: x}]
containerdConfigPatches: ["x"]
containerdConfigPatchesJSON6902: ["x"]
nodes:
- role: control-plane
  image: kindest/node:v1.34.0
  labels: {tier: front}
  extraMounts: [{hostPath: /a, containerPath: /b, readOnly: true, selinuxRelabel: false, propagation: None}]
  extraPortMappings:
  - {containerPort: 80, hostPort: 8080, listenAddress: 127.0.0.1, protocol: TCP}
  - {containerPort: 53, hostPort: 5353, protocol: UDP}
  - {containerPort: 81, listenAddress: 0.0.0.0}
  kubeadmConfigPatches: ["x"]
- role: worker
- role: worker
- role: control-plane
`;

test('names, roles, labels and taints are those that kind gives; ranges and the port are taken over', () => {
  const { config: c, form } = readLabFile(ALL.replace('10.112.0.0/12', '10.96.0.0/16'), 'kind.yaml');
  assert.equal(form, 'kind');
  assert.deepEqual(c.nodes.map((n) => [n.name, n.taints ?? []]), [['all-control-plane', TAINT], ['all-worker', []], ['all-worker2', []], ['all-control-plane2', TAINT]]);
  assert.deepEqual(c.nodes[0]?.labels, { 'node-role.kubernetes.io/control-plane': '', 'node.kubernetes.io/exclude-from-external-load-balancers': '', tier: 'front' });
  assert.deepEqual([c.name, c.network.clusterCIDR, c.network.serviceCIDR, c.network.cni, c.api?.port, c.pods], ['all', '10.111.0.0/16', '10.96.0.0/16', 'none', 45678, []]);
  assert.deepEqual(c.nodes[0]?.ports, [{ hostPort: 8080, containerPort: 80 }, { hostPort: 0, containerPort: 81 }]);
  assert.equal(readLabFile(ALL.replace('10.112.0.0/12', '10.96.0.0/16'), 'kind.yaml', 'other').config.nodes[1]?.name, 'other-worker');
});

test('a file of two lines is one control plane that takes pods, called kind', () => {
  const { config: c, notes } = readLabFile(HEAD, 'kind.yaml');
  assert.deepEqual([c.name, c.nodes.map((n) => [n.name, n.taints]), c.network.clusterCIDR, c.network.serviceCIDR, notes], ['kind', [['kind-control-plane', undefined]], '10.244.0.0/16', '10.96.0.0/16', []]);
});

test('two families: ranges of pods and of Services are both taken over', () => {
  const own = readLabFile(`${HEAD}networking: {ipFamily: dual, podSubnet: "10.50.0.0/16,fd00:50::/56", serviceSubnet: "fd00:60::/112,10.60.0.0/16"}\n`, 'kind.yaml').config;
  assert.deepEqual([own.network.clusterCIDR, own.second?.clusterCIDR, own.network.serviceCIDR], ['10.50.0.0/16', 'fd00:50::/56', '10.60.0.0/16,fd00:60::/112'], 'the first family first');
  assert.equal(readLabFile(`${HEAD}networking: {ipFamily: dual}\n`, 'kind.yaml').config.network.serviceCIDR, '10.96.0.0/16,fd00:10:96::/112');
  const off = readLabFile(`${HEAD}networking: {ipFamily: ipv6, kubeProxyMode: none}\n`, 'kind.yaml');
  assert.deepEqual([off.config.network.serviceCIDR, off.config.network.proxy, off.notes], ['fd00:10:96::/112', 'none', []]);
});

test('every key that does not do what kind would do is named in one line', () => {
  const { notes } = readLabFile(ALL.replace('10.112.0.0/12', '10.96.0.0/16'), 'kind.yaml');
  const named = [
    'networking.kubeProxyMode: there is no kube-proxy', 'networking.apiServerAddress: 10.0.0.1 is not used', 'networking.dnsSearch: ', 'featureGates: SomeGate: no meaning here',
    'runtimeConfig: ', 'kubeadmConfigPatches: ', 'kubeadmConfigPatchesJSON6902: ', 'containerdConfigPatches: ', 'containerdConfigPatchesJSON6902: ', 'nodes[0] (all-control-plane).image: kindest/node:v1.34.0',
    'nodes[0] (all-control-plane).extraMounts: /a → /b is not mounted', 'nodes[0] (all-control-plane).extraPortMappings: port 53/UDP is not mapped',
    'nodes[0] (all-control-plane).extraPortMappings: port 81 is mapped at 127.0.0.1, not at 0.0.0.0', 'nodes[0] (all-control-plane).kubeadmConfigPatches: ',
  ];
  for (const n of named) assert.equal(notes.filter((x) => x.startsWith(n)).length, 1, `${n}\nin\n${notes.join('\n')}`);
  assert.equal(notes.length, named.length, notes.join('\n'));
  assert.ok(notes.every((n) => !n.includes('\n')));
});

const CASES: readonly (readonly [string, string, RegExp])[] = [
  ['a key that kind does not know', `${HEAD}networking:\n  podSubnets: 10.0.0.0/8\n`, /^kind\.yaml:4:3: networking\.podSubnets: unknown key; did you mean podSubnet\?$/],
  ['another version', 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3\n', /^kind\.yaml:2:13: apiVersion: /],
  ['a role', `${HEAD}nodes:\n- role: master\n`, /^kind\.yaml:4:9: nodes\[0\]\.role: .*control-plane.*worker/],
  ['workers alone', `${HEAD}nodes:\n- role: worker\n`, /^kind\.yaml:\d+:\d+: nodes: at least one node must have the role control-plane/],
  ['a range', `${HEAD}networking: {podSubnet: abc}\n`, /networking\.podSubnet: "abc" is no range/],
  ['ranges that overlap', `${HEAD}networking: {podSubnet: 10.96.0.0/12}\n`, /networking\.serviceSubnet: overlaps with the cluster's range 10\.96\.0\.0\/12/],
  ['a port that is mapped twice', `${HEAD}nodes:\n- extraPortMappings: [{containerPort: 80, hostPort: 8080}, {containerPort: 81, hostPort: 8080}]\n`, /extraPortMappings\[0\]\.hostPort: 8080 is mapped twice/],
];

for (const [name, text, expected] of CASES) {
  test(`mistakes with their place: ${name}`, () => {
    assert.throws(() => readLabFile(text, 'kind.yaml'), (e) => {
      assert.ok(e instanceof PodwayError && e.code === 'LAB_FILE_INVALID', String(e));
      const found = (e.said ?? '').split('\n').map((l) => l.trim()).filter(Boolean);
      assert.ok(found.some((f) => expected.test(f)), found.join('\n'));
      return true;
    });
  });
}

test('a file that a page has taken the indentation from is read all the same, and said so', () => {
  const text = `${HEAD}networking:\n  apiServerAddress: "10.10.151.201"\n  podSubnet: "192.168.0.0/16"\nnodes:\n- role: control-plane\n  extraPortMappings:\n  - containerPort: 6443\n    hostPort: 6443\n    protocol: tcp\n- role: worker\n`;
  const flat = text.replace(/^ +/gm, '');
  const [a, b] = [readLabFile(text, 'kind.yaml'), readLabFile(flat, 'kind.yaml')];
  assert.deepEqual(b.config, a.config);
  assert.deepEqual(b.notes, ["kind.yaml has lost its indentation: read by what kind's keys belong to", ...a.notes]);
});
