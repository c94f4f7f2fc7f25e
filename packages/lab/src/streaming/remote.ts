/**
 * What a stream to a pod is, apart from how it is carried (SPDY or WebSocket) and from who runs the command.
 */
import type { Duplex, Readable, Writable } from 'node:stream';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** A command in a container, or a container that one is attached to. */
export interface RemoteProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  resize(size: TerminalSize): void;
  /** The user is gone: the command gets SIGHUP, and SIGKILL when it stays; an attached container goes on. */
  hangUp(): void;
  /** The exit code, 128 + signal when a signal ended it; 0 when a container that one was attached to ended. Never rejects. */
  readonly ended: Promise<number>;
}

export interface CommandRequest {
  readonly container: string;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
}

/** The user's end. Streams that were not asked for are undefined. */
export interface UserStreams {
  readonly stdin?: Readable;
  readonly stdout?: Writable;
  readonly stderr?: Writable;
  /** JSON texts `{"Width":80,"Height":24}`, one after the other. */
  readonly resize?: Readable;
  /** Takes one Status object at the end. */
  readonly error: Writable;
  /** Settles when the user's connection is gone. */
  readonly gone: Promise<void>;
  /** After all streams have ended. */
  finish(): Promise<void>;
}

/** One forwarded connection: bytes, and a message when it could not be made. */
export interface UserConnection {
  readonly port: number;
  readonly data: Duplex;
  readonly error: Writable;
}
