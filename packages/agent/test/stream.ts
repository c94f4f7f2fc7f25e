/**
 * Traffic for tests, run inside a namespace.
 *   stream.js serve PORT        UDP: answers each datagram with its source address, its own and the text; ends with stdin
 *   stream.js send HOST PORT    1,000 numbered datagrams a second until stdin ends, then says what was answered
 * Each prints one JSON line at its start (`{}`) and one at its end.
 */
import { createSocket } from 'node:dgram';
import { writeSync } from 'node:fs';

const [role, ...rest] = process.argv.slice(2);
const say = (what: object): void => void writeSync(1, `${JSON.stringify(what)}\n`);
const socket = createSocket('udp4');
const WINDOW = 100;
/** Longer than a process waits for its turn on a machine that is ten times too busy. */
const GIVE_UP_MS = 5000;

if (role === 'serve') {
  socket.on('message', (text, from) => socket.send(`${from.address} ${text.toString()}`, from.port, from.address));
  socket.bind(Number(rest[0]), () => say({}));
  process.stdin.resume().on('end', () => process.exit(0));
} else {
  const [host = '', port = ''] = rest;
  const answered = new Set<number>();
  const sources = new Set<string>();
  let sent = 0;
  let lost = 0;
  let heard = performance.now();
  let failed = 0;
  socket.on('message', (text) => {
    const [source = '', n = ''] = text.toString().split(' ');
    sources.add(source);
    answered.add(Number(n));
  });
  socket.bind(0, () => {
    say({});
    let began = performance.now();
    // By the clock, not by ticks: a late timer is made up for. But never so many at once that a socket's buffer (about 270 of them) runs over
    // where the other side waits for its turn on a busy machine: that loss would be counted as the network's.
    const timer = setInterval(() => {
      for (; sent < performance.now() - began && sent - answered.size - lost < WINDOW; sent++) socket.send(String(sent), Number(port), host, (e) => e && failed++);
      const now = performance.now();
      if (sent - answered.size - lost < WINDOW) heard = now;
      // Nothing is coming any more: what is out is lost, and the stream goes on.
      else if (now - heard > GIVE_UP_MS) lost = sent - answered.size;
      began = Math.max(began, now - sent - WINDOW);
    }, 1);
    process.stdin.resume().on('end', () => {
      clearInterval(timer);
      const deadline = performance.now() + 5000;
      const finish = setInterval(() => {
        if (answered.size < sent && performance.now() < deadline) return;
        clearInterval(finish);
        const missing = Array.from({ length: sent }, (_, n) => n).filter((n) => !answered.has(n));
        say({ sent, answered: answered.size, failed, missing: missing.slice(0, 20), sources: [...sources] });
        process.exit(0);
      }, 5);
    });
  });
}
