/**
 * UDP (RFC 768): source port, destination port, length (header included), checksum; 8 bytes.
 * Checksum 0 means none was sent. Over IPv6 only tunnels may do that (RFC 6936); anything else is reported.
 */
import { type Context, NO_PROBLEMS, UDP_PORT, type LayerBase } from '../context.js';
import { expectedChecksum, sum, type ChecksumState } from '../checksum.js';
import { hexNumber, put16, u16 } from '../bytes.js';
import { IP } from '../numbers.js';
import { pseudoTotal, putChecksum, transportChecksum, type ChecksumSpec, type IpSpec } from './transport-checksum.js';

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
    if (field !== 0) state = end > c.end ? 'unverifiable' : transportChecksum(c, { start: offset, end, protocol: IP.udp, field });
    else if (c.ipVersion !== 6 || c.settings.vxlanPorts.includes(dstPort)) state = 'absent';
    else {
      state = 'bad';
      problems = c.report(problems, 'bad-checksum', 'udp', 'checksum is 0, which IPv6 allows to tunnels only');
    }
  }
  const layer: Settable = { type: 'udp', srcPort, dstPort, length, checksum: field, checksumState: state, offset, headerLength: LENGTH, problems };
  c.layers.push(layer);
  if (state === 'bad' && field !== 0) deferBad(c, layer, end);
  c.otherPort = srcPort;
  c.follow(UDP_PORT, dstPort, offset + LENGTH, end);
}

type Settable = { -readonly [K in keyof UdpLayer]: UdpLayer[K] };

/** What is inside may explain a checksum that looks bad (see `Context.innerOffloaded`), so the verdict waits for it. */
function deferBad(c: Context, layer: Settable, end: number): void {
  const { offset, checksum: field } = layer;
  const total = pseudoTotal(c, { start: offset, end, protocol: IP.udp, field }) + sum(c.bytes, offset, end);
  c.defer({
    total,
    settle: (state) => {
      layer.checksumState = state;
      if (state === 'offloaded') return;
      const message = `checksum is ${hexNumber(field)}, should be ${hexNumber(expectedChecksum(total, field))}`;
      layer.problems = c.report(layer.problems, 'bad-checksum', 'udp', message, offset);
    },
  });
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
