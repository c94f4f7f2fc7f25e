import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { RuleTester } from 'eslint';
import tseslint from 'typescript-eslint';
import house from '../index.mjs';
import { LAYERS, PRINTING } from '../layers.mjs';

RuleTester.describe = describe;
RuleTester.it = it;
RuleTester.itOnly = it;

const root = join(import.meta.dirname, '../..');
const tester = new RuleTester({ languageOptions: { parser: tseslint.parser } });
const typed = new RuleTester({
  languageOptions: {
    parser: tseslint.parser,
    parserOptions: { projectService: { allowDefaultProject: ['*.ts'] }, tsconfigRootDir: root },
  },
});
const src = (pkg) => `packages/${pkg}/src/some/file.ts`;
const at = (pkg, code) => ({ code, filename: src(pkg) });
const bad = (pkg, code, ...ids) => ({ code, filename: src(pkg), errors: ids.map((messageId) => ({ messageId })) });

tester.run('layers', house.rules.layers, {
  valid: [
    at('netstate', "import { Netns } from '@podway/kernel';"),
    at('kernel', "const k = createRequire(import.meta.url)('koffi');"),
    at('kernel', "export * from './netlink/socket.js';"),
    { code: "import { runLab } from '@podway/lab';", filename: 'packages/kernel/test/a.test.ts' },
    { code: "import anything from '@podway/cli';", filename: 'bench/decode.mjs' },
  ],
  invalid: [
    bad('kernel', "import { observe } from '@podway/netstate';", 'upwards'),
    bad('packet', "import { PodwayError } from '@podway/errors';", 'upwards'),
    bad('trace', "export { agent } from '@podway/agent';", 'upwards'),
    bad('trace', "export * from '@podway/lab';", 'upwards'),
    bad('kube', "const k = await import('@podway/kernel');", 'upwards'),
    bad('kube', "let k: import('@podway/kernel').Netns;", 'upwards'),
    bad('newcomer', "import '@podway/kernel';", 'unknown'),
    bad('trace', "import { x } from '../../../kernel/src/netns.js';", 'around'),
    bad('agent', "import koffi from 'koffi';", 'owned'),
    bad('agent', "const k = createRequire(import.meta.url)('koffi');", 'owned'),
    bad('lab', "import * as k from '@kubernetes/client-node';", 'owned'),
  ],
});

tester.run('no-await-in-netns', house.rules['no-await-in-netns'], {
  valid: [
    at('agent', 'ns.run(() => socket.open());'),
    at('agent', 'await pool.run(async () => 1, extra);'),
    at('agent', 'ns.run(() => { work(); }); setTimeout(() => 1, 5);'),
  ],
  invalid: [
    bad('agent', 'ns.run(async () => { await x(); });', 'async'),
    bad('agent', 'ns.run(() => { setTimeout(() => 1, 5); });', 'later'),
    bad('agent', 'ns.run(() => { process.nextTick(f); });', 'later'),
    bad('agent', 'ns.run(() => { x().then(f); });', 'later'),
    bad('agent', 'ns.run(function () { queueMicrotask(f); });', 'later'),
  ],
});

const types = 'declare class Netns { run<T>(w: () => T): T } declare const ns: Netns; declare const job: { run(w: () => unknown): void }; declare function later(): Promise<number>; declare function now(): number;';
typed.run('no-await-in-netns, with types', house.rules['no-await-in-netns'], {
  valid: [
    { code: `${types} ns.run(() => now()); ns.run(now);`, filename: join(root, 'valid.ts') },
    { code: `${types} job.run(async () => 1);`, filename: join(root, 'valid.ts') },
  ],
  invalid: [
    { code: `${types} ns.run(() => later());`, filename: join(root, 'invalid.ts'), errors: [{ messageId: 'async' }] },
    { code: `${types} ns.run(later);`, filename: join(root, 'invalid.ts'), errors: [{ messageId: 'async' }] },
  ],
});

tester.run('no-print', house.rules['no-print'], {
  valid: [
    at('cli', "console.log('x'); process.stdout.write('y');"),
    at('lab', 'child.stdout.on("data", f);'),
    { code: "process.stderr.write('x');", filename: Object.keys(PRINTING)[0] },
    { code: "console.log('x');", filename: 'bench/x.mjs' },
  ],
  invalid: [
    bad('agent', "console.error('x');", 'print'),
    bad('kernel', "process.stdout.write('x');", 'print'),
    bad('kernel', 'const out = process.stderr;', 'print'),
  ],
});

const cp = (names, code) => `import { ${names} } from 'node:child_process'; ${code}`;
tester.run('no-shell', house.rules['no-shell'], {
  valid: [
    at('lab', cp('spawn', "spawn('busybox', ['sh']); /x/.exec('x');")),
    at('lab', cp('spawn', "spawn('x', [], { shell: false });")),
    at('lab', cp('execFile', "execFile(shim, ['ip']);")),
    { code: cp('execFileSync', "execFileSync('ip', ['-j', 'link']);"), filename: 'packages/kernel/test/link.test.ts' },
  ],
  invalid: [
    bad('lab', cp('exec', ''), 'exec'),
    bad('lab', cp('execSync as run', ''), 'exec'),
    bad('lab', "import * as cp from 'node:child_process'; cp.execSync('ls');", 'exec'),
    bad('lab', cp('spawn', "spawn('x', [], { shell: true });"), 'shell'),
    bad('lab', cp('spawn as start', "start('x', { shell });"), 'shell'),
    bad('lab', cp('spawnSync', "spawnSync('/usr/sbin/ip', ['link']);"), 'tool'),
    bad('agent', cp('execFileSync', "execFileSync('nft', ['list', 'ruleset']);"), 'tool'),
    bad('agent', cp('spawn', "spawn('bash', ['-c', text]);"), 'sh'),
  ],
});

describe('the table of layers', () => {
  const packages = readdirSync(join(root, 'packages')).filter((p) => existsSync(join(root, 'packages', p, 'package.json')));

  it('names every package', () => {
    for (const p of packages) assert.ok(LAYERS[p], `packages/${p} is missing in eslint-rules/layers.mjs`);
  });

  it('has arrows that go down only', () => {
    const names = Object.keys(LAYERS);
    for (const [i, name] of names.entries()) for (const below of LAYERS[name]) assert.ok(names.indexOf(below) < i, `${name} → ${below}`);
  });

  it('agrees with the manifests', () => {
    for (const p of packages) {
      const { dependencies = {} } = JSON.parse(readFileSync(join(root, 'packages', p, 'package.json'), 'utf8'));
      for (const d of Object.keys(dependencies)) {
        const below = /^@podway\/(.+)$/.exec(d)?.[1];
        if (below) assert.ok(LAYERS[p].includes(below), `packages/${p}/package.json depends on ${d}`);
      }
    }
  });

  it('has a test for every rule', () => {
    const text = readFileSync(import.meta.filename, 'utf8');
    for (const rule of Object.keys(house.rules)) assert.ok(text.includes(`run('${rule}'`), rule);
  });
});
