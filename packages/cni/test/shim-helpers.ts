/** Running the real shim against whatever listens. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildShim } from '@podway/cni';

export interface ShimRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly ms: number;
}

export async function scratch(): Promise<{ dir: string; remove: () => Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), 'podway-cni-test-'));
  return { dir, remove: () => rm(dir, { recursive: true, force: true }) };
}

let built: Promise<string> | undefined;
/** One build for all tests of a process; removed when it ends. */
export function shim(): Promise<string> {
  built ??= scratch().then(async ({ dir, remove }) => {
    process.once('beforeExit', () => void remove());
    return buildShim(dir);
  });
  return built;
}

export async function runShim(env: Record<string, string>, stdin: string | Buffer | undefined): Promise<ShimRun> {
  const path = await shim();
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(path, [], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (d: Buffer) => (stdout += d.toString()));
    child.stderr.on('data', (d: Buffer) => (stderr += d.toString()));
    child.stdin.on('error', () => undefined);
    if (stdin !== undefined) child.stdin.end(stdin);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr, ms: performance.now() - start }));
  });
}

/** A server that does with each connection what it is told. */
export async function fakeAgent(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return server;
}
