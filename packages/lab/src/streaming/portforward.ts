/**
 * Joins forwarded connections to the ports of a pod.
 * Source: k8s.io/kubelet/pkg/cri/streaming/portforward; the words are those of containerd.
 */
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf } from '@podway/errors';
import type { UserConnection } from './remote.js';

/** Opens a connection to a port inside the pod. */
export type Connect = (port: number) => Promise<Duplex>;

/** Runs until both directions have ended. Never rejects. */
export async function serveConnection(connect: Connect, { port, data, error }: UserConnection): Promise<void> {
  let far: Duplex;
  try {
    far = await connect(port);
  } catch (e) {
    error.end(`error forwarding port ${port} to pod: ${messageOf(e)}`);
    data.on('error', () => undefined).resume();
    data.end();
    return;
  }
  // One direction may end long before the other: a half-closed connection is a connection.
  await Promise.allSettled([oneWay(data, far), oneWay(far, data)]);
  error.end();
}

async function oneWay(from: Duplex, to: Duplex): Promise<void> {
  try {
    await pipeline(from, to);
  } catch (e) {
    from.destroy();
    to.destroy();
    throw e;
  }
}
