/** The parts of the kernel lane that need no virtual machine. The lane itself: packages/kernel/test/links.lane.test.ts. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { cpio, initramfs, initScript, loadOrder, moduleName, quoted, ROOT_MODULES } from './initramfs.mjs';
import { byRelease, imagePackage, kernelOfEnvironment, LaneUnavailable } from './kernel.mjs';
import { jobScript, parseEnd, prepareLane } from './lane.mjs';
import { isLaneTest, modulesOfThisKernel, neededModules } from './needs.mjs';
import { accelerator, consoleExcerpt, findProgram, qemuArguments } from './qemu.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'podway lane '));
after(() => rmSync(scratch, { recursive: true, force: true }));
const folder = (name) => {
  const path = join(scratch, name);
  mkdirSync(path, { recursive: true });
  return path;
};

test('busybox unpacks the archive as it was meant', { skip: findProgram('busybox') ? false : 'busybox is not installed' }, () => {
  const into = folder('unpacked');
  const odd = Buffer.from([0, 255, 10, 1, 2]);
  const input = cpio([
    { path: 'a', mode: 0o040755 }, { path: 'a/odd', mode: 0o100640, data: odd }, { path: 'a/empty', mode: 0o100755 }, { path: 'link', mode: 0o120777, data: 'a/odd' },
    ...[1, 2, 3, 4, 5].map((n) => ({ path: `n${'x'.repeat(n)}`, mode: 0o100600, data: 'y'.repeat(n) })),
  ]);
  assert.equal(input.length % 4, 0);
  execFileSync('busybox', ['cpio', '-i'], { cwd: into, input, stdio: ['pipe', 'ignore', 'ignore'] });
  assert.deepEqual(readFileSync(join(into, 'a/odd')), odd);
  assert.equal(statSync(join(into, 'a/odd')).mode & 0o777, 0o640);
  assert.equal(statSync(join(into, 'a/empty')).size, 0);
  assert.equal(readlinkSync(join(into, 'link')), 'a/odd');
  for (const n of [1, 2, 3, 4, 5]) assert.equal(readFileSync(join(into, `n${'x'.repeat(n)}`), 'utf8'), 'y'.repeat(n));
});

test('the header of an entry, byte by byte', () => {
  const bytes = cpio([{ path: 'dev/console', mode: 0o020600, device: [5, 1] }]).toString('latin1');
  assert.equal(bytes.slice(0, 110), ['070701', '00000001', '00002180', '00000000', '00000000', '00000001', '00000000', '00000000', '00000000', '00000000', '00000005', '00000001', '0000000C', '00000000'].join(''));
  assert.equal(bytes.slice(110, 122), 'dev/console\0');
  assert.match(bytes, /TRAILER!!!/);
});

const DEP = [
  'kernel/drivers/virtio/virtio_ring.ko:', 'kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko',
  'kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko',
  'kernel/drivers/virtio/virtio_pci_modern_dev.ko:', 'kernel/net/9p/9pnet.ko.xz:', 'kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko',
  'kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko.xz', '',
].join('\n');

test('modules are loaded after what they need, each once; built-in ones not at all', () => {
  const order = loadOrder(DEP, 'kernel/fs/overlayfs/overlay.ko\n', ROOT_MODULES).map(moduleName);
  assert.deepEqual(order, ['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci', '9pnet', '9pnet_virtio', '9p']);
  assert.throws(() => loadOrder(DEP, '', ROOT_MODULES), /the kernel has no module overlay/);
});

test('the init script holds the modules in order, and the shell can read it', () => {
  const script = initScript(['a.ko', 'b.ko.xz']);
  assert.match(script, /insmod \/modules\/a\.ko .*\n.*insmod \/modules\/b\.ko\.xz .*\n.*mount -t 9p/);
  for (const text of [script, readFileSync(join(import.meta.dirname, 'guest.sh'), 'utf8')]) assert.equal(spawnSync('sh', ['-n'], { input: text }).status, 0);
  assert.ok(initramfs({ busybox: Buffer.from('B'), modules: [{ name: 'a.ko', data: Buffer.from('M') }] }).includes('modules/a.ko'));
});

test('a job is one command with its environment, whatever is in the words', () => {
  const words = ["it's", 'a b', '$HOME', '`x`', '"', ''];
  for (const word of words) assert.equal(spawnSync('sh', ['-c', `printf %s ${quoted(word)}`], { encoding: 'utf8' }).stdout, word);
  const script = jobScript(['/usr/bin/env', 'sh', '-c', 'printf "%s|%s" "$A" "$0"', words[0]], { A: words[2] });
  assert.equal(spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout, "$HOME|it's");
});

test('the end of a job', () => {
  assert.deepEqual(parseEnd('0 1234\n', 10), { code: 0, ms: 1234, timedOut: false });
  assert.deepEqual(parseEnd('137 10030\n', 10), { code: 137, ms: 10030, timedOut: true });
  assert.equal(parseEnd('137 3000\n', 10).timedOut, false, 'killed by something else');
});

test('what apt says of the newest kernel', () => {
  assert.equal(imagePackage('linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: x\n'), 'linux-image-6.1.0-56-amd64');
  assert.equal(imagePackage('linux-image-amd64\n  Depends: <linux-image-none>\n'), undefined);
  assert.deepEqual(byRelease(['6.12.9-amd64', '6.1.0-56-amd64', '6.1.0-9-amd64']), ['6.1.0-9-amd64', '6.1.0-56-amd64', '6.12.9-amd64']);
});

test('a kernel of one\'s own', () => {
  const modules = folder('lib/modules/6.9.1');
  const image = join(scratch, 'vmlinuz');
  writeFileSync(image, '');
  assert.equal(kernelOfEnvironment({}), undefined);
  assert.throws(() => kernelOfEnvironment({ PODWAY_KERNEL: image }), LaneUnavailable);
  assert.throws(() => kernelOfEnvironment({ PODWAY_KERNEL: image, PODWAY_KERNEL_MODULES: modules }), /no modules\.dep: run depmod/);
  assert.throws(() => kernelOfEnvironment({ PODWAY_KERNEL: `${image}x`, PODWAY_KERNEL_MODULES: modules }), /does not exist/);
  writeFileSync(join(modules, 'modules.dep'), '');
  const link = join(scratch, 'current');
  symlinkSync(modules, link);
  assert.deepEqual(kernelOfEnvironment({ PODWAY_KERNEL: image, PODWAY_KERNEL_MODULES: link }), { release: '6.9.1', image, modules, how: 'named by PODWAY_KERNEL' });
});

test('without qemu the lane says so', async () => {
  await assert.rejects(prepareLane(scratch, { PATH: scratch }), (e) => e instanceof LaneUnavailable && /qemu-system-x86_64 is not installed \(Debian: qemu-system-x86\)/.test(e.message));
});

test('which files are the lane\'s, and what they need', () => {
  assert.deepEqual(['a/x.lane.test.ts', 'a/lane.test.ts', 'a/x.test.ts'].map(isLaneTest), [true, false, false]);
  assert.deepEqual(neededModules('/** x */\n// needs kernel modules: ipip, ip-vs sch_netem\nimport'), ['ipip', 'ip_vs', 'sch_netem']);
  assert.equal(neededModules('import x'), undefined);
});

