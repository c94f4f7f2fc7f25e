/**
 * The two bandwidth annotations of Kubernetes, as a runtime hands them to CNI. Pure.
 * Source: https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/network-plugins/ ("Support traffic shaping");
 * the limits and the burst are those of kubelet and containerd.
 */
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';

/** CNI's capability `bandwidth`: bits per second, bits. */
export interface BandwidthArgs {
  readonly ingressRate?: number;
  readonly ingressBurst?: number;
  readonly egressRate?: number;
  readonly egressBurst?: number;
}

const LEAST = 1e3;
const MOST = 1e15;
/** "Any burst", as containerd says it. */
const ANY_BURST = 2 ** 32 - 1;

const SUFFIX: Readonly<Record<string, number>> = {
  n: 1e-9, u: 1e-6, m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

/** A resource.Quantity as a whole number, rounded up; undefined for what is none. */
export function quantity(text: string): number | undefined {
  const m = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i|[numkMGTPE]?))$/.exec(text);
  if (!m) return undefined;
  const value = m[2] ? Number(m[1] + m[2]) : Number(m[1]) * SUFFIX[m[3] ?? '']!;
  // 1.1 × 1e6 is a hair above 1100000 in binary.
  return Math.ceil(Number(value.toPrecision(15)));
}

/** @throws POD_BANDWIDTH in the kubelet's words */
export function bandwidthOf(pod: Pod): BandwidthArgs | undefined {
  const rate = (which: 'ingress' | 'egress'): number | undefined => {
    const key = `kubernetes.io/${which}-bandwidth`;
    const text = pod.metadata?.annotations?.[key];
    if (text === undefined) return undefined;
    const bits = quantity(text);
    const wrong = bits === undefined ? `quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`
      : bits < LEAST ? 'resource is unreasonably small (< 1kbit)'
      : bits > MOST ? 'resource is unreasonably large (> 1Pbit)' : undefined;
    if (wrong !== undefined) {
      throw new PodwayError('POD_BANDWIDTH', `failed to get pod bandwidth info from annotations: ${key}: ${JSON.stringify(text)}: ${wrong}`, {
        object: `pod ${pod.metadata?.namespace}/${pod.metadata?.name}`, hint: 'Bits per second from 1k to 1P, such as 10M.',
      });
    }
    return bits;
  };
  const [ingress, egress] = [rate('ingress'), rate('egress')];
  if (ingress === undefined && egress === undefined) return undefined;
  return {
    ...(ingress === undefined ? {} : { ingressRate: ingress, ingressBurst: ANY_BURST }),
    ...(egress === undefined ? {} : { egressRate: egress, egressBurst: ANY_BURST }),
  };
}
