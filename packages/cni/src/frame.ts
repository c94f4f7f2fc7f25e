/**
 * The wire between the shim (native/podway-cni.c) and the agent, one request per connection:
 *   request  "PCN1" | u32be length of env | u32be length of stdin | env, each "K=V\0" | stdin
 *   answer   "PCN1" | u32be exit code     | u32be length of stdout | stdout
 * Both sides know from the lengths when they have all of it; a stream that ends before is a
 * peer that died. The asker keeps its side open while it waits: an end means it is gone.
 */
import { CniError } from './errors.js';

export const FRAME_MAGIC = 'PCN1';
export const FRAME_HEAD = 12;
/** The largest configuration, and the largest answer, in bytes. */
export const FRAME_LIMIT = 1 << 20;
const ENV_LIMIT = 1 << 16;

export interface ShimRequest {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Buffer;
}

export interface ShimAnswer {
  readonly exitCode: 0 | 1;
  readonly stdout: Buffer;
}

function head(a: number, b: number): Buffer {
  const buf = Buffer.alloc(FRAME_HEAD);
  buf.write(FRAME_MAGIC, 'latin1');
  buf.writeUInt32BE(a, 4);
  buf.writeUInt32BE(b, 8);
  return buf;
}

export function encodeRequest(r: ShimRequest): Buffer {
  const env = Buffer.from(Object.entries(r.env).map(([k, v]) => `${k}=${v}\0`).join(''));
  return Buffer.concat([head(env.length, r.stdin.length), env, r.stdin]);
}

export const encodeAnswer = (a: ShimAnswer): Buffer => Buffer.concat([head(a.exitCode, a.stdout.length), a.stdout]);

const bad = (details: string): CniError => new CniError('DECODING_FAILURE', 'the request on the agent socket is not one of the shim', { details });

/** The total length of the request, or undefined while the head is incomplete. @throws CniError 6 as soon as it is known to be wrong */
export function requestLength(buf: Buffer): number | undefined {
  const magic = buf.subarray(0, 4).toString('latin1');
  if (magic !== FRAME_MAGIC.slice(0, magic.length)) throw bad('it does not start with PCN1');
  if (buf.length < FRAME_HEAD) return undefined;
  const [env, stdin] = [buf.readUInt32BE(4), buf.readUInt32BE(8)];
  if (env > ENV_LIMIT || stdin > FRAME_LIMIT) throw bad(`it announces ${env} bytes of environment and ${stdin} bytes of configuration`);
  return FRAME_HEAD + env + stdin;
}

/** @throws CniError 6 */
export function decodeRequest(buf: Buffer): ShimRequest {
  const length = requestLength(buf);
  if (length === undefined || buf.length < length) throw bad('it is incomplete');
  const envEnd = FRAME_HEAD + buf.readUInt32BE(4);
  const env: Record<string, string> = {};
  for (const pair of buf.subarray(FRAME_HEAD, envEnd).toString('utf8').split('\0')) {
    const at = pair.indexOf('=');
    if (at > 0) env[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return { env, stdin: buf.subarray(envEnd, length) };
}

/** The answer once complete, undefined before. @throws CniError 6 for what is no answer */
export function decodeAnswer(buf: Buffer): ShimAnswer | undefined {
  if (buf.length < FRAME_HEAD) return undefined;
  const [code, length] = [buf.readUInt32BE(4), buf.readUInt32BE(8)];
  if (buf.subarray(0, 4).toString('latin1') !== FRAME_MAGIC || code > 1 || length > FRAME_LIMIT) throw bad('the answer has a wrong head');
  if (buf.length < FRAME_HEAD + length) return undefined;
  return { exitCode: code as 0 | 1, stdout: buf.subarray(FRAME_HEAD, FRAME_HEAD + length) };
}
