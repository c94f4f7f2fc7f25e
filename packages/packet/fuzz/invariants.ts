/** What holds for every decoded packet, sound or hostile. Throws with the reason if something does not. */
import { describeHeaders, type DecodedPacket, type Layer, type Problem } from '../src/index.js';

function ensure(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}

/** Walks every value of a layer: all numbers finite, none undefined, so that what reads beyond the bytes shows. */
function checkValues(value: unknown, path: string): void {
  if (typeof value === 'number') ensure(Number.isInteger(value) && value >= 0, `${path} is ${value}`);
  else if (Array.isArray(value)) value.forEach((v, i) => checkValues(v, `${path}[${i}]`));
  else if (value instanceof Uint8Array) return;
  else if (typeof value === 'object' && value !== null) for (const [key, v] of Object.entries(value)) checkValues(v, `${path}.${key}`);
  else ensure(typeof value === 'string' || typeof value === 'boolean', `${path} is ${String(value)}`);
}

function checkLayers(layers: readonly Layer[], start: number, captured: number): number {
  let at = start;
  for (const layer of layers) {
    ensure(layer.offset === at, `${layer.type} begins at ${layer.offset}, the header before ends at ${at}`);
    ensure(layer.headerLength >= 0 && at + layer.headerLength <= captured, `${layer.type} ends beyond the captured bytes`);
    at += layer.headerLength;
    checkValues(layer, layer.type);
    if ((layer.type === 'icmp' || layer.type === 'icmpv6') && 'quoted' in layer.message) checkLayers(layer.message.quoted, at, captured);
  }
  return at;
}

export function checkInvariants(packet: DecodedPacket): void {
  const end = checkLayers(packet.layers, 0, packet.bytes.length);
  ensure(packet.payloadOffset === end, `payload begins at ${packet.payloadOffset}, the headers end at ${end}`);
  ensure(packet.payloadEnd >= packet.payloadOffset, `payload ends at ${packet.payloadEnd}, before it begins`);
  const known = new Set<Problem>(packet.problems);
  for (const layer of packet.layers) for (const p of layer.problems) ensure(known.has(p), `a problem of ${layer.type} is not in the packet's list`);
  for (const p of packet.problems) ensure(p.offset >= 0 && p.message !== '', `problem ${JSON.stringify(p)}`);
  const total = describeHeaders(packet).reduce((n, h) => n + h.bytes, 0);
  ensure(total === packet.originalLength, `sizes sum to ${total}, the frame has ${packet.originalLength} bytes`);
}
