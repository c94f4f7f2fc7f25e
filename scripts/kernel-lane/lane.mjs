/**
 * The kernel lane: boots Debian's kernel in a virtual machine on this machine's own files and runs jobs there.
 * For what this machine's kernel cannot do: IPIP, WireGuard, IPVS, netem. Its cost: docs/kernel-lane.md.
 *
 * Nothing stays behind: the machine is in memory, its root an overlay that nobody keeps, its shared folder
 * in the caller's scratch folder. It has no network device, so it can reach nothing.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { initramfs, loadOrder, quoted, ROOT_MODULES, SHARE } from './initramfs.mjs';
import { findKernel, LaneUnavailable } from './kernel.mjs';
import { acceleratorHere, consoleExcerpt, findProgram, qemuArguments, startQemu } from './qemu.mjs';

export { LaneUnavailable };

/**
 * @typedef {{ argv: (folder: string, index: number) => string[], env?: Record<string, string> }} Job
 *   `argv`: the command, given the shared folder as the guest sees it; what it writes to `<folder>/<index>.jsonl` comes back
 * @typedef {{ code: number, ms: number, output: string, report: string, timedOut: boolean }} JobResult
 *   `report`: the path of `<index>.jsonl` on the host, which exists if the job wrote it
 * @typedef {{ kernel: import('./kernel.mjs').Kernel, qemu: string, accelerator: 'kvm' | 'tcg', busybox: string }} Prepared
 */

/**
 * Finds what the lane needs, or throws LaneUnavailable with what is missing. Downloads the kernel when it is not there.
 * @param {string} folder for the unpacked kernels
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Prepared>}
 */
export async function prepareLane(folder, env = process.env) {
  const find = (name, packages, more = '') => {
    const path = findProgram(name, `${env.PATH ?? ''}${more}`);
    if (!path) throw new LaneUnavailable(`${name} is not installed (Debian: ${packages})`);
    return path;
  };
  const qemu = find('qemu-system-x86_64', 'qemu-system-x86');
  const busybox = find('busybox', 'busybox-static');
  if (/\/ld-(linux|musl)/.test(readFileSync(busybox, 'latin1'))) throw new LaneUnavailable(`${busybox} needs shared libraries (Debian: busybox-static)`);
  find('modprobe', 'kmod', ':/usr/sbin:/sbin');
  return { kernel: await findKernel(folder, env), qemu, busybox, accelerator: acceleratorHere() };
}

/** The script of one job. @param {readonly string[]} argv @param {Record<string, string>} env */
export const jobScript = (argv, env = {}) =>
  `${Object.entries(env).map(([name, value]) => `export ${name}=${quoted(value)}\n`).join('')}exec ${argv.map(quoted).join(' ')}\n`;

/** `137 2500` of a job's end. busybox's timeout answers 143 or 137 for a killed job, as the shell does. */
export function parseEnd(text, timeoutSeconds) {
  const [code = NaN, ms = NaN] = text.trim().split(' ').map(Number);
  return { code, ms, timedOut: (code === 137 || code === 143) && ms >= timeoutSeconds * 1000 - 500 };
}

/**
 * Runs the jobs, several at a time. A crash of the machine ends those that were not finished; they have no result.
 * @param {Prepared} lane
 * @param {readonly Job[]} jobs
 * @param {{ scratch: string, directory: string, timeoutSeconds: number, limitSeconds: number, parallel?: number, cpus?: number, memoryMiB?: number,
 *   started?: (child: import('node:child_process').ChildProcess) => void, onResult: (index: number, result: JobResult) => void }} options
 *   `started`: to kill it with when the caller is interrupted
 * @returns {Promise<{ ok: boolean, why?: string, console: string, bootMs: number, totalMs: number, nodeMs?: number }>}
 */
