/** WireGuard's generic netlink attributes. Source: linux/wireguard.h (numbers are ABI). */
import { addressBytes, addressText, ip } from '../netlink/address.js';
import { attr, list, nested, str, u16, u32, u64, u8, type Codec } from '../netlink/codec.js';
import { field, I64, struct } from '../netlink/struct.js';
import { keyBytes, keyText } from './keys.js';
import type { WireguardEndpoint } from './types.js';

export const WG_GENL_NAME = 'wireguard';
export const WG_CMD_GET_DEVICE = 0;
export const WG_CMD_SET_DEVICE = 1;
export const WGDEVICE_F_REPLACE_PEERS = 1;
export const WGPEER_F_REMOVE_ME = 1;
export const WGPEER_F_REPLACE_ALLOWEDIPS = 2;
export const WGPEER_F_UPDATE_ONLY = 4;

const AF_INET = 2;
const AF_INET6 = 10;

/** 32 bytes, as base64; the empty string stands for all zeroes, which is how the kernel says "none". */
const key: Codec<string> = {
  write(w, v) {
    const at = w.reserve(32);
    if (v) keyBytes(v).copy(w.buffer, at);
  },
  read(b, start, end) {
    if (end - start !== 32) return undefined;
    const bytes = b.subarray(start, end);
    return bytes.every((x) => x === 0) ? '' : keyText(bytes);
  },
};

/** struct sockaddr_in (16 bytes) or sockaddr_in6 (28): family, port in network order, address. */
const sockaddr: Codec<WireguardEndpoint> = {
  write(w, v) {
    const bytes = addressBytes(v.address);
    const six = bytes.length === 16;
    const at = w.reserve(six ? 28 : 16);
    w.buffer.writeUInt16LE(six ? AF_INET6 : AF_INET, at);
    w.buffer.writeUInt16BE(v.port, at + 2);
    bytes.copy(w.buffer, at + (six ? 8 : 4));
  },
  read(b, start, end) {
    if (end - start < 2) return undefined;
    const family = b.readUInt16LE(start);
    const [size, at, length] = family === AF_INET6 ? [28, 8, 16] : [16, 4, 4];
    if ((family !== AF_INET && family !== AF_INET6) || end - start < size) return undefined;
    return { address: addressText(b, start + at, start + at + length)!, port: b.readUInt16BE(start + 2) };
  },
};

export const ALLOWED_IP = {
  family: attr(1, 'WGALLOWEDIP_A_FAMILY', u16),
  address: attr(2, 'WGALLOWEDIP_A_IPADDR', ip),
  prefix: attr(3, 'WGALLOWEDIP_A_CIDR_MASK', u8),
} as const;

export const PEER = {
  publicKey: attr(1, 'WGPEER_A_PUBLIC_KEY', key),
  presharedKey: attr(2, 'WGPEER_A_PRESHARED_KEY', key),
  flags: attr(3, 'WGPEER_A_FLAGS', u32),
  endpoint: attr(4, 'WGPEER_A_ENDPOINT', sockaddr),
  keepalive: attr(5, 'WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL', u16),
  lastHandshake: attr(6, 'WGPEER_A_LAST_HANDSHAKE_TIME', struct([field('seconds', I64), field('nanoseconds', I64)])),
  rxBytes: attr(7, 'WGPEER_A_RX_BYTES', u64),
  txBytes: attr(8, 'WGPEER_A_TX_BYTES', u64),
  /** Members of the lists are numbered 0. */
  allowedIps: attr(9, 'WGPEER_A_ALLOWEDIPS', list(0, nested(ALLOWED_IP))),
  protocolVersion: attr(10, 'WGPEER_A_PROTOCOL_VERSION', u32),
} as const;

export const DEVICE = {
  index: attr(1, 'WGDEVICE_A_IFINDEX', u32),
  name: attr(2, 'WGDEVICE_A_IFNAME', str),
  privateKey: attr(3, 'WGDEVICE_A_PRIVATE_KEY', key),
  publicKey: attr(4, 'WGDEVICE_A_PUBLIC_KEY', key),
  flags: attr(5, 'WGDEVICE_A_FLAGS', u32),
  listenPort: attr(6, 'WGDEVICE_A_LISTEN_PORT', u16),
  fwmark: attr(7, 'WGDEVICE_A_FWMARK', u32),
  peers: attr(8, 'WGDEVICE_A_PEERS', list(0, nested(PEER))),
} as const;
