/**
 * A traffic generator for tests, run as a process of its own: sends small UDP datagrams at a steady rate
 * with sendmmsg, 64 a call. Arguments: netns path, destination, port, packets a second, packets. Prints how many the kernel took.
 */
import { createRequire } from 'node:module';
import type koffiType from 'koffi';
import { Netns, ProbeSocket } from '../../src/index.js';

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;
const so = koffi.load('libc.so.6');
const sendmmsg = so.func('int sendmmsg(int fd, void *messages, unsigned int count, int flags)') as (fd: number, m: Uint8Array, n: number, flags: number) => number;

const [path = '', destination = '', port = '', rate = '', count = ''] = process.argv.slice(2);
const BURST = 64;
/** struct mmsghdr: msghdr (name, namelen, iov, iovlen, control, controllen, flags) and the length sent. */
const SIZE = 64;

const socket = ProbeSocket.open(Netns.open({ path }), 'udp');
socket.connect(destination, Number(port));
const payload = Buffer.allocUnsafeSlow(18).fill(0x5a);
const iov = Buffer.allocUnsafeSlow(16);
iov.writeBigUInt64LE(koffi.address(payload), 0);
iov.writeBigUInt64LE(BigInt(payload.length), 8);
const messages = Buffer.allocUnsafeSlow(SIZE * BURST).fill(0);
for (let i = 0; i < BURST; i++) {
  messages.writeBigUInt64LE(koffi.address(iov), i * SIZE + 16);
  messages.writeBigUInt64LE(1n, i * SIZE + 24);
}
const total = Number(count);
const start = process.hrtime.bigint();
let sent = 0;
while (sent < total) {
  const due = Math.min(total, Math.floor((Number(process.hrtime.bigint() - start) / 1e9) * Number(rate)));
  while (sent < due) {
    const n = sendmmsg(socket.fd, messages, Math.min(BURST, due - sent), 0);
    if (n > 0) sent += n;
  }
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
process.stdout.write(JSON.stringify({ sent, seconds, iov: iov.length, payload: payload.length }));
