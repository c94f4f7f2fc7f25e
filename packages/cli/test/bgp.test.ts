/** How sessions and routes look; what BIRD says is made in the agent's tests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sinceText } from '../src/bgp.js';
import { bgpKeys } from '../src/bgp-options.js';
import { command as routes } from '../src/commands/bgp-routes.js';
import { command as status } from '../src/commands/bgp-status.js';
import { renderTable } from '../src/table.js';
import type { Style } from '../src/output.js';

const style = { width: undefined } as Style;

const session = {
  node: 'm1', protocol: 'mesh_172_18_0_3', protocolState: 'up', since: '2020-01-02 03:04:05', routes: {}, type: 'mesh', address: '172.18.0.3', name: 'node m2',
  asn: 64512, localAsn: 64512, state: 'Established', disabled: false, lastError: undefined, gracefulRestart: false, neighborId: '172.18.0.3', sourceAddress: '172.18.0.2',
  holdTimer: { left: 80.5, of: 90 }, imported: 1, exported: 2, explanation: { cause: 'established', text: 'the session stands' },
} as const;

test('bgp status: as operators know it, with the reason of what does not stand', () => {
  const shown = {
    sessions: [
      session,
      { ...session, protocol: 'external_172_18_0_1', type: 'external', address: '172.18.0.1', name: 'AS 65001', protocolState: 'start', state: 'Connect', imported: 0, exported: 0,
        explanation: { cause: 'no-speaker', text: '172.18.0.1 is up, and nothing listens on TCP port 179 there' } } as const,
    ],
    silent: [{ node: 'm2', reason: 'speak with BIRD: no BIRD runs there' }],
  };
  assert.equal(renderTable(status.view.table!(shown, false, style)), [
    'NODE  PEER ADDRESS  PEER      PEER TYPE          STATE  SINCE                INFO         IN  OUT  REASON',
    'm1    172.18.0.3    node m2   node-to-node mesh  up     2020-01-02 03:04:05  Established   1    2',
    'm1    172.18.0.1    AS 65001  external           start  2020-01-02 03:04:05  Connect       0    0  no-speaker: 172.18.0.1 is up, and nothing listens on TCP port 179 there',
    'm2    -             -         -                  -      -                    no answer             speak with BIRD: no BIRD runs there',
  ].join('\n'));
  const wide = renderTable(status.view.table!(shown, true, style)).split('\n');
  assert.match(wide[1]!, /64512 +64512 +172\.18\.0\.3 +80\.5\/90 +mesh_172_18_0_3$/);
  assert.deepEqual(status.view.names!(shown), ['m1/mesh_172_18_0_3', 'm1/external_172_18_0_1']);
  assert.match(renderTable(status.view.table!({ sessions: [], silent: [] }, false, style)), /Nobody has a BGP session: the mesh is off/);
});

test('bgp routes: what is used has a star', () => {
  const route = {
    node: 'm1', prefix: '10.244.1.0/24', dest: 'unicast', from: 'mesh_172_18_0_3', since: '2020-01-02 03:04:05', best: true, preference: 100, gateway: '172.18.0.3',
    dev: 'eth0', asPath: [65001, 64512], nextHop: '172.18.0.3', localPref: 100, communities: [], originator: undefined,
  };
  assert.equal(renderTable(routes.view.table!([route, { ...route, prefix: '10.244.0.0/24', dest: 'blackhole', from: 'own4', gateway: undefined, dev: undefined, asPath: [] }], false, style)), [
    'NODE     PREFIX         VIA         DEV   FROM             AS PATH      SINCE',
    'm1    *  10.244.1.0/24  172.18.0.3  eth0  mesh_172_18_0_3  65001 64512  2020-01-02 03:04:05',
    'm1    *  10.244.0.0/24  own         -     own4             -            2020-01-02 03:04:05',
  ].join('\n'));
});

test('since: the day only when it was another one', () => {
  const now = new Date('2026-11-21T05:00:00Z');
  assert.equal(sinceText('2026-11-21 01:41:59.123', now), '01:41:59');
  assert.equal(sinceText('2026-11-20 01:41:59', now), '2026-11-20 01:41:59');
  assert.equal(sinceText('01:41', now), '01:41');
});

const none = { asn: undefined, mesh: false, noMesh: false, reflectors: [], peer: [], noPeers: false };

test('network set bgp: what is given wins, what is not stays, and what cannot be is said', () => {
  const old = { Peers: [{ Address: '172.18.1.1', ASN: 65001 }, { Address: '172.18.2.1', ASN: 65002 }], Mesh: false };
  assert.deepEqual(bgpKeys('bgp', none, old), {});
  assert.deepEqual(bgpKeys('bgp', { ...none, mesh: true, asn: 64600 }, old), { ASN: 64600, Mesh: true, Reflectors: [] });
  assert.deepEqual(bgpKeys('bgp', { ...none, noPeers: true, peer: ['fd00::1,asn=65003,nodes=rack=r1,import=10.0.0.0/8+10.9.0.0/16,multihop=2,password=a=b'] }, old), {
    Peers: [{ Address: 'fd00::1', ASN: 65003, NodeSelector: 'rack=r1', Import: ['10.0.0.0/8', '10.9.0.0/16'], Multihop: 2, Password: 'a=b' }],
  });
  assert.deepEqual(bgpKeys('bgp', { ...none, peer: ['172.18.2.1,asn=65009'] }, old), { Peers: [{ Address: '172.18.1.1', ASN: 65001 }, { Address: '172.18.2.1', ASN: 65009 }] });
  const wrong: readonly (readonly [string, Parameters<typeof bgpKeys>[1], RegExp])[] = [
    ['vxlan', { ...none, asn: 5, noMesh: true }, /--asn, --no-mesh: only for bgp, and the backend asked for is vxlan/],
    ['bgp', { ...none, mesh: true, reflectors: ['m1'] }, /--mesh and --reflectors exclude each other/],
    ['bgp', { ...none, peer: ['m1,asn=1'] }, /"m1" is no address/],
    ['bgp', { ...none, peer: ['10.0.0.1'] }, /its AS number is missing/],
    ['bgp', { ...none, peer: ['10.0.0.1,asn=1,colour=red'] }, /"colour=red" is not KEY=VALUE with a known key/],
    ['bgp', { ...none, peer: ['10.0.0.1,asn=x'] }, /asn="x" is no number/],
    ['bgp', { ...none, peer: ['10.0.0.1,asn=1', '10.0.0.1,asn=2'] }, /10\.0\.0\.1 is there twice/],
  ];
  for (const [backend, o, message] of wrong) assert.throws(() => bgpKeys(backend, o, old), message);
});
