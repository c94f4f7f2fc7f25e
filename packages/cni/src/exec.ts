/**
 * Running one plugin executable: `env -i CNI_COMMAND=ADD … /opt/cni/bin/bridge < config`.
 * A seam, since a lab runs plugins inside a node's namespaces and a test runs none at all.
 */
import { spawn } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PodwayError } from '@podway/errors';

export interface PluginOutput {
  /** Exit code; 255 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type Exec = (pluginPath: string, env: Readonly<Record<string, string>>, stdin: string, signal: AbortSignal) => Promise<PluginOutput>;
/** The path of a plugin's executable, looked for where it will run. @throws PodwayError CNI_PLUGIN_MISSING */
export type FindPlugin = (type: string, path: readonly string[]) => Promise<string>;

const OUTPUT_LIMIT = 4 << 20;
const GRACE_MS = 1000;

/** Executable files of the machine's own file system. */
export const findPlugin: FindPlugin = async (type, path) => {
  for (const dir of path) {
    const file = join(dir, type);
    try {
      await access(file, constants.X_OK);
      if ((await stat(file)).isFile()) return file;
    } catch {
      continue;
    }
  }
  throw new PodwayError('CNI_PLUGIN_MISSING', `failed to find plugin "${type}" in path [${path.join(' ')}]`, { object: type, hint: `Install the executable ${type} into one of these directories.` });
};

/**
 * The plugin as a process group of its own, so that an abort reaches what it delegates to as
 * well: SIGTERM, then SIGKILL after a second. Rejects with the signal's reason when aborted.
 * @param prefix put before the plugin's path (`['ip', 'netns', 'exec', 'x']`).
 */
export const spawnExec =
  (prefix: readonly string[] = []): Exec =>
  (pluginPath, env, stdin, signal) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const [command = pluginPath, ...args] = [...prefix, pluginPath];
      const child = spawn(command, args, { env: { ...env }, stdio: ['pipe', 'pipe', 'pipe'], detached: true });
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      let size = 0;
      let failure: unknown;
      let timer: NodeJS.Timeout | undefined;
      const kill = (sig: NodeJS.Signals): void => {
        try {
          if (child.pid !== undefined) process.kill(-child.pid, sig);
        } catch {
          // the group is gone already
        }
      };
      const stop = (why: unknown): void => {
        failure ??= why;
        kill('SIGTERM');
        timer ??= setTimeout(() => {
          kill('SIGKILL');
          child.stdout.destroy(); // a grandchild outside the group must not hold us
          child.stderr.destroy();
        }, GRACE_MS);
      };
      const onAbort = (): void => stop(signal.reason);
      const collect = (into: Buffer[]) => (chunk: Buffer) => {
        size += chunk.length;
        if (size > OUTPUT_LIMIT) stop(new PodwayError('CNI_PLUGIN_OUTPUT', `plugin ${pluginPath} printed more than ${OUTPUT_LIMIT} bytes`));
        else into.push(chunk);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      child.stdout.on('data', collect(out));
      child.stderr.on('data', collect(err));
      child.stdin.on('error', () => undefined); // a plugin may end without reading all of its input
      child.stdin.end(stdin);
      const finish = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      };
      child.once('error', (e: NodeJS.ErrnoException) => {
        finish();
        reject(new PodwayError('CNI_PLUGIN_EXEC', `running plugin ${pluginPath}`, { said: e.message, ...(e.code ? { errno: e.code } : {}), cause: e }));
      });
      child.once('close', (code) => {
        finish();
        if (failure !== undefined) reject(failure instanceof Error ? failure : new Error(String(failure)));
        else resolve({ code: code ?? 255, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') });
      });
    });
