#!/usr/bin/env node
/**
 * Both ends of what bench/upheaval.mjs watches, each run inside a pod's network namespace.
 *
 *   node bench/echo.mjs serve PORT             sends back every datagram, and everything that comes over TCP
 *   node bench/echo.mjs ask ADDRESS PORT       a numbered datagram every millisecond, a numbered line every 10 ms over one connection
 *
 * `ask` ends when its stdin does: it waits for what is under way, and prints what it saw as JSON. A gap is the longest time between two
 * answers, which is never below the time between two questions. A line "mark NAME" on stdin begins a new part of the report.
 */
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [verb, ...words] = process.argv.slice(2);
const GRACE_MS = 1000;

if (verb === 'serve') {
  const port = Number(words[0]);
  const udp = createSocket('udp4');
  udp.on('message', (m, from) => udp.send(m, from.port, from.address));
  udp.bind(port, () => createServer((c) => c.pipe(c).on('error', () => undefined)).listen(port, () => console.log('ready')));
} else {
  const [address, port] = [words[0], Number(words[1])];
  const parts = [];
  const begin = (name) => parts.push({ name, udp: { sent: 0, answered: 0, gapMs: 0 }, tcp: { sent: 0, answered: 0, gapMs: 0, broken: 0 } });
  begin('start');
  const last = { udp: undefined, tcp: undefined };
  const answered = (kind, part) => {
    const now = performance.now();
    part[kind].answered++;
    if (last[kind] !== undefined) parts.at(-1)[kind].gapMs = Math.max(parts.at(-1)[kind].gapMs, now - last[kind]);
    last[kind] = now;
  };

  const udp = createSocket('udp4');
  udp.on('error', () => undefined); // refused or unreachable: what is not answered is counted as lost
  udp.on('message', (m) => answered('udp', parts[m.readUInt32BE(0)]));
  const question = Buffer.alloc(56);
  udp.bind(0);
  const tcp = connect(port, address);
  tcp.setNoDelay(true);
  tcp.on('error', () => parts.at(-1).tcp.broken++);
  let rest = '';
  tcp.setEncoding('utf8').on('data', (d) => {
    const lines = (rest + d).split('\n');
    rest = lines.pop();
    for (const l of lines) answered('tcp', parts[Number(l)]);
  });
  tcp.once('connect', () => {
    console.log('ready');
    const timers = [
      setInterval(() => {
        question.writeUInt32BE(parts.length - 1, 0);
        parts.at(-1).udp.sent++;
        udp.send(question, port, address, () => undefined);
      }, 1),
      setInterval(() => {
        parts.at(-1).tcp.sent++;
        tcp.write(`${parts.length - 1}\n`);
      }, 10),
    ];
    const input = createInterface({ input: process.stdin });
    input.on('line', (l) => begin(l.replace(/^mark /, '')));
    input.on('close', () => {
      for (const t of timers) clearInterval(t);
      setTimeout(() => {
        console.log(JSON.stringify(parts));
        process.exit(0);
      }, GRACE_MS);
    });
  });
}
