/**
 * Header blocks: name-value pairs, compressed with one zlib stream per direction for the whole
 * connection. Names are lower case; several values of a name are joined by NUL.
 * Source: draft-mbelshe-httpbis-spdy-00, section 2.6.10. Memory: a block of at most LARGEST_HEADERS.
 */
import { constants, createDeflate, createInflate, type Deflate, type Inflate } from 'node:zlib';
import { headerDictionary } from './dictionary.js';
import { spdyError } from './frames.js';

export type Headers = Readonly<Record<string, string>>;

/** Uncompressed. A compressed block may claim a thousand times its size. */
export const LARGEST_HEADERS = 64 * 1024;

export function encodePairs(headers: Headers): Buffer {
  const text = (s: string): Buffer[] => {
    const bytes = Buffer.from(s, 'utf8');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return [length, bytes];
  };
  const pairs = Object.entries(headers);
  const count = Buffer.alloc(4);
  count.writeUInt32BE(pairs.length);
  return Buffer.concat([count, ...pairs.flatMap(([k, v]) => [...text(k), ...text(v)])]);
}

/** @throws SPDY_PROTOCOL */
export function decodePairs(block: Buffer): Headers {
  let at = 0;
  const number = (): number => {
    if (at + 4 > block.length) throw spdyError('a header block ends too early');
    at += 4;
    return block.readUInt32BE(at - 4);
  };
  const text = (): string => {
    const length = number();
    if (at + length > block.length) throw spdyError('a header block ends too early');
    at += length;
    return block.toString('utf8', at - length, at);
  };
  const count = number();
  const headers: Record<string, string> = Object.create(null) as Record<string, string>;
  for (let i = 0; i < count; i++) {
    const name = text().toLowerCase();
    headers[name] = text();
  }
  return headers;
}

/** Both directions of one connection. Calls must not overlap within a direction: order is part of the format. */
export class HeaderCodec {
  private readonly deflate: Deflate = createDeflate({ dictionary: headerDictionary, flush: constants.Z_SYNC_FLUSH });
  private readonly inflate: Inflate = createInflate({ dictionary: headerDictionary, flush: constants.Z_SYNC_FLUSH });

  compress(headers: Headers): Promise<Buffer> {
    return through(this.deflate, encodePairs(headers), Infinity);
  }

  /** @throws SPDY_PROTOCOL */
  async decompress(block: Buffer): Promise<Headers> {
    return decodePairs(await through(this.inflate, block, LARGEST_HEADERS));
  }

  close(): void {
    this.deflate.close();
    this.inflate.close();
  }
}

function through(codec: Deflate | Inflate, input: Buffer, most: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const out: Buffer[] = [];
    let size = 0;
    const done = (e?: Error | null): void => {
      while (!e && codec.read() !== null); // what is still buffered, to take()
      codec.off('data', take).off('error', done);
      if (e) reject(spdyError(`header block: ${e.message}`));
      else resolve(Buffer.concat(out));
    };
    const take = (piece: Buffer): void => {
      size += piece.length;
      if (size > most) {
        codec.destroy();
        done(new Error(`more than ${most} bytes`));
      } else out.push(piece);
    };
    codec.on('data', take).on('error', done);
    codec.write(input, done);
  });
}
