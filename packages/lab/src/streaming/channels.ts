/** What the channels of a WebSocket mean: for a command, and for forwarded ports. */
import type { CommandRequest, UserConnection, UserStreams } from './remote.js';
import type { ChannelSocket } from './websocket.js';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;

export function channelCommandStreams(socket: ChannelSocket, request: CommandRequest): UserStreams {
  const streams = {
    ...(request.stdin ? { stdin: socket.channel(STDIN) } : {}),
    ...(request.stdout ? { stdout: socket.channel(STDOUT) } : {}),
    ...(request.stderr ? { stderr: socket.channel(STDERR) } : {}),
    ...(request.tty ? { resize: socket.channel(RESIZE) } : {}),
  };
  const error = socket.channel(ERROR);
  socket.greet(request.stdout ? STDOUT : request.stderr ? STDERR : ERROR);
  return { ...streams, error, gone: socket.closed, finish: () => socket.close() };
}

/** Two channels per port, bytes and errors; each begins with the number of the port, little-endian. */
export function channelConnections(socket: ChannelSocket, ports: readonly number[]): UserConnection[] {
  return ports.map((port, i) => {
    const [data, error] = [socket.channel(2 * i), socket.channel(2 * i + 1)];
    const number = Buffer.alloc(2);
    number.writeUInt16LE(port);
    data.write(number);
    error.write(number);
    error.resume();
    return { port, data, error };
  });
}
