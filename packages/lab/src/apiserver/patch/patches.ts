/** JSON patch (RFC 6902) and JSON merge patch (RFC 7386). Pure. */
import jsonpatch from 'fast-json-patch';
import { ApiError, badRequest } from '../errors.js';
import { clone, isObject, type JsonObject } from '../object.js';
import { messageOf } from '@podway/errors';

const PROTOTYPE = new Set(['__proto__', 'constructor', 'prototype']);

/** RFC 7386: null removes, objects merge, everything else replaces. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return clone(patch);
  const out: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (PROTOTYPE.has(key)) continue;
    if (value === null) Reflect.deleteProperty(out, key);
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

/** RFC 6902; a `test` that fails and a path that does not exist are 422, as in kube-apiserver. */
export function jsonPatch(target: JsonObject, patch: unknown): JsonObject {
  if (!Array.isArray(patch)) throw badRequest('error decoding patch: a JSON patch is a list of operations');
  if (patch.length > 10_000) throw new ApiError(413, 'RequestEntityTooLarge', `The allowed maximum operations in a JSON patch is 10000, got ${String(patch.length)}`);
  try {
    const { newDocument } = jsonpatch.applyPatch(clone(target), patch as jsonpatch.Operation[], true, false, true);
    return newDocument;
  } catch (e) {
    const text = messageOf(e).split('\n')[0] ?? '';
    throw new ApiError(422, 'Invalid', `the server rejected our request due to an error in our request: ${text}`);
  }
}
