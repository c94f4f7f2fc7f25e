/**
 * Where lessons by hand run: network, mount, uts, ipc and pid namespaces of their own, with an empty /run, so that
 * `ip netns add ns1` is the command as the tutorials print it and disturbs nobody. Its PID 1 waits at a pipe of this
 * process: when this process ends, however it ends, the kernel takes everything in the sandbox away.
 *
 * Equivalent: unshare -n -m -u -i -p -f --kill-child --mount-proc sh
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { PodwayError } from '@podway/errors';
import { binary } from '../cluster/layout.js';
import { execInNamespaces } from '../runtime/record.js';
import type { Place, Ran } from './lesson.js';

const ENV = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

/** @throws LESSON_SANDBOX when the namespaces cannot be made */
export async function openSandbox(): Promise<Place> {
  // Mount and pid namespaces that die with this process: the kernel package makes network namespaces only, and podway-init's holders outlive their starter.
  // eslint-disable-next-line house/no-shell
  const child = spawn('unshare', ['-n', '-m', '-u', '-i', '-p', '-f', '--kill-child', '--mount-proc', '--', 'cat'], { stdio: ['pipe', 'pipe', 'pipe'], env: ENV });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  await ready(child);
  const [pid] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
  const place: Place = {
    seen: {},
    run: (argv, signal) => runProgram(execInNamespaces(binary('podway-init'), Number(pid), ['a'], [...argv], ENV), signal),
    async close() {
      child.stdin?.end();
      await ended;
    },
  };
  for (const argv of [['mount', '-t', 'tmpfs', 'tmpfs', '/run'], ['hostname', 'lesson']]) {
    const { code, output } = await place.run(argv, new AbortController().signal);
    if (code !== 0) {
      await place.close();
      throw refused(output.trim());
    }
  }
  return place;
}

const refused = (said: string): PodwayError => new PodwayError('LESSON_SANDBOX', 'cannot make namespaces for the lesson', { said, hint: 'It needs root and util-linux: unshare --version' });

/** When cat, in its namespaces, gives back what it got. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.once('error', (e) => reject(refused(e.message)));
    child.stderr?.on('data', (d: Buffer) => (said += d.toString()));
    child.once('close', (code) => reject(refused(said.trim() || `unshare ended with ${code ?? 'a signal'}`)));
    child.stdin?.on('error', () => undefined); // it ended: told by close
    child.stdout?.once('data', () => resolve());
    child.stdin?.write('\n');
  });
}

/** Runs a program to its end; both of its outputs are one text, as on a screen. */
export function runProgram(c: { readonly file: string; readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv }, signal: AbortSignal): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(c.file, [...c.args], { env: c.env, stdio: ['ignore', 'pipe', 'pipe'], signal });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (d: string) => (output += d));
    child.stderr.setEncoding('utf8').on('data', (d: string) => (errors += d));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code: code ?? 128, output: output + errors }));
  });
}
