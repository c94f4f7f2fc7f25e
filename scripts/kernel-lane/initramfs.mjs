/**
 * What the guest starts from: an archive with busybox, the few modules that bring up the root, and
 * an init script. Pure, except for reading the files that go in. Cost: 1.5 MB, packed in 0.1 s.
 *
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst (cpio "newc"), modules.dep(5).
 * Equivalent command: `find . | cpio -o -H newc | gzip -1`.
 */
import { basename } from 'node:path';

/** Modules for the root: disk-less PCI devices, the 9p file system through them, and the overlay on it. */
export const ROOT_MODULES = ['virtio_ring', 'virtio', 'virtio_pci', '9pnet_virtio', '9p', 'overlay'];

/**
 * @typedef {{ path: string, mode: number, data?: Buffer | string, device?: [number, number] }} Entry
 *   `mode` with its type bits: 0o040755 folder, 0o100755 file, 0o120777 symbolic link, 0o020600 character device.
 */

/** One archive of these entries, in this order. @param {readonly Entry[]} entries @returns {Buffer} */
export function cpio(entries) {
  const parts = [];
  const hex = (n) => n.toString(16).padStart(8, '0').toUpperCase();
  const padded = (buffer) => (buffer.length % 4 ? Buffer.concat([buffer, Buffer.alloc(4 - (buffer.length % 4))]) : buffer);
  const add = ({ path, mode, data = '', device = [0, 0] }, inode) => {
    const body = Buffer.from(data);
    const name = Buffer.from(`${path}\0`);
    // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    const fields = [inode, mode, 0, 0, (mode & 0o170000) === 0o040000 ? 2 : 1, 0, body.length, 0, 0, device[0], device[1], name.length, 0];
    parts.push(padded(Buffer.concat([Buffer.from(`070701${fields.map(hex).join('')}`), name])), padded(body));
  };
  entries.forEach((entry, i) => add(entry, i + 1));
  add({ path: 'TRAILER!!!', mode: 0 }, 0);
  return Buffer.concat(parts);
}

/** `virtio-net`, `virtio_net` and `kernel/…/virtio_net.ko.xz` are one module. @param {string} name */
export const moduleName = (name) => basename(name).replace(/\.ko(\.(xz|gz|zst))?$/, '').replaceAll('-', '_');

/**
 * The files to load for these modules, each after what it depends on. Modules that are built into the
 * kernel need no file. A line of modules.dep lists all that a module needs, the innermost last.
 * @param {string} modulesDep the text of modules.dep
 * @param {string} modulesBuiltin the text of modules.builtin
 * @param {readonly string[]} names
 * @returns {string[]} paths as in modules.dep
 */
export function loadOrder(modulesDep, modulesBuiltin, names) {
  const builtin = new Set(modulesBuiltin.split('\n').filter(Boolean).map(moduleName));
  const lines = new Map();
  for (const line of modulesDep.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) lines.set(moduleName(line.slice(0, colon)), [line.slice(0, colon), ...line.slice(colon + 1).split(' ').filter(Boolean)]);
  }
  const order = new Set();
  for (const name of names) {
    const files = lines.get(moduleName(name));
    if (files) for (const file of [...files].reverse()) order.add(file);
    else if (!builtin.has(moduleName(name))) throw new Error(`the kernel has no module ${name}`);
  }
  return [...order];
}

/** Where the guest sees the folder that the host sees too. Not under /run or /tmp: those are its own. */
export const SHARE = '/.podway-lane';

/** A word for a shell script. @param {string} word */
export const quoted = (word) => `'${word.replaceAll("'", "'\\''")}'`;

/**
 * The first program of the guest: loads the modules, puts a memory file system over the read-only
 * root, and hands over to guest.sh in the shared folder.
 * @param {readonly string[]} modules their names under /modules, in the order of loading
 * @returns {string}
 */
export function initScript(modules) {
  return `#!/bin/busybox sh
set -e
b=/bin/busybox
$b mount -t proc proc /proc
fail() { echo "podway-lane: init: $1 failed"; $b poweroff -f; }
${modules.map((m) => `$b insmod /modules/${m} || fail 'insmod ${m}'`).join('\n')}
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose root /host || fail 'mounting the root'
$b mount -t tmpfs -o mode=755 tmpfs /over
$b mkdir /over/upper /over/work
$b mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /root || fail 'the overlay on the root'
$b mkdir /root${SHARE}
$b mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=512000,cache=none share /root${SHARE} || fail 'mounting the share'
$b umount /proc
exec $b switch_root /root ${SHARE}/busybox sh ${SHARE}/guest.sh
`;
}

/**
 * @param {{ busybox: Buffer, modules: readonly { name: string, data: Buffer }[] }} contents
 *   `modules` in the order in which they are loaded
 * @returns {Buffer} the archive, not compressed
 */
export function initramfs({ busybox, modules }) {
  const folder = (path) => ({ path, mode: 0o040755 });
  return cpio([
    ...['bin', 'dev', 'proc', 'host', 'over', 'root', 'modules'].map(folder),
    { path: 'dev/console', mode: 0o020600, device: [5, 1] },
    { path: 'bin/busybox', mode: 0o100755, data: busybox },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}`, mode: 0o100644, data })),
    { path: 'init', mode: 0o100755, data: initScript(modules.map((m) => m.name)) },
  ]);
}
