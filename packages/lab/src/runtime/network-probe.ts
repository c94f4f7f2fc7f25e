/**
 * http and tcp probes, from the node's network namespace as a kubelet's, without a process: the connection
 * is made inside the namespace and then spoken over from here. Cost: about 1 ms.
 *
 * An http probe is good from 200 to 399; a redirect to the same host is followed, one to another host is
 * good as it is, as a kubelet has it. Certificates are not verified.
 * Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
 */
import { request, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { Duplex } from 'node:stream';
import { isPodwayError, messageOf } from '@podway/errors';
import { connectTcp, Netns } from '@podway/kernel';

export interface ProbeResult {
  readonly ok: boolean;
  /** What a kubelet would say; for the Unhealthy event. */
  readonly output: string;
}

export interface HttpProbe {
  readonly scheme: 'http' | 'https';
  readonly address: string;
  readonly port: number;
  readonly path: string;
  readonly headers: readonly { readonly name: string; readonly value: string }[];
}

const LONGEST_CHAIN = 10;
const OUTPUT_BYTES = 10_240;
const TIMED_OUT = 'context deadline exceeded';

/** @param pid a process of the node */
async function dial(pid: number, to: { readonly address: string; readonly port: number }, timeoutMs: number): Promise<Socket> {
  const ns = Netns.open({ pid });
  try {
    return new Socket({ fd: await connectTcp(ns, to, Math.max(1, timeoutMs)), readable: true, writable: true });
  } finally {
    ns.close();
  }
}

const hostPort = (address: string, port: number): string => `${address.includes(':') ? `[${address}]` : address}:${port}`;

/** In the words of Go's net package: searches know them. */
function dialError(to: { readonly address: string; readonly port: number }, e: unknown): string {
  const why: Readonly<Record<string, string>> = { ECONNREFUSED: 'connect: connection refused', EHOSTUNREACH: 'connect: no route to host', ENETUNREACH: 'connect: network is unreachable', ETIMEDOUT: 'i/o timeout' };
  const errno = isPodwayError(e) ? e.errno : undefined;
  return `dial tcp ${hostPort(to.address, to.port)}: ${(errno === undefined ? undefined : why[errno]) ?? messageOf(e)}`;
}

export async function tcpProbe(pid: number, to: { readonly address: string; readonly port: number }, timeoutMs: number): Promise<ProbeResult> {
  try {
    (await dial(pid, to, timeoutMs)).destroy();
    return { ok: true, output: '' };
  } catch (e) {
    return { ok: false, output: dialError(to, e) };
  }
}

export async function httpProbe(pid: number, probe: HttpProbe, timeoutMs: number): Promise<ProbeResult> {
  const until = performance.now() + timeoutMs;
  let to = probe;
  for (let hop = 0; hop < LONGEST_CHAIN; hop++) {
    const url = `${to.scheme}://${hostPort(to.address, to.port)}${to.path}`;
    let answer: Answer;
    try {
      answer = await ask(pid, to, until);
    } catch (e) {
      const why = e instanceof Error && e.message === TIMED_OUT ? `${TIMED_OUT} (Client.Timeout exceeded while awaiting headers)` : isPodwayError(e) ? dialError(to, e) : messageOf(e);
      return { ok: false, output: `Get "${url}": ${why}` };
    }
    const next = answer.location === undefined ? undefined : redirect(to, url, answer.location);
    if (answer.status >= 300 && answer.status < 400 && next) {
      to = next;
      continue;
    }
    return answer.status >= 200 && answer.status < 400 ? { ok: true, output: answer.body } : { ok: false, output: `HTTP probe failed with statuscode: ${answer.status}` };
  }
  return { ok: false, output: `stopped after ${LONGEST_CHAIN} redirects` };
}

/** Where a redirect leads, when that is the same host. Pure. */
export function redirect(from: HttpProbe, url: string, location: string): HttpProbe | undefined {
  let to: URL;
  try {
    to = new URL(location, url);
  } catch {
    return undefined;
  }
  const scheme = to.protocol === 'https:' ? 'https' : 'http';
  if (to.hostname.replace(/^\[|\]$/g, '') !== from.address) return undefined;
  return { ...from, scheme, port: to.port === '' ? (scheme === 'https' ? 443 : 80) : Number(to.port), path: `${to.pathname}${to.search}` };
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
  readonly body: string;
}

async function ask(pid: number, to: HttpProbe, until: number): Promise<Answer> {
  const socket = await dial(pid, to, until - performance.now());
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(() => reject(new Error(TIMED_OUT))), Math.max(1, until - performance.now()));
    const finish = (act: () => void): void => {
      clearTimeout(timer);
      socket.destroy();
      act();
    };
    const stream: Duplex = to.scheme === 'https' ? tlsConnect({ socket, rejectUnauthorized: false }) : socket;
    stream.on('error', (e) => finish(() => reject(e)));
    const headers: Record<string, string> = { host: hostPort(to.address, to.port), 'user-agent': 'kube-probe/1.32', accept: '*/*', connection: 'close' };
    for (const h of to.headers) headers[h.name.toLowerCase()] = h.value;
    const asked = request({ method: 'GET', path: to.path, headers, createConnection: () => stream }, (response: IncomingMessage) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (d: string) => (body = (body + d).slice(0, OUTPUT_BYTES)));
      response.on('end', () => finish(() => resolve({ status: response.statusCode ?? 0, location: response.headers.location, body })));
      response.on('error', (e) => finish(() => reject(e)));
    });
    asked.on('error', (e) => finish(() => reject(e)));
    asked.end();
  });
}
