/** Services in the API: what is filled in, what is refused and how, addresses that are nobody else's, and what the controllers make of them. */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { EndpointSlices, EndpointsKind, Pods, SERVICE_NAME_LABEL, Services, type ObjectClient, type Pod, type Service } from '@podway/kube';
import { Told } from '@podway/kube/testing';
import { isPodwayError } from '@podway/errors';
import { ApiServer, DEFAULT_SERVICE_RANGES, MemoryStore } from '../src/apiserver/index.js';
import { startControllers, type Controller } from '../src/controllers/index.js';

type Spec = NonNullable<Service['spec']>;
const service = (name: string, spec: Partial<Spec>): Service => ({ metadata: { name, namespace: 'default' }, spec: { ports: [{ port: 80 }], ...spec } as Spec });

describe('Services', () => {
  let api: ApiServer;
  let client: ObjectClient;
  beforeEach(async () => {
    api = await ApiServer.open({ lab: 'test', store: new MemoryStore() });
    client = api.inProcessClient();
  });
  afterEach(() => api.close());
  const make = (name: string, spec: Partial<Spec>): Promise<Service> => client.create(Services, service(name, spec));
  const refused = async (spec: Partial<Spec>, said: RegExp, name = 'x'): Promise<void> => {
    await assert.rejects(make(name, spec), (e) => {
      assert.ok(isPodwayError(e, 'KUBE_INVALID'), String(e));
      assert.match(e.said ?? '', said);
      return true;
    });
  };

  it('get what Kubernetes fills in', async () => {
    const { spec } = await make('web', { selector: { app: 'web' } });
    const { clusterIP, clusterIPs, ...rest } = spec!;
    assert.match(clusterIP ?? '', /^10\.(9[6-9]|10\d|11[01])\./);
    assert.deepEqual(clusterIPs, [clusterIP]);
    assert.deepEqual(rest, {
      ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }], selector: { app: 'web' }, type: 'ClusterIP', sessionAffinity: 'None', internalTrafficPolicy: 'Cluster',
      ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack',
    });
    const lb = (await make('lb', { type: 'LoadBalancer', externalTrafficPolicy: 'Local', sessionAffinity: 'ClientIP' })).spec!;
    assert.deepEqual([lb.allocateLoadBalancerNodePorts, lb.sessionAffinityConfig], [true, { clientIP: { timeoutSeconds: 10800 } }]);
    for (const p of [lb.ports![0]!.nodePort!, lb.healthCheckNodePort!]) assert.ok(p >= 30000 && p <= 32767);
    assert.deepEqual((await make('none', { clusterIP: 'None' })).spec!.clusterIPs, ['None']);
    const name = (await make('name', { type: 'ExternalName', externalName: 'example.com', ports: [] })).spec!;
    assert.deepEqual([name.clusterIP, name.clusterIPs, name.internalTrafficPolicy], [undefined, undefined, undefined]);
  });

  it('never share an address or a node port', async () => {
    const all = await Promise.all(Array.from({ length: 300 }, (_, i) => make(`s${i}`, { type: 'NodePort' })));
    assert.equal(new Set(all.map((s) => s.spec!.clusterIP)).size, 300);
    assert.equal(new Set(all.map((s) => s.spec!.ports![0]!.nodePort)).size, 300);
    const [first] = all;
    await refused({ clusterIP: first!.spec!.clusterIP! }, /spec\.clusterIPs\[0\]: Invalid value: ".*": failed to allocate IP .*: provided IP is already allocated/);
    await refused({ type: 'NodePort', ports: [{ port: 80, nodePort: first!.spec!.ports![0]!.nodePort! }] }, /spec\.ports\[0\]\.nodePort: Invalid value: \d+: provided port is already allocated/);
    // One number for two protocols.
    const two = await make('two', { type: 'NodePort', ports: [{ name: 't', port: 53, protocol: 'TCP' }, { name: 'u', port: 53, protocol: 'UDP' }] });
    assert.equal(two.spec!.ports![0]!.nodePort, two.spec!.ports![1]!.nodePort);
    // What is given back can be had again.
    await client.delete(Services, { name: 's0', namespace: 'default' });
    assert.equal((await make('again', { clusterIP: first!.spec!.clusterIP! })).spec!.clusterIP, first!.spec!.clusterIP);
  });

  it('are given addresses until a small range is full, and then told so', async () => {
    const small = await ApiServer.open({ lab: 'small', store: new MemoryStore(), services: { serviceCidrs: ['10.96.0.0/29'], nodePorts: { from: 30000, to: 30003 } } });
    const c = small.inProcessClient();
    const ips = [];
    for (let i = 0; i < 6; i++) ips.push((await c.create(Services, service(`s${i}`, {}))).spec!.clusterIP);
    assert.deepEqual(ips.sort(), ['10.96.0.1', '10.96.0.2', '10.96.0.3', '10.96.0.4', '10.96.0.5', '10.96.0.6']);
    await assert.rejects(c.create(Services, service('s6', {})), (e) => isPodwayError(e, 'KUBE_INVALID') && /range is full/.test(e.said ?? ''));
    await small.close();
  });

  it('are refused in Kubernetes\' words', async () => {
    for (const [spec, said] of [
      [{ ports: [] }, /spec\.ports: Required value/],
      [{ ports: [{ port: 80 }, { port: 81 }] }, /spec\.ports\[0\]\.name: Required value/],
      [{ ports: [{ port: 0 }] }, /spec\.ports\[0\]\.port: Invalid value: 0: must be between 1 and 65535, inclusive/],
      [{ ports: [{ port: 80, targetPort: 'not_a_name' }] }, /spec\.ports\[0\]\.targetPort: Invalid value/],
      [{ ports: [{ port: 80, protocol: 'ICMP' }] }, /Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP"/],
      [{ type: 'Cluster' }, /spec\.type: Unsupported value: "Cluster": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"/],
      [{ clusterIP: '10.0.0.1' }, /failed to allocate IP 10\.0\.0\.1: the provided IP \(10\.0\.0\.1\) is not in the valid range\. The range of valid IPs is 10\.96\.0\.0\/12/],
      [{ clusterIP: 'ten' }, /spec\.clusterIPs\[0\]|spec\.clusterIP/],
      [{ type: 'NodePort', clusterIP: 'None' }, /may not be set to 'None' for NodePort services/],
      [{ type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] }, /provided port is not in the valid range\. The range of valid ports is 30000-32767/],
      [{ ports: [{ port: 80, nodePort: 30080 }] }, /spec\.ports\[0\]\.nodePort: Forbidden: may not be used when `type` is 'ClusterIP'/],
      [{ externalIPs: ['127.0.0.1'] }, /may not be in the loopback range/],
      [{ type: 'ExternalName', ports: [] }, /spec\.externalName: Required value/],
      [{ sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 90000 } } }, /must be greater than 0 and less than 86400/],
      [{ ipFamilyPolicy: 'RequireDualStack' }, /spec\.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services/],
      [{ ipFamilies: ['IPv6'] }, /spec\.ipFamilies\[0\]: Invalid value: "IPv6": not configured on this cluster/],
      [{ loadBalancerSourceRanges: ['10.0.0.0/8'] }, /may only be used when `type` is 'LoadBalancer'/],
    ] as const) await refused(spec as unknown as Partial<Spec>, said);
    await refused({}, /a DNS-1035 label must consist of lower case/, '1st');
  });

  it('keep their address and node port through changes; what is set may not change', async () => {
    const made = await make('web', { type: 'NodePort', selector: { app: 'web' } });
    const { clusterIP } = made.spec!;
    const [port] = made.spec!.ports!;
    const replaced = await client.update(Services, { ...service('web', { type: 'NodePort', selector: { app: 'other' } }), apiVersion: 'v1', kind: 'Service' });
    assert.deepEqual([replaced.spec!.clusterIP, replaced.spec!.ports![0]!.nodePort], [clusterIP, port!.nodePort]);
    const down = await client.patch(Services, { name: 'web', namespace: 'default' }, { spec: { type: 'ClusterIP' } }, { type: 'merge' });
    assert.deepEqual([down.spec!.clusterIP, down.spec!.ports![0]!.nodePort, down.spec!.externalTrafficPolicy], [clusterIP, undefined, undefined]);
    await assert.rejects(client.patch(Services, { name: 'web', namespace: 'default' }, { spec: { clusterIP: '10.96.7.7', clusterIPs: ['10.96.7.7'] } }, { type: 'merge' }),
      (e) => isPodwayError(e, 'KUBE_INVALID') && /spec\.clusterIPs\[0\]: Invalid value: "10\.96\.7\.7": may not change once set/.test(e.said ?? ''));
    const name = await client.patch(Services, { name: 'web', namespace: 'default' }, { spec: { type: 'ExternalName', externalName: 'example.com', clusterIP: null, clusterIPs: null } }, { type: 'merge' });
    assert.equal(name.spec!.clusterIP, undefined);
  });

  it('have addresses of both families where the cluster has both', async () => {
    const dual = await ApiServer.open({ lab: 'dual', store: new MemoryStore(), services: { ...DEFAULT_SERVICE_RANGES, serviceCidrs: ['10.96.0.0/12', 'fd00:10:96::/112'] } });
    const c = dual.inProcessClient();
    const of = async (name: string, spec: Partial<Spec>) => {
      const { ipFamilies, clusterIPs } = (await c.create(Services, service(name, spec))).spec!;
      return [ipFamilies!.join(), clusterIPs!.map((i) => (i.includes(':') ? 6 : 4)).join()];
    };
    assert.deepEqual(await of('single', {}), ['IPv4', '4']);
    assert.deepEqual(await of('prefer', { ipFamilyPolicy: 'PreferDualStack' }), ['IPv4,IPv6', '4,6']);
    assert.deepEqual(await of('require', { ipFamilyPolicy: 'RequireDualStack' }), ['IPv4,IPv6', '4,6']);
    assert.deepEqual(await of('six', { ipFamilies: ['IPv6'] }), ['IPv6', '6']);
    assert.deepEqual(await of('six-first', { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv6', 'IPv4'] }), ['IPv6,IPv4', '6,4']);
    const less = await c.patch(Services, { name: 'require', namespace: 'default' }, { spec: { ipFamilyPolicy: 'SingleStack' } }, { type: 'merge' });
    assert.deepEqual([less.spec!.ipFamilies, less.spec!.clusterIPs!.length], [['IPv4'], 1]);
    await dual.close();
  });
});

describe('the controllers of Services', () => {
  let api: ApiServer;
  let client: ObjectClient;
  let controllers: Controller[];
  before(async () => {
    api = await ApiServer.open({ lab: 'test', store: new MemoryStore() });
    client = api.inProcessClient();
    controllers = startControllers(api, { clusterRanges: [{ cidr: '10.244.0.0/16' }], api: { serviceAddress: '10.96.0.1', address: '172.18.0.1', port: 6443 } });
  });
  after(async () => {
    for (const c of controllers) c.stop();
    await api.close();
  });

  const pod = (name: string, n: number, http: number): Pod => ({
    metadata: { name, namespace: 'default', labels: { app: 'web' } },
    spec: { nodeName: `m${n}`, containers: [{ name: 'c', image: 'i', ports: [{ name: 'http', containerPort: http }] }] },
  });
  const run = async (name: string, ip: string, ready: boolean): Promise<void> => {
    const now = await client.get(Pods, name, 'default');
    await client.update(Pods, { ...now, status: { ...now.status, phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] } }, 'status');
  };

  it('make the Service kubernetes, and make it again', async () => {
    const told = new Told(client, Services);
    await told.until(() => told.events.some((e) => e.name === 'kubernetes'), 'Service kubernetes');
    assert.equal((await client.get(Services, 'kubernetes', 'default')).spec!.clusterIP, '10.96.0.1');
    const slices = new Told(client, EndpointSlices);
    await slices.until(() => slices.events.some((e) => e.name === 'kubernetes'), 'its slice');
    await client.delete(Services, { name: 'kubernetes', namespace: 'default' });
    await told.until(() => told.events.filter((e) => e.name === 'kubernetes' && e.type === 'ADDED').length === 2, 'it comes again');
    told.stop();
    slices.stop();
  });

  it('follow pods: readiness, named ports, ending, and the Service\'s own end', async () => {
    const slices = new Told(client, EndpointSlices);
    const web = async () => (await client.list(EndpointSlices, { namespace: 'default', labelSelector: `${SERVICE_NAME_LABEL}=web` }));
    const view = async (): Promise<string> => (await web()).flatMap((s) => s.endpoints.map((e) => `${e.addresses[0]}:${s.ports![0]!.port} ${e.nodeName} ${e.conditions!.ready ? 'ready' : ''}${e.conditions!.serving ? ' serving' : ''}${e.conditions!.terminating ? ' terminating' : ''}`)).sort().join('; ');
    const become = async (wanted: string): Promise<void> => {
      let last = '';
      await slices.until(() => true, 'begin');
      for (let i = 0; i < 500 && (last = await view()) !== wanted; i++) await new Promise((r) => setImmediate(r));
      assert.equal(last, wanted);
    };
    for (const [name, n, http] of [['a', 1, 8080], ['b', 2, 8080], ['c', 2, 9090]] as const) await client.create(Pods, pod(name, n, http));
    await client.create(Services, service('web', { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] }));
    await run('a', '10.244.0.2', true);
    await run('b', '10.244.1.2', false);
    await run('c', '10.244.1.3', true);
    await become('10.244.0.2:8080 m1 ready serving; 10.244.1.2:8080 m2 ; 10.244.1.3:9090 m2 ready serving');
    await run('b', '10.244.1.2', true);
    await become('10.244.0.2:8080 m1 ready serving; 10.244.1.2:8080 m2 ready serving; 10.244.1.3:9090 m2 ready serving');
    assert.equal((await web()).length, 2, 'a slice for each number the port has');
    await client.delete(Pods, { name: 'a', namespace: 'default' });
    await become('10.244.0.2:8080 m1  serving terminating; 10.244.1.2:8080 m2 ready serving; 10.244.1.3:9090 m2 ready serving');
    await client.delete(Pods, { name: 'a', namespace: 'default' }, { gracePeriodSeconds: 0 });
    await become('10.244.1.2:8080 m2 ready serving; 10.244.1.3:9090 m2 ready serving');
    const ends = await client.get(EndpointsKind, 'web', 'default');
    assert.deepEqual(ends.subsets!.flatMap((s) => s.addresses!.map((a) => `${a.ip}:${s.ports![0]!.port}`)).sort(), ['10.244.1.2:8080', '10.244.1.3:9090']);
    await client.delete(Services, { name: 'web', namespace: 'default' });
    for (let i = 0; i < 500 && (await web()).length > 0; i++) await new Promise((r) => setImmediate(r));
    assert.deepEqual(await web(), []);
    slices.stop();
  });
});
