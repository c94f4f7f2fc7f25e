/** What a starting and running lab tells: one union, rendered by the CLI, the page and JSON output alike. */
export type LabEvent =
  /** A phase of the start has ended; `at` counts from the beginning. Milliseconds. */
  | { readonly type: 'phase'; readonly name: string; readonly ms: number; readonly at: number; readonly detail?: string }
  | { readonly type: 'progress'; readonly doing: string; readonly done: number; readonly of: number }
  | { readonly type: 'ready'; readonly ms: number; readonly pairs: PairReport }
  | { readonly type: 'failed'; readonly error: { readonly code: string; readonly message: string; readonly object?: string; readonly hint?: string } }
  | { readonly type: 'agent-ended'; readonly node: string; readonly how: string; readonly againInMs: number }
  | { readonly type: 'warning'; readonly message: string };

export interface Pair {
  readonly from: string;
  readonly to: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly ok: boolean;
  /** Milliseconds of the request as a whole. */
  readonly ms: number;
  /** What went wrong, or that the server saw another address than the client's own. */
  readonly problem?: string;
}

export interface PairReport {
  readonly total: number;
  readonly ok: number;
  readonly failures: readonly Pair[];
  /** Those that were asked; each pair counts once a family. */
  readonly families: readonly ('IPv4' | 'IPv6')[];
}
