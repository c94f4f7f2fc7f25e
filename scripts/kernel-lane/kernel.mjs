/**
 * The kernel that the lane boots: the one named by PODWAY_KERNEL and PODWAY_KERNEL_MODULES, or Debian's,
 * downloaded with apt-get and unpacked under build/kernel-lane, never installed. What is unpacked is
 * used again without asking apt, so the lane works without a network; to get a newer kernel, remove
 * the folder. Cost: 70 MB to download once, 6 s to unpack, 190 MB on the disk.
 *
 * Equivalent commands: `apt-get download linux-image-6.1.0-56-amd64`, `dpkg-deb -x`, `depmod`.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

/** @typedef {{ release: string, image: string, modules: string, how: string }} Kernel `modules`: what /lib/modules/RELEASE is to show */

/** The lane cannot run here; the message says what is missing and how to get it. */
export class LaneUnavailable extends Error {}

/** Parts of the package that no network test needs: three quarters of it. */
const LEFT_OUT = [
  './usr/*', './boot/System.map*', ...['sound', 'drivers/gpu', 'drivers/media', 'drivers/scsi', 'drivers/infiniband', 'drivers/iio', 'drivers/usb', 'drivers/staging',
    'drivers/net/ethernet', 'drivers/net/wireless', 'drivers/input', 'drivers/hwmon', 'drivers/hid', 'drivers/mtd', 'drivers/ata', 'drivers/isdn'].map((d) => `./*lib/modules/*/kernel/${d}/*`),
];

/** The kernel's package that `apt-cache depends linux-image-amd64` names. @param {string} depends @returns {string | undefined} */
export const imagePackage = (depends) => /^\s*\|?Depends: (linux-image-\d\S+)$/m.exec(depends)?.[1];

/** Oldest first, by the numbers in their names: 6.1.0-9 before 6.1.0-56. @param {readonly string[]} releases */
export const byRelease = (releases) => [...releases].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));

/**
 * @param {NodeJS.ProcessEnv} env
 * @returns {Kernel | undefined} undefined when the environment names none
 */
export function kernelOfEnvironment(env) {
  const { PODWAY_KERNEL: image, PODWAY_KERNEL_MODULES: modules } = env;
  if (!image && !modules) return undefined;
  if (!image || !modules) throw new LaneUnavailable('PODWAY_KERNEL (the kernel image) and PODWAY_KERNEL_MODULES (its folder of /lib/modules) belong together');
  for (const path of [image, modules]) if (!existsSync(path)) throw new LaneUnavailable(`${path} does not exist`);
  if (!existsSync(join(modules, 'modules.dep'))) throw new LaneUnavailable(`${modules} holds no modules.dep: run depmod for it`);
  return { release: basename(realpathSync(modules)), image: realpathSync(image), modules: realpathSync(modules), how: 'named by PODWAY_KERNEL' };
}

/** The newest one that was unpacked completely. @param {string} folder @returns {Kernel | undefined} */
function unpacked(folder) {
  const release = byRelease(existsSync(folder) ? readdirSync(folder).filter((name) => /^\d/.test(name)) : []).at(-1);
  return release === undefined ? undefined : { release, image: join(folder, release, 'vmlinuz'), modules: join(folder, release, 'modules'), how: 'unpacked before' };
}

/** @param {string} program @param {readonly string[]} args @param {object} options */
async function said(program, args, options = {}) {
  try {
    return (await exec(program, args, { maxBuffer: 16 * 1024 * 1024, ...options })).stdout;
  } catch (e) {
    throw new LaneUnavailable(`${program} ${args.join(' ')} failed: ${(e.stderr || e.message).trim().split('\n').slice(-3).join(' / ')}`, { cause: e });
  }
}

/** The root user downloads as itself: apt's own user may not write into our folder. */
const apt = (args, options) => said('apt-get', ['-q', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=30', ...args], options);

/** @param {string} folder where to unpack @returns {Promise<Kernel>} */
async function fetch(folder) {
  if (process.arch !== 'x64') throw new LaneUnavailable(`the kernel lane boots an x86-64 kernel; this machine is ${process.arch}`);
  const named = 'Name a kernel of your own: PODWAY_KERNEL=/boot/vmlinuz-X PODWAY_KERNEL_MODULES=/lib/modules/X';
  if (!(await exec('apt-get', ['--version']).then(() => true, () => false))) throw new LaneUnavailable(`there is no apt to download Debian's kernel with. ${named}`);
  mkdirSync(folder, { recursive: true });
  // What an interrupted download left behind; not what another one is at.
  for (const name of readdirSync(folder)) {
    if (name.startsWith('new-') && Date.now() - statSync(join(folder, name)).mtimeMs > 3_600_000) rmSync(join(folder, name), { recursive: true, force: true });
  }
  const scratch = mkdtempSync(join(folder, 'new-'));
  try {
    const wanted = async () => imagePackage(await said('apt-cache', ['depends', 'linux-image-amd64']));
    const download = async () => {
      const name = await wanted();
      if (!name) throw new LaneUnavailable(`apt knows no linux-image-amd64. ${named}`);
      await apt(['download', name], { cwd: scratch });
    };
    // Lists that are missing or too old are the usual reason why it cannot be had.
    await download().catch(async () => {
      await apt(['update']);
      await download();
    });
    const deb = readdirSync(scratch).find((name) => name.endsWith('.deb'));
    const tree = join(scratch, 'tree');
    mkdirSync(tree);
    const unpack = spawn('dpkg-deb', ['--fsys-tarfile', join(scratch, deb)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const tar = spawn('tar', ['-x', '-C', tree, ...LEFT_OUT.map((p) => `--exclude=${p}`)], { stdio: [unpack.stdout, 'ignore', 'inherit'] });
    const ends = await Promise.all([once(unpack, 'exit'), once(tar, 'exit')]);
    if (ends.some(([code]) => code !== 0)) throw new LaneUnavailable(`unpacking ${deb} failed`);
    const base = existsSync(join(tree, 'usr/lib/modules')) ? join(tree, 'usr') : tree;
    const [release] = readdirSync(join(base, 'lib/modules'));
    await said('depmod', ['-b', base, release], { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
    // Complete or not there: the new name is given last.
    const ready = join(scratch, 'ready');
    mkdirSync(ready);
    renameSync(join(tree, `boot/vmlinuz-${release}`), join(ready, 'vmlinuz'));
    renameSync(join(base, 'lib/modules', release), join(ready, 'modules'));
    if (!existsSync(join(folder, release))) renameSync(ready, join(folder, release));
    return { ...unpacked(folder), how: `downloaded (${deb})` };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * @param {string} folder of the unpacked kernels
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Kernel>}
 */
export async function findKernel(folder, env) {
  return kernelOfEnvironment(env) ?? unpacked(folder) ?? (await fetch(folder));
}
