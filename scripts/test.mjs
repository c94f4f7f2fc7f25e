/**
 * Runs all tests, then the linter: `./podway test [PATTERN...] [OPTIONS]`.
 *
 * Each test file is a process of its own, in its own process group, with a time-out; two run at a
 * time (one per core). One line per file with its time; only failures are shown in full, and the
 * reasons of skips. The last line is `N passed, N failed` (`, N skipped`). The exit code is 1 when
 * something failed, or when no test was executed. Slow files are started first: the times of the
 * last run are kept in build/test-times.json.
 *
 * Tests that need more than this machine's kernel has (`*.lane.test.ts`) run last, under Debian's kernel in a
 * virtual machine: scripts/kernel-lane, docs/kernel-lane.md. Where that cannot be had they are skipped, with the reason.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LaneUnavailable, prepareLane, runLane } from './kernel-lane/lane.mjs';
import { isLaneTest, modulesOfThisKernel, neededModules } from './kernel-lane/needs.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const reporter = join(root, 'scripts/test-reporter.mjs');
const timesFile = join(root, 'build/test-times.json');

/** For the whole of the kernel lane, from its boot on. */
const LANE_LIMIT_SECONDS = 540;

/** Options of `podway test`. A lane is switched on by an environment variable that its tests look at. */
const OPTIONS = {
  jobs: { type: 'string', short: 'j', default: String(Math.max(2, Math.min(cpus().length, 4))), help: 'N  files at a time' },
  timeout: { type: 'string', default: '300', help: 'SECONDS  for one file' },
  verbose: { type: 'boolean', short: 'v', default: false, help: 'name every test' },
  'no-lint': { type: 'boolean', default: false, help: 'without the linter' },
  kernel: { type: 'boolean', default: false, help: 'only the kernel lane; with a PATTERN, whatever matches runs there' },
  'no-kernel': { type: 'boolean', default: false, help: 'without the kernel lane' },
  help: { type: 'boolean', short: 'h', default: false, help: 'show this help' },
};
/** Lanes: groups of tests that do not run by default. `option: variable`. */
const LANES = {};

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: { ...OPTIONS, ...Object.fromEntries(Object.keys(LANES).map((lane) => [lane, { type: 'boolean', default: false }])) },
});

if (values.help) {
  console.log('Usage: podway test [PATTERN...] [OPTIONS]\n\nRuns the test files whose path contains one of the patterns, or all.\n');
  for (const [name, o] of Object.entries(OPTIONS)) console.log(`  ${`${o.short ? `-${o.short}, ` : '    '}--${name}`.padEnd(18)} ${o.help}`);
  process.exit(0);
}

const colour = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code, text) => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const indent = (text, by = '      ') => text.trimEnd().split('\n').map((l) => by + l).join('\n');

/** The compiled tests that have a source: what was deleted or renamed may still lie in dist. */
function testFiles() {
  const found = [];
  const walk = (folder, onFile) => {
    if (!existsSync(folder)) return;
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path, onFile);
      else onFile(path);
    }
  };
  for (const name of readdirSync(join(root, 'packages')).sort()) {
    const pkg = join(root, 'packages', name);
    walk(join(pkg, 'test'), (source) => {
      if (!source.endsWith('.test.ts')) return;
      const compiled = join(pkg, 'dist', relative(pkg, source)).replace(/\.ts$/, '.js');
      found.push({ title: relative(root, source), file: compiled, source });
    });
  }
  for (const folder of ['eslint-rules', 'scripts']) {
    walk(join(root, folder), (source) => source.endsWith('.test.mjs') && found.push({ title: relative(root, source), file: source, source }));
  }
  return found;
}

/** Runs a program in a process group of its own. @returns {Promise<{code, signal, output, timedOut, ms}>} */
function run(args, timeoutMs, env) {
  return new Promise((resolve) => {
    const start = performance.now();
    const child = spawn(process.execPath, args, { cwd: root, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    let output = '';
    let timedOut = false;
    const take = (chunk) => (output = (output + chunk).slice(-200_000));
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    const killGroup = () => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Already gone.
      }
    };
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup();
    }, timeoutMs);
    child.on('error', (e) => take(e.message));
    // `exit`, not `close`: a process that a test left behind may hold the pipes open for ever.
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      setTimeout(() => {
        running.delete(child);
        child.stdout.destroy();
        child.stderr.destroy();
        resolve({ code, signal, output, timedOut, ms: performance.now() - start });
      }, 20);
    });
  });
}

