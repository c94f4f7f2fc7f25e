/**
 * What a handler returned, in the form that was asked for. Pure, but for `yaml`, which is loaded
 * when somebody wants it.
 */
import { usageError } from './errors.js';
import { renderTable, type Table } from './table.js';
import type { Theme } from './theme.js';

export const FORMATS = ['json', 'yaml', 'wide', 'table', 'name'] as const;
export type Format = (typeof FORMATS)[number];

export interface Style {
  readonly theme: Theme;
  /** Cells of the terminal; undefined when the output is not one. */
  readonly width: number | undefined;
}

/** The ways to show what a command returns. JSON and YAML need none. */
export interface View<D> {
  /** For people, when no -o was given. Without it: the table. */
  readonly text?: (data: D, style: Style) => string;
  readonly table?: (data: D, wide: boolean, style: Style) => Table;
  /** One name a line, for -o name. */
  readonly names?: (data: D) => readonly string[];
  /** What programs get; by default the data itself. */
  readonly json?: (data: D) => unknown;
}

/** The formats a view can be asked for. */
export function formatsOf<D>(view: View<D>): Format[] {
  return [
    'json', 'yaml',
    ...(view.table ? (['table', 'wide'] as const) : []),
    ...(view.names ? (['name'] as const) : []),
  ];
}

const plain = (_key: string, value: unknown): unknown =>
  typeof value === 'bigint' ? (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value))
    : value instanceof Map ? Object.fromEntries(value)
      : value instanceof Set ? [...value]
        : value;

export const toJson = (value: unknown): string => JSON.stringify(value, plain, 2);

/** @returns the text without a closing line end; empty when there is nothing to print. */
export async function render<D>(data: D, view: View<D>, format: Format | undefined, style: Style): Promise<string> {
  if (data === undefined) return '';
  const forPrograms = view.json ? view.json(data) : data;
  switch (format) {
    case 'json':
      return toJson(forPrograms);
    case 'yaml': {
      const { stringify } = await import('yaml');
      return stringify(JSON.parse(toJson(forPrograms)) as unknown, { lineWidth: 0 }).trimEnd();
    }
    case 'name':
      if (view.names) return view.names(data).join('\n');
      break;
    case 'wide':
    case 'table':
      if (view.table) return renderTable(view.table(data, format === 'wide', style), style.width, style.theme.strong);
      break;
    case undefined:
      if (view.text) return view.text(data, style);
      if (view.table) return renderTable(view.table(data, false, style), style.width, style.theme.strong);
      return toJson(forPrograms);
  }
  throw usageError(`this command has no -o ${format}`, `It has: ${formatsOf(view).join(', ')}`);
}
