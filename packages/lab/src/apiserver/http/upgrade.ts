/**
 * exec, attach and portforward: requests that become streams. Old clients speak SPDY/3.1, new ones
 * WebSocket (and for port-forward SPDY inside WebSocket). This file knows headers, paths and parameters;
 * the bytes are in src/streaming.
 * Source: KEP-4006 (WebSockets), k8s.io/apimachinery/pkg/util/remotecommand and portforward.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Pod } from '@podway/kube';
import { createWebSocketStream, WebSocketServer, type WebSocket } from 'ws';
import { messageOf } from '@podway/errors';
import { serveCommand } from '../../streaming/command.js';
import { serveConnection } from '../../streaming/portforward.js';
import type { CommandRequest, RemoteProcess } from '../../streaming/remote.js';
import { commandStreams, forwardedConnections } from '../../streaming/spdy/kubernetes.js';
import { channelCommandStreams, channelConnections } from '../../streaming/channels.js';
import { SpdySession } from '../../streaming/spdy/session.js';
import { ChannelSocket, LARGEST_MESSAGE } from '../../streaming/websocket.js';
import { ApiError, badRequest } from '../errors.js';
import type { PodSubresources } from '../podsubresources.js';
import { containerOf } from './containers.js';

const COMMAND_SPDY = ['v4.channel.k8s.io'];
const COMMAND_WEBSOCKET = ['v5.channel.k8s.io', 'v4.channel.k8s.io'];
const FORWARD_SPDY = ['portforward.k8s.io'];
const TUNNEL = 'SPDY/3.1+portforward.k8s.io';
const FORWARD_WEBSOCKET = [TUNNEL, 'v4.channel.k8s.io'];
/** How long an old client may take to open its streams, and to leave after the last word. */
const STREAMS_PATIENCE = 30_000;

export type StreamVerb = 'exec' | 'attach' | 'portforward';
export const isStreamVerb = (s: string | undefined): s is StreamVerb => s === 'exec' || s === 'attach' || s === 'portforward';

/** A stream request whose pod is found and whose parameters are right. */
export interface StreamRequest {
  readonly verb: StreamVerb;
  readonly pod: Pod;
  readonly runtime: PodSubresources;
  readonly command?: CommandRequest;
  readonly words: readonly string[];
  /** Of port-forward by channels. */
  readonly ports: readonly number[];
}

/** Errors: ApiError, before anything is switched. */
export function streamRequest(verb: StreamVerb, pod: Pod, runtime: PodSubresources, query: URLSearchParams): StreamRequest {
  if ((pod.spec?.nodeName ?? '') === '') throw badRequest(`pod ${pod.metadata?.name ?? ''} does not have a host assigned`);
  const words = query.getAll('command');
  const ports = query.getAll('ports').flatMap((p) => p.split(',')).map(Number);
  const base = { verb, pod, runtime, words, ports };
  if (verb === 'portforward') {
    if (ports.some((p) => !Number.isInteger(p) || p < 1 || p > 65535)) throw badRequest(`ports: Invalid value: "${query.getAll('ports').join(',')}": must be between 1 and 65535, inclusive`);
    refuse(() => runtime.check(pod, undefined));
    return base;
  }
  const flag = (key: string, otherwise = false): boolean => (query.has(key) ? ['1', 'true'].includes(query.get(key) ?? '') : otherwise);
  const tty = flag('tty');
  const command = { container: containerOf(pod, query.get('container') ?? '', false), stdin: flag('stdin'), stdout: flag('stdout'), stderr: flag('stderr') && !tty, tty };
  if (!command.stdin && !command.stdout && !command.stderr) throw badRequest('you must specify at least 1 of stdin, stdout, stderr');
  if (verb === 'exec' && words.length === 0) throw badRequest('you must specify at least 1 command for the container');
  refuse(() => runtime.check(pod, command.container));
  return { ...base, command };
}

