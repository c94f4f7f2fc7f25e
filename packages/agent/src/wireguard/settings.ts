/**
 * WireGuard as configured for a cluster. Flannel's keys (PSK, ListenPort, PersistentKeepaliveInterval) mean what they mean there.
 *
 * A generation is one set of keys with a device and a port of its own. Two of them can stand side by side, since WireGuard
 * allows an address to one peer of a device only; so keys change like backends do, and no packet is lost.
 */

export const IMPLEMENTATIONS = ['auto', 'kernel', 'userspace'] as const;
export type WireguardImplementation = (typeof IMPLEMENTATIONS)[number];

export interface WireguardConfig {
  readonly type: 'wireguard';
  /** Of even generations; odd ones have a `1` behind it. */
  readonly device: string;
  /** UDP port of even generations; odd ones have the next. */
  readonly port: number;
  /** `auto`: the kernel's where it can be made, else a program in user space. */
  readonly implementation: WireguardImplementation;
  /** Seconds; 0: none. For nodes behind a NAT. */
  readonly keepalive: number;
  /** Shared by all nodes, besides the keys of each (against whoever records today and has a quantum computer later). */
  readonly presharedKey?: string;
  /** Which set of keys is in use. */
  readonly generation: number;
  /** The nodes that get a new key with this generation; the others keep theirs. Absent: all. */
  readonly renew?: readonly string[];
}

const MAX_NAME = 14;

/** In words, what is wrong. */
export function wireguardProblems(c: WireguardConfig): string[] {
  return [
    ...(c.device.length > MAX_NAME ? [`Backend.Device: "${c.device}" leaves no room for the second device of a change of keys (at most ${MAX_NAME} characters)`] : []),
    ...(c.port > 65534 ? ['Backend.ListenPort: at most 65534, since a change of keys needs the next one too'] : []),
    ...(c.presharedKey !== undefined && !/^[A-Za-z0-9+/]{43}=$/.test(c.presharedKey) ? ['Backend.PSK: not a WireGuard key (make one with: wg genpsk)'] : []),
  ];
}

const side = (c: WireguardConfig): number => c.generation % 2;
export const wireguardDevice = (c: WireguardConfig): string => (side(c) === 0 ? c.device : `${c.device}1`);
export const wireguardPort = (c: WireguardConfig): number => c.port + side(c);
/** What nodes call it when they say by what they send: keys of another generation are another way. */
export const wireguardWay = (c: WireguardConfig): string => (c.generation === 0 ? 'wireguard' : `wireguard/${c.generation}`);
