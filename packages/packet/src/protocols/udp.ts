/**
 * UDP (RFC 768): source port, destination port, length (header included), checksum; 8 bytes.
 * Checksum 0 means none was sent. Over IPv6 only tunnels may do that (RFC 6936); anything else is reported.
 */
import { Context, NO_PROBLEMS, UDP_PORT, type LayerBase } from '../context.js';
import type { ChecksumState } from '../checksum.js';
import { put16, u16 } from '../bytes.js';
import { IP } from '../numbers.js';
import { badChecksum, putChecksum, transportChecksum, type ChecksumSpec, type IpSpec } from './transport-checksum.js';

export interface UdpLayer extends LayerBase {
  readonly type: 'udp';
  readonly srcPort: number;
  readonly dstPort: number;
  /** As the header says, its 8 bytes included. */
  readonly length: number;
  readonly checksum: number;
  readonly checksumState: ChecksumState;
}

const LENGTH = 8;

export function decodeUdp(c: Context): void {
  const { bytes, offset } = c;
  const there = c.readable - offset;
  if (there < LENGTH) return c.partial('udp', LENGTH, there >= 4 ? { srcPort: u16(bytes, offset), dstPort: u16(bytes, offset + 2) } : {});
  let problems = NO_PROBLEMS;
  const srcPort = u16(bytes, offset);
  const dstPort = u16(bytes, offset + 2);
  const length = u16(bytes, offset + 4);
  const field = u16(bytes, offset + 6);
  let end = offset + length;
  let state: ChecksumState;
  // Length 0 with more than 64 KiB around it is a jumbogram or an offloaded super-packet (RFC 2675 section 4).
  const jumbo = length === 0 && c.end - offset > 0xffff;
  if (length < LENGTH && !jumbo) {
    problems = c.report(problems, 'bad-length', 'udp', `length is ${length}, less than ${LENGTH}`);
    end = c.end;
    state = 'unverifiable';
  } else {
    if (jumbo) end = c.end;
    else if (end > c.end && !c.isFragment) problems = c.report(problems, 'truncated', 'udp', `length is ${length}, ${c.end - offset} bytes are there`);
    if (field !== 0) state = end > c.end ? 'unverifiable' : transportChecksum(c, offset, end, IP.udp, field);
    else if (c.ipVersion !== 6 || c.settings.vxlanPorts.includes(dstPort)) state = 'absent';
    else {
      state = 'bad';
      problems = c.report(problems, 'bad-checksum', 'udp', 'checksum is 0, which IPv6 allows to tunnels only');
    }
    if (state === 'bad' && field !== 0) problems = badChecksum(c, problems, 'udp', { start: offset, end, protocol: IP.udp, field });
  }
  c.layers.push({ type: 'udp', srcPort, dstPort, length, checksum: field, checksumState: state, offset, headerLength: LENGTH, problems });
  c.otherPort = srcPort;
  c.follow(UDP_PORT, dstPort, offset + LENGTH, end);
}

export interface UdpSpec {
  readonly type: 'udp';
  readonly srcPort: number;
  readonly dstPort: number;
  /** 0 sends none, as VXLAN does by default over IPv4. */
  readonly checksum?: ChecksumSpec;
}

export function encodeUdp(spec: UdpSpec, payload: Uint8Array, ip: IpSpec | undefined): Uint8Array {
  const length = LENGTH + payload.length;
  if (length > 0xffff) throw new RangeError(`UDP datagram of ${length} bytes: at most 65535 fit`);
  const out = new Uint8Array(length);
  put16(out, 0, spec.srcPort);
  put16(out, 2, spec.dstPort);
  put16(out, 4, length);
  out.set(payload, LENGTH);
  putChecksum(out, 6, ip, { protocol: IP.udp, spec: spec.checksum, zeroMeansNone: true });
  return out;
}
