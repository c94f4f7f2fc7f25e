#!/usr/bin/env node
/**
 * Decoding speed: packets per second from a pcap file, against `tcpdump -r` and `tshark -r` in the same run.
 *
 *   node bench/decode.mjs [--packets N] [--peer-packets N] [--runs N]
 *
 * Makes a pcap file of N packets (four kinds in equal parts: TCP with timestamps and 512 bytes of data, UDP with 64 bytes, ICMP echo, VXLAN with
 * an inner TCP segment of 512 bytes; 1,024 flows), reads it and decodes every packet in full, all checksums verified, on one thread. The peers
 * read the first M packets of the same traffic and print nothing (output to /dev/null); for each the time includes starting the program, and so
 * does the line "podway (process)", which runs this decoder in a process of its own on the file the peers get.
 *
 * Each row is the best of the runs; all rows are measured by turns. Aim: at least 500,000 packets/s.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { decode, encode, pcapHeader, pcapRecord, readCapture } from '../packages/packet/dist/src/index.js';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '1000000' },
    'peer-packets': { type: 'string', default: '200000' },
    runs: { type: 'string', default: '3' },
    file: { type: 'string' },
  },
});

const AIM = 500_000;
const JUDGED_FROM = 500_000;

function count(name) {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) {
    console.error(`bench: --${name} takes a whole number of at least 1, not ${values[name]}`);
    process.exit(2);
  }
  return value;
}

/** Reads and decodes a whole file; the sums show that the fields were there and keep the work from being optimised away. */
function decodeFile(path) {
  const capture = readCapture(readFileSync(path));
  let packets = 0;
  let layers = 0;
  let wrong = 0;
  let ttl = 0;
  for (const record of capture) {
    const packet = decode(record.bytes, record.linkType);
    packets++;
    layers += packet.layers.length;
    wrong += packet.problems.length;
    const inner = packet.layers.findLast((l) => l.type === 'ipv4');
    if (inner !== undefined) ttl += inner.ttl;
  }
  return { packets, layers, wrong: wrong + capture.problems.length, ttl };
}

if (values.file !== undefined) {
  const result = decodeFile(values.file);
  process.exit(result.wrong === 0 ? 0 : 1);
}

