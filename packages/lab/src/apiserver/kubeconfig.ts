/**
 * The file that lets kubectl and every other client reach the lab.
 *
 * Written as JSON, which is YAML: kubectl reads it as it is, and Podway's own client reads it
 * without a YAML parser (see kube's connection.ts).
 */
import { chmod, rename, writeFile } from 'node:fs/promises';
import { PodwayError, messageOf } from '@podway/errors';

export interface KubeconfigOptions {
  readonly lab: string;
  /** `https://127.0.0.1:PORT`. */
  readonly server: string;
  readonly ca: string;
  readonly token: string;
  /** Further names of the context: what tutorials call it. */
  readonly aliases?: readonly string[];
}

export function kubeconfig({ lab, server, ca, token, aliases = [] }: KubeconfigOptions): string {
  const name = `podway-${lab}`;
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    preferences: {},
    clusters: [{ name, cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') } }],
    users: [{ name, user: { token } }],
    contexts: [name, ...aliases].map((n) => ({ name: n, context: { cluster: name, user: name, namespace: 'default' } })),
    'current-context': name,
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** Mode 0600 from its first byte on, and never half written. */
export async function writeKubeconfig(file: string, options: KubeconfigOptions): Promise<void> {
  await writePrivate(file, kubeconfig(options));
}

/** For everything that gives power: tokens, keys. */
export async function writePrivate(file: string, text: string): Promise<void> {
  const half = `${file}.${String(process.pid)}.new`;
  try {
    await writeFile(half, text, { mode: 0o600 });
    await chmod(half, 0o600);
    await rename(half, file);
  } catch (cause) {
    throw new PodwayError('KUBE_CONFIG', 'cannot write a private file', { object: file, said: messageOf(cause), cause });
  }
}
