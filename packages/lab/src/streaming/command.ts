/**
 * Joins a user's streams to a command and tells at the end how it ended, as a Status object.
 * Source: k8s.io/kubelet/pkg/cri/streaming/remotecommand (protocol v4), k8s.io/apimachinery Status.
 */
import type { Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { messageOf } from '@podway/errors';
import type { RemoteProcess, TerminalSize, UserStreams } from './remote.js';

/** Longer than any size; what does not end within is none. */
const LONGEST_SIZE = 1024;

export const exitStatus = (code: number): object =>
  code === 0
    ? { metadata: {}, status: 'Success' }
    : {
        metadata: {}, status: 'Failure', reason: 'NonZeroExitCode',
        message: `command terminated with non-zero exit code: exit status ${code}`,
        details: { causes: [{ reason: 'ExitCode', message: String(code) }] },
      };

export const failureStatus = (message: string): object => ({
  metadata: {}, status: 'Failure', reason: 'InternalError', code: 500, message: `Internal error occurred: ${message}`,
  details: { causes: [{ message }] },
});

/** Takes whole JSON objects out of text that grows; without nested ones. */
export class SizeReader {
  private text = '';

  push(piece: string): TerminalSize[] {
    this.text += piece;
    const sizes: TerminalSize[] = [];
    for (let end = this.text.indexOf('}'); end >= 0; end = this.text.indexOf('}')) {
      const size = sizeOf(this.text.slice(0, end + 1));
      if (size) sizes.push(size);
      this.text = this.text.slice(end + 1);
    }
    if (this.text.length > LONGEST_SIZE) this.text = '';
    return sizes;
  }
}

function sizeOf(text: string): TerminalSize | undefined {
  try {
    const { Width, Height } = JSON.parse(text) as { Width?: unknown; Height?: unknown };
    const fits = (n: unknown): n is number => typeof n === 'number' && Number.isInteger(n) && n >= 0 && n <= 0xffff;
    return fits(Width) && fits(Height) ? { columns: Width, rows: Height } : undefined;
  } catch {
    return undefined;
  }
}

/** Runs until the command has ended and the user was told. Never rejects. */
export async function serveCommand(start: () => Promise<RemoteProcess>, user: UserStreams): Promise<void> {
  let there = true;
  void user.gone.then(() => (there = false));
  let remote: RemoteProcess;
  try {
    remote = await start();
  } catch (e) {
    await Promise.all([end(user.stdout), end(user.stderr), end(user.error, failureStatus(messageOf(e)))]);
    await user.finish();
    return;
  }
  if (!there) remote.hangUp();
  void user.gone.then(() => remote.hangUp());
  feed(user.stdin, remote.stdin);
  if (user.resize) {
    const reader = new SizeReader();
    user.resize.on('data', (d: Buffer) => reader.push(d.toString('utf8')).forEach((s) => remote.resize(s)));
  }
  const [code] = await Promise.all([remote.ended, pass(remote.stdout, user.stdout), pass(remote.stderr, user.stderr)]);
  await end(user.error, exitStatus(code));
  await user.finish();
}

/** A command that takes no input any more must not hold up the user. */
function feed(from: Readable | undefined, to: Writable): void {
  if (!from) {
    to.end();
    return;
  }
  pipeline(from, to).catch(() => from.resume());
}

async function pass(from: Readable, to: Writable | undefined): Promise<void> {
  if (!to) {
    from.resume();
    await finished(from).catch(() => undefined);
    return;
  }
  // The user may be gone: then what is left of the output is nobody's.
  await pipeline(from, to).catch(() => from.resume());
}

function end(to: Writable | undefined, last?: object): Promise<void> {
  if (!to || to.destroyed) return Promise.resolve();
  if (last === undefined) to.end();
  else to.end(JSON.stringify(last));
  return finished(to, { readable: false }).catch(() => undefined);
}
