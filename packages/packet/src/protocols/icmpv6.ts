/**
 * ICMPv6 (RFC 4443) with neighbour discovery (RFC 4861). Errors have 8 bytes of header and quote the packet they are about; the header
 * of a neighbour-discovery message is counted with its fixed part (24 bytes for NS and NA) and its options.
 */
import { type Context, NO_PROBLEMS, type LayerBase, type Problem } from '../context.js';
import type { ChecksumState } from '../checksum.js';
import { concat, ipv6Text, linkAddressText, parseIpv6, parseMac, put16, put32, u16, u32, u8 } from '../bytes.js';
import type { Layer } from '../layers.js';
import { ETHER, IP } from '../numbers.js';
import { badChecksum, putChecksum, transportChecksum, type ChecksumSpec, type IpSpec } from './transport-checksum.js';

export type NdOption =
  | { readonly kind: 'source-link-address' | 'target-link-address'; readonly address: string }
  | {
      readonly kind: 'prefix';
      readonly prefix: string;
      readonly prefixLength: number;
      readonly onLink: boolean;
      readonly autonomous: boolean;
      /** Seconds; 0xffffffff is for ever. */
      readonly validLifetime: number;
      readonly preferredLifetime: number;
    }
  | { readonly kind: 'mtu'; readonly mtu: number }
  | { readonly kind: 'other'; readonly number: number; readonly data: Uint8Array };

interface WithOptions {
  readonly options: readonly NdOption[];
}

interface Quoting {
  readonly quoted: readonly Layer[];
}

export type Icmpv6Message =
  | { readonly kind: 'echo-request' | 'echo-reply'; readonly id: number; readonly sequence: number }
  | ({ readonly kind: 'unreachable' | 'time-exceeded' } & Quoting)
  | ({ readonly kind: 'packet-too-big'; readonly mtu: number } & Quoting)
  | ({ readonly kind: 'parameter-problem'; readonly pointer: number } & Quoting)
  | ({ readonly kind: 'router-solicitation' } & WithOptions)
  | ({
      readonly kind: 'router-advertisement';
      readonly hopLimit: number;
      readonly managed: boolean;
      readonly otherConfig: boolean;
      /** Seconds. */
      readonly lifetime: number;
    } & WithOptions)
  | ({ readonly kind: 'neighbour-solicitation'; readonly target: string } & WithOptions)
  | ({
      readonly kind: 'neighbour-advertisement';
      readonly target: string;
      readonly router: boolean;
      readonly solicited: boolean;
      readonly override: boolean;
    } & WithOptions)
  | ({ readonly kind: 'redirect'; readonly target: string; readonly destination: string } & WithOptions)
  | { readonly kind: 'other'; readonly rest: number };

export interface Icmpv6Layer extends LayerBase {
  readonly type: 'icmpv6';
  readonly icmpType: number;
  readonly code: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
  readonly message: Icmpv6Message;
}

const LENGTH = 8;
/** Bytes before the options of a neighbour-discovery message, by ICMPv6 type. */
const ND_FIXED: Readonly<Record<number, number>> = { 133: 8, 134: 16, 135: 24, 136: 24, 137: 40 };

export function decodeIcmpv6(c: Context): void {
  const { bytes, offset, end } = c;
  const readable = c.readable;
  const there = readable - offset;
  if (there < LENGTH) return c.partial('icmpv6', LENGTH, there >= 2 ? { icmpType: u8(bytes, offset), code: u8(bytes, offset + 1) } : {});
  let problems = NO_PROBLEMS;
  const icmpType = u8(bytes, offset);
  const code = u8(bytes, offset + 1);
  const field = u16(bytes, offset + 2);
  const covered = { start: offset, end, protocol: IP.icmpv6, field };
  const state = transportChecksum(c, covered);
  if (state === 'bad') problems = badChecksum(c, problems, 'icmpv6', covered);
  let headerLength = LENGTH;
  let message: Icmpv6Message;
  const fixed = ND_FIXED[icmpType];
  if (fixed !== undefined) {
    if (there < fixed) return c.partial('icmpv6', fixed, { icmpType, code });
    const options: NdOption[] = [];
    problems = ndOptions(c, options, { start: offset + fixed, end: readable }, problems);
    message = ndMessage(bytes, offset, icmpType, options);
    headerLength = there;
  } else if (icmpType === 128 || icmpType === 129) {
    message = { kind: icmpType === 128 ? 'echo-request' : 'echo-reply', id: u16(bytes, offset + 4), sequence: u16(bytes, offset + 6) };
  } else if (icmpType >= 1 && icmpType <= 4) {
    const { layers: quoted, problem } = c.quote(ETHER.ipv6, offset + LENGTH, end);
    if (problem !== undefined) problems = c.report(problems, 'depth-limit', 'icmpv6', problem);
    if (icmpType === 2) message = { kind: 'packet-too-big', mtu: u32(bytes, offset + 4), quoted };
    else if (icmpType === 4) message = { kind: 'parameter-problem', pointer: u32(bytes, offset + 4), quoted };
    else message = { kind: icmpType === 1 ? 'unreachable' : 'time-exceeded', quoted };
  } else message = { kind: 'other', rest: u32(bytes, offset + 4) };
  c.layers.push({ type: 'icmpv6', icmpType, code, checksum: field, checksumState: state, message, offset, headerLength, problems });
  c.stop(offset + headerLength, end);
}

