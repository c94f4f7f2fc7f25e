/**
 * Colours by what they mean. NO_COLOR (any value) turns them off, FORCE_COLOR (not 0) on;
 * otherwise a terminal gets them and a file does not. Source: https://no-color.org
 */
export interface Theme {
  readonly colour: boolean;
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
  /** Names of objects. */
  name(text: string): string;
  /** What may be skipped when reading. */
  dim(text: string): string;
  strong(text: string): string;
}

const paint = (on: boolean, from: number, to: number) => (text: string): string => (on && text ? `\u001b[${from}m${text}\u001b[${to}m` : text);

export function makeTheme(colour: boolean): Theme {
  return {
    colour,
    good: paint(colour, 32, 39),
    bad: paint(colour, 31, 39),
    warn: paint(colour, 33, 39),
    name: paint(colour, 36, 39),
    dim: paint(colour, 2, 22),
    strong: paint(colour, 1, 22),
  };
}

export function wantsColour(env: Readonly<Record<string, string | undefined>>, isTTY: boolean): boolean {
  if (env['NO_COLOR']) return false;
  const forced = env['FORCE_COLOR'];
  if (forced !== undefined) return forced !== '0' && forced !== 'false';
  return isTTY && env['TERM'] !== 'dumb';
}
