/**
 * Commands in containers for users far away, attaching to containers that run, and connections into pods.
 *
 * Each command is one podway-init that has the streams (`exec --stream`, `attach`): it lives as long as
 * the command, and ends it when this process or the user goes away. Cost: a spawn of about 3 ms.
 */
import { spawn } from 'node:child_process';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { PodwayError, messageOf } from '@podway/errors';
import { connectTcp, Netns } from '@podway/kernel';
import type { CommandRequest, RemoteProcess } from '../streaming/remote.js';
import { execInContainer, type CommandLine, type ContainerRecord, type PodRecord } from './record.js';

const CONNECT_TIMEOUT_MS = 10_000;

/** @throws CONTAINER_NOT_FOUND in the kubelet's words */
export function runningContainer(record: PodRecord, name: string): ContainerRecord {
  const found = record.containers.find((c) => c.name === name);
  if (!found) throw new PodwayError('CONTAINER_NOT_FOUND', `unable to upgrade connection: container not found ("${name}")`, { object: `pod ${record.namespace}/${record.name}` });
  return found;
}

/** Errors: PodwayError CONTAINER_NOT_FOUND, EXEC_FAILED. */
export function execCommand(init: string, record: PodRecord, request: CommandRequest, command: readonly string[]): Promise<RemoteProcess> {
  const { env } = runningContainer(record, request.container);
  return start(execInContainer(init, record, command, {
    container: request.container, stream: { tty: request.tty },
    // As container runtimes do: programs want to know what they draw on.
    env: request.tty && env['TERM'] === undefined ? { TERM: 'xterm' } : {},
  }), 'error executing command in container: failed to exec in container');
}

/** Errors: PodwayError CONTAINER_NOT_FOUND, EXEC_FAILED. */
export function attachTo(init: string, record: PodRecord, request: CommandRequest): Promise<RemoteProcess> {
  const { attach } = runningContainer(record, request.container);
  const line = { file: init, args: ['attach', '--attach', attach, ...(request.stdin ? ['--stdin', '--stream'] : ['--stream'])], env: {} };
  return start(line, 'error attaching to container');
}

function start(line: CommandLine, failure: string): Promise<RemoteProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(line.file, line.args, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'], env: { ...line.env } });
    const { stdin, stdout, stderr } = child;
    const control = child.stdio[3] as Duplex;
    let said = '';
    for (const s of [stdin, stdout, stderr, control]) s.on('error', () => undefined); // the end of the command tells
    const ended = new Promise<number>((done) => child.once('exit', (code) => done(code ?? 137)));
    control.setEncoding('utf8').on('data', (d: string) => {
      said += d;
      if (said !== 'started\n') return;
      resolve({
        stdin, stdout, stderr, ended,
        resize({ rows, columns }) {
          const size = Buffer.alloc(4);
          size.writeUInt16BE(rows, 0);
          size.writeUInt16BE(columns, 2);
          if (control.writable) control.write(size);
        },
        hangUp() {
          for (const s of [control, stdin, stdout, stderr]) s.destroy();
        },
      });
    });
    child.once('error', (e) => reject(new PodwayError('EXEC_FAILED', `${failure}: ${e.message}`, { cause: e })));
    control.once('close', () => {
      if (said === 'started\n') return;
      stdout.destroy();
      stderr.destroy();
      reject(new PodwayError('EXEC_FAILED', `${failure}: ${said.trim().replace(/^podway-init: /, '') || 'it ended before it began'}`));
    });
  });
}

/**
 * A connection to a port inside the pod, on the loopback of its network namespace: IPv4, or else IPv6.
 * Errors: PodwayError CONNECT_FAILED with both answers, in containerd's words.
 */
export async function connectInPod(record: PodRecord, port: number): Promise<Socket> {
  const { id, pid, netns = 'host' } = record.sandbox;
  const ns = Netns.open({ pid }, netns);
  try {
    const why: string[] = [];
    for (const [family, address] of [['tcp4', '127.0.0.1'], ['tcp6', '::1']] as const) {
      try {
        return new Socket({ fd: await connectTcp(ns, { address, port }, CONNECT_TIMEOUT_MS), allowHalfOpen: true });
      } catch (e) {
        const said = e instanceof PodwayError ? (e.said ?? e.message) : messageOf(e);
        why.push(`dial ${family} ${family === 'tcp6' ? `[${address}]` : address}:${port}: connect: ${said.toLowerCase()}`);
      }
    }
    throw new PodwayError('CONNECT_FAILED', `error forwarding port ${port} to pod ${id}, uid : failed to execute portforward in network namespace "${netns}": failed to connect to localhost:${port} inside namespace "${id}", IPv4: ${why[0]} IPv6 ${why[1]}`, { object: `pod ${record.namespace}/${record.name}` });
  } finally {
    ns.close();
  }
}