function ndMessage(bytes: Uint8Array, offset: number, icmpType: number, options: readonly NdOption[]): Icmpv6Message {
  const flags = u8(bytes, offset + 4);
  switch (icmpType) {
    case 133:
      return { kind: 'router-solicitation', options };
    case 134: {
      const bits = u8(bytes, offset + 5);
      return {
        kind: 'router-advertisement',
        hopLimit: flags,
        managed: (bits & 0x80) !== 0,
        otherConfig: (bits & 0x40) !== 0,
        lifetime: u16(bytes, offset + 6),
        options,
      };
    }
    case 135:
      return { kind: 'neighbour-solicitation', target: ipv6Text(bytes, offset + 8), options };
    case 136:
      return {
        kind: 'neighbour-advertisement',
        target: ipv6Text(bytes, offset + 8),
        router: (flags & 0x80) !== 0,
        solicited: (flags & 0x40) !== 0,
        override: (flags & 0x20) !== 0,
        options,
      };
    default:
      return { kind: 'redirect', target: ipv6Text(bytes, offset + 8), destination: ipv6Text(bytes, offset + 24), options };
  }
}

function ndOptions(c: Context, out: NdOption[], range: { start: number; end: number }, problems: readonly Problem[]): readonly Problem[] {
  const { bytes } = c;
  let at = range.start;
  while (at < range.end) {
    const number = u8(bytes, at);
    const length = at + 1 < range.end ? u8(bytes, at + 1) * 8 : 0;
    if (length === 0 || at + length > range.end) {
      return c.report(problems, 'bad-option', 'icmpv6', `option ${number} has length ${length}, ${range.end - at} bytes are left`, at);
    }
    if (number === 1 || number === 2) {
      out.push({ kind: number === 1 ? 'source-link-address' : 'target-link-address', address: linkAddressText(bytes, at + 2, length === 8 ? 6 : length - 2) });
    } else if (number === 3 && length === 32) {
      const flags = u8(bytes, at + 3);
      out.push({
        kind: 'prefix',
        prefix: ipv6Text(bytes, at + 16),
        prefixLength: u8(bytes, at + 2),
        onLink: (flags & 0x80) !== 0,
        autonomous: (flags & 0x40) !== 0,
        validLifetime: u32(bytes, at + 4),
        preferredLifetime: u32(bytes, at + 8),
      });
    } else if (number === 5 && length === 8) out.push({ kind: 'mtu', mtu: u32(bytes, at + 4) });
    else out.push({ kind: 'other', number, data: bytes.subarray(at + 2, at + length) });
    at += length;
  }
  return problems;
}

/** What an encoder needs of a message; an error's quote is the payload. */
export type Icmpv6MessageSpec =
  | { readonly kind: 'echo-request' | 'echo-reply'; readonly id: number; readonly sequence: number }
  | { readonly kind: 'unreachable' | 'time-exceeded'; readonly code: number }
  | { readonly kind: 'packet-too-big'; readonly mtu: number }
  | { readonly kind: 'neighbour-solicitation'; readonly target: string; readonly sourceMac?: string }
  | {
      readonly kind: 'neighbour-advertisement';
      readonly target: string;
      readonly targetMac?: string;
      readonly router?: boolean;
      readonly solicited?: boolean;
      readonly override?: boolean;
    };

export interface Icmpv6Spec {
  readonly type: 'icmpv6';
  readonly message: Icmpv6MessageSpec;
  readonly checksum?: ChecksumSpec;
}

export function encodeIcmpv6(spec: Icmpv6Spec, payload: Uint8Array, ip: IpSpec | undefined): Uint8Array {
  const out = concat([messageBytes(spec.message), payload]);
  putChecksum(out, 2, ip, { protocol: IP.icmpv6, spec: spec.checksum });
  return out;
}

function messageBytes(message: Icmpv6MessageSpec): Uint8Array {
  const head = new Uint8Array(LENGTH);
  switch (message.kind) {
    case 'echo-request':
    case 'echo-reply':
      head[0] = message.kind === 'echo-request' ? 128 : 129;
      put16(head, 4, message.id);
      put16(head, 6, message.sequence);
      return head;
    case 'unreachable':
    case 'time-exceeded':
      head[0] = message.kind === 'unreachable' ? 1 : 3;
      head[1] = message.code;
      return head;
    case 'packet-too-big':
      head[0] = 2;
      put32(head, 4, message.mtu);
      return head;
    case 'neighbour-solicitation':
      head[0] = 135;
      return concat([head, parseIpv6(message.target), linkOption(1, message.sourceMac)]);
    case 'neighbour-advertisement':
      head[0] = 136;
      head[4] = (message.router === true ? 0x80 : 0) | (message.solicited === true ? 0x40 : 0) | (message.override === true ? 0x20 : 0);
      return concat([head, parseIpv6(message.target), linkOption(2, message.targetMac)]);
  }
}

function linkOption(number: number, mac: string | undefined): Uint8Array {
  return mac === undefined ? new Uint8Array(0) : concat([Uint8Array.of(number, 1), parseMac(mac)]);
}
