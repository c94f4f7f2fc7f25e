/** Runs the steps of a lesson one after the other and judges each; ends at the first that is not as it should be. */
import { splitWords, type Language, type Lesson, type Place, type Ran, type Seen, type Step } from './lesson.js';

export interface StepResult {
  readonly step: number;
  readonly say: string;
  readonly command?: string;
  readonly output?: string;
  readonly code?: number;
  /** What was to be seen, and whether it was. */
  readonly see?: string;
  readonly ok: boolean;
}

export interface LessonResult {
  readonly lesson: string;
  readonly ok: boolean;
  readonly steps: readonly StepResult[];
  /** Steps that the lesson has in all. */
  readonly of: number;
}

export interface LessonListener {
  /** Before a step is run. Waits for what it returns: a learner may set the pace. */
  begin?(n: number, of: number, say: string, command: string | undefined): Promise<void> | void;
  end?(result: StepResult): void;
}

export async function runLesson(lesson: Lesson, place: Place, o: { readonly language: Language; readonly signal: AbortSignal; readonly listener?: LessonListener }): Promise<LessonResult> {
  const results: StepResult[] = [];
  let seen: Seen = place.seen;
  try {
    for (const [i, step] of lesson.steps.entries()) {
      o.signal.throwIfAborted();
      const command = typeof step.run === 'function' ? step.run(seen) : step.run;
      await o.listener?.begin?.(i + 1, lesson.steps.length, step.say[o.language], command);
      const until = performance.now() + (step.expect?.withinMs ?? 0);
      let ran: Ran | undefined;
      let result: StepResult;
      do {
        ran = command === undefined ? undefined : await place.run(splitWords(command), o.signal);
        result = judge(i + 1, step, command, ran, seen, o.language);
      } while (!result.ok && performance.now() < until);
      results.push(result);
      o.listener?.end?.(result);
      if (!result.ok) break;
      seen = { ...seen, ...(ran && step.expect?.keep?.exec(ran.output)?.groups) };
    }
  } finally {
    // What was interrupted is cleaned up as well: with a signal of its own.
    for (const line of lesson.cleanup ?? []) await place.run(splitWords(line), new AbortController().signal);
  }
  return { lesson: lesson.id, ok: results.length === lesson.steps.length && results.every((r) => r.ok), steps: results, of: lesson.steps.length };
}

/** A command without an expectation of its own has to succeed. Pure. */
function judge(n: number, step: Step, command: string | undefined, ran: Ran | undefined, seen: Seen, language: Language): StepResult {
  const base = { step: n, say: step.say[language] };
  if (!ran) return { ...base, ...(step.show ? { output: step.show(language) } : {}), ok: true };
  return {
    ...base, command: command ?? '', output: ran.output, code: ran.code,
    ...(step.expect ? { see: step.expect.see[language] } : {}),
    ok: step.expect ? step.expect.holds(ran, seen) : ran.code === 0,
  };
}
