/**
 * Which image names a lab knows, and what runs when a pod asks for one.
 *
 * There is no registry behind a lab: a name stands for a root file system made of what the
 * machine has. A `tree` is a directory with busybox in it; a `host` root shows the machine's own
 * /usr (read-only), so that every tool installed on the machine is in the container.
 */

/** Values a container's environment gets from its pod; as `fieldRef.fieldPath`. */
export type DownwardEnv = Readonly<Record<string, string>>;

export interface ImageDefinition {
  /** The short name, and the directory below the lab's images folder. */
  readonly name: string;
  readonly root: 'busybox' | 'web' | 'host' | 'directory';
  /** Other repositories (without registry and tag) that mean the same. */
  readonly aliases: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly downwardEnv?: DownwardEnv;
  /** A program without which the image makes no sense, and the Debian package that has it. */
  readonly needs?: { readonly file: string; readonly package: string };
  /** What it really is, in words. */
  readonly about: string;
}

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const env = { PATH: DEFAULT_PATH };
const host = (name: string, aliases: readonly string[], cmd: readonly string[], about: string): ImageDefinition => ({
  name, root: 'host', aliases, entrypoint: [], cmd, env, about,
});

export const builtinImages: readonly ImageDefinition[] = [
  {
    name: 'busybox', root: 'busybox', aliases: ['radial/busyboxplus', 'busybox-static'], entrypoint: [], cmd: ['sh'], env,
    about: "Debian's busybox-static with a link for each applet",
  },
  {
    name: 'alpine', root: 'busybox', aliases: [], entrypoint: [], cmd: ['/bin/sh'], env,
    about: 'the busybox root under another name: no musl, no apk',
  },
  {
    name: 'web', root: 'web', aliases: ['podway/web'], entrypoint: ['/bin/podway-web'], cmd: [], env: { ...env, PORT: '80' },
    downwardEnv: {
      POD_NAME: 'metadata.name', POD_NAMESPACE: 'metadata.namespace', POD_IP: 'status.podIP',
      NODE_NAME: 'spec.nodeName', HOST_IP: 'status.hostIP',
    },
    about: 'busybox httpd that answers who and where it is, as text at / and as JSON at /json/',
  },
  {
    name: 'pause', root: 'busybox', aliases: ['google_containers/pause', 'rancher/pause', 'mirrored-pause'], entrypoint: ['/bin/sh', '-c', 'trap "exit 0" TERM INT; while :; do sleep 3600 & wait $!; done'], cmd: [], env,
    about: 'a container that only waits (the sandbox itself is held by podway-init)',
  },
  host('netshoot', ['nicolaka/netshoot', 'praqma/network-multitool', 'wbitt/network-multitool', 'network-multitool'], ['bash'], "the machine's own network tools"),
  host('ubuntu', [], ['/bin/bash'], "the machine's own Debian tools, read-only"),
  host('debian', [], ['/bin/bash'], "the machine's own Debian tools, read-only"),
  {
    ...host('curl', ['curlimages/curl'], [], "the machine's curl"),
    entrypoint: ['curl'], needs: { file: '/usr/bin/curl', package: 'curl' },
  },
  {
    ...host('iperf3', ['networkstatic/iperf3'], [], "the machine's iperf3"),
    entrypoint: ['iperf3'], needs: { file: '/usr/bin/iperf3', package: 'iperf3' },
  },
  {
    ...host('nginx', [], ['nginx', '-g', 'daemon off; error_log /dev/stderr;', '-c', '/etc/podway-nginx.conf'], "the machine's nginx with its stock welcome page"),
    needs: { file: '/usr/sbin/nginx', package: 'nginx-light' },
  },
];

/**
 * `registry.example:5000/library/busybox:1.36@sha256:…` -> `busybox`: registry, tag, digest and the
 * official namespace do not matter to a lab.
 * Source: https://pkg.go.dev/github.com/distribution/reference (grammar of image references).
 */
export function repositoryOf(image: string): string {
  const noDigest = image.split('@')[0] ?? image;
  const parts = noDigest.split('/');
  const last = parts.pop() ?? '';
  const name = last.split(':')[0] ?? '';
  const first = parts[0];
  if (first !== undefined && (first.includes('.') || first.includes(':') || first === 'localhost')) parts.shift();
  if (parts.length === 1 && parts[0] === 'library') parts.shift();
  return [...parts, name].join('/');
}

/** A mapping of the lab file: image name as users write it -> built-in name, or the absolute path of a root directory. */
export type ImageMap = Readonly<Record<string, string>>;

/**
 * The definition an image name stands for; undefined when none does. Mirrors keep a repository's
 * end (`mirror.example/docker.io/library/busybox`), so its last parts count.
 */
export function findImage(image: string, map: ImageMap = {}): ImageDefinition | undefined {
  const repository = repositoryOf(image);
  const mapped = map[image] ?? map[repository];
  // Only the lab file may name a directory: a pod must not choose one of the machine.
  if (mapped?.startsWith('/')) return { name: mapped, root: 'directory', aliases: [], entrypoint: [], cmd: [], env, about: `the directory ${mapped}` };
  const wanted = mapped ?? repository;
  const known = (name: string): ImageDefinition | undefined =>
    builtinImages.find((d) => d.name === name || d.aliases.includes(name));
  const parts = wanted.split('/');
  return known(wanted) ?? known(parts.slice(-2).join('/')) ?? (parts.at(-2) === 'library' || parts.length === 1 || parts.at(-1) === 'pause' ? known(parts.at(-1) ?? '') : undefined);
}

/** What a learner reads when no image has that name. */
export function unknownImageMessage(image: string): string {
  const names = builtinImages.map((d) => d.aliases.find((a) => a.includes('/') && !a.includes('mirror')) ?? d.name);
  return (
    `failed to pull image "${image}": a lab has no registry; it knows ${names.join(', ')} (any registry and tag). ` +
    `To run this name as one of them, map it in the lab file: images: { "${repositoryOf(image)}": netshoot }`
  );
}
