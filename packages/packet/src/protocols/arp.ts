/**
 * ARP (RFC 826). Addresses of Ethernet and IPv4 are read; for other kinds the operation and the sizes are, and the problem says so.
 */
import { type Context, NO_PROBLEMS, type LayerBase } from '../context.js';
import { ipv4Text, macText, parseIpv4, parseMac, put16, u16, u8 } from '../bytes.js';

export interface ArpLayer extends LayerBase {
  readonly type: 'arp';
  readonly hardwareType: number;
  readonly protocolType: number;
  /** 1 request, 2 reply. */
  readonly operation: number;
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}

const LENGTH = 28;

export function decodeArp(c: Context): void {
  const { bytes, offset } = c;
  const there = c.readable - offset;
  if (there < 8) return c.partial('arp', LENGTH);
  const operation = u16(bytes, offset + 6);
  const hardwareType = u16(bytes, offset);
  const protocolType = u16(bytes, offset + 2);
  const sizes = u16(bytes, offset + 4);
  if (there < LENGTH) return c.partial('arp', LENGTH, { operation, ...(there >= 18 && { senderMac: macText(bytes, offset + 8), senderIp: ipv4Text(bytes, offset + 14) }) });
  let problems = NO_PROBLEMS;
  const known = sizes === 0x0604 && protocolType === 0x0800;
  if (!known) {
    problems = c.report(problems, 'bad-value', 'arp', `addresses of ${u8(bytes, offset + 4)} and ${u8(bytes, offset + 5)} bytes, not Ethernet (6) and IPv4 (4)`);
  }
  c.layers.push({
    type: 'arp',
    hardwareType,
    protocolType,
    operation,
    senderMac: known ? macText(bytes, offset + 8) : '',
    senderIp: known ? ipv4Text(bytes, offset + 14) : '',
    targetMac: known ? macText(bytes, offset + 18) : '',
    targetIp: known ? ipv4Text(bytes, offset + 24) : '',
    offset,
    headerLength: known ? LENGTH : 8,
    problems,
  });
  const next = offset + (known ? LENGTH : 8);
  // ARP carries nothing: what follows on the wire is Ethernet padding.
  c.stop(next, known ? next : c.end);
}

export interface ArpSpec {
  readonly type: 'arp';
  /** 1 request, 2 reply. */
  readonly operation: number;
  readonly senderMac: string;
  readonly senderIp: string;
  readonly targetMac: string;
  readonly targetIp: string;
}

export function encodeArp(spec: ArpSpec): Uint8Array {
  const out = new Uint8Array(LENGTH);
  put16(out, 0, 1);
  put16(out, 2, 0x0800);
  put16(out, 4, 0x0604);
  put16(out, 6, spec.operation);
  out.set(parseMac(spec.senderMac), 8);
  out.set(parseIpv4(spec.senderIp), 14);
  out.set(parseMac(spec.targetMac), 18);
  out.set(parseIpv4(spec.targetIp), 24);
  return out;
}