export async function runLane(lane, jobs, options) {
  const share = join(options.scratch, 'share');
  mkdirSync(share, { recursive: true, mode: 0o700 });
  cpSync(join(import.meta.dirname, 'guest.sh'), join(share, 'guest.sh'));
  cpSync(realpathSync(lane.busybox), join(share, 'busybox'));
  const settings = {
    modules: lane.kernel.modules, directory: options.directory, node: process.execPath, limit: options.limitSeconds, timeout: options.timeoutSeconds,
    jobs: options.parallel ?? 2, measure: 1,
  };
  writeFileSync(join(share, 'settings'), Object.entries(settings).map(([name, value]) => `${name}=${quoted(String(value))}\n`).join(''));
  jobs.forEach((job, i) => writeFileSync(join(share, `job-${i}`), jobScript(job.argv(SHARE, i), job.env)));
  writeFileSync(join(share, 'jobs'), jobs.map((_, i) => `${i}\n`).join(''));

  const order = loadOrder(readFileSync(join(lane.kernel.modules, 'modules.dep'), 'utf8'), readFileSync(join(lane.kernel.modules, 'modules.builtin'), 'utf8'), ROOT_MODULES);
  const archive = initramfs({
    busybox: readFileSync(lane.busybox),
    modules: order.map((file) => ({ name: basename(file), data: readFileSync(join(lane.kernel.modules, file)) })),
  });
  const initrd = join(options.scratch, 'initramfs.gz');
  writeFileSync(initrd, gzipSync(archive, { level: 1 }));
  const log = join(options.scratch, 'console');

  const start = performance.now();
  const child = startQemu(lane.qemu, qemuArguments({
    image: lane.kernel.image, initrd, share, console: log, accelerator: lane.accelerator, cpus: options.cpus ?? 2, memoryMiB: options.memoryMiB ?? 2048,
  }));
  options.started?.(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said = (said + chunk).slice(-4000)));

  let bootMs = NaN;
  const seen = new Set();
  const look = () => {
    const names = readdirSync(share);
    if (Number.isNaN(bootMs) && names.includes('ready')) bootMs = performance.now() - start;
    for (const name of names) {
      const index = /^(\d+)\.end$/.exec(name)?.[1];
      if (index === undefined || seen.has(index)) continue;
      seen.add(index);
      const file = (suffix) => join(share, `${index}.${suffix}`);
      options.onResult(Number(index), {
        ...parseEnd(readFileSync(file('end'), 'utf8'), options.timeoutSeconds),
        output: existsSync(file('out')) ? readFileSync(file('out'), 'utf8').slice(-200_000) : '',
        report: file('jsonl'),
      });
    }
  };
  const watch = setInterval(look, 100);
  let overTime = false;
  // The guest switches itself off at the limit; this is for when it no longer can.
  const limit = setTimeout(() => {
    overTime = true;
    process.kill(-child.pid, 'SIGKILL');
  }, (options.limitSeconds + 30) * 1000);
  const code = await new Promise((resolve) => {
    child.on('error', (e) => resolve(e.message));
    child.on('exit', (exit, signal) => resolve(signal ?? exit));
  });
  clearTimeout(limit);
  clearInterval(watch);
  look();

  const text = existsSync(log) ? readFileSync(log, 'latin1') : '';
  const ok = code === 0 && existsSync(join(share, 'status'));
  const why = overTime || text.includes('podway-lane: over the time limit') ? `did not end within ${options.limitSeconds} s`
    : code !== 0 ? `qemu ended with ${code}: ${said.trim()}` : 'the machine ended before its jobs did';
  const measured = existsSync(join(share, 'measured')) ? /\bnode_ms=(\d+)/.exec(readFileSync(join(share, 'measured'), 'utf8')) : null;
  return {
    ok, ...(ok ? {} : { why }), console: consoleExcerpt(text), bootMs, totalMs: performance.now() - start,
    ...(measured ? { nodeMs: Number(measured[1]) } : {}),
  };
}
