/**
 * Reading and writing big-endian numbers and addresses in byte arrays.
 *
 * The readers never throw: the caller has checked the bounds, and a read beyond the end gives 0.
 * Address texts are looked up in small direct-mapped tables, because a capture holds few different addresses
 * many times: a hit costs a few nanoseconds where formatting costs a hundred or more. The tables are of fixed size, so hostile
 * input cannot make them grow.
 */

export function u8(b: Uint8Array, o: number): number {
  return b[o] as number | 0;
}

export function u16(b: Uint8Array, o: number): number {
  return ((b[o] as number) << 8) | (b[o + 1] as number);
}

export function u24(b: Uint8Array, o: number): number {
  return ((b[o] as number) << 16) | ((b[o + 1] as number) << 8) | (b[o + 2] as number);
}

export function u32(b: Uint8Array, o: number): number {
  return (((b[o] as number) << 24) | ((b[o + 1] as number) << 16) | ((b[o + 2] as number) << 8) | (b[o + 3] as number)) >>> 0;
}

export function put16(b: Uint8Array, o: number, value: number): void {
  b[o] = value >>> 8;
  b[o + 1] = value;
}

export function put32(b: Uint8Array, o: number, value: number): void {
  b[o] = value >>> 24;
  b[o + 1] = value >>> 16;
  b[o + 2] = value >>> 8;
  b[o + 3] = value;
}

/** Joins byte arrays into one new array. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const HEX: readonly string[] = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/** Lower-case hex of `b[start..end)`, without separators. */
export function hex(b: Uint8Array, start = 0, end = b.length): string {
  let text = '';
  for (let i = start; i < end && i < b.length; i++) text += HEX[u8(b, i)] as string;
  return text;
}

/** `0x` and at least `digits` hex digits, as protocol numbers and checksums are written. */
export function hexNumber(value: number, digits = 4): string {
  return '0x' + value.toString(16).padStart(digits, '0');
}

const SLOTS = 4096;
const SLOT_MASK = SLOTS - 1;

const ipv4Keys = new Uint32Array(SLOTS);
const ipv4Texts: string[] = new Array<string>(SLOTS).fill('0.0.0.0');

/** The IPv4 address at `o` in dotted form. */
export function ipv4Text(b: Uint8Array, o: number): string {
  const key = u32(b, o);
  const slot = (key ^ (key >>> 12) ^ (key >>> 21)) & SLOT_MASK;
  if (ipv4Keys[slot] === key) return ipv4Texts[slot] as string;
  const text = `${key >>> 24}.${(key >>> 16) & 255}.${(key >>> 8) & 255}.${key & 255}`;
  ipv4Keys[slot] = key;
  ipv4Texts[slot] = text;
  return text;
}

const macHigh = new Uint32Array(SLOTS);
const macLow = new Uint16Array(SLOTS);
const macTexts: string[] = new Array<string>(SLOTS).fill('00:00:00:00:00:00');

/** The 6-byte MAC address at `o`, in lower case with colons. */
export function macText(b: Uint8Array, o: number): string {
  const high = u32(b, o);
  const low = u16(b, o + 4);
  const slot = (low ^ (low >>> 5) ^ high ^ (high >>> 14)) & SLOT_MASK;
  if (macHigh[slot] === high && macLow[slot] === low) return macTexts[slot] as string;
  const text = linkAddressText(b, o, 6);
  macHigh[slot] = high;
  macLow[slot] = low;
  macTexts[slot] = text;
  return text;
}

/** A link-layer address of any length, in lower case with colons; what lies beyond the end is left out. */
export function linkAddressText(b: Uint8Array, o: number, length: number): string {
  let text = '';
  for (let i = 0; i < length && o + i < b.length; i++) text += (i === 0 ? '' : ':') + (HEX[u8(b, o + i)] as string);
  return text;
}

const ipv6Keys = new Uint32Array(SLOTS * 4);
const ipv6Texts: string[] = new Array<string>(SLOTS).fill('::');

