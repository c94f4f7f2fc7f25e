/** Runs a program with this terminal as its own and answers with its exit code. */
import { spawn } from 'node:child_process';
import type { CommandLine } from '@podway/lab/client';

const SIGNAL_BASE = 128;

/** Ctrl-C is the child's: the terminal sends it to both, and this process waits for what the child makes of it. */
export function runInTerminal(c: CommandLine): Promise<number> {
  const ignore = (): void => undefined;
  for (const s of ['SIGINT', 'SIGQUIT'] as const) process.on(s, ignore);
  return new Promise((resolve, reject) => {
    const child = spawn(c.file, [...c.args], { stdio: 'inherit', env: c.env });
    const forward = (): void => void child.kill('SIGTERM');
    process.on('SIGTERM', forward);
    child.once('error', reject);
    child.once('close', (code, signal) => {
      for (const s of ['SIGINT', 'SIGQUIT'] as const) process.off(s, ignore);
      process.off('SIGTERM', forward);
      resolve(code ?? SIGNAL_BASE + (signal ? (SIGNALS[signal] ?? 0) : 0));
    });
  });
}

const SIGNALS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGKILL: 9, SIGPIPE: 13, SIGTERM: 15 };