const running = new Set();
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    for (const child of running) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // Already gone.
      }
    }
    process.exit(signal === 'SIGINT' ? 130 : 143);
  });
}

const scratch = mkdtempSync(join(tmpdir(), 'podway-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
const lanes = Object.fromEntries(Object.entries(LANES).map(([lane, variable]) => [variable, values[lane] ? '1' : '']));

/** What tests see of the caller's environment is the same on a developer's machine and on a bare one: no shell or language of their own. */
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(SHELL|LANG|LANGUAGE|LC_.*|TZ|EDITOR|PAGER|LINES|COLUMNS|KUBECONFIG|FORCE_COLOR)$/.test(name)));
environment.NO_COLOR = '1';

const testArguments = (file, report) => ['--enable-source-maps', `--test-reporter=${reporter}`, `--test-reporter-destination=${report}`, file];

async function runFile({ title, file }, index) {
  if (!existsSync(file)) return notBuilt({ title, file });
  const report = join(scratch, `${index}.jsonl`);
  const result = await run(testArguments(file, report), Number(values.timeout) * 1000, { ...environment, ...lanes, PODWAY_KERNEL_LANE: '' });
  return judge(title, result, report);
}

const notBuilt = ({ title, file }) => ({ title, ms: 0, tests: [], failures: [{ name: title, error: `${relative(root, file)} does not exist: was it built?` }] });

/** What the end of a test file's process and its report mean. @param {{ code, signal, output, timedOut, ms }} result */
function judge(title, result, report) {
  const tests = existsSync(report) ? readFileSync(report, 'utf8').split('\n').filter(Boolean).map((l) => JSON.parse(l)) : [];
  // A test that failed only because one inside it did would be counted and shown twice.
  const failures = tests.filter((t) => !t.ok && t.failure !== 'subtestsFailed');
  if (result.timedOut) failures.push({ name: title, error: `did not end within ${values.timeout} s and was killed`, output: result.output });
  else if (result.code !== 0 && failures.length === 0) {
    failures.push({ name: title, error: `ended with ${result.signal ?? `exit code ${result.code}`} although no test failed`, output: result.output });
  } else if (tests.length === 0) failures.push({ name: title, error: 'holds no test', output: result.output });
  return { title, ms: result.ms, tests, failures, output: result.output };
}

/** Runs these files under the lane's kernel, and hands over each result as it comes. */
async function kernelLane(files, take) {
  const started = performance.now();
  const skip = (why) => {
    console.log(`kernel lane: not run: ${why}`);
    for (const f of files) console.log(`    skipped: ${f.title}`);
    totals.skipped += files.length;
  };
  if (values['no-kernel']) return skip('--no-kernel');
  let lane;
  try {
    lane = await prepareLane(join(root, 'build/kernel-lane'));
  } catch (e) {
    if (!(e instanceof LaneUnavailable)) throw e;
    if (!values.kernel) return skip(e.message);
    console.log(`${paint(31, '✗')} kernel lane: ${e.message}`);
    totals.failed++;
    return;
  }
  const kernel = `Linux ${lane.kernel.release}`;
  const { how } = lane.kernel;
  console.log(`kernel lane: ${kernel}, ${how}, ${lane.accelerator === 'kvm' ? 'with KVM' : 'emulated'} (${seconds(performance.now() - started)})`);
  const built = files.filter((f) => existsSync(f.file) || take(notBuilt(f)));
  const open = new Set(built.keys());
  const end = await runLane(
    lane,
    built.map(({ file }) => ({ argv: (folder, i) => [process.execPath, ...testArguments(file, `${folder}/${i}.jsonl`)], env: { ...lanes, NO_COLOR: '1' } })),
    {
      scratch: mkdtempSync(join(scratch, 'lane-')), directory: root, timeoutSeconds: Number(values.timeout), limitSeconds: LANE_LIMIT_SECONDS,
      started: (child) => {
        running.add(child);
        child.on('exit', () => running.delete(child));
      },
      onResult: (i, result) => {
        open.delete(i);
        take(judge(`${built[i].title} [${kernel}]`, result, result.report));
      },
    },
  );
  // The console is shown once, with the first.
  [...open].forEach((i, n) => {
    const failure = { name: built[i].title, error: `not ended: ${end.why ?? 'the machine lost it'}`, ...(n === 0 ? { output: end.console } : {}) };
    take({ title: `${built[i].title} [${kernel}]`, ms: end.totalMs, tests: [], failures: [failure] });
  });
  console.log(`kernel lane: booted in ${seconds(end.bootMs)}, ${built.length} files${end.nodeMs === undefined ? '' : `, Node.js starts in ${seconds(end.nodeMs)}`}, ${seconds(end.totalMs)} in all`);
}

