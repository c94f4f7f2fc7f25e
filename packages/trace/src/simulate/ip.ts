/** Addresses and prefixes as numbers, both families. */
import { addressBytes } from '@podway/kernel';

const cache = new Map<string, bigint>();

/** @throws BAD_ADDRESS */
export function addressValue(address: string): bigint {
  let v = cache.get(address);
  if (v === undefined) {
    v = BigInt(`0x${addressBytes(address).toString('hex')}`);
    if (cache.size > 50_000) cache.clear();
    cache.set(address, v);
  }
  return v;
}

const bits = (address: string): number => (address.includes(':') ? 128 : 32);

/** True when the address lies in the prefix; never across families. */
export function inPrefix(address: string, prefix: string): boolean {
  const slash = prefix.indexOf('/');
  const base = slash < 0 ? prefix : prefix.slice(0, slash);
  if (base.includes(':') !== address.includes(':')) return false;
  const width = bits(address);
  const length = slash < 0 ? width : Number(prefix.slice(slash + 1));
  const shift = BigInt(width - length);
  return addressValue(address) >> shift === addressValue(base) >> shift;
}

export const prefixLength = (cidr: string): number => Number(cidr.slice(cidr.indexOf('/') + 1));
