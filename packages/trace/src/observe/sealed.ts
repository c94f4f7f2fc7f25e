/**
 * Which encrypted packet is ours? Nothing in it says so. What is known: when the plain packet went into the tunnel at one end
 * and came out of it at the other, and how long it must be. A WireGuard data message of that length, sent and received within
 * that time, is it, if there is only one (its receiver index and counter tell messages apart). Otherwise nobody knows. Pure.
 */
import type { DecodedPacket } from '@podway/packet';
import { sealedLength } from '../simulate/wireguard.js';
import type { Captured } from './match.js';
import { ipLengthOf } from './sighting.js';

export interface SealedFrame {
  readonly captured: Captured;
  readonly packet: DecodedPacket;
}

/** A tunnel's device, where the plain packet is seen, and its MTU. */
export interface TunnelPoint {
  readonly label: string;
  readonly mtu: number | undefined;
}

export interface PlainSighting {
  readonly point: string;
  readonly tsNs: bigint;
  readonly ipLength: number;
}

export interface SealedMatch {
  readonly frames: readonly SealedFrame[];
  /** Several messages fit: which of them it is cannot be told. */
  readonly ambiguous: boolean;
}

/** Without a second end, a message that leaves within this time is taken: encryption takes microseconds, a busy program milliseconds. */
const PATIENCE_NS = 20_000_000n;

/** Type 4 messages among what was captured, by message. Handshakes and what is only a keepalive carry no packet. */
function messages(seen: readonly SealedFrame[]): SealedFrame[][] {
  const groups = new Map<string, SealedFrame[]>();
  for (const s of seen) {
    const l = s.packet.layers.find((x) => x.type === 'wireguard');
    // The one it travels in, whatever other tunnel is around that.
    const ip = s.packet.layers.findLast((x) => x.type === 'ipv4' || x.type === 'ipv6');
    if (l?.counter === undefined || (ip?.type !== 'ipv4' && ip?.type !== 'ipv6')) continue;
    const key = `${ip.src} ${ip.dst} ${l.receiverIndex} ${l.counter}`;
    groups.set(key, [...(groups.get(key) ?? []), s]);
  }
  return [...groups.values()];
}

export function matchSealed(plain: readonly PlainSighting[], seen: readonly SealedFrame[], tunnels: readonly TunnelPoint[]): SealedMatch {
  const at = plain.flatMap((p) => {
    const tunnel = tunnels.find((t) => t.label === p.point);
    return tunnel ? [{ ...p, mtu: tunnel.mtu }] : [];
  });
  const [into, out] = [at[0], at.find((p) => p.point !== at[0]?.point)];
  if (!into) return { frames: [], ambiguous: false };
  const until = out?.tsNs ?? into.tsNs + PATIENCE_NS;
  const length = { ipv4: sealedLength(into.ipLength, into.mtu, false), ipv6: sealedLength(into.ipLength, into.mtu, true) };
  const fitting = messages(seen).filter((frames) =>
    frames.every((f) => f.captured.tsNs >= into.tsNs && f.captured.tsNs <= until && f.packet.layers.some((l) => (l.type === 'ipv4' || l.type === 'ipv6') && ipLengthOf(l) === length[l.type])));
  return { frames: fitting.length === 1 ? fitting[0]! : [], ambiguous: fitting.length > 1 };
}
