/**
 * The fuzzer's loop: mutated samples through the decoder and everything that reads its result. Pure: returns what it found.
 */
import { decode, identity, payloadIdentity, summary } from '../src/index.js';
import { SAMPLES, type Sample } from '../test/corpus.js';
import { checkInvariants } from './invariants.js';
import { mutate, random } from './mutate.js';

export interface FuzzResult {
  readonly iterations: number;
  readonly layers: number;
  /** The first input that broke something. */
  readonly failure?: { readonly iteration: number; readonly sample: string; readonly linkType: number; readonly hex: string; readonly error: unknown };
}

export function fuzz(seed: number, iterations: number): FuzzResult {
  const next = random(seed);
  const pick = (): Sample => SAMPLES[next(SAMPLES.length)] as Sample;
  let layers = 0;
  for (let i = 0; i < iterations; i++) {
    const sample = pick();
    const bytes = mutate(sample.bytes, pick().bytes, next);
    try {
      const packet = decode(bytes, sample.linkType, { originalLength: next(4) === 0 ? bytes.length + next(2000) : bytes.length });
      checkInvariants(packet);
      summary(packet);
      identity(packet);
      payloadIdentity(packet);
      layers += packet.layers.length;
    } catch (error) {
      return { iterations: i, layers, failure: { iteration: i, sample: sample.name, linkType: sample.linkType, hex: Buffer.from(bytes).toString('hex'), error } };
    }
  }
  return { iterations, layers };
}
