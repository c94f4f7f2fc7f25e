/** What WireGuard needs of a node besides its configuration: which implementation it has, and its keys. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { hasTun, kernelHas } from '@podway/kernel';
import { presharedKeyDigest } from '@podway/netstate';
import type { LocalNode, NodeEnds } from '../backends/backend.js';
import type { NetworkConfig } from '../config.js';
import { systemPath } from '../daemons/supervisor.js';
import { WIREGUARD_GO, WIREGUARD_GO_PACKAGE } from './daemon.js';
import type { WireguardKeys } from './keys.js';
import { wireguardWay, type WireguardConfig } from './settings.js';

const configs = (networks: readonly (NetworkConfig | undefined)[]): WireguardConfig[] =>
  networks.flatMap((n) => (n?.backend.type === 'wireguard' ? [n.backend] : []));

let inKernel: boolean | undefined;
/** A kernel does not gain or lose it while a node runs; a probe costs a namespace. */
const kernelHasWireguard = (): boolean => (inKernel ??= kernelHas('link', 'wireguard'));

export function isInstalled(program: string): boolean {
  return systemPath().split(':').some((dir) => {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export const implementationOf = (c: WireguardConfig): 'kernel' | 'userspace' =>
  c.implementation === 'auto' ? (kernelHasWireguard() ? 'kernel' : 'userspace') : c.implementation;

/** In words, what this machine would need for it and has not. */
export function lacksForWireguard(c: WireguardConfig): string | undefined {
  if (implementationOf(c) === 'kernel') return kernelHasWireguard() ? undefined : 'backend wireguard needs the kernel module wireguard, which this kernel lacks';
  const instead = c.implementation === 'auto' ? 'this kernel lacks the module wireguard, and ' : '';
  if (!isInstalled(WIREGUARD_GO)) return `backend wireguard: ${instead}${WIREGUARD_GO} is not installed (Debian: apt-get install --no-install-recommends ${WIREGUARD_GO_PACKAGE})`;
  return hasTun() ? undefined : `backend wireguard: ${instead}/dev/net/tun, which ${WIREGUARD_GO} needs, is missing (modprobe tun)`;
}

/** This node with its implementation and the public keys of all generations in use. Makes keys that are missing. */
export async function withWireguard(local: LocalNode, keys: WireguardKeys, networks: readonly (NetworkConfig | undefined)[]): Promise<LocalNode> {
  const all = configs(networks);
  const [first] = all;
  if (!first) return local;
  const publicKeys: Record<number, string> = {};
  for (const c of all) publicKeys[c.generation] = await keys.publicKey(c);
  return { ...local, wireguard: { implementation: implementationOf(first), publicKeys } };
}

/** A node as it has published itself: for whoever looks at it from outside and cannot read its keys. */
export function publishedWireguard(local: LocalNode, ends: NodeEnds | undefined, network: NetworkConfig): LocalNode {
  const [c] = configs([network]);
  const end = c && ends?.accepts[wireguardWay(c)];
  if (!c || end?.publicKey === undefined || end.implementation === undefined) return local;
  return { ...local, wireguard: { implementation: end.implementation, publicKeys: { [c.generation]: end.publicKey } } };
}

/** For people. */
export const implementationName = (i: 'kernel' | 'userspace'): string => (i === 'kernel' ? 'kernel' : `user space (${WIREGUARD_GO})`);

/** Secrets by what states call them. */
export const wireguardSecrets = (keys: WireguardKeys, networks: () => readonly (NetworkConfig | undefined)[]) => (name: string): string | undefined =>
  keys.secret(name) ?? configs(networks()).map((c) => c.presharedKey).find((k) => k !== undefined && presharedKeyDigest(k) === name);
