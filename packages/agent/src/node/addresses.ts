/** Addresses and MACs that follow from a node's pod ranges. Pure. */
import { cidrNth, formatIp, parseCidr, parseIp, tryParseIpCidr, cidrContains, cidrLast } from '@podway/cni';
import type { Address } from '@podway/netstate';

export const familyOf = (address: string): 'inet' | 'inet6' => (address.includes(':') ? 'inet6' : 'inet');

/** `.1`: the bridge's own address, gateway of the node's pods. */
export const gatewayOf = (podCidr: string): string => formatIp(cidrNth(parseCidr(podCidr), 1));

export const broadcastOf = (cidr: string): string => formatIp(cidrLast(parseCidr(cidr)));

/**
 * `0a:58` and the IPv4 address in hex, as bridge and Flannel tutorials show it: 10.244.0.5 has
 * 0a:58:0a:f4:00:05. For IPv6 the low four bytes serve.
 */
export function macOf(address: string): string {
  const low = Number(parseIp(address).value & 0xffffffffn).toString(16).padStart(8, '0');
  return `0a:58:${low.match(/../g)!.join(':')}`;
}

/** Of a device with addresses of both families: from the IPv4 one. */
export const macOfAll = (addresses: readonly string[]): string => macOf(addresses.find((a) => familyOf(a) === 'inet') ?? addresses[0]!);

/** Is this one of the addresses that we give to bridges and VTEPs? */
export function isManaged(clusterCidrs: readonly string[], a: Address): boolean {
  return clusterCidrs.some((c) => {
    const cidr = tryParseIpCidr(c)?.cidr;
    return cidr !== undefined && cidrContains(cidr, parseIp(a.address));
  });
}
