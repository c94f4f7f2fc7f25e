import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { parse as parseYaml } from 'yaml';
import { PodwayError } from '@podway/errors';
import { Netns, RtNetlink } from '@podway/kernel';
import { catalogue } from '../src/catalogue.js';
import { complete, completionScript } from '../src/completion.js';
import { choice, defineCommand, duration, flag, integer, many, required, text, variadic } from '../src/command.js';
import { nearest } from '@podway/errors';
import { buildProgram, runProgram, type Catalogue } from '../src/program.js';

const main = fileURLToPath(new URL('../src/main.js', import.meta.url));

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
async function run(of: Catalogue, words: readonly string[], more: { root?: boolean; signals?: EventEmitter; columns?: number } = {}): Promise<Ran> {
  let out = '';
  let err = '';
  const code = await runProgram(of, words, {
    out: { write: (s) => (out += s.toString()), ...(more.columns ? { isTTY: true, columns: more.columns } : {}) },
    err: { write: (s) => (err += s.toString()) },
    env: {}, root: more.root ?? true, ...(more.signals ? { signals: more.signals } : {}),
  });
  return { code, out, err };
}

const seen: unknown[] = [];
const sample = defineCommand({
  name: 'sample run',
  summary: 'Try everything',
  arguments: { pod: required('a pod', 'pods'), rest: variadic('more') },
  options: {
    fast: flag('quickly', { short: '-f' }), count: integer('N', 'how many', { default: 3, min: 1, max: 9 }), label: text('L', 'a label'),
    proto: choice('PROTO', ['tcp', 'udp'], 'protocol', { default: 'tcp' }), wait: duration('how long', { default: 1000 }), env: many('K=V', 'variables'),
  },
  examples: [['podway sample run web-a', 'runs it']],
  view: {
    table: (d: { readonly pod: string }) => ({ columns: ['POD'], rows: [[d.pod]] }),
    names: (d) => [`pod/${d.pod}`],
  },
  run({ args, options, setExitCode }) {
    seen.push({ args, options });
    if (args.pod === 'bug') throw new TypeError('oops');
    if (args.pod === 'no') setExitCode(1);
    if (args.pod === 'bad') throw new PodwayError('NOT_FOUND', 'there is no pod bad', { object: 'pod bad', hint: 'Look.' });
    return { pod: args.pod };
  },
});
const rooted = defineCommand({ name: 'rooted', summary: 'Needs root', arguments: {}, options: {}, needsRoot: true, examples: [['podway rooted', '']], view: {}, run: () => ({ ok: true }) });
let cleaned = 0;
const slow = defineCommand({
  name: 'slow', summary: 'Never ends', arguments: {}, options: {}, examples: [['podway slow', '']], view: {},
  run({ onExit }) {
    onExit(() => void cleaned++);
    return new Promise<never>(() => undefined);
  },
});
const passing = defineCommand({
  name: 'exec', summary: 'Runs', arguments: { pod: required('a pod'), words: variadic('words') }, options: { tty: flag('terminal', { short: '-t' }) }, passThrough: true,
  examples: [['podway exec web-a -- ls', '']], view: {}, run: ({ args, options }) => ({ ...args, ...options }),
});
const toy: Catalogue = { name: 'podway', summary: 'Toy.', version: '9.9.9', commands: [sample, rooted, slow, passing], groups: { sample: 'Samples' } };

test('arguments and options arrive with their types and defaults', async () => {
  seen.length = 0;
  await run(toy, ['sample', 'run', 'web-a']);
  await run(toy, ['sample', 'run', 'web-a', 'x', 'y', '-f', '--count', '5', '--proto=udp', '--wait', '2m', '--env', 'A=1', '--env', 'B=2', '--label', 'z']);
  assert.deepEqual(seen, [
    { args: { pod: 'web-a', rest: [] }, options: { fast: false, count: 3, label: undefined, proto: 'tcp', wait: 1000, env: [] } },
    { args: { pod: 'web-a', rest: ['x', 'y'] }, options: { fast: true, count: 5, label: 'z', proto: 'udp', wait: 120_000, env: ['A=1', 'B=2'] } },
  ]);
});

test('formats: table by default, json, yaml, name; others are refused by name', async () => {
  assert.deepEqual(await run(toy, ['sample', 'run', 'web-a']), { code: 0, out: 'POD\nweb-a\n', err: '' });
  assert.deepEqual(JSON.parse((await run(toy, ['sample', 'run', 'web-a', '-o', 'json'])).out), { pod: 'web-a' });
  assert.deepEqual(parseYaml((await run(toy, ['sample', 'run', 'web-a', '-o', 'yaml'])).out), { pod: 'web-a' });
  assert.equal((await run(toy, ['sample', 'run', 'web-a', '-oname'])).out, 'pod/web-a\n');
  assert.deepEqual(await run(toy, ['rooted', '-o', 'wide']), { code: 2, out: '', err: 'error: podway rooted has no -o wide\n  hint: It has: json, yaml\n' });
});

