/** Sockets of a namespace against what `ss` shows. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { listSockets, LISTENING, Netns, RtNetlink, type SocketInfo } from '../src/index.js';
import { decodeSocket } from '../src/netlink/sockdiag.js';
import { ended, inside, until } from './scratch.js';

/** Listens and connects inside; ends when killed. */
const SCRIPT = `
const net = require('node:net'), dgram = require('node:dgram');
net.createServer({ pauseOnConnect: true }, () => {}).listen({ port: 8080, host: '127.0.0.1', backlog: 77 }, () => {
  const c = net.connect(8080, '127.0.0.1', () => { c.write('x'.repeat(1000)); });
});
net.createServer().listen({ port: 9090, host: '::', ipv6Only: true });
net.createServer().listen({ port: 9091, host: '::' });
dgram.createSocket('udp4').bind(5353, '127.0.0.1');
dgram.createSocket('udp6').bind({ port: 5354, address: '::1' });
const u = dgram.createSocket('udp4'); u.connect(5353, '127.0.0.1', () => u.send('hello'));
`;

/** \`ss -n\` in our words: protocol, state, queues, ends, inode. */
function theirs(ns: Netns, ...args: string[]): string[] {
  const STATE: Readonly<Record<string, string>> = { UNCONN: 'close', ESTAB: 'established', LISTEN: 'listen' };
  return inside(ns, 'ss', '-H', '-n', '-e', ...args).split('\n').filter(Boolean).map((l) => {
    // With one protocol asked for, its column is left out.
    const [netid, state, rq, wq, local, remote] = (/^(tcp|udp) /.test(l) ? l : `${args.join('').includes('t') ? 'tcp' : 'udp'} ${l}`).split(/\s+/);
    return [netid, STATE[state!] ?? state!.toLowerCase(), rq, wq, local, remote, /ino:(\d+)/.exec(l)?.[1] ?? '0'].join(' ');
  }).sort();
}
function ours(list: readonly SocketInfo[]): string[] {
  return list.map((s) => {
    const dual = s.local === '::' && s.localPort !== 9090;
    const end = (a: string, p: number): string => `${dual && a === '::' ? '*' : a.includes(':') ? `[${a}]` : a}:${p || '*'}`;
    return [s.protocol, s.state, s.receiveQueue, s.sendQueue, end(s.local, s.localPort), end(s.remote, s.remotePort), s.inode].join(' ');
  }).sort();
}

test('listening and connected sockets are what ss shows', async () => {
  const ns = Netns.createNameless();
  try {
    RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
    const child = ns.run(() => spawn(process.execPath, ['-e', SCRIPT], { stdio: 'ignore' }));
    try {
      await until('1000 bytes wait, and all sockets are there', () => {
        const all = listSockets(ns);
        return all.some((s) => s.receiveQueue === 1000) && all.filter((s) => s.protocol === 'udp').length === 3 && all.some((s) => s.protocol === 'udp' && s.state === 'established') && all.filter((s) => s.state === 'listen').length === 3;
      });
      assert.deepEqual(ours(listSockets(ns, { states: LISTENING })), theirs(ns, '-lntu'));
      assert.deepEqual(ours(listSockets(ns, { protocols: ['tcp'], states: ['established'] })), theirs(ns, '-tn'));
      assert.deepEqual(ours(listSockets(ns, { protocols: ['udp'] })), theirs(ns, '-una'));
      const listening = listSockets(ns, { states: ['listen'] });
      assert.equal(listening.find((s) => s.localPort === 8080)?.sendQueue, 77, 'the backlog');
      assert.ok(listening.every((s) => s.tcp === undefined));
      const [sender] = listSockets(ns, { protocols: ['tcp'], states: ['established'], info: true }).filter((s) => s.remotePort === 8080);
      assert.ok(sender?.tcp);
      assert.deepEqual([sender.tcp.bytesAcked, sender.tcp.pmtu, sender.tcp.totalRetrans], [1001n, 65535, 0], 'the SYN counts as one byte');
      const shown = inside(ns, 'ss', '-tinH', 'dport', '=', ':8080');
      assert.ok(shown.includes(`rtt:${sender.tcp.rtt / 1000}/`) && shown.includes(`mss:${sender.tcp.sndMss} `) && shown.includes(sender.congestion ?? '?'), shown);
    } finally {
      await ended(child);
    }
    await until('all gone but time-wait', () => listSockets(ns).every((s) => s.state === 'time-wait'));
  } finally {
    ns.close();
  }
});

test('no bytes make the reader throw', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), fc.constantFrom(2, 10, 0), fc.integer({ min: 0, max: 255 }), (bytes, family, state) => {
    const b = Buffer.concat([Buffer.from([family, state]), Buffer.from(bytes)]);
    for (const protocol of ['tcp', 'udp'] as const) decodeSocket({ type: 20, buffer: b, start: 0, end: b.length }, protocol);
  }), { numRuns: 2000 });
});
