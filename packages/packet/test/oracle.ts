/** tshark and tcpdump as judges: runs them on samples written to a file of ours. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A reason to skip, or false if the program is there. */
export function missing(program: string): string | false {
  return spawnSync(program, ['--version']).error === undefined ? false : `${program} is not installed`;
}

export function withFile<T>(content: Uint8Array, use: (path: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'podway-packet-'));
  try {
    const path = join(directory, 'capture');
    writeFileSync(path, content);
    return use(path);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function output(argv: readonly string[]): string {
  const done = spawnSync(argv[0] as string, argv.slice(1), { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (done.error !== undefined || done.status !== 0) throw new Error(`${argv.join(' ')}: ${done.error?.message ?? done.stderr}`);
  return done.stdout;
}

/** For each packet of a capture, the values of each field in tshark's words; a field that occurs several times gives several values. */
export function tsharkFields(capture: Uint8Array, fields: readonly string[]): string[][][] {
  return withFile(capture, (path) => {
    const checks = ['ip', 'tcp', 'udp'].flatMap((p) => ['-o', `${p}.check_checksum:TRUE`]);
    const text = output([
      'tshark', '-n', '-r', path, ...checks, '-o', 'sctp.checksum:CRC 32c', '-o', 'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE', '-o', 'tcp.desegment_tcp_streams:FALSE',
      '-d', 'udp.port==8472,vxlan', '-T', 'fields', '-E', 'separator=|', '-E', 'occurrence=a', '-E', 'aggregator=,', ...fields.flatMap((f) => ['-e', f]),
    ]);
    return text.replace(/\n$/, '').split('\n').map((line) => line.split('|').map((cell) => (cell === '' ? [] : cell.split(','))));
  });
}
