/**
 * How many terminal cells a text takes. Pure. Colour sequences count nothing, combining marks
 * nothing, East Asian wide and full-width characters and emoji two.
 * Source: Unicode Standard Annex #11 (East Asian Width), ranges with the property W or F.
 */

// The sequences a terminal takes as colour begin with the escape character; that is what is looked for.
// eslint-disable-next-line no-control-regex
const COLOUR = /\u001b\[[0-9;]*m/g;

const WIDE: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f], [0x231a, 0x231b], [0x2329, 0x232a], [0x23e9, 0x23ec], [0x25fd, 0x25fe], [0x2614, 0x2615],
  [0x26a1, 0x26a1], [0x2705, 0x2705], [0x274c, 0x274c], [0x2753, 0x2755], [0x2795, 0x2797], [0x2b1b, 0x2b1c],
  [0x2e80, 0x303e], [0x3041, 0x33ff], [0x3400, 0x4dbf], [0x4e00, 0x9fff], [0xa000, 0xa4cf], [0xa960, 0xa97f],
  [0xac00, 0xd7a3], [0xf900, 0xfaff], [0xfe10, 0xfe19], [0xfe30, 0xfe6f], [0xff00, 0xff60], [0xffe0, 0xffe6],
  [0x1f300, 0x1f64f], [0x1f680, 0x1f6ff], [0x1f900, 0x1faff], [0x20000, 0x3fffd],
];

const isWide = (code: number): boolean => code >= 0x1100 && WIDE.some(([from, to]) => code >= from && code <= to);
const isZero = (char: string, code: number): boolean => code === 0x200b || code === 0x200d || (code >= 0x300 && /^[\p{Mn}\p{Me}\p{Cf}]$/u.test(char));

export const withoutColour = (text: string): string => text.replace(COLOUR, '');

export function textWidth(text: string): number {
  // Nearly all cells are plain ASCII.
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const char of withoutColour(text)) {
    const code = char.codePointAt(0)!;
    if (isZero(char, code)) continue;
    width += isWide(code) ? 2 : 1;
  }
  return width;
}

/** Pads with spaces to `width` cells; longer texts stay as they are. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const fill = ' '.repeat(Math.max(0, width - textWidth(text)));
  return align === 'left' ? text + fill : fill + text;
}

/** Cuts to at most `width` cells, the last one `…` where something was cut. Colour is dropped then. */
export function truncate(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let out = '';
  let used = 0;
  for (const char of withoutColour(text)) {
    const w = textWidth(char);
    if (used + w > width - 1) break;
    out += char;
    used += w;
  }
  return width > 0 ? `${out}…` : '';
}
