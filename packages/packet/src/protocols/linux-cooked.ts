/**
 * Linux "cooked" capture headers, what libpcap writes for `-i any`: LINKTYPE_LINUX_SLL (113, 16 bytes) and
 * LINKTYPE_LINUX_SLL2 (276, 20 bytes, with the interface index). Source: tcpdump.org/linktypes.
 */
import { type Context, ETHERTYPE, NO_PROBLEMS, type LayerBase } from '../context.js';
import { linkAddressText, u16, u32, u8 } from '../bytes.js';

export interface LinuxCookedLayer extends LayerBase {
  readonly type: 'linux-cooked';
  readonly version: 1 | 2;
  /** 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 sent by us. */
  readonly packetType: number;
  /** ARPHRD_ type of the device: 1 Ethernet, 772 loopback, 65534 none. */
  readonly hardwareType: number;
  /** Link-layer address of the sender; '' where the device has none. */
  readonly src: string;
  readonly etherType: number;
  /** Index of the device; version 2 only. */
  readonly ifindex?: number;
}

export function decodeSll(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < 16) return c.partial('linux-cooked', 16);
  const etherType = u16(bytes, offset + 14);
  c.layers.push({
    type: 'linux-cooked',
    version: 1,
    packetType: u16(bytes, offset),
    hardwareType: u16(bytes, offset + 2),
    src: linkAddressText(bytes, offset + 6, Math.min(8, u16(bytes, offset + 4))),
    etherType,
    offset,
    headerLength: 16,
    problems: NO_PROBLEMS,
  });
  c.follow(ETHERTYPE, etherType, offset + 16, c.end);
}

export function decodeSll2(c: Context): void {
  const { bytes, offset } = c;
  if (c.readable - offset < 20) return c.partial('linux-cooked', 20);
  const etherType = u16(bytes, offset);
  c.layers.push({
    type: 'linux-cooked',
    version: 2,
    packetType: u8(bytes, offset + 10),
    hardwareType: u16(bytes, offset + 8),
    src: linkAddressText(bytes, offset + 12, Math.min(8, u8(bytes, offset + 11))),
    etherType,
    ifindex: u32(bytes, offset + 4),
    offset,
    headerLength: 20,
    problems: NO_PROBLEMS,
  });
  c.follow(ETHERTYPE, etherType, offset + 20, c.end);
}
