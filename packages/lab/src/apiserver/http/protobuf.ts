/**
 * Reads objects that come as protobuf: kubectl's typed commands (`create namespace` and the like)
 * send nothing else. Answers are JSON, which those clients take.
 *
 * A message is a table from field number to name and type; a kind that must be read this way
 * brings its table in its registry entry. Unknown fields are skipped, as protobuf has it.
 * Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding and the
 * field numbers in k8s.io/api and k8s.io/apimachinery generated.proto.
 */
import { badRequest } from '../errors.js';
import type { JsonObject } from '../object.js';

export type ProtoType = 'string' | 'int' | 'bool' | 'time' | 'intOrString' | { readonly message: Message } | 'stringMap';
export type ProtoField = readonly [name: string, type: ProtoType, repeated?: 'repeated'];
export type Message = Readonly<Record<number, ProtoField>>;

export const OBJECT_META: Message = {
  1: ['name', 'string'],
  2: ['generateName', 'string'],
  3: ['namespace', 'string'],
  5: ['uid', 'string'],
  6: ['resourceVersion', 'string'],
  7: ['generation', 'int'],
  8: ['creationTimestamp', 'time'],
  9: ['deletionTimestamp', 'time'],
  10: ['deletionGracePeriodSeconds', 'int'],
  11: ['labels', 'stringMap'],
  12: ['annotations', 'stringMap'],
  13: [
    'ownerReferences',
    { message: { 1: ['kind', 'string'], 3: ['name', 'string'], 4: ['uid', 'string'], 5: ['apiVersion', 'string'], 6: ['controller', 'bool'], 7: ['blockOwnerDeletion', 'bool'] } },
    'repeated',
  ],
  14: ['finalizers', 'string', 'repeated'],
};

export const DELETE_OPTIONS: Message = {
  1: ['gracePeriodSeconds', 'int'],
  2: ['preconditions', { message: { 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] } }],
  4: ['propagationPolicy', 'string'],
  5: ['dryRun', 'string', 'repeated'],
};

const MAGIC = Buffer.from('k8s\0');
const ENVELOPE: Message = { 1: ['typeMeta', { message: { 1: ['apiVersion', 'string'], 2: ['kind', 'string'] } }] };

/** The object inside the envelope; undefined when its kind has no table. Throws ApiError 400. */
export function decodeProtobuf(bytes: Uint8Array, table: (kind: string) => Message | undefined): JsonObject | undefined {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!data.subarray(0, 4).equals(MAGIC)) throw badRequest('provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]');
  const envelope = data.subarray(4);
  const typeMeta = (decodeMessage(ENVELOPE, envelope)['typeMeta'] ?? {}) as { apiVersion?: string; kind?: string };
  let raw: Buffer = Buffer.alloc(0);
  for (const f of fields(envelope)) if (f.number === 2 && f.bytes !== undefined) raw = f.bytes;
  const message = table(typeMeta.kind ?? '');
  return message === undefined ? undefined : { ...typeMeta, ...decodeMessage(message, raw) };
}

function decodeMessage(message: Message, data: Buffer): JsonObject {
  const out: JsonObject = {};
  for (const f of fields(data)) {
    const known = message[f.number];
    if (known === undefined) continue;
    const [name, type, repeated] = known;
    if (type === 'stringMap') {
      const entry = decodeMessage({ 1: ['key', 'string'], 2: ['value', 'string'] }, f.bytes ?? Buffer.alloc(0));
      out[name] = { ...(out[name] as JsonObject | undefined), [String(entry['key'] ?? '')]: entry['value'] ?? '' };
      continue;
    }
    const value = decodeValue(type, f);
    // Go writes every field; zero values mean the same as absent.
    if (repeated === 'repeated') out[name] = [...((out[name] as unknown[] | undefined) ?? []), value];
    else if (value !== '' && value !== undefined) out[name] = value;
  }
  return out;
}

function decodeValue(type: Exclude<ProtoType, 'stringMap'>, f: WireField): unknown {
  if (type === 'int') return Number(BigInt.asIntN(64, f.varint ?? 0n));
  if (type === 'bool') return (f.varint ?? 0n) !== 0n;
  const bytes = f.bytes ?? Buffer.alloc(0);
  if (type === 'string') return bytes.toString('utf8');
  if (type === 'time') {
    if (bytes.length === 0) return undefined;
    let seconds = 0n;
    for (const t of fields(bytes)) if (t.number === 1) seconds = BigInt.asIntN(64, t.varint ?? 0n);
    const date = new Date(Number(seconds) * 1000);
    return Number.isNaN(date.getTime()) || seconds <= 0n ? undefined : date.toISOString().replace(/\.\d+Z$/, 'Z');
  }
  if (type === 'intOrString') {
    // intstr.IntOrString: 1 says which of the two others counts.
    const { kind, number = 0, text = '' } = decodeMessage({ 1: ['kind', 'int'], 2: ['number', 'int'], 3: ['text', 'string'] }, bytes);
    return kind === 1 ? text : number;
  }
  return decodeMessage(type.message, bytes);
}

interface WireField {
  readonly number: number;
  readonly varint?: bigint;
  readonly bytes?: Buffer;
}

function* fields(data: Buffer): Generator<WireField> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = data[at++];
      if (byte === undefined) throw badRequest('protobuf: unexpected end of data');
      value |= BigInt(byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw badRequest('protobuf: a number is too long');
  };
  const take = (length: number): Buffer => {
    if (length < 0 || at + length > data.length) throw badRequest('protobuf: unexpected end of data');
    at += length;
    return data.subarray(at - length, at);
  };
  while (at < data.length) {
    const key = varint();
    const number = Number(key >> 3n);
    switch (Number(key & 7n)) {
      case 0:
        yield { number, varint: varint() };
        break;
      case 1:
        take(8);
        break;
      case 2: {
        const length = varint();
        yield { number, bytes: take(length > BigInt(data.length) ? -1 : Number(length)) };
        break;
      }
      case 5:
        take(4);
        break;
      default:
        throw badRequest('protobuf: unknown wire type');
    }
  }
}
