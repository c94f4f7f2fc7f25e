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

/** After the pod's side is done, for what the user may still send. */
const PATIENCE = 1_000;

/** Runs until both directions have ended. Never rejects. */
export async function serveConnection(connect: Connect, { port, data, error }: UserConnection): Promise<void> {
  let far: Duplex;
  try {
    far = await connect(port);
  } catch (e) {
    error.end(messageOf(e));
    data.on('error', () => undefined).resume();
    data.end();
    return;
  }
  // The user's side may be done long before the pod's: a half-closed connection is a connection. Once the
  // pod's side is done there is nothing to wait for: kubectl closes its side only when the error stream has ended.
  const outward = oneWay(data, far).catch(() => undefined);
  await oneWay(far, data).catch(() => undefined);
  error.end();
  const timer = setTimeout(() => far.destroy(), PATIENCE);
  await outward;
  clearTimeout(timer);
  far.destroy();
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
