import type { Lesson } from '@podway/lab/lessons';
import { defineCommand } from '../command.js';
import { languageOf, languageOption } from '../language.js';

interface Row {
  readonly id: string;
  readonly title: string;
  readonly about: string;
  readonly steps: number;
  readonly place: string;
}

export const command = defineCommand({
  name: 'lesson list',
  aliases: ['ls'],
  summary: 'List the lessons',
  arguments: {},
  options: { ...languageOption },
  examples: [['podway lesson list', 'what there is to learn'], ['podway lesson list --lang zh', 'in Chinese']],
  view: {
    table: (rows: readonly Row[], wide: boolean) => ({
      columns: ['LESSON', { title: 'STEPS', align: 'right' }, 'WHERE', 'TITLE', ...(wide ? ['ABOUT'] : [])],
      rows: rows.map((r) => [r.id, r.steps, r.place, r.title, ...(wide ? [r.about] : [])]),
    }),
    names: (rows) => rows.map((r) => r.id),
  },
  async run({ options, env }) {
    const { LESSONS } = await import('@podway/lab/lessons');
    const language = languageOf(options.lang, env);
    const place = (l: Lesson): string => (l.place === 'sandbox' ? 'sandbox' : `lab, ${l.place.workers} workers`);
    return LESSONS.map((l): Row => ({ id: l.id, title: l.title[language], about: l.about[language], steps: l.steps.length, place: place(l) }));
  },
});
