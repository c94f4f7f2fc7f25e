/** /proc/net/{tcp,tcp6,udp,udp6}: sockets that can receive. Source: Documentation/networking/proc_net_tcp.rst. */
import { addressValue } from './simulate/ip.js';
import type { SocketInfo } from './world.js';

const TCP_LISTEN = 0x0a;
const UDP_UNCONNECTED = 0x07;

/** Addresses are printed as 32-bit words in host order: little endian here. */
function address(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((w) => (w.match(/../g) ?? []).reverse().map((h) => parseInt(h, 16)));
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.every((b) => b === 0)) return '::';
  if (bytes.slice(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff) return bytes.slice(12).join('.');
  return Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16)).join(':');
}

export function parseProcNet(text: string, proto: 'tcp' | 'udp'): SocketInfo[] {
  const wanted = proto === 'tcp' ? TCP_LISTEN : UDP_UNCONNECTED;
  const sockets: SocketInfo[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', , state = ''] = line.trim().split(/\s+/);
    const [hex, port] = local.split(':');
    if (!hex || !port || parseInt(state, 16) !== wanted) continue;
    sockets.push({ proto, address: address(hex), port: parseInt(port, 16) });
  }
  return sockets;
}

/** The socket that takes a packet to this address and port: an exact address wins over all addresses. */
export function receiver(sockets: readonly SocketInfo[], proto: 'tcp' | 'udp', to: { address: string; port: number }): SocketInfo | undefined {
  const fitting = sockets.filter((s) => s.proto === proto && s.port === to.port);
  const six = to.address.includes(':');
  return fitting.find((s) => s.address.includes(':') === six && addressValue(s.address) === addressValue(to.address))
    ?? fitting.find((s) => s.address === (six ? '::' : '0.0.0.0'))
    // A socket on `::` takes IPv4 too, unless it was told not to, which /proc does not show.
    ?? (six ? undefined : fitting.find((s) => s.address === '::'));
}
