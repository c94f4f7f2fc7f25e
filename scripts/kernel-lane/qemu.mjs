/**
 * The virtual machine: its arguments, its start and its end. It has no network device and no disk; it sees
 * the host's files read-only and one shared folder. qemu's emulation takes one core for each busy virtual
 * processor; the hardware's help (KVM) is used where the processor offers it to us.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * KVM, or emulation. The device alone does not tell: under a paravirtual KVM it opens, but only kernels made
 * for that run; then the processor's flags do not name the extension.
 * @param {string} cpuinfo text of /proc/cpuinfo
 * @param {boolean} kvmOpens
 * @returns {'kvm' | 'tcg'}
 */
export const accelerator = (cpuinfo, kvmOpens) => (kvmOpens && /^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo) ? 'kvm' : 'tcg');

export function acceleratorHere() {
  let opens = false;
  try {
    closeSync(openSync('/dev/kvm', 'r+'));
    opens = true;
  } catch {
    // No such device, or not for us: emulation.
  }
  return accelerator(readFileSync('/proc/cpuinfo', 'utf8'), opens);
}

/** A value in a list of qemu options: a comma is doubled. @param {string} value */
const option = (value) => value.replaceAll(',', ',,');

/**
 * @param {{ image: string, initrd: string, share: string, console: string, accelerator: 'kvm' | 'tcg', cpus: number, memoryMiB: number }} o
 * @returns {string[]}
 */
export function qemuArguments(o) {
  const files = (id, path, rest) => [
    '-fsdev', `local,id=${id},path=${option(path)},security_model=none,multidevs=remap${rest}`, '-device', `virtio-9p-pci,fsdev=${id},mount_tag=${id}`,
  ];
  return [
    '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-nic', 'none',
    // Emulated page tables of five levels cost a fifth more.
    '-accel', o.accelerator === 'tcg' ? 'tcg,thread=multi' : 'kvm', '-cpu', o.accelerator === 'tcg' ? 'max,-la57' : 'host',
    '-smp', String(o.cpus), '-m', String(o.memoryMiB),
    '-kernel', o.image, '-initrd', o.initrd,
    // A panic ends the machine (panic=-1 reboots, -no-reboot makes that the end); so does an oops. The rest is
    // hardening that costs time under emulation and protects nothing here.
    '-append', 'console=ttyS0 panic=-1 oops=panic loglevel=4 random.trust_cpu=on mitigations=off init_on_alloc=0 apparmor=0 nokaslr',
    '-chardev', `file,id=console,path=${option(o.console)}`, '-serial', 'chardev:console',
    ...files('root', '/', ',readonly=on'), ...files('share', o.share, ''),
  ];
}

/**
 * What to show of the console when the machine ended too early: from the first sign of a crash on, or the end.
 * @param {string} text
 * @param {number} lines
 */
export function consoleExcerpt(text, lines = 40) {
  const all = text.replace(/\u001b(\[[0-9;?]*[a-zA-Z]|c)/g, '').split(/\r?\n/).filter((line) => line.trim());
  const crash = all.findIndex((line) => /Kernel panic|\bBUG:|\bOops\b|general protection fault|podway-lane:/.test(line));
  return (crash < 0 ? all.slice(-lines) : all.slice(Math.max(0, crash - 3), crash + lines - 3)).join('\n');
}

/** The path of a program, or undefined. @param {string} name @param {string} path */
export const findProgram = (name, path = process.env.PATH ?? '') =>
  path.split(':').filter(Boolean).map((folder) => join(folder, name)).find((file) => existsSync(file));

/**
 * Starts it in a process group of its own. It dies with this process, even when that is killed with -9,
 * where util-linux can say so to the kernel (PR_SET_PDEATHSIG); the guest's own time limit stands behind.
 * @param {string} qemu
 * @param {readonly string[]} args
 */
export function startQemu(qemu, args) {
  const leash = spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true'], { stdio: 'ignore' }).status === 0 ? ['setpriv', '--pdeathsig', 'KILL'] : [];
  const [program, ...rest] = [...leash, qemu, ...args];
  return spawn(program, rest, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
}
