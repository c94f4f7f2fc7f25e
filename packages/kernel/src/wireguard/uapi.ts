/**
 * WireGuard in a program (wireguard-go): its text protocol over a unix socket. Equivalent: `wg show`, `wg set`.
 *
 * One connection per operation: `get=1` or `set=1` with lines `key=value`, an empty line, and the
 * answer likewise, ending in `errno=N`. Keys are hexadecimal here. The socket's directory belongs
 * to the mount namespace, not to the network namespace: whoever asks must see the same /var/run.
 * Source: wireguard.com/xplatform.
 */
import { connect } from 'node:net';
import { join } from 'node:path';
import { PodwayError } from '@podway/errors';
import { errnoName } from '../libc.js';
import { addressBytes } from '../netlink/address.js';
import { checkIfname } from '../netlink/link.js';
import { keyBytes, keyText, publicKeyOf } from './keys.js';
import type { WireguardChange, WireguardDevice, WireguardEndpoint, WireguardPeer, WireguardState } from './types.js';

/** Where wireguard-go and wg look for each other. */
export const WIREGUARD_SOCKET_DIR = '/var/run/wireguard';

const ZERO_KEY = '0'.repeat(64);
const ANSWER_TIMEOUT_MS = 5000;
/** A thousand peers with a hundred networks each stay well below. */
const MAX_ANSWER = 64 * 1024 * 1024;

const hex = (key: string): string => (key ? keyBytes(key).toString('hex') : ZERO_KEY);
const base64 = (text: string | undefined): string | undefined =>
  text !== undefined && /^[0-9a-f]{64}$/i.test(text) && text !== ZERO_KEY ? keyText(Buffer.from(text, 'hex')) : undefined;
const endpointText = (e: WireguardEndpoint): string => (addressBytes(e.address).length === 16 ? `[${e.address}]:${e.port}` : `${e.address}:${e.port}`);
const wholeNumber = (n: number, most: number, what: string): string => {
  if (Number.isInteger(n) && n >= 0 && n <= most) return String(n);
  throw new PodwayError('BAD_VALUE', `${n} is not a ${what}`);
};

/** @throws BAD_ADDRESS, BAD_VALUE: a line end within a value would be a line of its own. */
function cidrText(cidr: string): string {
  const [address = '', prefix, rest] = cidr.split('/');
  const bits = addressBytes(address).length * 8;
  if (rest !== undefined) throw new PodwayError('BAD_VALUE', `"${cidr}" is not a network`);
  return `${address}/${prefix === undefined ? bits : wholeNumber(Number(prefix || NaN), bits, `prefix length of ${address}`)}`;
}

/** The text of a change, without the closing empty line. */
export function uapiSet(change: WireguardChange): string {
  const lines = ['set=1'];
  const put = (key: string, value: string | undefined): void => void (value === undefined || lines.push(`${key}=${value}`));
  put('private_key', change.privateKey === undefined ? undefined : hex(change.privateKey));
  put('listen_port', change.listenPort === undefined ? undefined : wholeNumber(change.listenPort, 0xffff, 'port'));
  put('fwmark', change.fwmark === undefined ? undefined : wholeNumber(change.fwmark, 0xffffffff, 'mark'));
  put('replace_peers', change.replacePeers ? 'true' : undefined);
  for (const p of change.peers ?? []) {
    put('public_key', hex(p.publicKey));
    put('remove', p.remove ? 'true' : undefined);
    put('update_only', p.updateOnly ? 'true' : undefined);
    put('preshared_key', p.presharedKey === undefined ? undefined : hex(p.presharedKey));
    put('endpoint', p.endpoint && endpointText({ ...p.endpoint, port: Number(wholeNumber(p.endpoint.port, 0xffff, 'port')) }));
    put('persistent_keepalive_interval', p.keepalive === undefined ? undefined : wholeNumber(p.keepalive, 0xffff, 'number of seconds'));
    put('replace_allowed_ips', p.replaceAllowedIps ? 'true' : undefined);
    for (const a of p.allowedIps ?? []) put('allowed_ip', cidrText(a));
  }
  return lines.join('\n') + '\n';
}

function parseEndpoint(text: string | undefined): WireguardEndpoint | undefined {
  const m = /^(?:\[([0-9a-fA-F:.%]+[^\]]*)\]|([0-9.]+)):(\d{1,5})$/.exec(text ?? '');
  return m ? { address: m[1] ?? m[2]!, port: Number(m[3]) } : undefined;
}

