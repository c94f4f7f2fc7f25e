/**
 * A WireGuard device, whoever implements it: the kernel (generic netlink) or a program such as
 * wireguard-go (text over a unix socket). Equivalent: `wg show`, `wg set`.
 */

/** Keys are base64 of 32 bytes, as `wg` prints them. */
export interface WireguardPeer {
  readonly publicKey: string;
  readonly presharedKey: string | undefined;
  readonly endpoint: WireguardEndpoint | undefined;
  /** Seconds; 0 is off. */
  readonly keepalive: number;
  /** CIDRs: which destinations go to this peer, and which sources are taken from it. */
  readonly allowedIps: readonly string[];
  /** Milliseconds since 1970; undefined when there was none yet. */
  readonly lastHandshake: number | undefined;
  readonly rxBytes: bigint;
  readonly txBytes: bigint;
}

export interface WireguardEndpoint {
  readonly address: string;
  readonly port: number;
}

export interface WireguardState {
  readonly privateKey: string | undefined;
  readonly publicKey: string | undefined;
  readonly listenPort: number;
  /** 0 is off. */
  readonly fwmark: number;
  readonly peers: readonly WireguardPeer[];
}

export interface WireguardPeerChange {
  readonly publicKey: string;
  readonly remove?: boolean;
  /** Only change a peer that is there; never add one. */
  readonly updateOnly?: boolean;
  /** Empty string takes the key away. */
  readonly presharedKey?: string;
  readonly endpoint?: WireguardEndpoint;
  readonly keepalive?: number;
  /** Added to those that are there, unless `replaceAllowedIps`. */
  readonly allowedIps?: readonly string[];
  readonly replaceAllowedIps?: boolean;
}

export interface WireguardChange {
  /** Empty string takes the key away. */
  readonly privateKey?: string;
  readonly listenPort?: number;
  readonly fwmark?: number;
  /** Peers that are not named here go. */
  readonly replacePeers?: boolean;
  readonly peers?: readonly WireguardPeerChange[];
}

export interface WireguardDevice {
  get(): Promise<WireguardState>;
  /** What is not named stays as it is. A change of the private key closes no session: peers handshake anew by themselves. */
  set(change: WireguardChange): Promise<void>;
  close(): void;
}
