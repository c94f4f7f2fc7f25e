/** IP addresses between text and bytes, as netlink carries them (network order, 4 or 16 bytes). */
import { isIPv4, isIPv6 } from 'node:net';
import { PodwayError } from '@podway/errors';
import type { Codec } from './codec.js';

export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

export type Family = 'inet' | 'inet6';

export const familyNumber = (f: Family): number => (f === 'inet' ? AF_INET : AF_INET6);
export const familyOf = (address: string): Family => (address.includes(':') ? 'inet6' : 'inet');

/** @throws BAD_ADDRESS */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) {
    const b = Buffer.allocUnsafe(4);
    let at = 0;
    let n = 0;
    for (let i = 0; i < address.length; i++) {
      const ch = address.charCodeAt(i);
      if (ch === 46) {
        b[at++] = n;
        n = 0;
      } else n = n * 10 + ch - 48;
    }
    b[at] = n;
    return b;
  }
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
    const bytes = addressBytes(v);
    const at = w.reserve(bytes.length);
    w.buffer.set(bytes, at);
  },
  read: (b, start, end) => addressText(b, start, end),
};
