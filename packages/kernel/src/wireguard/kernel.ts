/**
 * WireGuard in the kernel, through generic netlink. Equivalent: `wg show DEV`, `wg set DEV …`.
 *
 * A device with many peers comes as several messages, and so do a peer's allowed IPs: a message
 * that starts with the peer the last one ended with goes on with it. Changes are cut likewise, as
 * one attribute holds at most 64 KiB: flags that replace stand in the first part only.
 * Source: linux/wireguard.h and the protocol description in it.
 */
import type { Netns } from '../netns.js';
import { AF_INET, AF_INET6, familyOf } from '../netlink/address.js';
import type { Attributes } from '../netlink/codec.js';
import type { Answer } from '../netlink/socket.js';
import { GenlSocket, readGenl, type GenlCommand, type GenlFamily } from '../genl/genetlink.js';
import {
  type ALLOWED_IP, DEVICE, type PEER, WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE, WG_GENL_NAME, WGDEVICE_F_REPLACE_PEERS, WGPEER_F_REMOVE_ME,
  WGPEER_F_REPLACE_ALLOWEDIPS, WGPEER_F_UPDATE_ONLY,
} from './tables.js';
import type { WireguardChange, WireguardDevice, WireguardPeer, WireguardPeerChange, WireguardState } from './types.js';

type DeviceAttributes = Attributes<typeof DEVICE>;
type PeerAttributes = Attributes<typeof PEER>;

/** Weight of one message: an allowed IP takes up to 36 bytes, a peer without them 140; well under 64 KiB. */
const PART_WEIGHT = 40_000;
const PEER_WEIGHT = 160;
const ALLOWED_WEIGHT = 40;

export const getDeviceCommand = (name: string): GenlCommand<typeof DEVICE> => ({
  command: WG_CMD_GET_DEVICE, table: DEVICE, values: { name }, doing: `read WireGuard device ${name}`,
});

const allowedIp = (cidr: string): Attributes<typeof ALLOWED_IP> => {
  const [address = '', prefix] = cidr.split('/');
  const six = familyOf(address) === 'inet6';
  return { family: six ? AF_INET6 : AF_INET, address, prefix: prefix === undefined ? (six ? 128 : 32) : Number(prefix) };
};

function peerAttributes(p: WireguardPeerChange): PeerAttributes {
  const flags = (p.remove ? WGPEER_F_REMOVE_ME : 0) | (p.replaceAllowedIps ? WGPEER_F_REPLACE_ALLOWEDIPS : 0) | (p.updateOnly ? WGPEER_F_UPDATE_ONLY : 0);
  return {
    publicKey: p.publicKey, presharedKey: p.presharedKey, flags: flags || undefined, endpoint: p.endpoint, keepalive: p.keepalive,
    allowedIps: p.allowedIps?.length ? p.allowedIps.map(allowedIp) : undefined,
  };
}

/** The messages of a change, in the order they must be sent. */
export function setDeviceCommands(name: string, change: WireguardChange): GenlCommand<typeof DEVICE>[] {
  const parts: PeerAttributes[][] = [[]];
  let weight = 0;
  const add = (p: PeerAttributes, w: number): void => {
    if (weight + w > PART_WEIGHT && parts.at(-1)!.length) {
      parts.push([]);
      weight = 0;
    }
    parts.at(-1)!.push(p);
    weight += w;
  };
  const most = Math.floor((PART_WEIGHT - PEER_WEIGHT) / ALLOWED_WEIGHT);
  for (const p of change.peers ?? []) {
    const all = peerAttributes(p);
    const ips = all.allowedIps ?? [];
    add({ ...all, allowedIps: ips.length ? ips.slice(0, most) : undefined }, PEER_WEIGHT + Math.min(ips.length, most) * ALLOWED_WEIGHT);
    for (let at = most; at < ips.length; at += most) {
      const more = ips.slice(at, at + most);
      add({ publicKey: p.publicKey, flags: WGPEER_F_UPDATE_ONLY, allowedIps: more }, PEER_WEIGHT + more.length * ALLOWED_WEIGHT);
    }
  }
  return parts.map((peers, i) => {
    const first = i === 0;
    const values: DeviceAttributes = {
      name,
      privateKey: first ? change.privateKey : undefined,
      flags: first && change.replacePeers ? WGDEVICE_F_REPLACE_PEERS : undefined,
      listenPort: first ? change.listenPort : undefined,
      fwmark: first ? change.fwmark : undefined,
      peers: peers.length ? peers : undefined,
    };
    return { command: WG_CMD_SET_DEVICE, table: DEVICE, values, doing: `set WireGuard device ${name}` };
  });
}

