/**
 * A YAML text that people wrote, checked against a schema: every mistake with its line and column, the path of the
 * key, what is wrong and what would be right. Pure.
 */
import { isMap, isNode, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import { nearest, PodwayError } from '@podway/errors';
import { z } from 'zod';

export interface Mistake {
  readonly line: number;
  readonly column: number;
  /** `nodes[1].address` */
  readonly path: string;
  readonly message: string;
}

export type Path = readonly PropertyKey[];

export const words = (path: Path): string => path.map((p) => (typeof p === 'number' ? `[${p}]` : `.${String(p)}`)).join('').replace(/^\./, '');

export class YamlText {
  private readonly lines = new LineCounter();
  private readonly document: Document;
  readonly mistakes: Mistake[];

  constructor(text: string, private readonly file: string) {
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false });
    this.mistakes = this.document.errors.map((e) => ({ ...this.place(e.pos[0]), path: '', message: `is no YAML: ${e.message}` }));
  }

  /** What the text says; empty when it could not be read. */
  get value(): unknown {
    return this.mistakes.length ? {} : (this.document.toJS() ?? {});
  }

  report = (path: Path, message: string): void => void this.mistakes.push({ ...this.position(path), path: words(path), message });

  /** Checks what the text says. @returns undefined when it does not fit; what is wrong is noted */
  read<S extends z.ZodType>(schema: S): z.output<S> | undefined {
    if (this.mistakes.length) return undefined;
    const { value } = this;
    const read = schema.safeParse(value);
    if (read.success) return read.data;
    for (const issue of read.error.issues) {
      if (issue.code !== 'unrecognized_keys') {
        this.report(issue.path, explain(issue, value));
        continue;
      }
      const known = keysAt(schema, issue.path);
      for (const key of issue.keys) {
        const near = nearest(key, known);
        this.mistakes.push({
          ...this.keyPosition(issue.path, key), path: words([...issue.path, key]),
          message: `unknown key; ${near === undefined ? `there are: ${known.join(', ')}` : `did you mean ${near}?`}`,
        });
      }
    }
    return undefined;
  }

  /** @throws LAB_FILE_INVALID when there are mistakes, with all of them in the order of the text */
  settle(hint: string): void {
    if (this.mistakes.length === 0) return;
    const sorted = [...this.mistakes].sort((a, b) => a.line - b.line || a.column - b.column);
    throw new PodwayError('LAB_FILE_INVALID', `${this.file} cannot be used`, {
      object: this.file, said: sorted.map((m) => `\n  ${this.file}:${m.line}:${m.column}: ${m.path ? `${m.path}: ` : ''}${m.message}`).join(''), hint,
    });
  }

  private place(offset: number): { line: number; column: number } {
    const { line, col } = this.lines.linePos(offset);
    return { line, column: col };
  }

  /** Where a path stands in the text; where it is missing, the nearest thing around it that is there. */
  private position(path: Path): { line: number; column: number } {
    for (let n = path.length; n >= 0; n--) {
      const node: unknown = n === 0 ? this.document.contents : this.document.getIn(path.slice(0, n), true);
      if (isNode(node) && node.range) return this.place(node.range[0]);
    }
    return { line: 1, column: 1 };
  }

  private keyPosition(path: Path, key: string): { line: number; column: number } {
    const map: unknown = path.length === 0 ? this.document.contents : this.document.getIn(path, true);
    const pair = isMap(map) ? map.items.find((i) => isScalar(i.key) && String(i.key.value) === key) : undefined;
    return isNode(pair?.key) && pair.key.range ? this.place(pair.key.range[0]) : this.position(path);
  }
}

/** A wrong type says what stands there: `24` in quotes is a text, and that is what is hard to see. */
function explain(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code !== 'invalid_type') return issue.message;
  const found = issue.path.reduce<unknown>((o, k) => (typeof o === 'object' && o !== null ? (o as Record<PropertyKey, unknown>)[k] : undefined), value);
  const last = issue.path.at(-1);
  if (found === undefined) return `is missing: ${String(last)} must be given (${issue.expected})`;
  return `must be a ${issue.expected}, and ${JSON.stringify(found)} is a ${Array.isArray(found) ? 'list' : found === null ? 'null' : typeof found}`;
}

/** The keys that a schema knows at a path, looking through defaults and options. */
function keysAt(schema: z.ZodType, path: Path): string[] {
  let at = bare(schema);
  for (const step of path) {
    if (at instanceof z.ZodObject) at = bare((at.shape as Record<string, z.ZodType>)[String(step)]);
    else if (at instanceof z.ZodArray) at = bare(at.element as z.ZodType);
    else return [];
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape as object) : [];
}

function bare(schema: z.ZodType | undefined): z.ZodType | undefined {
  let s = schema;
  while (s instanceof z.ZodOptional || s instanceof z.ZodDefault || s instanceof z.ZodPrefault || s instanceof z.ZodNullable) s = s.unwrap() as z.ZodType;
  return s;
}

/** Every key that a schema knows, `underlay.racks.link.mtu`; those of maps with any key are not followed. */
export function allKeys(schema: z.ZodType, path = ''): string[] {
  const at = bare(schema);
  if (at instanceof z.ZodArray) return allKeys(at.element as z.ZodType, path);
  if (!(at instanceof z.ZodObject)) return [];
  return Object.entries(at.shape as Record<string, z.ZodType>).flatMap(([key, value]) => {
    const full = path ? `${path}.${key}` : key;
    return [full, ...allKeys(value, full)];
  });
}
