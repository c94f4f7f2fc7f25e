/** The supervisor with a real small daemon: killed, refused, adopted in every way. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Supervisor, type DaemonControl, type DaemonEvent, type DaemonSpec } from '../src/daemons/index.js';
import { until } from './bgp-fixture.js';

const CHILD = fileURLToPath(new URL('./daemons-child.js', import.meta.url));
/** Says its pid and arguments, then waits; on SIGHUP it says what is in its file. */
const PROGRAM = `
const { readFileSync, writeFileSync, appendFileSync } = require('node:fs');
const [file, out, ...rest] = process.argv.slice(1);
if (readFileSync(file, 'utf8') === 'die') { console.error('I will not'); process.exit(3); }
appendFileSync(out, process.pid + ' ' + rest.join(' ') + '\\n');
process.on('SIGHUP', () => appendFileSync(out, 'reload ' + readFileSync(file, 'utf8') + '\\n'));
setInterval(() => {}, 1000);
`;

interface Bench {
  readonly dir: string;
  readonly events: DaemonEvent[];
  spec(text?: string, more?: Partial<DaemonSpec>): DaemonSpec;
  supervisor(controls?: Record<string, DaemonControl>): Supervisor;
  said(): string[];
  seen<T extends DaemonEvent['type']>(type: T): Extract<DaemonEvent, { type: T }>[];
}

async function bench(use: (b: Bench) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'pwdaemon-'));
  const events: DaemonEvent[] = [];
  const made: Supervisor[] = [];
  const out = join(dir, 'out');
  const state = join(dir, 'state');
  try {
    await use({
      dir: state, events,
      spec: (text = 'one', more = {}) => ({
        name: 'd', argv: [process.execPath, '-e', PROGRAM, join(dir, 'conf'), out], files: [{ path: join(dir, 'conf'), text, mode: 0o600 }], again: ['again'], ...more,
      }),
      supervisor: (controls = {}) => {
        const s = new Supervisor({ dir: state, emit: (e) => events.push(e), controls });
        made.push(s);
        return s;
      },
      said: () => (existsSync(out) ? readFileSync(out, 'utf8').split('\n').filter(Boolean) : []),
      seen: (type) => events.filter((e): e is Extract<DaemonEvent, { type: typeof type }> => e.type === type),
    });
  } finally {
    for (const s of made) await s.close();
    const last = new Supervisor({ dir: state });
    await last.stop();
    await last.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
const alive = (pid: number): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z ');
  } catch {
    return false;
  }
};

test('started with its files, private; the same again changes nothing; stopped without a trace', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec()]);
    const pid = s.running()['d']!;
    await until('it runs', () => b.said()[0] === `${pid} `);
    assert.equal(statSync(b.spec().files[0]!.path).mode & 0o777, 0o600);
    assert.equal(statSync(b.dir).mode & 0o777, 0o700);
    await s.apply([b.spec()]);
    assert.equal(s.running()['d'], pid);
    await s.apply([]);
    assert.equal(alive(pid), false);
    assert.equal(existsSync(b.spec().files[0]!.path), false);
    assert.deepEqual(readdirSync(b.dir), ['d.log']);
    assert.deepEqual(b.events.map((e) => e.type), ['daemon-started', 'daemon-stopped']);
  }));

test('killed, it is back at once, and told that it had run before', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec()]);
    await until('it runs', () => b.said().length === 1);
    const pid = s.running()['d']!;
    process.kill(pid, 'SIGKILL');
    await until('a second one', () => b.said().length === 2);
    assert.match(b.said()[1]!, /^\d+ again$/);
    assert.deepEqual(b.seen('daemon-ended').map((e) => [e.pid, e.how, e.restartInMs]), [[pid, 'it was ended by SIGKILL', 0]]);
  }));

test('one that does not stay up is tried with doubled waits, its last words told, until its file is mended', () =>
  bench(async (b) => {
    const s = b.supervisor({ d: { ready: () => (b.said().length ? Promise.resolve() : Promise.reject(new Error('not yet'))) } });
    await s.apply([b.spec('die')]);
    await until('three ends', () => b.seen('daemon-ended').length >= 3);
    assert.deepEqual(b.seen('daemon-ended').slice(0, 3).map((e) => e.restartInMs), [0, 250, 500]);
    assert.match(b.seen('daemon-ended')[0]!.how, /ended with 3; its last words: I will not/);
    await s.apply([b.spec('good')]);
    await until('it runs', () => b.said().length === 1);
    assert.match(b.said()[0]!, /^\d+ $/, 'it has never worked before: nothing to take over');
  }));

