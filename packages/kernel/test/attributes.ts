/** Comparing messages as trees: attributes in any order, the nested mark and padding left out, for requests against recorded bytes. */
import { eachAttribute } from '../src/netlink/codec.js';

/** @param nested attributes, by path from the root, that hold attributes themselves. */
export function tree(b: Buffer, start: number, end: number, nested: ReadonlySet<string>, path = ''): string[] {
  return [...eachAttribute(b, start, end)]
    .flatMap((a) => {
      const here = path ? `${path}.${a.number}` : String(a.number);
      return nested.has(here) ? [`${here} {`, ...tree(b, a.start, a.end, nested, here), `} ${here}`].join(' ') : `${here}=${b.toString('hex', a.start, a.end)}`;
    })
    .sort();
}

/** One attribute with any content, padded. */
export function attribute(number: number, content: Uint8Array): Buffer {
  const b = Buffer.alloc((4 + content.length + 3) & ~3);
  b.writeUInt16LE(4 + content.length, 0);
  b.writeUInt16LE(number, 2);
  b.set(content, 4);
  return b;
}