function refuse(check: () => void): void {
  try {
    check();
  } catch (e) {
    throw new ApiError(500, 'InternalError', messageOf(e), { causes: [{ message: messageOf(e) }] });
  }
}

const listed = (header: string | readonly string[] | undefined): string[] =>
  (typeof header === 'string' ? header : (header ?? []).join(',')).split(',').map((s) => s.trim()).filter((s) => s !== '');

/** All of a repeated header: Node.js joins or drops by name. */
function repeated(message: IncomingMessage, name: string): string[] {
  return message.rawHeaders.flatMap((v, i, all) => (i % 2 === 0 && v.toLowerCase() === name ? listed(all[i + 1]) : []));
}

const choose = (offered: readonly string[], served: readonly string[]): string => {
  const found = offered.find((p) => served.includes(p));
  if (found === undefined) throw badRequest(`unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${served.join(' ')}]`);
  return found;
};

/** What was chosen is answered here: the library refuses a name with a slash, as that of the tunnel is. */
const chosen = new WeakMap<IncomingMessage, string>();
const sockets = new WebSocketServer({ noServer: true, maxPayload: LARGEST_MESSAGE, perMessageDeflate: false });
sockets.on('headers', (headers, message) => headers.push(`Sec-WebSocket-Protocol: ${chosen.get(message) ?? ''}`));

/** Switches the protocol and serves until the end. Errors: ApiError, while an answer in HTTP is still possible. */
export async function serveUpgrade(asked: StreamRequest, message: IncomingMessage, { socket, head }: { readonly socket: Duplex; readonly head: Buffer }): Promise<void> {
  const upgrade = (message.headers.upgrade ?? '').toLowerCase();
  const forward = asked.verb === 'portforward';
  if (upgrade === 'websocket') {
    const protocol = choose(repeated(message, 'sec-websocket-protocol'), forward ? FORWARD_WEBSOCKET : COMMAND_WEBSOCKET);
    chosen.set(message, protocol);
    delete message.headers['sec-websocket-protocol'];
    const ws = await new Promise<WebSocket>((resolve) => sockets.handleUpgrade(message, socket, head, resolve));
    if (protocol === TUNNEL) await tunnelled(asked, createWebSocketStream(ws));
    else await overChannels(asked, new ChannelSocket(ws));
    return;
  }
  if (upgrade !== 'spdy/3.1') throw badRequest(`unable to upgrade: "${upgrade}" is not served, SPDY/3.1 and WebSocket are`);
  const protocol = choose(repeated(message, 'x-stream-protocol-version'), forward ? FORWARD_SPDY : COMMAND_SPDY);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: ${protocol}\r\n\r\n`);
  if (head.length > 0) socket.unshift(head);
  if (forward) await tunnelled(asked, socket);
  else if (asked.command) {
    const streams = await commandStreams(socket, asked.command, STREAMS_PATIENCE);
    if (streams) await serveCommand(starter(asked), streams);
  }
}

const starter = ({ verb, runtime, pod, command, words }: StreamRequest) => (): Promise<RemoteProcess> => {
  if (!command) throw badRequest('no command');
  return verb === 'exec' ? runtime.exec(pod, command, words) : runtime.attach(pod, command);
};

async function overChannels(asked: StreamRequest, channels: ChannelSocket): Promise<void> {
  const { command, runtime, pod, ports } = asked;
  if (command) {
    await serveCommand(starter(asked), channelCommandStreams(channels, command));
    return;
  }
  await Promise.all(channelConnections(channels, ports).map((c) => serveConnection((port) => runtime.connect(pod, port), c)));
  await channels.close();
}

async function tunnelled({ runtime, pod }: StreamRequest, transport: Duplex): Promise<void> {
  const session = new SpdySession(transport, {
    onStream: forwardedConnections((c) => void serveConnection((port) => runtime.connect(pod, port), c)),
  });
  await session.closed;
}