test('exit codes: no, not found, bug, root', async () => {
  assert.equal((await run(toy, ['sample', 'run', 'no'])).code, 1);
  assert.deepEqual(await run(toy, ['sample', 'run', 'bad']), { code: 2, out: '', err: 'error: there is no pod bad\n  hint: Look.\n' });
  const bug = await run(toy, ['sample', 'run', 'bug']);
  assert.equal(bug.code, 1);
  assert.match(bug.err, /bug in podway[^]*TypeError: oops[^]*report/);
  assert.deepEqual(await run(toy, ['rooted'], { root: false }), { code: 77, out: '', err: 'error: podway rooted needs root\n  hint: sudo podway rooted\n' });
});

test('errors are JSON for who asked for JSON, also errors of usage', async () => {
  assert.deepEqual(JSON.parse((await run(toy, ['sample', 'run', 'bad', '-o', 'json'])).out), { error: { code: 'NOT_FOUND', message: 'there is no pod bad', object: 'pod bad', hint: 'Look.' } });
  assert.equal((JSON.parse((await run(toy, ['sample', 'run', '-o', 'json'])).out) as { error: { code: string } }).error.code, 'USAGE');
});

test('slips are answered with what was meant', async () => {
  for (const [words, error, hint] of [
    [['smaple'], 'unknown command "smaple"', 'Did you mean podway sample?'],
    [['sample', 'rnu', '-x'], 'unknown command "sample rnu"', 'Did you mean podway sample run?'],
    [['nothing-like-it'], 'unknown command "nothing-like-it"', 'See: podway --help'],
    [['--hlep'], 'unknown option "--hlep"', 'Did you mean podway --help?'],
    [['sample', 'run', 'x', '--cuont', '3'], "unknown option '--cuont'", 'Did you mean --count?'],
    [['sample', 'run', 'x', '--count', 'many'], '--count: "many" is not a whole number from 1 to 9', undefined],
    [['sample', 'run', 'x', '--wait', 'long'], '--wait: "long" is not a time', 'Write it like 500ms, 10s or 2m.'],
    [['sample', 'run', 'x', '--proto', 'sctp'], '--proto: "sctp" is not one of tcp, udp', undefined],
    [['sample', 'run'], "missing required argument 'pod'", 'See: podway sample run --help'],
  ] as const) {
    const { code, err } = await run(toy, words);
    assert.equal(code, 2, words.join(' '));
    assert.equal(err, `error: ${error}\n${hint ? `  hint: ${hint}\n` : ''}`, words.join(' '));
  }
  assert.equal(nearest('up', ['down', 'up']), 'up');
});

test('words behind a pass-through argument belong to the other program', async () => {
  assert.deepEqual(JSON.parse((await run(toy, ['exec', '-t', 'web-a', 'ls', '-l', '--color'])).out), { pod: 'web-a', words: ['ls', '-l', '--color'], tty: true });
  assert.deepEqual(JSON.parse((await run(toy, ['exec', 'web-a', '--', 'ls', '-t'])).out), { pod: 'web-a', words: ['ls', '-t'], tty: false });
});

test('Ctrl-C: the clean-ups run once, exit 130; SIGTERM: 143', async () => {
  for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143]] as const) {
    cleaned = 0;
    const signals = new EventEmitter();
    const ran = run(toy, ['slow'], { signals });
    while (signals.listenerCount(signal) === 0) await new Promise((resolve) => setImmediate(resolve));
    signals.emit(signal);
    assert.equal((await ran).code, code);
    assert.equal(cleaned, 1);
  }
});

test('every command of podway has help with examples that parse', async () => {
  const outside = { out: { write: () => 0 }, err: { write: () => 0 }, env: {}, root: true };
  for (const command of catalogue.commands) {
    const { code, out } = await run(catalogue, [...command.name.split(' '), '--help']);
    assert.equal(code, 0);
    assert.ok(out.includes(command.summary) && out.includes('Examples:'), command.name);
    for (const [line] of command.examples) {
      const words = /podway ([^|)]*)/.exec(line)?.[1]?.trim().split(' ').map((w) => w.replaceAll('"', '')) ?? [];
      let ran = '';
      await buildProgram(catalogue, outside, (c) => { ran = c.name; return Promise.resolve(); }).parseAsync(words, { from: 'user' });
      assert.equal(ran, command.name, line);
    }
  }
});

