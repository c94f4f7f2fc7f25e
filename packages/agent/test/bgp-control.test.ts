/** BIRD's answers as data: a whole real one, hostile ones, and a socket that behaves badly. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isPodwayError } from '@podway/errors';
import { BirdControl, explainSession, parseRoutes, parseSessions, parseStatus, ReplyReader, type BgpPeerStatus, type PeerProbe, type Reply } from '../src/bgp/index.js';
import { md5Counters } from '../src/bgp/probe.js';

const PROTOCOLS = `2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     2026-11-21 01:41:58  
1006-
1002-own4       Static     master4    up     2026-11-21 01:41:58  
1006-  Channel ipv4
         Routes:         1 imported, 0 exported, 1 preferred
     
1002-mesh_10_0_0_2 BGP        ---        up     2026-11-21 01:41:59  Established   
1006-  Description:    node m2
       BGP state:          Established
         Neighbor address: 10.0.0.2
         Neighbor AS:      64512
         Local AS:         64512
         Neighbor ID:      10.0.0.2
         Source address:   10.0.0.1
         Hold timer:       7.962/9
       Channel ipv4
         State:          UP
         Routes:         3 imported, 2 filtered, 1 exported, 3 preferred
     
1002-external_fd00__1 BGP        ---        start  2026-11-21 01:42:43  Idle          BGP Error: Bad peer AS
1006-  Description:    AS 65001
       BGP state:          Idle
         Neighbor address: fd00::1
         Neighbor AS:      65001
         Local AS:         64512
         Neighbor graceful restart active
         Last error:       BGP Error: Bad peer AS
1002-mesh_10_0_0_3 BGP        ---        down   2026-11-21 01:42:43  
1006-  Description:    node m3
       BGP state:          Down
         Neighbor address: 10.0.0.3
0000 
`;
const ROUTES = `1007-Table master4:
     10.244.1.0/24        blackhole [own4 2026-11-21 01:41:58] * (200)
1008-\tType: static univ
1007-10.244.2.0/24        unicast [mesh_10_0_0_2 2026-11-21 01:41:59] * (100) [AS65001i]
     \tvia 10.0.0.2 on eth0
1012-\tBGP.origin: IGP
     \tBGP.as_path: 65001 64512
     \tBGP.next_hop: 10.0.0.2
     \tBGP.local_pref: 100
     \tBGP.community: (64512,1) (64512,2)
1007-                     unreachable [mesh_10_0_0_9 2026-11-21 01:41:59 from 10.0.0.9] (100/-) [i]
1012-\tBGP.next_hop: 10.9.0.2
0000 
`;
/** As `birdc -v` prints it, which sets four blanks more before lines that go on. */
const raw = (text: string): string => text.replace(/^ {5}/gm, ' ');
const replyOf = (text: string): Reply => {
  const [reply] = new ReplyReader().push(raw(text));
  assert.ok(reply);
  return reply;
};

test('show protocols all, as it is', () => {
  const sessions = parseSessions(replyOf(PROTOCOLS));
  assert.deepEqual(sessions[0], {
    protocol: 'mesh_10_0_0_2', protocolState: 'up', since: '2026-11-21 01:41:59', type: 'mesh', address: '10.0.0.2', name: 'node m2', asn: 64512, localAsn: 64512,
    state: 'Established', disabled: false, lastError: undefined, gracefulRestart: false, neighborId: '10.0.0.2', sourceAddress: '10.0.0.1',
    holdTimer: { left: 7.962, of: 9 }, imported: 3, exported: 1, routes: { ipv4: { imported: 3, filtered: 2, exported: 1, preferred: 3 } },
  });
  assert.deepEqual(sessions.map((s) => [s.address, s.type, s.state, s.lastError, s.gracefulRestart, s.disabled]), [
    ['10.0.0.2', 'mesh', 'Established', undefined, false, false], ['fd00::1', 'external', 'Idle', 'BGP Error: Bad peer AS', true, false],
    ['10.0.0.3', 'mesh', 'Down', undefined, false, true],
  ]);
});

test('show route all, with a second route for a prefix', () => {
  assert.deepEqual(parseRoutes(replyOf(ROUTES)).map((r) => [r.prefix, r.dest, r.from, r.best, r.gateway, r.asPath.join(' '), r.nextHop, r.communities.length]), [
    ['10.244.1.0/24', 'blackhole', 'own4', true, undefined, '', undefined, 0],
    ['10.244.2.0/24', 'unicast', 'mesh_10_0_0_2', true, '10.0.0.2', '65001 64512', '10.0.0.2', 2],
    ['10.244.2.0/24', 'unreachable', 'mesh_10_0_0_9', false, undefined, '', '10.9.0.2', 0],
  ]);
});

test('show status', () => {
  const reply = replyOf('1000-BIRD 2.0.12\n1011-Router ID is 10.0.0.1\n     Last reboot on 2026-11-21 01:41:58.901\n0024-Graceful restart recovery in progress\n   Wait timer is 19.497/20\n0013 Daemon is up and running\n');
  assert.deepEqual(parseStatus(reply), {
    version: '2.0.12', routerId: '10.0.0.1', started: '2026-11-21 01:41:58.901', configured: undefined, message: 'Daemon is up and running', recovering: true,
  });
});

test('a peer cannot speak to the terminal', () => {
  const [s] = parseSessions(replyOf('1002-mesh_1 BGP --- start 2026-11-21 01:42:43 Idle\n1006-  BGP state: Idle\n   Last error:       Received: Administrative shutdown: "\u001b[2Jgone\u0007"\n0000 \n'));
  assert.equal(s?.lastError, 'Received: Administrative shutdown: "?[2Jgone?"');
});

