/**
 * Field selectors: `spec.nodeName=m1,status.phase!=Failed`, with `\,` `\=` `\\` as escapes.
 *
 * Which fields a kind can be selected by is the kind's own business; this only parses and
 * compares. Source: k8s.io/apimachinery/pkg/fields/selector.go.
 */
import { PodwayError } from '@podway/errors';

export interface FieldRequirement {
  readonly field: string;
  readonly equal: boolean;
  readonly value: string;
}

const bad = (text: string, why: string): PodwayError =>
  new PodwayError('KUBE_SELECTOR', 'invalid selector', { object: `field selector "${text}"`, said: why });

/** Splits at `separator` where no backslash is in front of it. */
function splitUnescaped(text: string, separator: string): string[] {
  const parts = [''];
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? '';
    if (c === '\\' && i + 1 < text.length) parts[parts.length - 1] += c + (text[++i] ?? '');
    else if (c === separator) parts.push('');
    else parts[parts.length - 1] += c;
  }
  return parts;
}

function unescape(text: string, whole: string): string {
  return text.replace(/\\([\s\S]?)/g, (_, c: string) => {
    if (c === ',' || c === '=' || c === '\\') return c;
    throw bad(whole, `invalid escape sequence "\\${c}"`);
  });
}

/** Throws KUBE_SELECTOR. The empty text selects everything. */
export function parseFieldSelector(text: string): FieldRequirement[] {
  return splitUnescaped(text, ',')
    .filter((part) => part !== '')
    .map((part) => {
      const m = /^((?:[^=!\\]|\\[\s\S]|!(?!=))*)(!=|==|=)([\s\S]*)$/.exec(part);
      if (m === null) throw bad(text, `"${part}"; can't understand "${part}"`);
      const value = m[3] ?? '';
      if (splitUnescaped(value, '=').length > 1) throw bad(text, `"${part}"; unescaped "=" in the value`);
      return { field: (m[1] ?? '').trim(), equal: m[2] !== '!=', value: unescape(value, text) };
    });
}

/** A field that the object does not have counts as the empty text. */
export function matchesFields(requirements: readonly FieldRequirement[], fields: Readonly<Record<string, string>>): boolean {
  return requirements.every((r) => ((fields[r.field] ?? '') === r.value) === r.equal);
}

export function formatFieldSelector(requirements: readonly FieldRequirement[]): string {
  return requirements.map((r) => `${r.field}${r.equal ? '=' : '!='}${r.value.replace(/[\\,=]/g, '\\$&')}`).join(',');
}