function sample(i) {
  const n = i >> 2;
  const flow = n % 1024;
  const a = `10.244.${flow % 4}.${2 + (flow >> 6)}`;
  const b = `10.244.${4 + (flow % 8)}.${2 + (flow % 64)}`;
  const ethernet = { type: 'ethernet', src: '0a:58:0a:f4:00:02', dst: '0a:58:0a:f4:00:01' };
  const ip = { type: 'ipv4', src: a, dst: b, ttl: 63, id: n & 0xffff, dontFragment: true };
  const tcp = {
    type: 'tcp', srcPort: 32768 + flow, dstPort: 8080, sequence: n, acknowledgement: n + 7, flags: 0x18,
    options: [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamp', value: n, echo: n + 1 }],
  };
  const body = new Uint8Array(512).fill(n);
  switch (i & 3) {
    case 0:
      return encode([ethernet, ip, tcp], body);
    case 1:
      return encode([ethernet, ip, { type: 'udp', srcPort: 32768 + flow, dstPort: 9000 }], body.subarray(0, 64));
    case 2:
      return encode([ethernet, ip, { type: 'icmp', message: { kind: 'echo-request', id: flow, sequence: n & 0xffff } }], body.subarray(0, 56));
    default: {
      const outer = { type: 'ipv4', src: `172.18.0.${2 + (flow % 4)}`, dst: `172.18.0.${6 + (flow % 4)}`, id: n & 0xffff };
      const udp = { type: 'udp', srcPort: 40000 + flow, dstPort: 8472, checksum: 0 };
      return encode([ethernet, outer, udp, { type: 'vxlan', vni: 1 }, ethernet, ip, tcp], body);
    }
  }
}

/** Packets repeat after 65,536: making each anew would take longer than all the measuring. */
function makeFile(path, packets) {
  const start = 1_700_000_000_000_000_000n;
  const records = Array.from({ length: Math.min(packets, 65536) }, (_, i) => pcapRecord(sample(i), start + BigInt(i) * 1000n));
  const parts = [pcapHeader()];
  for (let i = 0; i < packets; i++) parts.push(records[i % records.length]);
  const bytes = Buffer.concat(parts);
  writeFileSync(path, bytes, { mode: 0o600 });
  return bytes.length;
}

/** Seconds, or undefined if the program is not there. */
function timeProcess(argv) {
  const start = process.hrtime.bigint();
  const done = spawnSync(argv[0], argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'], maxBuffer: 1 << 24 });
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  if (done.error?.code === 'ENOENT') return undefined;
  if (done.error !== undefined || done.status !== 0) throw new Error(`${argv.join(' ')}: ${done.error?.message ?? done.stderr.toString()}`);
  return seconds;
}

function timeInProcess(path) {
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const result = decodeFile(path);
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const used = process.cpuUsage(cpu);
  if (result.wrong > 0) throw new Error(`${result.wrong} problems in a sound file`);
  return { seconds, cpu: (used.user + used.system) / 1e6, ...result };
}

const packets = count('packets');
const peerPackets = Math.min(packets, count('peer-packets'));
const runs = count('runs');
const directory = mkdtempSync(join(tmpdir(), 'podway-bench-'));
try {
  const big = join(directory, 'big.pcap');
  const small = join(directory, 'peers.pcap');
  const bytes = makeFile(big, packets);
  makeFile(small, peerPackets);
  const self = fileURLToPath(import.meta.url);
  const rows = [
    { name: 'podway (process)', argv: [process.execPath, self, '--file', small] },
    { name: 'tcpdump -n -r', argv: ['tcpdump', '-n', '-r', small] },
    { name: 'tcpdump -n -vv -r', argv: ['tcpdump', '-n', '-vv', '-r', small], note: 'with checksums' },
    { name: 'tshark -n -r', argv: ['tshark', '-n', '-r', small] },
    {
      name: 'tshark -n -V -r',
      argv: ['tshark', '-n', '-V', '-o', 'ip.check_checksum:TRUE', '-o', 'tcp.check_checksum:TRUE', '-o', 'udp.check_checksum:TRUE', '-d', 'udp.port==8472,vxlan', '-r', small],
      note: 'all fields, with checksums',
    },
  ];
  let own;
  for (let run = 0; run < runs; run++) {
    const now = timeInProcess(big);
    if (own === undefined || now.seconds < own.seconds) own = now;
    for (const row of rows) {
      if (row.missing) continue;
      const seconds = timeProcess(row.argv);
      if (seconds === undefined) row.missing = true;
      else row.best = Math.min(row.best ?? Infinity, seconds);
    }
  }
  const figure = (n) => Math.round(n).toLocaleString('en-US').padStart(12);
  console.log(`${packets.toLocaleString('en-US')} packets, ${(bytes / 1e6).toFixed(0)} MB, ${own.layers.toLocaleString('en-US')} headers; peers: ${peerPackets.toLocaleString('en-US')} packets; best of ${runs}`);
  const rate = packets / own.seconds;
  console.log(`podway (in process)${figure(rate)} packets/s  (${(own.seconds * 1e6 / packets).toFixed(2)} µs a packet; ${Math.round(packets / own.cpu).toLocaleString('en-US')} per CPU second, garbage collector included)`);
  const ours = peerPackets / rows[0].best;
  for (const row of rows) {
    if (row.missing) console.log(`${row.name.padEnd(19)}  not installed, skipped`);
    else {
      const theirs = peerPackets / row.best;
      const ratio = row === rows[0] ? '' : `  podway (process) is ${(ours / theirs).toFixed(2)} times as fast`;
      console.log(`${row.name.padEnd(19)}${figure(theirs)} packets/s${ratio}${row.note === undefined ? '' : ` (${row.note})`}`);
    }
  }
  if (packets < JUDGED_FROM) console.log(`aim: not judged below ${JUDGED_FROM.toLocaleString('en-US')} packets, where compiling the decoder weighs`);
  else {
    console.log(`aim: ${AIM.toLocaleString('en-US')} packets/s: ${rate >= AIM ? 'met' : 'MISSED'}`);
    if (rate < AIM) process.exitCode = 1;
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
