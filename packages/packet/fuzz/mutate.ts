/** Deterministic mutations of byte arrays: the same seed gives the same inputs on every machine. */

/** A small, fast generator (mulberry32); returns whole numbers in [0, below). */
export type Random = (below: number) => number;

export function random(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/** Values at which length arithmetic breaks. */
const EDGES: readonly number[] = [0, 1, 3, 4, 7, 8, 0x0f, 0x40, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff];

/** One to eight changes: bits, bytes, words of edge values, cuts, doubled and moved stretches, another sample spliced in. */
export function mutate(bytes: Uint8Array, other: Uint8Array, next: Random): Uint8Array {
  let out: Uint8Array = bytes.slice();
  for (let changes = 1 + next(8); changes > 0 && out.length > 0; changes--) {
    const at = next(out.length);
    switch (next(8)) {
      case 0:
        out[at] = (out[at] as number) ^ (1 << next(8));
        break;
      case 1:
        out[at] = next(256);
        break;
      case 2:
      case 3:
        out[at] = EDGES[next(EDGES.length)] as number;
        break;
      case 4: {
        const value = next(3) === 0 ? 0xffff : next(out.length + 20);
        out[at] = value >> 8;
        if (at + 1 < out.length) out[at + 1] = value & 255;
        break;
      }
      case 5:
        out = out.slice(0, at);
        break;
      case 6: {
        const stretch = out.slice(at, at + 1 + next(40));
        out = Uint8Array.from(Buffer.concat([out.subarray(0, at), stretch, out.subarray(at)]));
        break;
      }
      default: {
        const from = next(other.length);
        out = Uint8Array.from(Buffer.concat([out.subarray(0, at), other.subarray(from)]));
      }
    }
  }
  return out;
}