const number = (text: string | undefined): number => (text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : 0);
const big = (text: string | undefined): bigint => (text !== undefined && /^\d{1,20}$/.test(text) ? BigInt(text) : 0n);

/** Reads an answer. Lines that are not known are skipped; never throws. */
export function parseUapi(text: string): { readonly errno: number; readonly state: WireguardState } {
  const device = new Map<string, string>();
  const peers: { readonly one: Map<string, string>; readonly allowedIps: string[] }[] = [];
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at < 1) continue;
    const [key, value] = [line.slice(0, at), line.slice(at + 1)];
    if (key === 'public_key') peers.push({ one: new Map(), allowedIps: [] });
    const peer = key === 'errno' ? undefined : peers.at(-1);
    if (peer && key === 'allowed_ip') peer.allowedIps.push(value);
    else (peer?.one ?? device).set(key, value);
  }
  const privateKey = base64(device.get('private_key'));
  return {
    errno: device.has('errno') ? Number(device.get('errno')) || 0 : NO_ERRNO,
    state: {
      privateKey, publicKey: privateKey && publicKeyOf(privateKey), listenPort: number(device.get('listen_port')), fwmark: number(device.get('fwmark')),
      peers: peers.map(({ one, allowedIps }): WireguardPeer => {
        const seconds = number(one.get('last_handshake_time_sec'));
        return {
          publicKey: base64(one.get('public_key')) ?? '', presharedKey: base64(one.get('preshared_key')), endpoint: parseEndpoint(one.get('endpoint')),
          keepalive: number(one.get('persistent_keepalive_interval')), allowedIps,
          lastHandshake: seconds === 0 ? undefined : seconds * 1000 + Math.floor(number(one.get('last_handshake_time_nsec')) / 1e6),
          rxBytes: big(one.get('rx_bytes')), txBytes: big(one.get('tx_bytes')),
        };
      }),
    },
  };
}
/** The answer broke off before its last line. */
const NO_ERRNO = -1;

/** Sends a request and reads to the end of its answer. */
function exchange(path: string, request: string, doing: string): Promise<WireguardState> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const chunks: Buffer[] = [];
    let size = 0;
    const fail = (details: ConstructorParameters<typeof PodwayError>[2], code = 'WIREGUARD_FAILED'): void => {
      socket.destroy();
      reject(new PodwayError(code, `cannot ${doing}`, { object: path, ...details }));
    };
    const finish = (): void => {
      const { errno, state } = parseUapi(Buffer.concat(chunks).toString());
      if (errno === 0) resolve(state);
      else if (errno === NO_ERRNO) fail({ said: 'the answer broke off' });
      else fail({ errno: errnoName(errno), said: 'the WireGuard program refused' });
      socket.destroy();
    };
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => fail({ said: `no answer within ${ANSWER_TIMEOUT_MS / 1000} s` }));
    socket.on('connect', () => socket.write(`${request}\n`));
    socket.on('data', (d: Buffer) => {
      chunks.push(d);
      size += d.length;
      if (size > MAX_ANSWER) fail({ said: `an answer of more than ${MAX_ANSWER} bytes` });
      else if (d.toString('latin1').endsWith('\n\n') || Buffer.concat(chunks.slice(-2)).subarray(-2).equals(END)) finish();
    });
    socket.on('end', finish);
    socket.on('error', (cause: NodeJS.ErrnoException) => {
      const gone = cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED';
      fail({ cause, errno: cause.code ?? 'unknown', ...(gone ? { hint: 'Is the WireGuard program of that device running?' } : {}) }, gone ? 'WIREGUARD_GONE' : undefined);
    });
  });
}
const END = Buffer.from('\n\n');

export const wireguardSocket = (name: string, directory = WIREGUARD_SOCKET_DIR): string => join(directory, `${checkIfname(name)}.sock`);

/** @throws (from get and set) WIREGUARD_GONE when no program listens, WIREGUARD_FAILED when it refuses, BAD_KEY, BAD_VALUE */
export function openUserspaceWireguard(name: string, directory = WIREGUARD_SOCKET_DIR): WireguardDevice {
  const path = wireguardSocket(name, directory);
  return {
    get: () => exchange(path, 'get=1\n', `read WireGuard device ${name}`),
    set: async (change) => {
      await exchange(path, uapiSet(change), `set WireGuard device ${name}`);
    },
    close: () => undefined,
  };
}
