/**
 * The part of the CRI that a sandbox needs, over node:http2: gRPC is an HTTP/2 POST with five bytes before
 * each message, and the messages are small. No gRPC package: the usual ones bring protobufjs, which runs a
 * script when it is installed. Source: k8s.io/cri-api runtime/v1 api.proto; grpc.io PROTOCOL-HTTP2.
 */
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect } from 'node:net';

/** By field number: text, a number, messages, or `[key, value]` texts of a map. */
export type Message = { readonly [field: number]: string | number | Message | readonly Message[] };

const varint = (n: number): number[] => {
  const out: number[] = [];
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128);
  return [...out, n];
};

export function encode(m: Message): Buffer {
  return Buffer.concat(Object.entries(m).flatMap(([field, value]): Buffer[] => {
    const one = (v: string | number | Message): Buffer => {
      if (typeof v === 'number') return Buffer.from([...varint(Number(field) * 8), ...varint(v)]);
      const bytes = typeof v === 'string' ? Buffer.from(v) : encode(v);
      return Buffer.concat([Buffer.from([...varint(Number(field) * 8 + 2), ...varint(bytes.length)]), bytes]);
    };
    return Array.isArray(value) ? (value as readonly Message[]).map(one) : [one(value as string | number | Message)];
  }));
}

/** Fields by number, in order: numbers and bytes. What is in them is for who knows the message. */
export function decode(b: Buffer): Map<number, (number | Buffer)[]> {
  const fields = new Map<number, (number | Buffer)[]>();
  let at = 0;
  const read = (): number => {
    let n = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = b[at++] ?? 0;
      n += (byte & 127) * scale;
      if (byte < 128) return n;
    }
  };
  while (at < b.length) {
    const tag = read();
    let value: number | Buffer = 0;
    if (tag % 8 === 2) {
      const length = read();
      value = b.subarray(at, (at += length));
    } else value = read();
    const field = Math.floor(tag / 8);
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

export const text = (m: Map<number, (number | Buffer)[]>, field: number): string => m.get(field)?.[0]?.toString() ?? '';
export const inner = (m: Map<number, (number | Buffer)[]>, field: number): Map<number, (number | Buffer)[]> => decode((m.get(field)?.[0] ?? Buffer.alloc(0)) as Buffer);
export const map = (values: Readonly<Record<string, string>>): Message[] => Object.entries(values).map(([k, v]) => ({ 1: k, 2: v }));

export class Cri {
  private constructor(private readonly session: ClientHttp2Session) {}

  static open(socket: string): Cri {
    const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) });
    session.on('error', () => undefined); // told by the call that meets it
    return new Cri(session);
  }

  close(): void {
    this.session.destroy();
  }

  /** @throws Error with the status and the words of the runtime */
  call(method: string, request: Message): Promise<Map<number, (number | Buffer)[]>> {
    return new Promise((resolve, reject) => {
      const stream = this.session.request({ ':method': 'POST', ':path': `/runtime.v1.RuntimeService/${method}`, 'content-type': 'application/grpc', te: 'trailers' });
      const body = encode(request);
      const frame = Buffer.alloc(5);
      frame.writeUInt32BE(body.length, 1);
      const chunks: Buffer[] = [];
      let status: string | undefined;
      let words = '';
      const look = (h: Record<string, unknown>): void => {
        if (h['grpc-status'] !== undefined) [status, words] = [String(h['grpc-status']), decodeURIComponent(String(h['grpc-message'] ?? ''))];
      };
      stream.on('response', look);
      stream.on('trailers', look);
      stream.on('data', (d: Buffer) => chunks.push(d));
      stream.on('error', reject);
      stream.on('close', () => (status === '0' ? resolve(decode(Buffer.concat(chunks).subarray(5))) : reject(new Error(`${method}: ${status ?? 'no answer'} ${words}`))));
      stream.end(Buffer.concat([frame, body]));
    });
  }
}