test('every file of commands/ is in the catalogue', () => {
  const files = readdirSync(new URL('../src/commands', import.meta.url)).filter((f) => f.endsWith('.js') && f !== 'index.js');
  assert.equal(catalogue.commands.length, files.length);
});

test('completion: verbs, second words, options, choices, names', async () => {
  const lookup = (source: string) => Promise.resolve([`${source}-1`, `${source}-2`]);
  const words = async (of: Catalogue, ...line: string[]) => (await complete(of, line, lookup)).map((c) => c.word);
  assert.deepEqual(await words(toy, ''), ['sample', 'rooted', 'slow', 'exec']);
  assert.deepEqual(await words(toy, 's'), ['sample', 'slow']);
  assert.deepEqual(await words(toy, 'sample', ''), ['run']);
  assert.deepEqual(await words(toy, 'sample', 'run', ''), ['pods-1', 'pods-2']);
  assert.deepEqual(await words(toy, 'sample', 'run', '--c'), ['--count']);
  assert.deepEqual(await words(toy, 'sample', 'run', '--proto', ''), ['tcp', 'udp']);
  assert.deepEqual(await words(toy, 'sample', 'run', '-o', ''), ['json', 'yaml', 'table', 'wide', 'name']);
  assert.deepEqual(await words(catalogue, 'completion', 'b'), ['bash']);
});

test('the bash script completes in bash', () => {
  const script = `${completionScript('bash')}\npodway() { "${process.execPath}" "${main}" "$@"; }\nCOMP_WORDS=(podway inspect net); COMP_CWORD=2; _podway; printf '%s\\n' "\${COMPREPLY[@]}"`;
  assert.equal(execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim(), 'netns');
});

test('the real program: help loads no kernel library, version does', () => {
  const loads = (word: string): boolean => {
    const code = `process.argv.push('main.js', ${JSON.stringify(word)}); process.on('exit', () => process.stderr.write(String(process.report.getReport().sharedObjects.some((o) => o.includes('koffi'))))); await import(${JSON.stringify(main)});`;
    const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    return stderr === 'true';
  };
  assert.equal(loads('--help'), false);
  assert.equal(loads('version'), true);
});

test('the real program: a reader that goes away is no error', async () => {
  const child = spawn(process.execPath, [main, 'netns', 'list', '-o', 'json'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let err = '';
  child.stderr.on('data', (s) => (err += String(s)));
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.deepEqual([code, err], [0, '']);
});

test('version, netns list and inspect netns on this machine', async () => {
  const version = JSON.parse((await run(catalogue, ['version', '-o', 'json'])).out) as Record<string, string>;
  assert.equal(version['node'], process.versions.node);
  assert.match(version['libpcap'] ?? '', /^\d+\.\d+/);
  assert.match(version['libnftables'] ?? '', /^libnftables\.so\.\d/);
  const ns = Netns.createNameless();
  try {
    RtNetlink.with(ns, (nl) => nl.setLink('lo', { up: true }));
    const child = ns.run(() => spawn('sleep', ['60'], { stdio: 'ignore' }));
    try {
      const rows = JSON.parse((await run(catalogue, ['netns', 'list', '-o', 'json'])).out) as { id: string; pids: number[]; process?: string; own?: boolean }[];
      assert.deepEqual(rows.find((r) => r.id === ns.id)?.pids, [child.pid]);
      assert.equal(rows.filter((r) => r.own).map((r) => `net:[${r.id}]`).join(), readlinkSync('/proc/self/ns/net'));
      for (const word of [String(child.pid), `/proc/${child.pid}/ns/net`, `net:[${ns.id}]`]) {
        const { out, code } = await run(catalogue, ['inspect', 'netns', word]);
        assert.equal(code, 0);
        assert.match(out, /1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536/);
        assert.match(out, /local 127\.0\.0\.1 dev lo table local proto kernel scope host src 127\.0\.0\.1/);
      }
      const state = JSON.parse((await run(catalogue, ['inspect', 'netns', String(child.pid), '-o', 'json'])).out) as { schema: number; netns: { id: string } };
      assert.deepEqual([state.schema, state.netns.id], [1, ns.id]);
    } finally {
      child.kill('SIGKILL');
    }
  } finally {
    ns.close();
  }
  assert.deepEqual(await run(catalogue, ['inspect', 'netns', 'no-such-name']), { code: 2, out: '', err: 'error: there is no network namespace no-such-name on this machine\n  hint: List what there is with: podway netns list\n' });
});
