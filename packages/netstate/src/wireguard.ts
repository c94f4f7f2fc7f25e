/**
 * WireGuard devices as part of a namespace's state, whoever implements them, and changes to them.
 * Keys that are secret appear in no state and no message: a device is known by its public key, a preshared key by a digest.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  readKernelWireguard, readUserspaceWireguard, setKernelWireguard, setUserspaceWireguard, wireguardSocket,
  type LinkInfo, type Netns, type WireguardChange, type WireguardEndpoint, type WireguardState,
} from '@podway/kernel';
import { messageOf, PodwayError } from '@podway/errors';
import type { Change } from './diff.js';
import type { Link, WireguardLink, WireguardPeer } from './types.js';

/** By what a preshared key is known: enough to tell two apart, nothing to guess it by. */
export const presharedKeyDigest = (key: string): string => `sha256:${createHash('sha256').update(key).digest('hex').slice(0, 16)}`;

/** A secret by what it is known by: a private key by its public key, a preshared key by its digest. */
export type Secrets = (name: string) => string | undefined;

const endpointText = (e: WireguardEndpoint): string => (e.address.includes(':') ? `[${e.address}]:${e.port}` : `${e.address}:${e.port}`);
function endpointOf(text: string): WireguardEndpoint {
  const at = text.lastIndexOf(':');
  return { address: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) };
}

const peersOf = (dev: string, state: WireguardState): WireguardPeer[] =>
  state.peers.map((p) => ({
    dev, publicKey: p.publicKey, ...(p.endpoint === undefined ? {} : { endpoint: endpointText(p.endpoint) }), allowedIps: [...p.allowedIps].sort(), keepalive: p.keepalive,
    presharedKey: p.presharedKey === undefined ? '' : presharedKeyDigest(p.presharedKey), ...(p.lastHandshake === undefined ? {} : { lastHandshake: p.lastHandshake }),
    rxBytes: Number(p.rxBytes), txBytes: Number(p.txBytes),
  }));

export function readWireguard(
  ns: Netns, links: readonly LinkInfo[], directory: string | undefined, unread: string[],
): { readonly links: ReadonlyMap<string, WireguardLink>; readonly peers: readonly WireguardPeer[] } {
  const found = new Map<string, WireguardLink>();
  const peers: WireguardPeer[] = [];
  for (const { name, kind } of links) {
    const program = kind === 'tun' && directory !== undefined && existsSync(wireguardSocket(name, directory));
    if (kind !== 'wireguard' && !program) continue;
    try {
      const state = kind === 'wireguard' ? readKernelWireguard(ns, name) : readUserspaceWireguard(name, directory);
      found.set(name, { ...(state.publicKey === undefined ? {} : { publicKey: state.publicKey }), port: state.listenPort });
      peers.push(...peersOf(name, state));
    } catch (e) {
      unread.push(`WireGuard device ${name}: ${messageOf(e)}`);
    }
  }
  return { links: found, peers };
}

/** Any other than 0: it makes a device greet its peer at once, and both know that the way stands. */
const GREETING_KEEPALIVE = 25;

export interface WireguardAccess {
  readonly ns: Netns;
  readonly directory: string | undefined;
  readonly secrets: Secrets;
}

function set(a: WireguardAccess, dev: string, kind: string | undefined, change: WireguardChange): void {
  if (kind === 'wireguard') setKernelWireguard(a.ns, dev, change);
  else if (a.directory !== undefined) setUserspaceWireguard(dev, change, a.directory);
  else throw new PodwayError('WIREGUARD_GONE', `there is no way to the program of WireGuard device ${dev}`, { object: `link ${dev} in ${a.ns.label}` });
}

function secret(a: WireguardAccess, name: string, what: string): string {
  const found = a.secrets(name);
  if (found !== undefined) return found;
  throw new PodwayError('WIREGUARD_NO_KEY', `the ${what} ${name} is not at hand`, { object: a.ns.label });
}

/** The device's own settings. @throws WIREGUARD_NO_KEY, WIREGUARD_GONE, WIREGUARD_FAILED */
export function setWireguardLink(a: WireguardAccess, want: Link): void {
  const { publicKey, port } = want.wireguard!;
  set(a, want.name, want.kind, { ...(publicKey === undefined ? {} : { privateKey: secret(a, publicKey, 'private key of') }), listenPort: port });
}

/**
 * Peers of one device, in one request. New ones are greeted: a device that was away is heard of again at once, where
 * otherwise the other end would send into the void until its own timers run out (15 s).
 */
export function setWireguardPeers(a: WireguardAccess, dev: string, kind: string | undefined, changes: readonly (Change & { kind: 'peer' })[]): void {
  const gone = changes.filter((c) => c.op === 'delete').map((c) => ({ publicKey: c.observed!.publicKey, remove: true }));
  const wanted = changes.filter((c) => c.op !== 'delete').map((c) => c.desired!);
  set(a, dev, kind, {
    peers: [...wanted.map((p) => ({
      publicKey: p.publicKey, allowedIps: p.allowedIps, replaceAllowedIps: true, keepalive: p.keepalive || GREETING_KEEPALIVE,
      ...(p.endpoint === undefined ? {} : { endpoint: endpointOf(p.endpoint) }),
      ...(p.presharedKey === undefined ? {} : { presharedKey: p.presharedKey === '' ? '' : secret(a, p.presharedKey, 'preshared key') }),
    })), ...gone],
  });
  const silent = wanted.filter((p) => p.keepalive === 0);
  if (silent.length) set(a, dev, kind, { peers: silent.map((p) => ({ publicKey: p.publicKey, updateOnly: true, keepalive: 0 })) });
}
