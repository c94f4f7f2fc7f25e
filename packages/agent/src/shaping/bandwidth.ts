/**
 * The bandwidth of a pod: what a runtime asks for, and what stands in the kernel for it. Pure.
 *
 *   to the pod     tbf at the root of the host end: what leaves it goes to the pod
 *   from the pod   what enters the host end is sent through an IFB device of the pod's own, whose root has a tbf
 *
 * Our qdiscs have the handle 7077: (`pw` in ASCII), the IFB device has Podway's alias.
 * Rates and bursts come in bits, as in CNI's conventions and the annotations of Kubernetes.
 */
import { createHash } from 'node:crypto';
import { CniError, type RuntimeConfig } from '@podway/cni';
import { isPodwayError } from '@podway/errors';
import { checkIfname, tbfSettings } from '@podway/kernel';
import { ALIAS_PREFIX, SHAPER_HANDLE, type NetnsState, type Qdisc } from '@podway/netstate';
import { holderName, type AttachmentKey, type AttachmentRecord, type Rate, type Shaping } from '../ipam/index.js';

/**
 * From here on a burst is no wish: containerd sends 2³²-1 bits and dockershim 2³¹-1 with the annotations of
 * Kubernetes, which have no burst. Taken at their word the pod would be unlimited for its first 268 or 536 MB.
 */
const NO_BURST = 2 ** 31 - 1;

/** @throws CniError 7: a burst without a rate, or settings that would let no packet pass */
export function shapingOf(asked: RuntimeConfig['bandwidth'], mtu: number): Shaping | undefined {
  const ingress = rateOf('ingress', asked?.ingressRate, asked?.ingressBurst, mtu);
  const egress = rateOf('egress', asked?.egressRate, asked?.egressBurst, mtu);
  return ingress || egress ? { ...(ingress ? { ingress } : {}), ...(egress ? { egress } : {}) } : undefined;
}

function rateOf(which: string, rateBits = 0, burstBits = 0, mtu: number): Rate | undefined {
  if (rateBits === 0) {
    if (burstBits === 0 || burstBits >= NO_BURST) return undefined;
    throw new CniError('INVALID_CONFIG', `runtimeConfig.bandwidth has ${which}Burst without ${which}Rate`, { hint: `Give ${which}Rate as well, in bits per second.` });
  }
  try {
    return tbfSettings({ rateBits, mtu, ...(burstBits === 0 || burstBits >= NO_BURST ? {} : { burstBits }) });
  } catch (e) {
    if (!isPodwayError(e, 'BAD_RATE')) throw e;
    throw new CniError('INVALID_CONFIG', `runtimeConfig.bandwidth: ${which}Rate ${rateBits} with ${which}Burst ${burstBits} cannot be kept`, { details: e.message, ...(e.hint ? { hint: e.hint } : {}), cause: e });
  }
}

/** Of the same hash as the host end: known before it exists. */
export function ifbName(key: AttachmentKey): string {
  const hash = createHash('sha256').update(`${key.containerId}/${key.ifname}`).digest('hex');
  return checkIfname(`ifb${hash.slice(0, 11)}`);
}

export const ifbAlias = (r: AttachmentRecord): string => `${ALIAS_PREFIX} shaper of ${holderName(r)} ${r.ifname} (${r.containerId.slice(0, 13)})`.slice(0, 255);

/** The node's side of a pod's bandwidth, as it must be. */
export function shapingState(r: AttachmentRecord): Partial<NetnsState> {
  const { ingress, egress } = r.shaping ?? {};
  const why = `bandwidth of ${holderName(r)}`;
  const root = (dev: string, tbf: Rate): Qdisc => ({ dev, kind: 'tbf', handle: SHAPER_HANDLE, parent: 'root', tbf, why });
  const ifb = ifbName(r);
  return {
    links: egress ? [{ name: ifb, kind: 'ifb', up: true, alias: ifbAlias(r), why }] : [],
    qdiscs: [
      ...(ingress ? [root(r.hostIfname, ingress)] : []),
      ...(egress ? [root(ifb, egress), { dev: r.hostIfname, kind: 'ingress', handle: 'ffff:', parent: 'ingress', redirect: ifb, why }] : []),
    ],
  };
}
