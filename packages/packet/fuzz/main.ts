/**
 * The fuzzer as a program:
 *
 *     node packages/packet/dist/fuzz/main.js [ITERATIONS] [SEED]
 *
 * Default: a million iterations and a new seed, which is printed; the same seed repeats the same run. Exit code 1 and the input in hex if
 * something throws or an invariant breaks.
 */
import { randomInt } from 'node:crypto';
import { fuzz } from './run.js';

const [iterations = 1_000_000, seed = randomInt(2 ** 32)] = process.argv.slice(2).map(Number);
if (!Number.isInteger(iterations) || iterations < 1 || !Number.isInteger(seed)) {
  process.stderr.write('usage: main.js [ITERATIONS] [SEED], both whole numbers\n');
  process.exit(2);
}
process.stdout.write(`seed ${seed}, ${iterations} iterations\n`);
const start = process.hrtime.bigint();
const result = fuzz(seed, iterations);
const seconds = Number(process.hrtime.bigint() - start) / 1e9;
process.stdout.write(`${result.iterations} packets with ${result.layers} headers in ${seconds.toFixed(1)} s\n`);
if (result.failure !== undefined) {
  const { iteration, sample, linkType, hex, error } = result.failure;
  process.stdout.write(`broken at ${iteration}, made from "${sample}", link type ${linkType}\n${hex}\n${error instanceof Error ? error.stack : String(error)}\n`);
  process.exitCode = 1;
}
