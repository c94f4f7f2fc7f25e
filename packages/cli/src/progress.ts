/**
 * Progress of longer work: typed events, and reporters that turn them into lines.
 *
 * A terminal shows one moving line with what is under way, and a line with its time for each
 * phase that ended; a file gets only the latter. All of it goes to stderr, so that stdout holds
 * the answer alone. Phases may overlap.
 */
import type { Theme } from './theme.js';
import { truncate } from './text-width.js';

export type ProgressEvent =
  | { readonly kind: 'phase-started'; readonly id: number; readonly title: string }
  /** What the phase is waiting for at the moment. */
  | { readonly kind: 'phase-status'; readonly id: number; readonly text: string }
  | { readonly kind: 'phase-ended'; readonly id: number; readonly title: string; readonly ms: number; readonly result: 'done' | 'failed'; readonly detail?: string }
  | { readonly kind: 'note'; readonly text: string };

export type ProgressListener = (event: ProgressEvent) => void;

export class Progress {
  private next = 1;

  constructor(
    private readonly listener: ProgressListener = () => undefined,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Runs a phase and reports its time, also when it throws.
   * @param work gets a function to say what it is waiting for; a string it returns is shown behind the time.
   */
  async phase<T>(title: string, work: (status: (text: string) => void) => Promise<T> | T): Promise<T> {
    const id = this.next++;
    const start = this.now();
    this.listener({ kind: 'phase-started', id, title });
    const ended = (result: 'done' | 'failed', detail?: string): void =>
      this.listener({ kind: 'phase-ended', id, title, ms: this.now() - start, result, ...(detail === undefined ? {} : { detail }) });
    try {
      const value = await work((text) => this.listener({ kind: 'phase-status', id, text }));
      ended('done', typeof value === 'string' ? value : undefined);
      return value;
    } catch (e) {
      ended('failed');
      throw e;
    }
  }

  note(text: string): void {
    this.listener({ kind: 'note', text });
  }
}

/** `0.02 s`, `1.3 s`, `2 min 5 s`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}

/** One line per event that is worth one in a file. Pure. */
export function progressLine(event: ProgressEvent, theme: Theme): string | undefined {
  switch (event.kind) {
    case 'note':
      return `  ${event.text}`;
    case 'phase-ended':
      return `${event.result === 'done' ? theme.good('✓') : theme.bad('✗')} ${event.title}  ${theme.dim(formatDuration(event.ms))}${event.detail ? `  ${event.detail}` : ''}`;
    case 'phase-started':
    case 'phase-status':
      return undefined;
  }
}

interface Screen {
  write(text: string): unknown;
  readonly columns?: number | undefined;
}

export interface Reporter {
  readonly listener: ProgressListener;
  /** Takes the moving line away. */
  close(): void;
}

export function plainReporter(screen: Screen, theme: Theme): Reporter {
  return {
    listener(event) {
      const line = progressLine(event, theme);
      if (line !== undefined) screen.write(`${line}\n`);
    },
    close: () => undefined,
  };
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'] as const;
const FRAME_MS = 80;

export function terminalReporter(screen: Screen, theme: Theme): Reporter {
  const active = new Map<number, { title: string; status: string; since: number }>();
  let timer: NodeJS.Timeout | undefined;
  let frame = 0;
  let shown = false;
  const wipe = (): void => {
    if (shown) screen.write('\r\u001b[K');
    shown = false;
  };
  const draw = (): void => {
    wipe();
    if (active.size === 0) return;
    const words = [...active.values()].map((p) => `${p.title}${p.status ? `: ${p.status}` : ''} ${formatDuration(performance.now() - p.since)}`);
    screen.write(theme.name(truncate(`${FRAMES[frame++ % FRAMES.length]!} ${words.join(' · ')}`, (screen.columns ?? 80) - 1)));
    shown = true;
  };
  const stop = (): void => {
    clearInterval(timer);
    timer = undefined;
  };
  return {
    listener(event) {
      if (event.kind === 'phase-started') active.set(event.id, { title: event.title, status: '', since: performance.now() });
      if (event.kind === 'phase-status') {
        const phase = active.get(event.id);
        if (phase) phase.status = event.text;
      }
      if (event.kind === 'phase-ended') active.delete(event.id);
      const line = progressLine(event, theme);
      if (line !== undefined) {
        wipe();
        screen.write(`${line}\n`);
      }
      draw();
      if (active.size === 0) stop();
      else timer ??= setInterval(draw, FRAME_MS).unref();
    },
    close() {
      stop();
      wipe();
    },
  };
}