async function lint() {
  const title = 'lint';
  const result = await run(['node_modules/eslint/bin/eslint.js', '.', '--max-warnings', '0'], 180_000, environment);
  const ok = result.code === 0;
  return { title, ms: result.ms, tests: [{ name: 'lint', ok }], failures: ok ? [] : [{ name: 'eslint', error: result.output.trim() || 'ended without a word' }] };
}

function report({ title, ms, tests, failures, output }) {
  const passed = tests.filter((t) => t.ok && t.skip === undefined).length;
  const skipped = tests.filter((t) => t.skip !== undefined);
  const mark = failures.length ? paint(31, '✗') : paint(32, '✓');
  console.log(`${mark} ${title}  ${passed} passed${failures.length ? `, ${failures.length} failed` : ''}${skipped.length ? `, ${skipped.length} skipped` : ''}  ${paint(2, seconds(ms))}`);
  if (values.verbose) for (const t of tests) console.log(`    ${t.ok ? '✓' : '✗'} ${t.name}  ${seconds(t.ms ?? 0)}`);
  for (const s of skipped) console.log(`    skipped: ${s.name}: ${s.skip || 'no reason given'}`);
  for (const f of failures) {
    console.log(`    ${paint(31, '✗')} ${f.name}\n${indent(f.error ?? '')}`);
    if (f.output) console.log(indent(f.output.split('\n').slice(-40).join('\n'), '      | '));
  }
  if (failures.length && output?.trim() && !failures.some((f) => f.output)) console.log(`      printed:\n${indent(output.split('\n').slice(-20).join('\n'), '      | ')}`);
}

const times = existsSync(timesFile) ? JSON.parse(readFileSync(timesFile, 'utf8')) : {};
const wanted = testFiles().filter((f) => positionals.length === 0 || positionals.some((p) => f.title.includes(p)));
const hasModule = modulesOfThisKernel();
const bound = (f) => {
  if (!isLaneTest(f.title)) return values.kernel && positionals.length > 0;
  return values.kernel || !neededModules(readFileSync(f.source, 'utf8'))?.every(hasModule);
};
const forLane = wanted.filter(bound);
const forHere = values.kernel ? [] : wanted.filter((f) => !bound(f));
// Unknown files first: they may be slow.
const queue = forHere.map((f, i) => ({ title: f.title, work: () => runFile(f, i) }));
if (!values['no-lint'] && !values.kernel && (positionals.length === 0 || positionals.includes('lint'))) queue.push({ title: 'lint', work: lint });
queue.sort((a, b) => (times[b.title] ?? Infinity) - (times[a.title] ?? Infinity) || a.title.localeCompare(b.title));

const started = performance.now();
const totals = { passed: 0, failed: 0, skipped: 0, executed: 0 };
function take(result) {
  times[result.title] = Math.round(result.ms);
  const skipped = result.tests.filter((t) => t.skip !== undefined).length;
  const passed = result.tests.filter((t) => t.ok && t.skip === undefined).length;
  totals.passed += passed;
  totals.failed += result.failures.length;
  totals.skipped += skipped;
  totals.executed += passed + result.failures.length;
  report(result);
}
await Promise.all(
  Array.from({ length: Math.max(1, Number(values.jobs) || 1) }, async () => {
    for (let job = queue.shift(); job; job = queue.shift()) take(await job.work());
  }),
);
// Alone, because its two virtual processors take both cores of a small machine.
if (forLane.length) await kernelLane(forLane, take);

mkdirSync(dirname(timesFile), { recursive: true });
writeFileSync(timesFile, JSON.stringify(times, null, 1));
if (totals.executed === 0 && totals.failed === 0) {
  console.log(positionals.length && wanted.length === 0 ? `no test file matches ${positionals.join(' ')}` : 'no test was executed');
  totals.failed++;
}
console.log(`in ${seconds(performance.now() - started)}`);
console.log(`${totals.passed} passed, ${totals.failed} failed${totals.skipped ? `, ${totals.skipped} skipped` : ''}`);
process.exitCode = totals.failed ? 1 : 0;
