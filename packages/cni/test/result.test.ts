import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CNI_VERSIONS, type CniResult, CniError, convertResult, isCniError, parseResult, resultTo } from '@podway/cni';

const full: CniResult = {
  interfaces: [
    { name: 'cni0', mac: '0a:58:0a:f4:00:01', mtu: 1450 },
    { name: 'eth0', mac: '0a:58:0a:f4:00:05', mtu: 1450, sandbox: '/var/run/netns/cni-1', socketPath: '/run/x.sock', pciID: '0000:04:00.5' },
  ],
  ips: [
    { address: '10.244.0.5/24', gateway: '10.244.0.1', interface: 1 },
    { address: 'fd00::5/64', gateway: 'fd00::1', interface: 1 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1', mtu: 1450, advmss: 1410, priority: 10, table: 254, scope: 0 }, { dst: '::/0' }],
  dns: { nameservers: ['10.96.0.10'], domain: 'cluster.local', search: ['svc.cluster.local'], options: ['ndots:5'] },
};

const dns = { nameservers: ['10.96.0.10'], domain: 'cluster.local', search: ['svc.cluster.local'], options: ['ndots:5'] };
const plainInterfaces = [
  { name: 'cni0', mac: '0a:58:0a:f4:00:01' },
  { name: 'eth0', mac: '0a:58:0a:f4:00:05', sandbox: '/var/run/netns/cni-1' },
];
const plainRoutes = [{ dst: '0.0.0.0/0', gw: '10.244.0.1' }, { dst: '::/0' }];
const tagged = (cniVersion: string): object => ({
  cniVersion,
  interfaces: plainInterfaces,
  ips: [
    { version: '4', interface: 1, address: '10.244.0.5/24', gateway: '10.244.0.1' },
    { version: '6', interface: 1, address: 'fd00::5/64', gateway: 'fd00::1' },
  ],
  routes: plainRoutes,
  dns,
});

const golden: Record<string, object> = {
  '0.3.0': tagged('0.3.0'),
  '0.3.1': tagged('0.3.1'),
  '0.4.0': tagged('0.4.0'),
  '1.0.0': { cniVersion: '1.0.0', interfaces: plainInterfaces, ips: full.ips, routes: plainRoutes, dns },
  '1.1.0': { cniVersion: '1.1.0', ...full },
};

for (const version of CNI_VERSIONS) {
  test(`the result of ${version}, whole`, () => {
    assert.deepEqual(JSON.parse(JSON.stringify(resultTo(full, version))), golden[version]);
  });
  for (const other of CNI_VERSIONS) {
    test(`${version} to ${other} keeps all that both can say`, () => {
      const down = resultTo(parseResult(resultTo(full, version), 'x'), other);
      const least = version === '1.1.0' ? golden[other] : other === '1.1.0' ? { ...golden['1.0.0'], cniVersion: '1.1.0' } : golden[other];
      assert.deepEqual(down, least);
    });
  }
}

test('nothing is said where there is nothing: no empty lists, no empty dns', () => {
  assert.deepEqual(convertResult({ cniVersion: '0.3.1', interfaces: null, ips: [], routes: [], dns: {} }, '1.1.0'), { cniVersion: '1.1.0' });
});

test('what is no result says where', () => {
  const cases: [unknown, string][] = [
    [{ ips: [{ address: '10.0.0.1' }] }, 'ips[0].address: not an address in CIDR notation'],
    [{ ips: [{ address: '10.0.0.1/24', gateway: 'x' }] }, 'ips[0].gateway: not an IP address'],
    [{ routes: [{ dst: 'default' }] }, 'routes[0].dst: not an address in CIDR notation'],
  ];
  for (const [json, where] of cases) {
    assert.throws(() => parseResult(json, 'prevResult'), (e) => isCniError(e, 'DECODING_FAILURE') && e.details === where && e.msg === 'prevResult is not a CNI result');
  }
});

test('an error of ours as CNI prints it', () => {
  assert.deepEqual(new CniError('TRY_AGAIN_LATER', 'busy', { details: 'x', hint: 'Wait.' }).toCni('0.4.0'), { cniVersion: '0.4.0', code: 11, msg: 'busy', details: 'x; Wait.' });
  assert.deepEqual(new CniError(151, 'theirs').toCni('1.0.0'), { cniVersion: '1.0.0', code: 151, msg: 'theirs' });
  assert.equal(new CniError(7, 'm').code, 'CNI_INVALID_CONFIG');
  assert.equal(new CniError(151, 'm').code, 'CNI_PLUGIN_151');
});
