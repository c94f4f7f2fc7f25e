/**
 * WireGuard messages over UDP (wireguard.com/protocol). Numbers are little endian; three bytes behind the type are zero.
 *
 *     1 initiation   148   sender 4, ephemeral 32, encrypted static 48, encrypted timestamp 28, MACs 32
 *     2 response      92   sender 4, receiver 4, ephemeral 32, encrypted nothing 16, MACs 32
 *     3 cookie reply  64   receiver 4, nonce 24, encrypted cookie 32
 *     4 data        32 +   receiver 4, counter 8, encrypted packet (padded to 16) and tag 16
 *
 * An index names a session at the end that chose it; with the counter it names one packet. What does not look like a message
 * (another protocol on that port) is left as payload.
 */
import { put32, u32, u8 } from '../bytes.js';
import { type Context, NO_PROBLEMS, type LayerBase } from '../context.js';

export const WIREGUARD_MESSAGES = ['initiation', 'response', 'cookie reply', 'data'] as const;
export type WireguardMessage = (typeof WIREGUARD_MESSAGES)[number];

export interface WireguardLayer extends LayerBase {
  readonly type: 'wireguard';
  readonly message: WireguardMessage;
  /** Chosen by who sends it: initiation and response. */
  readonly senderIndex?: number;
  /** Chosen by who receives it: all but the initiation. */
  readonly receiverIndex?: number;
  /** Of data messages, from 0 in each session. Exact below 2^53; a session ends long before. */
  readonly counter?: number;
}

const SIZE = { initiation: 148, response: 92, 'cookie reply': 64 } as const;
const DATA_HEADER = 16;
const TAG = 16;

export function decodeWireguard(c: Context): void {
  const { bytes, offset } = c;
  const there = c.readable - offset;
  const message = there >= 4 && u8(bytes, offset + 1) === 0 && u8(bytes, offset + 2) === 0 && u8(bytes, offset + 3) === 0 ? WIREGUARD_MESSAGES[u8(bytes, offset) - 1] : undefined;
  if (message === undefined) return c.stop(offset, c.end);
  const length = message === 'data' ? DATA_HEADER : SIZE[message];
  if (there < length) return c.partial('wireguard', length);
  const promised = c.end - offset;
  let problems = NO_PROBLEMS;
  if (message === 'data' ? promised < DATA_HEADER + TAG || promised % 16 !== 0 : promised !== length) {
    problems = c.report(problems, 'bad-length', 'wireguard', `a ${message} message of ${promised} bytes`);
  }
  const base = { type: 'wireguard', message, offset, headerLength: length, problems } as const;
  const at = (i: number): number => little32(bytes, offset + i);
  if (message === 'initiation') c.layers.push({ ...base, senderIndex: at(4) });
  else if (message === 'response') c.layers.push({ ...base, senderIndex: at(4), receiverIndex: at(8) });
  else if (message === 'cookie reply') c.layers.push({ ...base, receiverIndex: at(4) });
  else c.layers.push({ ...base, receiverIndex: at(4), counter: at(8) + at(12) * 2 ** 32 });
  c.stop(offset + length, c.end);
}

const swap = (n: number): number => (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;
const little32 = (b: Uint8Array, o: number): number => swap(u32(b, o));

export interface WireguardSpec {
  readonly type: 'wireguard';
  readonly message: WireguardMessage;
  readonly senderIndex?: number;
  readonly receiverIndex?: number;
  readonly counter?: number;
}

/** What is encrypted in handshakes is zeroes; the payload of a data message is taken as its encrypted part, tag included. */
export function encodeWireguard(spec: WireguardSpec, payload: Uint8Array): Uint8Array {
  const { message, counter = 0 } = spec;
  const out = new Uint8Array(message === 'data' ? DATA_HEADER + payload.length : SIZE[message]);
  const put = (at: number, value: number): void => put32(out, at, swap(value >>> 0));
  out[0] = WIREGUARD_MESSAGES.indexOf(message) + 1;
  if (message === 'initiation' || message === 'response') put(4, spec.senderIndex ?? 0);
  if (message !== 'initiation') put(message === 'response' ? 8 : 4, spec.receiverIndex ?? 0);
  if (message === 'data') {
    put(8, counter % 2 ** 32);
    put(12, Math.floor(counter / 2 ** 32));
    out.set(payload, DATA_HEADER);
  }
  return out;
}

/** `WireGuard data, receiver 0x1a2b3c4d, counter 7`. */
export function wireguardText(l: WireguardLayer): string {
  const index = (n: number): string => `0x${n.toString(16).padStart(8, '0')}`;
  return [
    `WireGuard ${l.message}`, ...(l.senderIndex === undefined ? [] : [`sender ${index(l.senderIndex)}`]), ...(l.receiverIndex === undefined ? [] : [`receiver ${index(l.receiverIndex)}`]),
    ...(l.counter === undefined ? [] : [`counter ${l.counter}`]),
  ].join(', ');
}
