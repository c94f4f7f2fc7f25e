/** A session that does not stand is explained by its real cause: each is made on purpose between two real speakers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RtNetlink } from '@podway/kernel';
import { bgpStatus, type BgpSession, type BgpSettings, type SessionCause } from '../src/bgp/index.js';
import { inNs, needsBird, SETTINGS, until, withLab, type BgpLab, type NodeMember } from './bgp-fixture.js';

const skip = needsBird;
const FAST: BgpSettings = { ...SETTINGS, holdTime: 3, keepaliveTime: 1 };

interface Pair {
  readonly lab: BgpLab;
  readonly a: NodeMember;
  readonly b: NodeMember;
}

/** Two nodes on a switch, each with settings of its own. */
async function pair(mine: Partial<BgpSettings>, theirs: Partial<BgpSettings>, use: (p: Pair) => Promise<void>, start = true): Promise<void> {
  await withLab(async (lab) => {
    const at = lab.switch('switch');
    const [a, b] = [0, 1].map((n) => lab.addNode(at, `m${n + 1}`, [`172.18.0.${n + 2}/16`], [`10.244.${n}.0/24`])) as [NodeMember, NodeMember];
    await a.run(a.spec({ ...FAST, ...mine }, [a, b]));
    if (start) await b.run(b.spec({ ...FAST, ...theirs }, [a, b]));
    await use({ lab, a, b });
  });
}

const look = async (n: NodeMember): Promise<BgpSession> => (await bgpStatus({ socket: n.socket, netns: n.ns })).sessions[0]!;

/** Asked again until it is said: in the first moments a session is only starting. */
async function says(n: NodeMember, cause: SessionCause, pattern: RegExp): Promise<void> {
  await until(`${n.name} says ${cause}`, async () => {
    const { explanation, state, lastError } = await look(n);
    if (explanation.cause !== cause) throw new Error(`${explanation.cause}: ${explanation.text} (${state}, ${lastError})`);
    assert.match(explanation.text, pattern);
    return true;
  }, 25_000);
}

test('a session that stands says so, and nothing is probed', { skip }, () =>
  pair({}, {}, async ({ a }) => {
    await a.established(1);
    assert.deepEqual((await look(a)).explanation, { cause: 'established', text: 'the session stands' });
  }));

test('AS numbers differ: both ends name it', { skip }, () =>
  pair({}, { asn: 64599 }, async ({ a, b }) => {
    // b expects its own AS of everybody in its mesh, as a does.
    await says(a, 'as-mismatch', /node m2 \(172\.18\.0\.3\) (says another AS number than 64512|expects another)/);
    await says(b, 'as-mismatch', /node m1/);
  }));

test('passwords differ', { skip }, () =>
  pair({ password: 'one' }, { password: 'two' }, async ({ a }) => says(a, 'wrong-password', /passwords of this node and node m2 \(172\.18\.0\.3\) differ/)));

test('a password at one end only: both ends say where it is missing', { skip }, () =>
  pair({ password: 'one' }, {}, async ({ a, b }) => {
    await says(a, 'password-only-here', /node m2 \(172\.18\.0\.3\) has no password/);
    await says(b, 'password-only-there', /node m1 \(172\.18\.0\.2\) has a password/);
  }));

test('nobody speaks BGP there', { skip }, () => pair({}, {}, async ({ a }) => says(a, 'no-speaker', /172\.18\.0\.3 is up, and nothing listens on TCP port 179/), false));

test('the peer is down', { skip }, () =>
  pair({}, {}, async ({ a, b }) => {
    await a.established(1);
    RtNetlink.with(b.ns, (nl) => nl.setLink('eth0', { up: false }));
    await says(a, 'unreachable', /172\.18\.0\.3 does not answer/);
  }));

test('no route to the peer', { skip }, () =>
  pair({}, {}, async ({ a }) => {
    await a.established(1);
    inNs(a.ns, 'ip', 'route', 'del', '172.18.0.0/16', 'dev', 'eth0');
    await says(a, 'no-route', /no route to 172\.18\.0\.3/);
  }));

test('a firewall drops TCP port 179', { skip }, () =>
  pair({}, {}, async ({ a, b }) => {
    for (const rule of ['add table inet t', 'add chain inet t i { type filter hook input priority 0 ; }', 'add rule inet t i tcp dport 179 drop', 'add rule inet t i tcp sport 179 drop']) inNs(b.ns, 'nft', ...rule.split(' '));
    await says(a, 'port-blocked', /answers ping, but not on TCP port 179/);
  }));

test('a frozen peer: the hold timer', { skip }, () =>
  pair({}, {}, async ({ a, b }) => {
    await a.established(1);
    const { pid } = b;
    process.kill(pid, 'SIGSTOP');
    try {
      await until('the hold timer has expired', async () => /Hold timer expired/.test((await a.ask((c) => c.sessions()))[0]?.lastError ?? ''), 10_000);
      await says(a, 'hold-timer-expired', /nothing was heard from node m2 \(172\.18\.0\.3\)/);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }));

test('switched off here, and by the peer', { skip }, () =>
  pair({}, {}, async ({ a, b }) => {
    await a.established(1);
    await b.ask((c) => c.disable('mesh_172_18_0_2'));
    await says(a, 'shut-down-by-peer', /node m2 .* has ended the session itself/);
    await says(b, 'disabled', /switched off here/);
    await b.ask((c) => c.enable('mesh_172_18_0_2'));
    await a.established(1);
  }));

test('two nodes with one router id', { skip }, () =>
  pair({}, {}, async ({ a, b }) => {
    const [spec] = b.spec(FAST, [a, b]);
    await b.supervisor.apply([{ ...spec!, files: [{ ...spec!.files[0]!, text: spec!.files[0]!.text.replace('router id 172.18.0.3', 'router id 172.18.0.2') }] }]);
    await says(a, 'same-router-id', /same router id/);
  }));
