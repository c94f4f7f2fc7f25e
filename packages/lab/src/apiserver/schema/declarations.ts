/**
 * Kubernetes' schema, read from the type declarations of the package `kubernetes-types`, which are
 * generated from Kubernetes' OpenAPI: names, types, which fields are required, and the text that
 * `kubectl explain` shows. So no copy of the schema lives here, and every kind of every group is
 * there when a registry entry asks for it.
 *
 * The declarations are regular (one field per line, doc comments in front), so a line reader is
 * enough; a line it does not know is an error, not a guess. One file is read when a type of it is
 * first asked for: core/v1 (264 kB) takes a few milliseconds.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { PodwayError } from '@podway/errors';
import { OWN_DECLARATIONS } from './own.js';
import type { Field, Scalar, Schemas, TypeRef, TypeSchema } from './types.js';

/** Names that stand for scalars, whatever file they are declared in. */
const SCALARS: Readonly<Record<string, Scalar>> = {
  string: 'string',
  boolean: 'boolean',
  // All numbers of the API are integers, but for the limits in CustomResourceDefinition schemas.
  number: 'integer',
  any: 'any',
  object: 'any',
  'number | string': 'intOrString',
  'string | number': 'intOrString',
  Quantity: 'quantity',
  Time: 'time',
  MicroTime: 'microTime',
  JSON: 'any',
};

/** Types without fields of which anything may be inside. */
const OPEN = new Set(['RawExtension', 'FieldsV1', 'JSONSchemaProps', 'CustomResourceSubresourceStatus']);

export class DeclaredSchemas implements Schemas {
  private readonly files = new Map<string, Map<string, TypeSchema>>();
  private readonly root = path.dirname(createRequire(import.meta.url).resolve('kubernetes-types/package.json'));

  type(name: string): TypeSchema | undefined {
    const dot = name.lastIndexOf('.');
    const file = name.slice(0, dot);
    let types = this.files.get(file);
    if (types === undefined) {
      types = parse(file, OWN_DECLARATIONS[file] ?? readFileSync(path.join(this.root, `${file}.d.ts`), 'utf8'));
      this.files.set(file, types);
    }
    return types.get(name.slice(dot + 1));
  }
}

function parse(file: string, text: string): Map<string, TypeSchema> {
  const imported = new Map<string, string>();
  const types = new Map<string, TypeSchema>();
  let doc: string[] = [];
  let inDoc = false;
  let current: { name: string; description: string; fields: Map<string, Field> } | undefined;
  let map: { name: string; required: boolean; description: string } | undefined;

  const refer = (written: string): TypeRef => {
    const array = /^Array<(.+)>$/.exec(written)?.[1] ?? /^(.+)\[\]$/.exec(written)?.[1];
    if (array !== undefined) return { is: 'array', of: refer(array) };
    if (/^\{\s*\[name: string\]: (.+?);?\s*\}$/.test(written)) {
      return { is: 'map', of: refer(/: (.+?);?\s*\}$/.exec(written)?.[1] ?? 'any') };
    }
    if (written.startsWith('"')) return { is: 'scalar', scalar: 'string' };
    const scalar = SCALARS[written];
    if (scalar !== undefined) return { is: 'scalar', scalar };
    if (written.includes('|')) return { is: 'scalar', scalar: 'any' };
    if (!/^[A-Za-z0-9]+$/.test(written)) {
      throw new PodwayError('KUBE_SCHEMA', 'a type declaration has an unknown form', { object: file, said: written });
    }
    return { is: 'ref', name: `${imported.get(written) ?? file}.${written}` };
  };
  const takeDoc = (): string => {
    const said = doc.join('\n').trim();
    doc = [];
    return said;
  };

  for (const line of text.split('\n')) {
    if (inDoc) {
      if (/^\s*\*\/\s*$/.test(line)) inDoc = false;
      else doc.push(line.replace(/^\s*\* ?/, ''));
      continue;
    }
    const oneLine = /^\s*\/\*\* ?(.*?) ?\*\/\s*$/.exec(line);
    if (oneLine !== null) {
      doc = [oneLine[1] ?? ''];
      continue;
    }
    if (/^\s*\/\*\*/.test(line)) {
      doc = [];
      inDoc = true;
      continue;
    }
    const from = /^import \{ (.+) \} from "(.+)";/.exec(line);
    if (from !== null) {
      const target = path.posix.join(path.posix.dirname(file), from[2] ?? '');
      for (const name of (from[1] ?? '').split(', ')) imported.set(name, target);
      continue;
    }
    const start = /^export interface (\w+) \{/.exec(line);
    if (start !== null) {
      current = { name: start[1] ?? '', description: takeDoc(), fields: new Map() };
      continue;
    }
    if (current === undefined) {
      doc = [];
      continue;
    }
    if (line.startsWith('}')) {
      types.set(current.name, { ...current, name: `${file}.${current.name}`, open: OPEN.has(current.name) });
      current = undefined;
      continue;
    }
    if (map !== undefined) {
      const value = /^\s+\[name: string\]: (.+);$/.exec(line);
      if (value !== null) current.fields.set(map.name, { ...map, type: { is: 'map', of: refer(value[1] ?? '') } });
      else map = undefined;
      continue;
    }
    const field = /^\s+(?:readonly )?"?([^"?:]+)"?(\?)?: (.+)$/.exec(line);
    if (field === null) continue;
    const name = field[1] ?? '';
    const required = field[2] === undefined;
    const written = field[3] ?? '';
    if (written === '{') map = { name, required, description: takeDoc() };
    else current.fields.set(name, { name, required, description: takeDoc(), type: refer(written.replace(/;$/, '')) });
  }
  return types;
}
