/**
 * Which network a node has: the first valid configuration of /etc/cni/net.d in lexical
 * order, as kubelet's and containerd's loaders choose it. A file that is wrong is passed
 * over and remembered with its reason, so that "not ready" can say why.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PodwayError, messageOf } from '@podway/errors';
import { type NetworkList, type RawPlugin, parseNetworkList } from './config.js';

export const DEFAULT_CONF_DIR = '/etc/cni/net.d';
const EXTENSIONS = ['.conflist', '.conf', '.json'];

export interface BadConf {
  readonly file: string;
  readonly reason: string;
}

export interface LoadedNetwork {
  readonly list: NetworkList;
  readonly file: string;
  /** Files before it in order that could not be used. */
  readonly skipped: readonly BadConf[];
}

/** Regular files with one of the extensions, in byte order; an absent directory has none. */
async function confFiles(dir: string, extensions: readonly string[]): Promise<string[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true });
    return entries
      .filter((e) => !e.isDirectory() && extensions.some((x) => e.name.endsWith(x)))
      .map((e) => e.name)
      .sort((a, b) => (a < b ? -1 : 1));
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw e;
  }
}

const reasonOf = (e: unknown): string => messageOf(e);

/** A list from a file, with the plugins of the sibling folder `<name>/` unless it forbids them (SPEC.md section 1). */
export async function loadNetworkFile(file: string): Promise<NetworkList> {
  const list = parseNetworkList(await readFile(file, 'utf8'));
  const plugins: RawPlugin[] = [...list.plugins];
  if (!list.loadOnlyInlinedPlugins) {
    const folder = join(file, '..', list.name);
    for (const name of await confFiles(folder, ['.conf'])) {
      const text = await readFile(join(folder, name), 'utf8');
      try {
        const extra = parseNetworkList(`{"name":${JSON.stringify(list.name)},"cniVersion":${JSON.stringify(list.cniVersion)},"plugins":[${text}]}`);
        plugins.push(...extra.plugins);
      } catch (e) {
        throw new PodwayError('CNI_CONF', `plugin configuration ${join(folder, name)}`, { said: reasonOf(e), cause: e });
      }
    }
  }
  if (plugins.length === 0) throw new PodwayError('CNI_CONF', `${file} has no plugins`);
  return { ...list, plugins };
}

/**
 * The network of a directory.
 * @throws PodwayError CNI_NO_NETWORK: `no networks found in DIR`, or `no valid networks found in DIR` with each file's reason
 */
export async function loadNetwork(dir = DEFAULT_CONF_DIR): Promise<LoadedNetwork> {
  const skipped: BadConf[] = [];
  let names: string[];
  try {
    names = await confFiles(dir, EXTENSIONS);
  } catch (e) {
    throw new PodwayError('CNI_NO_NETWORK', `no networks found in ${dir}`, { object: dir, said: messageOf(e), cause: e });
  }
  for (const name of names) {
    const file = join(dir, name);
    try {
      return { list: await loadNetworkFile(file), file, skipped };
    } catch (e) {
      skipped.push({ file, reason: reasonOf(e) });
    }
  }
  if (skipped.length === 0) {
    throw new PodwayError('CNI_NO_NETWORK', `no networks found in ${dir}`, { object: dir, hint: `Install a CNI plugin: it puts a .conflist into ${dir}.` });
  }
  throw new PodwayError('CNI_NO_NETWORK', `no valid networks found in ${dir}`, { object: dir, said: skipped.map((s) => `${s.file}: ${s.reason}`).join('; ') });
}

/** The NetworkReady condition that a runtime reports to the kubelet. */
export interface NetworkReadiness {
  readonly ready: boolean;
  readonly reason: '' | 'NetworkPluginNotReady';
  readonly message: string;
}

/** The words the kubelet prints: `network plugin is not ready: cni config uninitialized`, and why. */
export async function networkReadiness(dir = DEFAULT_CONF_DIR): Promise<NetworkReadiness> {
  try {
    await loadNetwork(dir);
    return { ready: true, reason: '', message: '' };
  } catch (e) {
    return { ready: false, reason: 'NetworkPluginNotReady', message: `network plugin is not ready: cni config uninitialized: ${messageOf(e)}` };
  }
}