export const decodeDevice = (a: Answer, family: Pick<GenlFamily, 'id'>): DeviceAttributes | undefined => readGenl(a, family, WG_CMD_GET_DEVICE, DEVICE);

function peerOf(v: PeerAttributes): WireguardPeer {
  const seconds = v.lastHandshake?.seconds ?? 0n;
  return {
    publicKey: v.publicKey ?? '',
    presharedKey: v.presharedKey || undefined,
    endpoint: v.endpoint,
    keepalive: v.keepalive ?? 0,
    allowedIps: (v.allowedIps ?? []).flatMap((a) => (a.address === undefined ? [] : [`${a.address}/${a.prefix ?? 0}`])),
    lastHandshake: seconds === 0n ? undefined : Number(seconds) * 1000 + Math.floor(Number(v.lastHandshake?.nanoseconds ?? 0n) / 1e6),
    rxBytes: v.rxBytes ?? 0n,
    txBytes: v.txBytes ?? 0n,
  };
}

/** One device out of the messages of its dump. */
export function joinDevice(parts: readonly DeviceAttributes[]): WireguardState {
  const peers: WireguardPeer[] = [];
  for (const v of parts.flatMap((p) => p.peers ?? [])) {
    const peer = peerOf(v);
    const last = peers.at(-1);
    if (last && last.publicKey === peer.publicKey) peers[peers.length - 1] = { ...last, allowedIps: [...last.allowedIps, ...peer.allowedIps] };
    else peers.push(peer);
  }
  const [first = {}] = parts;
  return {
    privateKey: first.privateKey || undefined, publicKey: first.publicKey || undefined, listenPort: first.listenPort ?? 0, fwmark: first.fwmark ?? 0, peers,
  };
}

function withFamily<T>(ns: Netns, use: (genl: GenlSocket, family: GenlFamily) => T): T {
  const genl = GenlSocket.open(ns);
  try {
    return use(genl, genl.family(WG_GENL_NAME));
  } finally {
    genl.close();
  }
}

const read = (genl: GenlSocket, family: GenlFamily, name: string): WireguardState =>
  joinDevice(genl.dump(WG_GENL_NAME, getDeviceCommand(name), (a) => decodeDevice(a, family)));

const write = (genl: GenlSocket, name: string, change: WireguardChange): void => {
  for (const command of setDeviceCommands(name, change)) genl.request(WG_GENL_NAME, command);
};

/** At once, for whoever cannot wait. @throws KERNEL_LACKS (module wireguard) */
export const readKernelWireguard = (ns: Netns, name: string): WireguardState => withFamily(ns, (genl, family) => read(genl, family, name));

/** @throws KERNEL_LACKS (module wireguard) */
export const setKernelWireguard = (ns: Netns, name: string, change: WireguardChange): void => withFamily(ns, (genl) => write(genl, name, change));

/** @throws KERNEL_LACKS (module wireguard). The device itself is made as a link of kind `wireguard`. */
export function openKernelWireguard(ns: Netns, name: string): WireguardDevice {
  const genl = GenlSocket.open(ns);
  let family: GenlFamily;
  try {
    family = genl.family(WG_GENL_NAME);
  } catch (e) {
    genl.close();
    throw e;
  }
  return {
    // Synchronous work, but a failure must reject, not throw.
    get: async () => Promise.resolve(read(genl, family, name)),
    set: async (change) => Promise.resolve(write(genl, name, change)),
    close: () => genl.close(),
  };
}
