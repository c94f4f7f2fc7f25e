/** The `podway` command: this process as the outside of the program. */
import { catalogue } from './catalogue.js';
import { runProgram } from './program.js';

/** Ends the process when all that was written has left it; a reader that went away (`| head`) is no error. */
function finish(code: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (e: NodeJS.ErrnoException) => {
    if (e.code === 'EPIPE') process.exit(process.exitCode ?? 0);
    throw e;
  });
}

finish(
  await runProgram(catalogue, process.argv.slice(2), {
    out: process.stdout,
    err: process.stderr,
    env: process.env,
    root: process.geteuid?.() === 0,
    signals: process,
  }),
);
