/** What a program that runs beside the agent needs. Plain data: backends say it, the supervisor does it. */
export interface DaemonFile {
  /** Absolute. */
  readonly path: string;
  readonly text: string;
  readonly mode: number;
}

/** Where programs run, when that is not the agent's own namespace: an agent that works in a namespace from outside. */
export interface DaemonPlace {
  /** For sockets and configuration files, instead of the node's own /run. */
  readonly dir?: string;
  /** Words in front of the command that put it into the namespace. */
  readonly wrap?: readonly string[];
}

export interface DaemonSpec {
  /** One of each name runs. */
  readonly name: string;
  readonly argv: readonly string[];
  /** The program, for how it is spoken to (`controls`), where several of it run; the name when left out. */
  readonly program?: string;
  /** The device it works on, which must be there before it starts (`before`), and gets its settings after that. */
  readonly device?: string;
  /** Debian's package that brings the program: for whoever has to install it. */
  readonly package?: string;
  /** Added to argv when it is started again after it ended unexpectedly: what it left behind is to be taken over. */
  readonly again?: readonly string[];
  readonly files: readonly DaemonFile[];
  /** A command that makes a running one take new files. Without it, and without a control of that name, it is started anew. */
  readonly reload?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** How a certain program is spoken to; what the supervisor knows of none. */
export interface DaemonControl {
  /** What must be there before it is started, each time. */
  before?(spec: DaemonSpec): void;
  /** Resolves when it takes requests. Rejects while it does not; asked again. */
  ready?(spec: DaemonSpec): Promise<void>;
  /** Makes it take its new files, without a restart. @throws with the program's reason when it will not */
  reload?(spec: DaemonSpec): Promise<void>;
  /** Ends it so that one with `again` can carry on; the process is gone soon after. */
  handOver?(spec: DaemonSpec): Promise<void>;
}

export type DaemonEvent =
  | { readonly type: 'daemon-started'; readonly daemon: string; readonly pid: number; readonly again: boolean; readonly ms: number }
  | { readonly type: 'daemon-adopted'; readonly daemon: string; readonly pid: number }
  | { readonly type: 'daemon-reloaded'; readonly daemon: string; readonly pid: number; readonly files: readonly string[]; readonly ms: number }
  | { readonly type: 'daemon-ended'; readonly daemon: string; readonly pid: number; readonly how: string; readonly restartInMs: number }
  | { readonly type: 'daemon-stopped'; readonly daemon: string; readonly pid: number }
  | { readonly type: 'daemon-failed'; readonly daemon: string; readonly doing: string; readonly error: string };
