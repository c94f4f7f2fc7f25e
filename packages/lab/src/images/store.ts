/**
 * Puts the directories of built-in images into the lab's images folder, once per lab and image.
 *
 * Cost: a tree of busybox is one hard link or copy of 2 MB and 270 symbolic links: 5 to 10 ms on a
 * tmpfs, 50 to 300 ms measured on a busy disk; a host root 120 ms there (small files of
 * /etc are copied; /usr is bound when a container starts). A tree is made
 * beside its place and renamed, so a half-made one is never used.
 */
import { execFile } from 'node:child_process';
import { constants, existsSync } from 'node:fs';
import { access, chmod, copyFile, cp, link, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PodwayError } from '@podway/errors';
import { findImage, unknownImageMessage, type ImageDefinition, type ImageMap } from './catalog.js';
import { nginxConfiguration, webFiles, wgetWithTimeout } from './files.js';

const run = promisify(execFile);

export interface RootBind {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

export interface PreparedImage {
  readonly definition: ImageDefinition;
  /** The directory that lies below the container's overlay. */
  readonly root: string;
  /** Directories of the machine shown in the container. */
  readonly binds: readonly RootBind[];
  /** For containerStatuses.imageID. */
  readonly imageID: string;
}

/** Files of the machine's /etc that its programs need; users' secrets are not among them. */
const etcFiles = [
  'passwd', 'group', 'nsswitch.conf', 'services', 'protocols', 'rpc', 'ethertypes', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d',
  'os-release', 'debian_version', 'bash.bashrc', 'profile', 'inputrc', 'localtime', 'timezone', 'mime.types', 'iproute2', 'host.conf',
  'gai.conf', 'nginx/mime.types', 'wgetrc', 'terminfo',
];
const etcBinds = ['/etc/alternatives', '/etc/ssl'];

export interface ImageStoreOptions {
  /** The lab's images folder; made (0700) when absent. */
  readonly dir: string;
  /** A static busybox. */
  readonly busybox?: string;
  readonly map?: ImageMap;
}

export class ImageStore {
  private readonly prepared = new Map<string, Promise<PreparedImage>>();
  private readonly busybox: string;

  constructor(private readonly options: ImageStoreOptions) {
    this.busybox = options.busybox ?? '/bin/busybox';
  }

  /** Errors: PodwayError IMAGE_UNKNOWN (said: which names exist), IMAGE_UNAVAILABLE (a package is missing). */
  get(image: string): Promise<PreparedImage> {
    const definition = findImage(image, this.options.map);
    if (!definition) {
      return Promise.reject(new PodwayError('IMAGE_UNKNOWN', unknownImageMessage(image), { object: `image ${image}` }));
    }
    if (definition.needs && !existsSync(definition.needs.file)) {
      return Promise.reject(
        new PodwayError('IMAGE_UNAVAILABLE', `failed to pull image "${image}": ${definition.about} is not installed`, {
          object: `image ${image}`,
          hint: `apt-get install ${definition.needs.package}`,
        }),
      );
    }
    let entry = this.prepared.get(definition.name);
    if (!entry) {
      entry = this.prepare(definition);
      this.prepared.set(definition.name, entry);
      entry.catch(() => this.prepared.delete(definition.name));
    }
    return entry;
  }

  private async prepare(definition: ImageDefinition): Promise<PreparedImage> {
    if (definition.root === 'directory') return { definition, root: definition.name, binds: [], imageID: `podway.local${definition.name}` };
    const root = join(this.options.dir, definition.name);
    await mkdir(this.options.dir, { recursive: true, mode: 0o700 });
    if (!(await present(root))) {
      const fresh = await mkdtemp(join(this.options.dir, `.${definition.name}-`));
      await chmod(fresh, 0o755);
      if (definition.root === 'host') await this.hostTree(fresh, definition);
      else await this.busyboxTree(fresh, definition);
      await rename(fresh, root).catch(async (e: unknown) => {
        await rm(fresh, { recursive: true, force: true });
        if (!(await present(root))) throw e; // another process was quicker
      });
    }
    const binds = definition.root === 'host'
      ? ['/usr', ...etcBinds].filter((p) => existsSync(p)).map((p) => ({ source: p, target: p, readOnly: true }))
      : [];
    return { definition, root, binds, imageID: `podway.local/${definition.name}@built-in` };
  }

