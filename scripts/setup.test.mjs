/** The launcher and the set-up, on a copy of their files in a folder of its own. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const root = join(import.meta.dirname, '..');
const scratch = mkdtempSync(join(tmpdir(), 'podway setup ')); // with a blank in its name
after(() => rmSync(scratch, { recursive: true, force: true }));

/** A house in small: the real launcher, an `npm` that only counts, a program that prints its version. */
const house = join(scratch, 'house');
const bin = join(scratch, 'bin');
mkdirSync(join(house, 'packages/cli/src'), { recursive: true });
mkdirSync(join(house, 'packages/cli/dist/src'), { recursive: true });
mkdirSync(bin);
cpSync(join(root, 'podway'), join(house, 'podway'));
cpSync(join(root, 'scripts'), join(house, 'scripts'), { recursive: true });
writeFileSync(join(house, 'package-lock.json'), '{}');
writeFileSync(join(house, 'package.json'), '{"type":"module"}');
writeFileSync(join(house, 'packages/cli/package.json'), '{}');
writeFileSync(join(house, 'packages/cli/tsconfig.json'), '{}');
writeFileSync(join(house, 'packages/cli/src/main.ts'), 'one');
writeFileSync(join(house, 'packages/cli/dist/src/main.js'), 'console.log("ran", ...process.argv.slice(2))');
writeFileSync(join(bin, 'npm'), `#!/bin/sh\necho "$1" >> "${scratch}/calls"\nif [ -e "${scratch}/fail" ]; then echo "it went wrong" >&2; exit 1; fi\nmkdir -p node_modules\n`, { mode: 0o755 });

const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
const podway = (...args) => spawnSync(join(house, 'podway'), args, { encoding: 'utf8', env });
const calls = () => {
  try {
    return readFileSync(join(scratch, 'calls'), 'utf8').trim().split('\n').filter(Boolean);
  } catch {
    return [];
  } finally {
    rmSync(join(scratch, 'calls'), { force: true });
  }
};

test('the first run sets up with a line per phase, the second at once', () => {
  const first = podway('version');
  assert.equal(first.stdout, 'ran version\n', first.stderr);
  assert.match(first.stderr, /podway: install Node\.js modules {2}\d+\.\d s\npodway: build {2}\d+\.\d s\n/);
  assert.deepEqual(calls(), ['ci', 'run']);
  const second = podway('version', '-o', 'json');
  assert.deepEqual([second.stdout, second.stderr], ['ran version -o json\n', '']);
  assert.deepEqual(calls(), []);
});

test('an edited, an added and a removed source are built again; one with an old date too', () => {
  const source = join(house, 'packages/cli/src/main.ts');
  const extra = join(house, 'packages/cli/src/extra.ts');
  for (const change of [
    () => writeFileSync(source, 'two'),
    () => writeFileSync(extra, 'new'),
    () => rmSync(extra),
    () => { writeFileSync(source, 'three'); utimesSync(source, 1e9, 1e9); },
  ]) {
    change();
    assert.match(podway('version').stderr, /^podway: build/);
    assert.deepEqual(calls(), ['run'], String(change));
  }
  assert.equal(podway('version').stderr, '');
});

test('another package-lock.json installs again', () => {
  writeFileSync(join(house, 'package-lock.json'), '{ }');
  podway('version');
  assert.deepEqual(calls(), ['ci', 'run']);
});

test('a phase that fails shows what was said, and the next run takes it up again', () => {
  writeFileSync(join(scratch, 'fail'), '');
  writeFileSync(join(house, 'packages/cli/src/main.ts'), 'four');
  const failed = podway('version');
  assert.equal(failed.status, 1);
  assert.equal(failed.stdout, '');
  assert.match(failed.stderr, /error: build failed\n {2}it went wrong/);
  rmSync(join(scratch, 'fail'));
  assert.equal(podway('version').stdout, 'ran version\n');
});

