/**
 * Tables for terminals: aligned columns, two spaces between them, no lines around. Pure.
 * In a terminal that is too narrow the widest shrinkable columns are cut with `…`; written to a
 * file or a pipe nothing is ever cut.
 */
import { pad, textWidth, truncate } from './text-width.js';

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** May be cut in a narrow terminal. */
  readonly shrink?: boolean;
}

export interface Table {
  readonly columns: readonly (string | Column)[];
  readonly rows: readonly (readonly (string | number | undefined)[])[];
  /** Said instead of a table without rows. */
  readonly empty?: string;
}

const GAP = 2;
const NARROWEST = 6;

/** @param width cells of the terminal; undefined for files and pipes. */
export function renderTable(table: Table, width?: number, paintTitle: (text: string) => string = (t) => t): string {
  if (table.rows.length === 0 && table.empty !== undefined) return table.empty;
  const columns: readonly Column[] = table.columns.map((c) => (typeof c === 'string' ? { title: c } : c));
  const rows = table.rows.map((row) => columns.map((_, i) => String(row[i] ?? '')));
  const widths = columns.map((c, i) => Math.max(textWidth(c.title), ...rows.map((r) => textWidth(r[i]!))));
  if (width !== undefined) shrink(columns, widths, width);
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => pad(truncate(cell, widths[i]!), widths[i]!, columns[i]!.align))
      .join(' '.repeat(GAP))
      .trimEnd();
  return [paintTitle(line(columns.map((c) => c.title))), ...rows.map(line)].join('\n');
}

/** Takes cells from the widest column that may shrink, one at a time, until the line fits. */
function shrink(columns: readonly Column[], widths: number[], width: number): void {
  const total = (): number => widths.reduce((sum, w) => sum + w, 0) + GAP * (widths.length - 1);
  for (;;) {
    if (total() <= width) return;
    let widest = -1;
    columns.forEach((c, i) => {
      const floor = Math.max(NARROWEST, textWidth(c.title));
      if (c.shrink && widths[i]! > floor && (widest < 0 || widths[i]! > widths[widest]!)) widest = i;
    });
    if (widest < 0) return;
    widths[widest]!--;
  }
}
