/**
 * Offload features of a device. Equivalent: `ethtool -k DEV`, `ethtool -K DEV tx-checksum-ip-generic off`.
 *
 * Why Podway needs it: a VTEP over some uplinks leaves wrong inner checksums when the transmit
 * checksum is left to the device; the cure, Flannel's too, is to switch `tx-checksum-ip-generic`
 * off on the VTEP. Features are asked for and answered by name, so no list of bit numbers is held here.
 * Source: linux/ethtool_netlink.h, Documentation/networking/ethtool-netlink.rst (kernel 5.7 and later).
 */
import { PodwayError } from '@podway/errors';
import type { Netns } from '../netns.js';
import { attr, flag, list, nested, raw, str, u32, type Attributes } from '../netlink/codec.js';
import type { Answer } from '../netlink/socket.js';
import { GenlSocket, readGenl, type GenlCommand, type GenlFamily } from './genetlink.js';

const FAMILY = 'ethtool';
const ETHTOOL_MSG_FEATURES_GET = 11;
const ETHTOOL_MSG_FEATURES_SET = 12;
const ETHTOOL_MSG_FEATURES_GET_REPLY = 11;

const HEADER = {
  index: attr(1, 'ETHTOOL_A_HEADER_DEV_INDEX', u32),
  name: attr(2, 'ETHTOOL_A_HEADER_DEV_NAME', str),
  flags: attr(3, 'ETHTOOL_A_HEADER_FLAGS', u32),
} as const;
const BIT = {
  index: attr(1, 'ETHTOOL_A_BITSET_BIT_INDEX', u32),
  name: attr(2, 'ETHTOOL_A_BITSET_BIT_NAME', str),
  value: attr(3, 'ETHTOOL_A_BITSET_BIT_VALUE', flag),
} as const;
const BITSET = {
  /** Without a mask, bits that are listed are set. */
  nomask: attr(1, 'ETHTOOL_A_BITSET_NOMASK', flag),
  size: attr(2, 'ETHTOOL_A_BITSET_SIZE', u32),
  bits: attr(3, 'ETHTOOL_A_BITSET_BITS', list(1, nested(BIT))),
  value: attr(4, 'ETHTOOL_A_BITSET_VALUE', raw),
  mask: attr(5, 'ETHTOOL_A_BITSET_MASK', raw),
} as const;
export const FEATURES = {
  header: attr(1, 'ETHTOOL_A_FEATURES_HEADER', nested(HEADER)),
  hw: attr(2, 'ETHTOOL_A_FEATURES_HW', nested(BITSET)),
  wanted: attr(3, 'ETHTOOL_A_FEATURES_WANTED', nested(BITSET)),
  active: attr(4, 'ETHTOOL_A_FEATURES_ACTIVE', nested(BITSET)),
  nochange: attr(5, 'ETHTOOL_A_FEATURES_NOCHANGE', nested(BITSET)),
} as const;

export interface DeviceFeature {
  readonly active: boolean;
  readonly wanted: boolean;
  /** The device never changes it (`[fixed]`). */
  readonly fixed: boolean;
}
/** By name: `tx-checksum-ip-generic`, `rx-gro` … */
export type DeviceFeatures = Readonly<Record<string, DeviceFeature>>;

export const getFeaturesCommand = (device: string): GenlCommand<typeof FEATURES> => ({
  command: ETHTOOL_MSG_FEATURES_GET, table: FEATURES, values: { header: { name: device } }, doing: `read the features of ${device}`,
});

export const setFeaturesCommand = (device: string, features: Readonly<Record<string, boolean>>): GenlCommand<typeof FEATURES> => ({
  command: ETHTOOL_MSG_FEATURES_SET,
  table: FEATURES,
  values: { header: { name: device }, wanted: { bits: Object.entries(features).map(([name, on]) => (on ? { name, value: true } : { name })) } },
  doing: `set ${Object.entries(features).map(([n, on]) => `${n} ${on ? 'on' : 'off'}`).join(', ')} on ${device}`,
});

const names = (set: Attributes<typeof BITSET> | undefined): Set<string> =>
  new Set((set?.bits ?? []).flatMap((b) => (b.name !== undefined && (set?.nomask || b.value) ? [b.name] : [])));

export function decodeFeatures(a: Answer, family: Pick<GenlFamily, 'id'>): DeviceFeatures | undefined {
  const v = readGenl(a, family, ETHTOOL_MSG_FEATURES_GET_REPLY, FEATURES);
  if (!v) return undefined;
  const [hw, wanted, active, nochange] = [names(v.hw), names(v.wanted), names(v.active), names(v.nochange)];
  // HW comes with a mask: every feature there is, named, with its value.
  const all = new Set([...(v.hw?.bits ?? []).flatMap((b) => b.name ?? []), ...active, ...wanted, ...nochange]);
  return Object.fromEntries([...all].map((n) => [n, { active: active.has(n), wanted: wanted.has(n), fixed: !hw.has(n) || nochange.has(n) }]));
}

function withGenl<T>(ns: Netns, work: (genl: GenlSocket) => T): T {
  const genl = GenlSocket.open(ns);
  try {
    return work(genl);
  } finally {
    genl.close();
  }
}

function read(genl: GenlSocket, device: string): DeviceFeatures {
  const family = genl.family(FAMILY);
  const found = genl.request(FAMILY, getFeaturesCommand(device)).map((a) => decodeFeatures(a, family)).find((f) => f !== undefined);
  return found ?? {};
}

/** @throws NETLINK_REFUSED (ENODEV), KERNEL_LACKS on kernels without ethtool netlink */
export const deviceFeatures = (ns: Netns, device: string): DeviceFeatures => withGenl(ns, (genl) => read(genl, device));

/**
 * Switches features, and makes sure that they are as asked afterwards: the kernel also answers with
 * success when a device leaves a feature as it was.
 * @throws FEATURE_FIXED when the device did not follow
 */
export function setDeviceFeatures(ns: Netns, device: string, features: Readonly<Record<string, boolean>>): DeviceFeatures {
  return withGenl(ns, (genl) => {
    genl.request(FAMILY, setFeaturesCommand(device, features));
    const now = read(genl, device);
    const left = Object.entries(features).filter(([name, on]) => now[name]?.active !== on).map(([name]) => name);
    if (left.length === 0) return now;
    throw new PodwayError('FEATURE_FIXED', `${device} did not switch ${left.join(', ')}`, { object: `${device} in ${ns.label}`, hint: `See what it can: ethtool -k ${device}` });
  });
}
