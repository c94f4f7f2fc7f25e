/** A lesson, step by step: what is done and why, the command, what it answered, and whether that is what was to be seen. */
import { createInterface } from 'node:readline';
import type { Lesson, LessonResult, Place, StepResult } from '@podway/lab/lessons';
import { defineCommand, flag, required } from '../command.js';
import { usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { languageOf, languageOption, type Language } from '../language.js';
import type { Theme } from '../theme.js';

export const command = defineCommand({
  name: 'lesson run',
  summary: 'Run a lesson: every command is shown, run for real and checked',
  details: 'Lessons by hand run in namespaces of their own that are gone afterwards; nothing of this machine is touched.\nThose on a lab use a running one and take away what they made.',
  arguments: { lesson: required('name of the lesson: podway lesson list', 'lessons') },
  options: { ...labOption, ...languageOption, step: flag('wait for Enter before each step') },
  examples: [
    ['podway lesson run one-cable', 'two namespaces and one cable'],
    ['podway lesson run virtual-switch --step', 'at your own pace'],
    ['podway lesson run across-nodes --lang zh', 'on the running lab, in Chinese'],
  ],
  needsRoot: true,
  view: {
    text: (r: LessonResult) => (r.ok ? `${r.lesson}: ${r.of} of ${r.of} steps as they should be` : `${r.lesson}: ended at step ${r.steps.length} of ${r.of}`),
  },
  async run({ args, options, signal, write, env, format, style, setExitCode, onExit }) {
    const lessons = await import('@podway/lab/lessons');
    const lesson = lessons.LESSONS.find((l) => l.id === args.lesson);
    if (!lesson) throw usageError(`there is no lesson "${args.lesson}"`, `There are: ${lessons.LESSONS.map((l) => l.id).join(', ')}`);
    const language = languageOf(options.lang, env);
    const place = await open(lesson);
    onExit(() => place.close());
    const quiet = format !== undefined;
    if (!quiet) write(`${style.theme.strong(lesson.title[language])}\n${lesson.about[language]}\n`);
    const pace = options.step && !quiet ? pacemaker(language, write) : undefined;
    onExit(() => pace?.close());
    const result = await lessons.runLesson(lesson, place, {
      language, signal,
      ...(quiet ? {} : {
        listener: {
          async begin(n: number, of: number, say: string, line: string | undefined) {
            write(`\n${style.theme.dim(`${n}/${of}`)} ${say}\n${line === undefined ? '' : `  ${style.theme.strong(`$ ${line}`)}\n`}`);
            await pace?.next();
          },
          end: (r: StepResult) => write(answer(r, style.theme)),
        },
      }),
    });
    if (!result.ok) setExitCode(1);
    if (!quiet) write('\n');
    return result;

    async function open(l: Lesson): Promise<Place> {
      if (l.place === 'sandbox') return lessons.openSandbox();
      const lab = await openLab(options.lab);
      onExit(() => lab.client.close());
      return lessons.openLabPlace({ lab: options.lab, client: lab.client, workers: l.place.workers, program: [process.execPath, process.argv[1] ?? ''] });
    }
  },
});

/** Pure. */
export function answer(r: StepResult, theme: Theme): string {
  const lines = (r.output ?? '').trimEnd().split('\n').filter((l, _, all) => l !== '' || all.length > 1);
  const mark = r.ok ? theme.good('✓') : theme.bad('✗');
  const code = r.ok || !r.code ? '' : ` (exit code ${r.code})`;
  return [...lines.map((l) => `  ${l}`), ...(r.see !== undefined || !r.ok ? [`  ${mark} ${r.see ?? ''}${code}`.trimEnd()] : [])].map((l) => `${l}\n`).join('');
}

function pacemaker(language: Language, write: (text: string) => void): { next(): Promise<void>; close(): void } {
  const input = createInterface({ input: process.stdin });
  const waiting: (() => void)[] = [];
  let ended = false;
  input.on('line', () => waiting.shift()?.());
  input.on('close', () => {
    ended = true;
    for (const go of waiting.splice(0)) go();
  });
  return {
    next: () => {
      if (ended) return Promise.resolve();
      write(language === 'zh' ? '  （回车继续）' : '  (Enter goes on) ');
      return new Promise((resolve) => waiting.push(resolve));
    },
    close: () => input.close(),
  };
}
