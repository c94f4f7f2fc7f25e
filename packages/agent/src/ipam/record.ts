/**
 * The attachment record: one JSON file per CNI ADD, and the only truth about which address
 * is whose. It is written before anything is made in the kernel (phase `adding`), again when
 * the pod is wired (`ready`), and removed last, after the device is gone. There is no separate
 * reservation that could leak: the addresses in use are those in the records.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type CniResult, tryParseIp, tryParseIpCidr } from '@podway/cni';

/** `deleting`: DEL has begun and the device may be half gone; the address is still taken. */
export type AttachmentPhase = 'adding' | 'ready' | 'deleting';

export interface AttachmentKey {
  readonly containerId: string;
  readonly ifname: string;
}

export interface PodRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

export interface AttachmentIp {
  /** With the prefix length of the range's subnet: `10.244.0.5/24`. */
  readonly address: string;
  readonly gateway: string;
}

/** A further network of the pod, as it was when the pod was added: all that its plugin needs, for every verb. */
export interface FurtherNetwork {
  /** `NAMESPACE/NAME` of its object. */
  readonly network: string;
  readonly ifname: string;
  /** The CNI configuration, as text. */
  readonly config: string;
  /** Directories of plugins. */
  readonly path: readonly string[];
  readonly ips?: readonly string[];
  readonly mac?: string;
}

export interface HostPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly hostPort: number;
  readonly containerPort: number;
  /** Undefined: every address of the node, of both families. */
  readonly hostIp?: string;
}

/** What tbf is set to: bytes per second, bytes that may pass at once, bytes that may wait. */
export interface Rate {
  readonly rate: number;
  readonly burst: number;
  readonly limit: number;
}

export interface Shaping {
  /** To the pod. */
  readonly ingress?: Rate;
  /** From the pod. */
  readonly egress?: Rate;
}

export interface AttachmentRecord extends AttachmentKey {
  readonly version: 1;
  readonly network: string;
  /** CNI_NETNS of the ADD. */
  readonly netns: string;
  readonly pod?: PodRef;
  readonly ips: readonly AttachmentIp[];
  readonly mac: string;
  /** Name of the host end of the veth. */
  readonly hostIfname: string;
  /** Absent on a pod's first interface; 1, 2 … on further ones, which take no default route. */
  readonly further?: number;
  /** Further networks that were begun with this attachment, in order. */
  readonly networks?: readonly FurtherNetwork[];
  /** Set when all of them are there. */
  readonly networksReady?: boolean;
  readonly hostPorts?: readonly HostPort[];
  readonly shaping?: Shaping;
  /** Another plugin made the interface, and removes it: host ports and shaping alone are ours. */
  readonly chained?: {
    /** The node's device that leads to the pod: its bridge, or the host end itself. */
    readonly dev: string;
  };
  readonly phase: AttachmentPhase;
  /** What ADD answered; from phase `ready` on. */
  readonly result?: CniResult;
  /** ISO 8601, of the ADD. */
  readonly created: string;
}

const address = z.string().refine((s) => tryParseIpCidr(s) !== undefined, 'not an address in CIDR notation');

const rate = z.object({ rate: z.number(), burst: z.number(), limit: z.number() });

const schema = z.object({
  version: z.literal(1),
  containerId: z.string().min(1),
  ifname: z.string().min(1),
  network: z.string(),
  netns: z.string(),
  pod: z.object({ namespace: z.string(), name: z.string(), uid: z.string().optional() }).optional(),
  ips: z.array(z.object({ address, gateway: z.string().refine((s) => tryParseIp(s) !== undefined, 'not an IP address') })),
  mac: z.string(),
  hostIfname: z.string(),
  further: z.number().int().min(1).optional(),
  networks: z.array(z.object({
    network: z.string(), ifname: z.string(), config: z.string(), path: z.array(z.string()), ips: z.array(z.string()).optional(), mac: z.string().optional(),
  })).optional(),
  networksReady: z.boolean().optional(),
  hostPorts: z.array(z.object({
    protocol: z.enum(['tcp', 'udp', 'sctp']), hostPort: z.number().int(), containerPort: z.number().int(), hostIp: z.string().optional(),
  })).optional(),
  shaping: z.object({ ingress: rate.optional(), egress: rate.optional() }).optional(),
  chained: z.object({ dev: z.string() }).optional(),
  phase: z.enum(['adding', 'ready', 'deleting']),
  result: z.record(z.string(), z.unknown()).optional(),
  created: z.string(),
});

export const keyOf = (k: AttachmentKey): string => `${k.containerId}@${k.ifname}`;

/** The name of the record's file. Long container ids are hashed: a file name has at most 255 bytes. */
export function recordFileName(key: AttachmentKey): string {
  const id = key.containerId.length > 200 ? createHash('sha256').update(key.containerId).digest('hex') : key.containerId;
  return `${id}@${key.ifname}.json`;
}

/** `pod default/web-a` or, without a pod, `container 4f2c… eth0`. */
export const holderName = (r: AttachmentKey & { readonly pod?: PodRef }): string =>
  r.pod ? `pod ${r.pod.namespace}/${r.pod.name}` : `container ${r.containerId} ${r.ifname}`;

/** A record from its file, or what is wrong with it in words. */
export function parseRecord(text: string): { record: AttachmentRecord } | { reason: string } {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (e) {
    return { reason: text === '' ? 'the file is empty' : `not JSON: ${(e as Error).message}` };
  }
  const read = schema.safeParse(json);
  if (read.success) return { record: read.data as AttachmentRecord };
  return { reason: read.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ') };
}

/** Addresses still to be seen in a damaged record: they stay taken, since a pod may be using them. */
export function salvageAddresses(text: string): string[] {
  const found = [...text.matchAll(/"address"\s*:\s*"([^"]+)"/g)].map((m) => m[1] ?? '');
  return [...new Set(found.filter((a) => tryParseIpCidr(a) !== undefined))];
}
