/** What a pod's interfaces came to be: the annotation `k8s.v1.cni.cncf.io/network-status`. Pure. Source: as selection.ts, section 5. */
import type { CniResult } from '@podway/cni';

export const STATUS_ANNOTATION = 'k8s.v1.cni.cncf.io/network-status';

export interface NetworkStatus {
  readonly name: string;
  readonly interface: string;
  readonly ips: readonly string[];
  readonly mac: string;
  readonly default?: true;
  readonly dns: object;
}

export function networkStatus(name: string, ifname: string, result: CniResult, isDefault: boolean): NetworkStatus {
  const inside = result.interfaces?.find((i) => i.name === ifname && i.sandbox !== undefined) ?? result.interfaces?.find((i) => i.sandbox !== undefined);
  return {
    name, interface: inside?.name ?? ifname, ips: (result.ips ?? []).map((i) => i.address.split('/')[0] ?? ''), mac: inside?.mac ?? '',
    ...(isDefault ? { default: true as const } : {}), dns: result.dns ?? {},
  };
}