/** The IPv6 address at `o`, written as `ip` and inet_ntop(3) write it (RFC 5952; mapped and compatible addresses end dotted). */
export function ipv6Text(b: Uint8Array, o: number): string {
  const k0 = u32(b, o);
  const k1 = u32(b, o + 4);
  const k2 = u32(b, o + 8);
  const k3 = u32(b, o + 12);
  const mixed = k0 ^ k1 ^ k2 ^ k3 ^ (k3 >>> 11);
  const slot = (mixed ^ (mixed >>> 16)) & SLOT_MASK;
  const at = slot * 4;
  if (ipv6Keys[at] === k0 && ipv6Keys[at + 1] === k1 && ipv6Keys[at + 2] === k2 && ipv6Keys[at + 3] === k3) {
    return ipv6Texts[slot] as string;
  }
  const text = formatIpv6(b, o);
  ipv6Keys[at] = k0;
  ipv6Keys[at + 1] = k1;
  ipv6Keys[at + 2] = k2;
  ipv6Keys[at + 3] = k3;
  ipv6Texts[slot] = text;
  return text;
}

function formatIpv6(b: Uint8Array, o: number): string {
  const words = Array.from({ length: 8 }, (_, i) => u16(b, o + 2 * i));
  // The longest run of two or more zero words becomes "::", the first of them if several are equally long.
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && words[i + n] === 0) n++;
    if (n > bestLength) {
      best = i;
      bestLength = n;
    }
  }
  if (best === 0 && (bestLength === 6 || (bestLength === 5 && words[5] === 0xffff))) {
    const dotted = `${u8(b, o + 12)}.${u8(b, o + 13)}.${u8(b, o + 14)}.${u8(b, o + 15)}`;
    return bestLength === 6 ? `::${dotted}` : `::ffff:${dotted}`;
  }
  if (best < 0) return words.map((w) => w.toString(16)).join(':');
  const text = (part: number[]): string => part.map((w) => w.toString(16)).join(':');
  return `${text(words.slice(0, best))}::${text(words.slice(best + bestLength))}`;
}

/** Parses a dotted IPv4 address into 4 bytes. Throws RangeError if it is none. */
export function parseIpv4(text: string): Uint8Array {
  const parts = text.split('.');
  const out = new Uint8Array(4);
  const valid = parts.length === 4 && parts.every((p, i) => /^(0|[1-9]\d{0,2})$/.test(p) && (out[i] = Number(p)) === Number(p) && Number(p) < 256);
  if (!valid) throw new RangeError(`not an IPv4 address: ${JSON.stringify(text)}`);
  return out;
}

/** Parses an IPv6 address (with `::`, with a dotted end) into 16 bytes. Throws RangeError if it is none. */
export function parseIpv6(text: string): Uint8Array {
  const bad = (): RangeError => new RangeError(`not an IPv6 address: ${JSON.stringify(text)}`);
  let body = text;
  const lastColon = body.lastIndexOf(':');
  if (body.includes('.') && lastColon >= 0) {
    const v4 = parseIpv4(body.slice(lastColon + 1));
    body = `${body.slice(0, lastColon + 1)}${u16(v4, 0).toString(16)}:${u16(v4, 2).toString(16)}`;
  }
  const halves = body.split('::');
  if (halves.length > 2) throw bad();
  const words = (half: string | undefined): string[] => (half === undefined || half === '' ? [] : half.split(':'));
  const head = words(halves[0]);
  const tail = words(halves[1]);
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) throw bad();
  const all = [...head, ...new Array<string>(halves.length === 2 ? gap : 0).fill('0'), ...tail];
  const out = new Uint8Array(16);
  all.forEach((word, i) => {
    if (!/^[0-9a-fA-F]{1,4}$/.test(word)) throw bad();
    put16(out, 2 * i, parseInt(word, 16));
  });
  return out;
}

/** Parses `aa:bb:cc:dd:ee:ff` into 6 bytes. Throws RangeError if it is none. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) throw new RangeError(`not a MAC address: ${JSON.stringify(text)}`);
  return Uint8Array.from(text.split(':'), (p) => parseInt(p, 16));
}
