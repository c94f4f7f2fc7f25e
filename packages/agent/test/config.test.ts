/** The cluster's configuration: Flannel's own file unchanged, and every mistake with its words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { parseNetworkConfig } from '../src/index.js';

test("Flannel's net-conf.json as its ConfigMap has it", () => {
  const text = `{
    "Network": "10.244.0.0/16",
    "EnableNFTables": false,
    "Backend": {
      "Type": "vxlan",
      "VNI": 1,
      "Port": 8472
    }
  }`;
  const flannels = {
    clusterCidrs: ['10.244.0.0/16'], wiring: 'bridge', bridge: 'cni0', masquerade: true, proxy: 'podway', furtherInterfaces: true,
    backend: { type: 'vxlan', vni: 1, port: 8472, device: 'flannel.1', device6: 'flannel-v6.1', crossSubnet: false, df: 'unset' },
  };
  assert.deepEqual(parseNetworkConfig(text), flannels);
  assert.deepEqual(parseNetworkConfig('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'), flannels, 'the short form means the same');
});

test('dual stack, an MTU, another VNI, what is Podway\'s own', () => {
  const all = { Network: '10.1.2.3/16', IPv6Network: 'fd00:10::/56', Bridge: 'br0', Masquerade: false, Backend: { Type: 'vxlan', VNI: 7, Port: 4789, MTU: 1400, DirectRouting: true } };
  assert.deepEqual(parseNetworkConfig(JSON.stringify(all)), {
    clusterCidrs: ['10.1.0.0/16', 'fd00:10::/56'], wiring: 'bridge', bridge: 'br0', masquerade: false, proxy: 'podway', furtherInterfaces: true, mtu: 1400,
    backend: { type: 'vxlan', vni: 7, port: 4789, device: 'flannel.7', device6: 'flannel-v6.7', crossSubnet: true, df: 'unset' },
  });
  assert.deepEqual(parseNetworkConfig(JSON.stringify({ ...all, EnableIPv4: false, MTU: 1300 })).clusterCidrs, ['fd00:10::/56']);
  assert.equal(parseNetworkConfig(JSON.stringify({ ...all, MTU: 1300 })).mtu, 1300, 'the outer one wins');
});

const bad: [text: string, says: RegExp][] = [
  ['', /not JSON/],
  ['{"Network": "10.244.0.0/16"', /not JSON/],
  ['[]', /expected object/],
  ['{"Network":"10.244.0.0/16"}', /Backend/],
  ['{"Backend":{"Type":"vxlan"}}', /Network: missing \(the range that all pods are in\)/],
  ['{"Network":"10.244.0.0/16","EnableIPv4":false,"Backend":{"Type":"vxlan"}}', /Network: missing/],
  ['{"Network":"10.244.0.0","Backend":{"Type":"vxlan"}}', /Network: not a range in CIDR notation/],
  ['{"Network":"10.244.0.0/33","Backend":{"Type":"vxlan"}}', /Network: not a range in CIDR notation/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"carrier-pigeon"}}', /Backend\.Type: "carrier-pigeon" is not one of: .*vxlan/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":0}}', /Backend\.VNI/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}', /Backend\.VNI/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","Port":65536}}', /Backend\.Port/],
  ['{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","Port":"8472"}}', /Backend\.Port/],
  ['{"Network":"10.244.0.0/16","MTU":100,"Backend":{"Type":"vxlan"}}', /MTU/],
  ['{"Network":"10.244.0.0/16","Bridge":"a name with spaces","Backend":{"Type":"vxlan"}}', /Bridge: not a device name/],
];
for (const [text, says] of bad) {
  test(`refused: ${text || '(empty)'}`, () =>
    assert.throws(() => parseNetworkConfig(text), (e) => isPodwayError(e, 'NETWORK_CONFIG_INVALID') && says.test(e.message) && /A valid one/.test(e.hint ?? '')));
}
