/** An agent as far as daemons go: `daemons-child.js DIR SPEC`: brings it up, says so, lives until it is killed. */
import { writeSync } from 'node:fs';
import { Supervisor, type DaemonSpec } from '../src/daemons/index.js';

const [dir = '', spec = ''] = process.argv.slice(2);
const s = new Supervisor({ dir, emit: (e) => void writeSync(1, `${JSON.stringify(e)}\n`) });
await s.apply([JSON.parse(spec) as DaemonSpec]);
writeSync(1, '{"type":"applied"}\n');
setInterval(() => undefined, 1000);