test('a module is there when it is loaded, built in or can be loaded', () => {
  const lib = folder('modules');
  writeFileSync(join(lib, 'modules.dep'), 'kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko.xz\n');
  writeFileSync(join(lib, 'modules.builtin'), 'kernel/drivers/net/dummy.ko\n');
  folder('sys/ip_vs');
  const has = modulesOfThisKernel(lib, join(scratch, 'sys'));
  assert.deepEqual(['ipip', 'dummy', 'ip-vs', 'tunnel4', 'wireguard'].map(has), [true, true, true, false, false]);
  assert.equal(modulesOfThisKernel(join(scratch, 'none'), join(scratch, 'none'))('ipip'), false);
});

test('KVM only where the processor has it: a paravirtual KVM opens too', () => {
  const flags = (words) => `processor : 0\nflags\t\t: fpu ${words} sse\n`;
  assert.equal(accelerator(flags('svm'), true), 'kvm');
  assert.equal(accelerator(flags('vmx'), true), 'kvm');
  assert.equal(accelerator(flags('svm_lock'), true), 'tcg');
  assert.equal(accelerator(flags('svm'), false), 'tcg');
});

test('the machine has no network, a read-only root and one shared folder', () => {
  const args = qemuArguments({ image: '/k', initrd: '/i', share: '/tmp/a,b', console: '/c', accelerator: 'tcg', cpus: 2, memoryMiB: 512 });
  const at = (name) => args[args.indexOf(name) + 1];
  assert.equal(at('-nic'), 'none');
  const shares = args.filter((_, i) => args[i - 1] === '-fsdev');
  assert.equal(shares.length, 2);
  assert.match(shares[0], /path=\/,.*readonly=on/);
  assert.match(shares[1], /path=\/tmp\/a,,b,/);
  assert.match(at('-append'), /panic=-1/);
});

test('of a console the crash is shown, or else the end', () => {
  const lines = Array.from({ length: 100 }, (_, i) => `line ${i}`);
  assert.equal(consoleExcerpt(`\u001b[2J\u001bc${lines.join('\r\n')}\r\n`, 3), 'line 97\nline 98\nline 99');
  lines[50] = '[ 1.0] Kernel panic - not syncing: x';
  assert.deepEqual(consoleExcerpt(lines.join('\n'), 5).split('\n'), ['line 47', 'line 48', 'line 49', lines[50], 'line 51']);
});
