/**
 * Why a session does not stand, by name. Pure: from what BIRD says and what a probe found.
 *
 * BIRD keeps the last error until the session stands, so an error of the BGP conversation (wrong AS) is believed
 * while the session waits after it (Idle); in Connect and Active the probe, which is of now, comes first.
 *
 * A wrong MD5 key (RFC 2385) has no error at all: both kernels drop each other's SYN in silence. What tells it from a
 * firewall are this side's counters of dropped segments (TcpExt: TCPMD5Failure, TCPMD5NotFound, TCPMD5Unexpected).
 */
import type { BgpPeerStatus } from './bird-parse.js';

export interface Md5Counters {
  /** Segments without a signature where one is expected. */
  readonly notFound: number;
  /** Signed segments where none is expected. */
  readonly unexpected: number;
  /** Signed with another key. */
  readonly failure: number;
}

export interface PeerProbe {
  /** How a plain connection to port 179 ended: `open`, or the errno's name. */
  readonly tcp: string;
  /** Does the address answer an ICMP echo? undefined: not asked. */
  readonly ping: boolean | undefined;
  /** Dropped while the probe went on, and since the namespace exists. */
  readonly md5: { readonly now: Md5Counters; readonly ever: Md5Counters };
}

export type SessionCause =
  | 'established' | 'restarting' | 'disabled' | 'starting'
  | 'as-mismatch' | 'same-router-id' | 'hold-timer-expired' | 'unacceptable-hold-time' | 'shut-down-by-peer'
  | 'wrong-password' | 'password-only-here' | 'password-only-there'
  | 'no-route' | 'unreachable' | 'no-speaker' | 'port-blocked' | 'wrong-source' | 'other';

export interface SessionExplanation {
  readonly cause: SessionCause;
  readonly text: string;
  readonly fix?: string;
}

const any = (c: Md5Counters): boolean => c.notFound + c.unexpected + c.failure > 0;

/** @param probe undefined: none was made. */
export function explainSession(s: BgpPeerStatus, probe?: PeerProbe): SessionExplanation {
  if (s.state === 'Established') return { cause: 'established', text: 'the session stands' };
  if (s.disabled) return { cause: 'disabled', text: 'it is switched off here', fix: `On the node: birdc -s /run/podway/bird.ctl enable ${s.protocol}` };
  const waits = s.state === 'Idle' || s.state === 'Close' || probe === undefined;
  // A speaker whose last session was switched off listens no more.
  const refusedAfterwards = probe?.tcp === 'ECONNREFUSED' && /^Received: .*shutdown/i.test(s.lastError ?? '');
  const conversation = waits || refusedAfterwards ? fromError(s) : undefined;
  const said = conversation ?? (probe && fromProbe(s, probe)) ?? fromError(s);
  if (said) return s.gracefulRestart ? { ...said, text: `${said.text}; its routes are kept while it may be restarting` } : said;
  if (s.gracefulRestart) return { cause: 'restarting', text: 'the peer is gone; its routes are kept while it may be restarting' };
  if (s.lastError !== undefined) return { cause: 'other', text: s.lastError };
  return { cause: 'starting', text: `nothing has failed yet (${s.state})` };
}

function fromError(s: BgpPeerStatus): SessionExplanation | undefined {
  const error = s.lastError ?? '';
  const theirs = error.startsWith('Received:');
  const peer = `${s.name} (${s.address})`;
  if (/Bad peer AS/i.test(error)) {
    return {
      cause: 'as-mismatch', fix: 'Make the AS numbers of both configurations agree.',
      text: theirs ? `${peer} expects another AS number than ${s.localAsn ?? 'ours'}, which is ours` : `${peer} says another AS number than ${s.asn ?? 'the one'}, which is expected here`,
    };
  }
  if (/Bad BGP identifier/i.test(error)) {
    return { cause: 'same-router-id', text: `${peer} has the same router id as this node, or none`, fix: 'Give every node an address of its own.' };
  }
  if (/Hold timer expired/i.test(error)) {
    return {
      cause: 'hold-timer-expired', fix: 'Look for lost packets on the way, a full or frozen peer, and a too short hold time.',
      text: theirs ? `${peer} heard nothing from here for its hold time` : `nothing was heard from ${peer} for the hold time`,
    };
  }
  if (/Unacceptable hold time/i.test(error)) return { cause: 'unacceptable-hold-time', text: `the hold time is too short for ${theirs ? peer : 'this node'}`, fix: 'Set holdTime to at least 3 seconds on both.' };
  if (/Administrative shutdown|Peer de-configured|Administrative reset/i.test(error) && theirs) {
    return { cause: 'shut-down-by-peer', text: `${peer} has ended the session itself (${error.slice(9).trim()})` };
  }
  if (/MD5/.test(error)) return { cause: 'wrong-password', text: `the kernel refuses the MD5 key: ${error}` };
  const socket = /^Socket: (.*)$/.exec(error)?.[1];
  if (socket === 'Network is unreachable') return noRoute(s);
  if (socket === 'No route to host') return unreachable(s);
  if (socket === 'Connection refused') return noSpeaker(s);
  return undefined;
}

const noRoute = (s: BgpPeerStatus): SessionExplanation => ({
  cause: 'no-route', text: `this node has no route to ${s.address}`, fix: `ip route get ${s.address}`,
});
const unreachable = (s: BgpPeerStatus): SessionExplanation => ({
  cause: 'unreachable', text: `${s.address} does not answer: the peer is down, or not on this network`, fix: `ping ${s.address}; ip neigh show ${s.address}`,
});
const noSpeaker = (s: BgpPeerStatus): SessionExplanation => ({
  cause: 'no-speaker', text: `${s.address} is up, and nothing listens on TCP port 179 there`, fix: `Is BIRD running on ${s.name}, with this session switched on?`,
});

function fromProbe(s: BgpPeerStatus, { tcp, ping, md5 }: PeerProbe): SessionExplanation | undefined {
  switch (tcp) {
    case 'ENETUNREACH':
      return noRoute(s);
    case 'EHOSTUNREACH':
      return unreachable(s);
    case 'ECONNREFUSED':
      return noSpeaker(s);
    case 'EADDRNOTAVAIL':
      return { cause: 'wrong-source', text: `the address that this node speaks from is not on any of its devices` };
    case 'open':
      // A plain connection is taken, so the peer has no key for us; with one here, ours never are.
      if (md5.now.notFound > 0 || (md5.ever.notFound > 0 && s.lastError === undefined)) {
        return { cause: 'password-only-here', text: `${s.name} (${s.address}) has no password for this session, and this node has one`, fix: 'Set the same password on both.' };
      }
      return undefined;
    case 'ETIMEDOUT': {
      const counters = any(md5.now) ? md5.now : md5.ever;
      if (counters.failure > 0) return { cause: 'wrong-password', text: `the passwords of this node and ${s.name} (${s.address}) differ`, fix: 'Set the same password on both.' };
      if (counters.unexpected > 0) return { cause: 'password-only-there', text: `${s.name} (${s.address}) has a password for this session, and this node has none`, fix: 'Set the same password on both.' };
      if (ping === false) return unreachable(s);
      return {
        cause: 'port-blocked', fix: 'Look for firewall rules on both nodes and on the way that drop TCP port 179.',
        text: `${s.address} ${ping ? 'answers ping, but not' : 'does not answer'} on TCP port 179: a firewall drops it, or the peer wants a password`,
      };
    }
    default:
      return { cause: 'other', text: `a connection to ${s.address} port 179 fails with ${tcp}` };
  }
}
