/** WireGuard keys: X25519, 32 bytes, base64. Equivalent: `wg genkey`, `wg pubkey`, `wg genpsk`. Source: RFC 7748. */
import { createPrivateKey, createPublicKey, randomBytes } from 'node:crypto';
import { PodwayError } from '@podway/errors';

const KEY_LENGTH = 32;
/** DER of a PKCS #8 X25519 private key up to the 32 bytes (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** 32 bytes of a key. @throws BAD_KEY; the message never holds the key. */
export function keyBytes(key: string): Buffer {
  const bytes = /^[A-Za-z0-9+/]{43}=$/.test(key) ? Buffer.from(key, 'base64') : undefined;
  if (bytes?.length === KEY_LENGTH) return bytes;
  throw new PodwayError('BAD_KEY', 'that is not a WireGuard key', { hint: 'A key is 44 characters of base64 (32 bytes). Make one with: wg genkey' });
}
export const keyText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** A fresh private key, clamped as X25519 uses it. */
export function generatePrivateKey(): string {
  const k = randomBytes(KEY_LENGTH);
  k[0]! &= 248;
  k[31] = (k[31]! & 127) | 64;
  return keyText(k);
}

export const generatePresharedKey = (): string => keyText(randomBytes(KEY_LENGTH));

export function publicKeyOf(privateKey: string): string {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, keyBytes(privateKey)]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return keyText(spki.subarray(spki.length - KEY_LENGTH));
}
