/** Builds the CNI shim: `node build.mjs DIR` makes DIR/podway-cni. The rule itself is in src/shim.ts. */
import { buildShim } from '../dist/src/shim.js';

const directory = process.argv[2];
if (directory === undefined) {
  process.stderr.write('usage: node build.mjs DIR\n');
  process.exitCode = 2;
} else {
  await buildShim(directory);
}