test('no text whatever makes the parsers throw, however it is cut', () => {
  const whole = raw(PROTOCOLS + ROUTES);
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }), fc.constantFrom(...whole.split(/(?<=\n)/)), fc.constantFrom(...whole.split(/(?<=\s)/)),
    fc.tuple(fc.integer({ min: 0, max: whole.length }), fc.integer({ min: 0, max: 200 })).map(([at, n]) => whole.slice(at, at + n)),
  );
  fc.assert(fc.property(fc.array(piece, { maxLength: 40 }), fc.integer({ min: 1, max: 64 }), (pieces, cut) => {
    const text = `${pieces.join('')}\n0000 \n`;
    const reader = new ReplyReader();
    const replies: Reply[] = [];
    for (let at = 0; at < text.length; at += cut) replies.push(...reader.push(text.slice(at, at + cut)));
    assert.deepEqual(replies, new ReplyReader().push(text), 'the same, however it arrives');
    for (const r of replies) {
      for (const s of parseSessions(r)) explainSession(s);
      parseRoutes(r);
      parseStatus(r);
    }
  }), { numRuns: 500 });
});

async function served(serve: (s: Socket) => void, use: (path: string) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'pwctl-'));
  const sockets: Socket[] = [];
  const server: Server = createServer((s) => {
    sockets.push(s);
    s.on('error', () => undefined);
    serve(s);
  });
  const path = join(dir, 's');
  await new Promise<void>((r) => server.listen(path, r));
  try {
    await use(path);
  } finally {
    for (const s of sockets) s.destroy();
    await new Promise((r) => server.close(r));
    rmSync(dir, { recursive: true, force: true });
  }
}
const code = (c: string) => (e: unknown): boolean => isPodwayError(e, c);

test('a socket that is not there, is silent, is somebody else, hangs up, or refuses', async () => {
  await assert.rejects(BirdControl.open('/nonexistent/bird.ctl'), code('BIRD_UNREACHABLE'));
  await assert.rejects(BirdControl.open(`/${'x'.repeat(200)}`), code('BIRD_UNREACHABLE'));
  await served(() => undefined, async (p) => assert.rejects(BirdControl.open(p, { timeoutMs: 50 }), code('BIRD_TIMEOUT')));
  await served((s) => s.write('9001 no\n'), async (p) => assert.rejects(BirdControl.open(p, { timeoutMs: 500 }), code('BIRD_BAD_REPLY')));
  await served((s) => s.end('0001 BIRD\n'), async (p) =>
    BirdControl.with(p, async (c) => {
      await assert.rejects(c.sessions(), code('BIRD_UNREACHABLE'));
      await assert.rejects(c.status(), code('BIRD_UNREACHABLE'));
    }));
  await served((s) => {
    s.write('0001 BIRD\n');
    s.on('data', (b: Buffer) => s.write(`8003 ${b.toString().trim()} is nothing\n`));
  }, async (p) =>
    BirdControl.with(p, async (c) => {
      await assert.rejects(c.enable('x'), (e) => code('BIRD_REFUSED')(e) && /enable x is nothing/.test((e as Error).message));
      await assert.rejects(c.enable('x; down'), code('BIRD_REFUSED'));
      await assert.rejects(c.command('a\ndown'), code('BIRD_REFUSED'));
    }));
});

test('calls that overlap get their own answers', () =>
  served((s) => {
    s.write('0001 BIRD\n');
    s.on('data', (b: Buffer) => setTimeout(() => s.write(`1000-${b.toString()}0000 \n`), Math.random() * 5));
  }, async (p) =>
    BirdControl.with(p, async (c) => {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => c.command(`n ${i}`)));
      assert.deepEqual(answers.map((r) => r.lines[0]?.text), Array.from({ length: 20 }, (_, i) => `n ${i}`));
    })));

const silent = (more: Partial<BgpPeerStatus> = {}): BgpPeerStatus => ({ ...parseSessions(replyOf(PROTOCOLS))[0]!, state: 'Connect', lastError: undefined, ...more });
const none = { notFound: 0, unexpected: 0, failure: 0 };
const probe = (more: Partial<PeerProbe>): PeerProbe => ({ tcp: 'ETIMEDOUT', ping: true, md5: { now: none, ever: none }, ...more });

test('the probe is believed before an old error, an error of the conversation before the probe', () => {
  assert.equal(explainSession(silent({ lastError: 'BGP Error: Bad peer AS' }), probe({ tcp: 'ECONNREFUSED' })).cause, 'no-speaker');
  assert.equal(explainSession(silent({ state: 'Idle', lastError: 'BGP Error: Bad peer AS' }), probe({ tcp: 'ECONNREFUSED' })).cause, 'as-mismatch');
  assert.equal(explainSession(silent({ lastError: 'Socket: No route to host' })).cause, 'unreachable');
  assert.equal(explainSession(silent()).cause, 'starting');
  assert.equal(explainSession(silent({ gracefulRestart: true })).cause, 'restarting');
  assert.equal(explainSession(silent(), probe({})).cause, 'port-blocked');
  assert.equal(explainSession(silent(), probe({ ping: false })).cause, 'unreachable');
  assert.equal(explainSession(silent(), probe({ md5: { now: { ...none, failure: 1 }, ever: { ...none, failure: 1 } } })).cause, 'wrong-password');
  assert.deepEqual(explainSession(silent({ lastError: 'Something new' })), { cause: 'other', text: 'Something new' });
});

test('counters of /proc/net/netstat, whatever is in it', () => {
  assert.deepEqual(md5Counters('TcpExt: A TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure\nTcpExt: 1 2 3 4\nIpExt: X\nIpExt: 9\n'), { notFound: 2, unexpected: 3, failure: 4 });
  fc.assert(fc.property(fc.string(), (s) => assert.deepEqual(md5Counters(s), none)));
});