  private async busyboxTree(root: string, definition: ImageDefinition): Promise<void> {
    const dirs = ['bin', 'etc', 'root', 'home', 'run', 'tmp', 'usr', 'usr/local', 'var', 'var/log', 'var/tmp', 'var/lib', 'var/www'];
    for (const d of dirs) await mkdir(join(root, d));
    await chmod(join(root, 'tmp'), 0o1777);
    await Promise.all([
      symlink('/run', join(root, 'var/run')),
      symlink('bin', join(root, 'sbin')),
      symlink('../bin', join(root, 'usr/bin')),
      symlink('../bin', join(root, 'usr/sbin')),
    ]);
    await linkOrCopy(this.busybox, join(root, 'bin/busybox'));
    const { stdout } = await run(this.busybox, ['--list']);
    const applets = stdout.split('\n').filter((a) => a !== '' && a !== 'busybox' && !a.includes('/'));
    await Promise.all(applets.map((a) => symlink('busybox', join(root, 'bin', a))));
    if (await crashesOnTimeout(this.busybox, this.options.dir)) {
      await rm(join(root, 'bin/wget'));
      await writeFile(join(root, 'bin/wget'), wgetWithTimeout, { mode: 0o755 });
    }
    const etc = {
      passwd: 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
      group: 'root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n',
      'nsswitch.conf': 'hosts: files dns\n',
      'os-release': `NAME="Podway built-in ${definition.name}"\nID=podway-${definition.name}\nPRETTY_NAME="Podway: ${definition.about}"\n`,
      shells: '/bin/sh\n',
    };
    await Promise.all(Object.entries(etc).map(([name, text]) => writeFile(join(root, 'etc', name), text)));
    if (definition.root === 'web') await writeTree(root, webFiles());
  }

  private async hostTree(root: string, definition: ImageDefinition): Promise<void> {
    const dirs = ['usr', 'etc', 'root', 'home', 'run', 'tmp', 'opt', 'srv', 'mnt', 'var', 'var/log', 'var/tmp', 'var/lib', 'var/cache', 'var/log/nginx', 'var/lib/nginx', 'var/lib/misc'];
    for (const d of dirs) await mkdir(join(root, d));
    await chmod(join(root, 'tmp'), 0o1777);
    for (const l of ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32']) {
      if (existsSync(`/usr/${l}`)) await symlink(`usr/${l}`, join(root, l));
    }
    await symlink('/run', join(root, 'var/run'));
    for (const f of etcFiles) {
      if (existsSync(`/etc/${f}`)) await cp(`/etc/${f}`, join(root, 'etc', f), { recursive: true, dereference: true });
    }
    await writeFile(join(root, 'etc/motd'), `${definition.name} in a Podway lab is ${definition.about}.\n`);
    await writeFile(join(root, 'etc/podway-nginx.conf'), nginxConfiguration);
  }
}

async function present(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(() => true, () => false);
}

async function linkOrCopy(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => copyFile(from, to)); // another file system
}

/** `wget -T` of Debian 12's busybox-static (1.35.0) ends with a segmentation fault; later ones do not. */
async function crashesOnTimeout(busybox: string, cwd: string): Promise<boolean> {
  // The discard of a refused connection on loopback is all this does where the option works.
  return run(busybox, ['wget', '-q', '-T', '1', '-O', '/dev/null', 'http://127.0.0.1:1/'], { cwd }).then(
    () => false,
    (e: { signal?: unknown }) => e.signal === 'SIGSEGV',
  );
}

async function writeTree(root: string, files: Readonly<Record<string, { text: string; mode: number }>>): Promise<void> {
  for (const [path, { text, mode }] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true });
    await writeFile(join(root, path), text, { mode });
  }
}
