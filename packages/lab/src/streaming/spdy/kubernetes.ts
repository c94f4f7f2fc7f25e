/**
 * What the streams of a SPDY connection mean: for a command one stream each by its header `streamtype`;
 * for port-forward a pair, error and data, per connection, joined by `requestid`.
 * Source: k8s.io/client-go/tools/remotecommand/v4.go, k8s.io/client-go/tools/portforward.
 */
import type { Duplex } from 'node:stream';
import type { CommandRequest, UserConnection, UserStreams } from '../remote.js';
import { SpdySession, type SpdyStream } from './session.js';

/** How long the client may take to go after it was told the end. */
const LEAVE_PATIENCE = 10_000;
/** Halves of a pair whose other half does not come. */
const PAIR_PATIENCE = 30_000;

/** Undefined when the client did not open all its streams in time or went away: then there is nothing to serve. */
export function commandStreams(socket: Duplex, request: CommandRequest, patience: number): Promise<UserStreams | undefined> {
  const wanted = ['error', ...(['stdin', 'stdout', 'stderr'] as const).filter((k) => request[k]), ...(request.tty ? ['resize'] : [])];
  const have = new Map<string, SpdyStream>();
  return new Promise((resolve) => {
    const session = new SpdySession(socket, {
      onStream(stream) {
        const type = stream.headers['streamtype'] ?? '';
        if (!wanted.includes(type) || have.has(type)) {
          stream.destroy();
          return;
        }
        have.set(type, stream);
        if (type === 'error' || type === 'stdout' || type === 'stderr') stream.resume(); // nothing comes that way
        const error = have.get('error');
        if (have.size < wanted.length || !error) return;
        clearTimeout(timer);
        const of = (key: string): object => (have.has(key) ? { [key]: have.get(key) } : {});
        resolve({ ...of('stdin'), ...of('stdout'), ...of('stderr'), ...of('resize'), error, gone: session.closed, finish: () => session.leave(LEAVE_PATIENCE) });
      },
    });
    const timer = setTimeout(() => session.destroy(), patience);
    void session.closed.then(() => {
      clearTimeout(timer);
      resolve(undefined);
    });
  });
}

/** For `onStream` of a session: calls back once both halves of a connection are there. */
export function forwardedConnections(serve: (connection: UserConnection) => void): (stream: SpdyStream) => void {
  const halves = new Map<string, { readonly stream: SpdyStream; readonly cancel: () => void }>();
  return (stream) => {
    const { streamtype = '', requestid, port = '' } = stream.headers;
    // Very old clients number no requests: they open the error stream, then the data stream.
    const id = requestid ?? String(streamtype === 'data' ? stream.id - 2 : stream.id);
    const number = Number(port);
    if ((streamtype !== 'data' && streamtype !== 'error') || !Number.isInteger(number) || number < 1 || number > 65535) {
      stream.destroy();
      return;
    }
    const key = `${streamtype} ${id}`;
    const other = `${streamtype === 'data' ? 'error' : 'data'} ${id}`;
    const found = halves.get(other);
    if (!found) {
      const timer = setTimeout(() => stream.destroy(), PAIR_PATIENCE);
      halves.set(key, { stream, cancel: () => clearTimeout(timer) });
      stream.once('close', () => {
        clearTimeout(timer);
        halves.delete(key);
      });
      return;
    }
    found.cancel();
    halves.delete(other);
    const [data, error] = streamtype === 'data' ? [stream, found.stream] : [found.stream, stream];
    error.resume();
    serve({ port: number, data, error });
  };
}
