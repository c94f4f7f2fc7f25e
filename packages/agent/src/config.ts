/**
 * What a cluster's network is: its ranges and how packets get between nodes. Flannel's
 * `net-conf.json` is accepted unchanged; Podway's own settings stand beside its keys.
 * Source of the format: flannel Documentation/configuration.md.
 */
import { describeIssues, formatCidr, parseCidr, tryParseIpCidr } from '@podway/cni';
import { PodwayError } from '@podway/errors';
import { z } from 'zod';

export interface VxlanConfig {
  readonly type: 'vxlan';
  readonly vni: number;
  /** UDP port. Flannel's and the kernel's historical 8472, not IANA's 4789. */
  readonly port: number;
  /** Name of the VTEP. */
  readonly device: string;
}

export type BackendConfig = VxlanConfig;

export interface NetworkConfig {
  readonly clusterCidrs: readonly string[];
  readonly backend: BackendConfig;
  /** MTU of pods; derived from the uplink and the backend's overhead when absent. */
  readonly mtu?: number;
  readonly bridge: string;
  /** Masquerade what leaves the cluster. */
  readonly masquerade: boolean;
}

const cidr = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'not a range in CIDR notation');
const ifname = z.string().regex(/^[^\s/:]{1,15}$/, 'not a device name (at most 15 characters, no slash, colon or space)');

/** Flannel's keys are capitalised; unknown ones belong to backends of other kinds and are let be. */
const schema = z.object({
  Network: cidr.optional(),
  IPv6Network: cidr.optional(),
  EnableIPv4: z.boolean().optional(),
  EnableIPv6: z.boolean().optional(),
  Bridge: ifname.default('cni0'),
  Masquerade: z.boolean().default(true),
  MTU: z.number().int().min(576).max(65535).optional(),
  Backend: z.object({
    Type: z.string(),
    VNI: z.number().int().min(1).max(0xffffff).default(1),
    Port: z.number().int().min(1).max(65535).default(8472),
    Device: ifname.optional(),
    MTU: z.number().int().min(576).max(65535).optional(),
  }),
});

/**
 * @param text a net-conf.json, such as `{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan","VNI":1,"Port":8472}}`
 * @throws NETWORK_CONFIG_INVALID saying where and what
 */
export function parseNetworkConfig(text: string): NetworkConfig {
  const bad = (said: string) =>
    new PodwayError('NETWORK_CONFIG_INVALID', 'the network configuration cannot be used', {
      said, hint: 'A valid one: {"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}',
    });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (e) {
    throw bad(`not JSON: ${(e as Error).message}`);
  }
  const read = schema.safeParse(json);
  if (!read.success) throw bad(describeIssues(read.error));
  const c = read.data;
  const clusterCidrs = [c.EnableIPv4 === false ? undefined : c.Network, c.EnableIPv6 === false ? undefined : c.IPv6Network]
    .filter((x) => x !== undefined)
    .map((x) => formatCidr(parseCidr(x)));
  if (clusterCidrs.length === 0) throw bad('Network: missing (the range that all pods are in)');
  if (c.Backend.Type !== 'vxlan') throw bad(`Backend.Type: "${c.Backend.Type}" is not one of: vxlan`);
  const mtu = c.MTU ?? c.Backend.MTU;
  return {
    clusterCidrs, bridge: c.Bridge, masquerade: c.Masquerade, ...(mtu === undefined ? {} : { mtu }),
    // The tutorials, and every tool that looks for an overlay, know the device by this name.
    backend: { type: 'vxlan', vni: c.Backend.VNI, port: c.Backend.Port, device: c.Backend.Device ?? `flannel.${c.Backend.VNI}` },
  };
}
