/** The language of texts that exist in several: asked for, or the environment's. */
import { choice } from './command.js';

const LANGUAGES = ['en', 'zh'] as const;
export type Language = (typeof LANGUAGES)[number];

export const languageOption = { lang: choice('LANGUAGE', LANGUAGES, 'en or zh; by LANG when not given') } as const;

/** POSIX: LC_ALL before LC_MESSAGES before LANG. Pure. */
export function languageOf(asked: Language | undefined, env: Readonly<Record<string, string | undefined>>): Language {
  return asked ?? (/^zh/i.test(env['LC_ALL'] || env['LC_MESSAGES'] || env['LANG'] || '') ? 'zh' : 'en');
}
