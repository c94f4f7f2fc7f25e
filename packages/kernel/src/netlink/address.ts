/** IP addresses between text and bytes, as netlink carries them (network order, 4 or 16 bytes). */
import { isIPv6 } from 'node:net';
import { PodwayError } from '@podway/errors';
import type { Codec } from './codec.js';

export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

export type Family = 'inet' | 'inet6';

export const familyNumber = (f: Family): number => (f === 'inet' ? AF_INET : AF_INET6);
export const familyOf = (address: string): Family => (address.includes(':') ? 'inet6' : 'inet');

/**
 * Writes the four bytes of a dotted address. One pass, no regular expression: it runs for every address of every request.
 * @returns false, with nothing useful written, when the text is not an IPv4 address as inet_pton(3) takes it (no leading zeros).
 */
function writeIPv4(b: Uint8Array, at: number, text: string): boolean {
  const end = text.length;
  if (end < 7 || end > 15) return false;
  let octet = 0;
  let n = 0;
  let digits = 0;
  for (let i = 0; i < end; i++) {
    const ch = text.charCodeAt(i);
    if (ch === 46) {
      if (digits === 0 || octet === 3) return false;
      b[at + octet++] = n;
      n = 0;
      digits = 0;
    } else {
      if (ch < 48 || ch > 57 || (digits > 0 && n === 0)) return false;
      n = n * 10 + ch - 48;
      digits++;
      if (n > 255) return false;
    }
  }
  if (digits === 0 || octet !== 3) return false;
  b[at + 3] = n;
  return true;
}

/** @throws BAD_ADDRESS */
export function addressBytes(address: string): Buffer {
  const four = Buffer.allocUnsafe(4);
  if (writeIPv4(four, 0, address)) return four;
  if (!isIPv6(address)) throw new PodwayError('BAD_ADDRESS', `"${address}" is not an IP address`);
  let text = address.replace(/%.*$/, '');
  const tail = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text);
  if (tail) {
    const v4 = addressBytes(tail[2]!);
    text = `${tail[1]}${v4.readUInt16BE(0).toString(16)}:${v4.readUInt16BE(2).toString(16)}`;
  }
  const [head = '', rest] = text.split('::') as [string, string?];
  const left = head ? head.split(':') : [];
  const right = rest ? rest.split(':') : [];
  const groups = rest === undefined ? left : [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  const b = Buffer.alloc(16);
  groups.forEach((g, i) => b.writeUInt16BE(parseInt(g, 16), i * 2));
  return b;
}

/** 4 bytes → dotted, 16 bytes → RFC 5952; anything else → undefined. */
export function addressText(b: Buffer, start = 0, end = b.length): string | undefined {
  if (end - start === 4) return `${b[start]}.${b[start + 1]}.${b[start + 2]}.${b[start + 3]}`;
  if (end - start !== 16) return undefined;
  const groups: number[] = [];
  for (let i = start; i < end; i += 2) groups.push(b.readUInt16BE(i));
  // IPv4-mapped addresses are written with their dotted part (RFC 5952, section 5).
  if (groups.slice(0, 5).every((g) => g === 0) && groups[5] === 0xffff) return `::ffff:${addressText(b, start + 12, end)}`;
  let best = { at: -1, length: 1 };
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > best.length) best = { at: i, length: n };
    if (n) i += n - 1;
  }
  const hex = groups.map((g) => g.toString(16));
  if (best.at < 0) return hex.join(':');
  return `${hex.slice(0, best.at).join(':')}::${hex.slice(best.at + best.length).join(':')}`;
}

export const ip: Codec<string> = {
  write(w, v) {
    const at = w.reserve(4);
    if (writeIPv4(w.buffer, at, v)) return;
    const bytes = addressBytes(v);
    w.reserve(12);
    w.buffer.set(bytes, at);
  },
  read: (b, start, end) => addressText(b, start, end),
};