test('through a symbolic link, from another folder', () => {
  const link = join(bin, 'podway');
  symlinkSync(join(house, 'podway'), link);
  assert.equal(execFileSync(link, ['help', 'x y'], { cwd: '/', encoding: 'utf8', env }), 'ran help x y\n');
});

test('several at once: one sets up, the others wait', async () => {
  calls();
  writeFileSync(join(house, 'packages/cli/src/main.ts'), 'five');
  const { spawn } = await import('node:child_process');
  const all = await Promise.all([1, 2, 3].map(() => new Promise((resolve) => {
    const child = spawn(join(house, 'podway'), ['version'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.on('data', (s) => (out += s));
    child.on('close', () => resolve(out));
  })));
  assert.deepEqual(all, ['ran version\n', 'ran version\n', 'ran version\n']);
  assert.deepEqual(calls(), ['run']);
});

const source = (script) => spawnSync('bash', ['-c', `root='${root}'; state='${scratch}'; . '${root}/scripts/setup.sh'; ${script}`], { encoding: 'utf8' });

test('every row of packages.txt has a name for every distribution', () => {
  for (const line of readFileSync(join(root, 'scripts/packages.txt'), 'utf8').split('\n')) {
    if (!line || line.startsWith('#')) continue;
    const fields = line.split(/\s+/);
    assert.equal(fields.length, 7, line);
    assert.match(fields[0], /^(up|build|test|lane)$/);
    assert.match(fields[1], /^(cmd|lib|static|file):/);
  }
});

test('probes', () => {
  assert.equal(source('present cmd:bash && present "cmd:no-such|sh" && present lib:libc.so.6 && present file:/etc/passwd && ! present cmd:no-such-program && ! present lib:libnone.so.9 && ! present static:bash && echo all').stdout, 'all\n');
});

test('what is missing is named in the distribution\'s own words', () => {
  for (const [column, name] of [[0, 'tshark'], [1, 'wireshark-cli'], [4, 'wireshark']]) {
    assert.match(source(`present() { return 1; }; missing ${column} test`).stdout, new RegExp(`^${name}$`, 'm'));
  }
});

test('the page is built when it is missing, and when one of its sources is newer', () => {
  const folder = join(scratch, 'paged');
  for (const d of ['packages/web/app/src', 'packages/web/src/model', 'build/setup', 'build/page']) mkdirSync(join(folder, d), { recursive: true });
  const sourceFile = join(folder, 'packages/web/src/model/way.ts');
  writeFileSync(sourceFile, 'one');
  const script = `eval "$(sed -n '/^newer/,/^}/p;/^fresh_page/,/^}/p' '${join(root, 'podway')}')"; root=$1; state=$1/build/setup; fresh_page && echo fresh || echo stale`;
  const page = (where = folder) => spawnSync('bash', ['-c', script, 'bash', where], { encoding: 'utf8' }).stdout.trim();
  assert.equal(page(), 'stale');
  writeFileSync(join(folder, 'build/page/index.html'), '');
  assert.equal(page(), 'stale');
  writeFileSync(join(folder, 'build/setup/page'), '');
  assert.equal(page(), 'fresh');
  writeFileSync(sourceFile, 'two');
  assert.equal(page(), 'stale');
  assert.equal(page(house), 'fresh', 'where there is no page, nothing is to be built');
});

test('the packages of the kernel lane: for the whole run and for what names the lane', () => {
  const script = `eval "$(sed -n '/^lane_wanted/,/^}/p' '${join(root, 'podway')}')"; lane_wanted "$@"`;
  const wanted = (...words) => spawnSync('bash', ['-c', script, 'bash', 'test', ...words], { encoding: 'utf8' }).stdout.trim();
  assert.deepEqual(
    [[], ['-v'], ['links.lane'], ['packages/cni'], ['--no-kernel'], ['--kernel'], ['packages/cni', '--kernel']].map((words) => wanted(...words)),
    ['may', 'may', 'may', 'no', 'no', 'must', 'must'],
  );
});