test('a program that is not there', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec('x', { argv: ['/nonexistent/program'] })]);
    assert.equal(b.seen('daemon-failed')[0]!.error, '/nonexistent/program is not installed: ENOENT');
  }));

test('changed files: by the reload command, by a restart where there is none; those it will not take are put back', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec('one')]);
    const pid = s.running()['d']!;
    await until('it runs', () => b.said().length === 1);
    await s.apply([b.spec('two', { reload: ['kill', '-HUP', String(pid)] })]);
    await until('it has read it', () => b.said().includes('reload two'));
    assert.equal(s.running()['d'], pid);
    await s.apply([b.spec('three', { reload: ['false'] })]);
    assert.equal(b.seen('daemon-failed').length, 1);
    assert.equal(readFileSync(b.spec().files[0]!.path, 'utf8'), 'two', 'what it would not take is not left for its next start');
    await s.apply([b.spec('four')]);
    assert.notEqual(s.running()['d'], pid);
    await until('the new one runs', () => b.said().some((l) => l.startsWith(`${s.running()['d']} `)));
  }));

test('changed arguments: handed over', () =>
  bench(async (b) => {
    let pid = 0;
    const s = b.supervisor({ d: { handOver: () => Promise.resolve(void process.kill(pid, 'SIGKILL')) } });
    await s.apply([b.spec()]);
    pid = s.running()['d']!;
    await until('it runs', () => b.said().length === 1);
    await s.apply([b.spec('one', { argv: [...b.spec().argv, 'more'] })]);
    await until('the new one', () => b.said().length === 2);
    assert.match(b.said()[1]!, /^\d+ more again$/);
    assert.equal(alive(pid), false);
    assert.equal(b.seen('daemon-ended').length, 0, 'an end that was asked for is no failure');
  }));

test('an agent killed with -9 at any moment leaves one daemon, and the next agent adopts it', async () => {
  // From before the daemon is started to well after.
  for (const delay of [0, 1, 2, 3, 5, 8, 13, 21, 60, 400]) {
    await bench(async (b) => {
      const child = spawn(process.execPath, [CHILD, b.dir, JSON.stringify(b.spec())], { stdio: ['ignore', 'pipe', 'inherit'] });
      let out = '';
      child.stdout.on('data', (d: Buffer) => (out += d.toString()));
      // The record is the first thing that the supervisor writes.
      await until('the agent is at work', () => existsSync(join(b.dir, 'd.json')) || existsSync(b.dir), 10_000);
      await new Promise((r) => setTimeout(r, delay));
      child.kill('SIGKILL');
      await until('the agent is gone', () => child.signalCode !== null);
      const s = b.supervisor();
      await s.apply([b.spec()]);
      const pid = s.running()['d']!;
      await until('one runs', () => b.said().some((l) => l.startsWith(`${pid} `)), 5000);
      const running = b.said().map((l) => Number(l.split(' ')[0])).filter(alive);
      assert.deepEqual(running, [pid], `after ${delay} ms: ${out}`);
      if (out.includes('"applied"')) assert.deepEqual(b.seen('daemon-adopted').map((e) => e.pid), [pid]);
      // Adopted or not, its end is noticed and mended.
      process.kill(pid, 'SIGKILL');
      await until('a new one', () => (s.running()['d'] ?? pid) !== pid);
    });
  }
});

test('a pid that is another process by now is not touched', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec()]);
    const mine = s.running()['d']!;
    await s.close();
    process.kill(mine, 'SIGKILL');
    await until('gone', () => !alive(mine));
    const other = spawn('sleep', ['60']);
    try {
      const path = join(b.dir, 'd.json');
      writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, 'utf8')) as object), pid: other.pid }));
      const next = b.supervisor();
      await next.stop();
      assert.ok(alive(other.pid!));
      assert.equal(existsSync(path), false);
    } finally {
      other.kill();
    }
  }));

test('what an agent with another backend left running is ended by the first apply', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec()]);
    const pid = s.running()['d']!;
    await s.close();
    const next = b.supervisor();
    await next.apply([]);
    assert.equal(alive(pid), false);
    assert.deepEqual(b.seen('daemon-stopped').map((e) => e.pid), [pid]);
  }));

test('its log does not grow without end', () =>
  bench(async (b) => {
    const s = b.supervisor();
    await s.apply([b.spec('one', { argv: [process.execPath, '-e', 'setInterval(() => console.log("x".repeat(100000)), 5)'] })]);
    const log = s.logPath('d');
    await until('turned over', () => existsSync(`${log}.1`));
    assert.ok(statSync(log).size < 8 << 20);
  }));
