/**
 * What one decode run carries from layer to layer, and the shapes all layers share.
 *
 * A protocol's decoder reads its header, pushes one layer, and names what follows (`next`); the loop in decode.ts looks that up
 * in the registry and calls it. So protocol files know nothing of each other, nesting costs no stack, and a chain of any length
 * ends at the layer limit.
 *
 * Offsets count from the first byte of the captured frame. `end` is where a layer's bytes end according to the lengths around it; it lies
 * beyond `bytes.length` when the capture was cut short.
 */
import { fold } from './checksum.js';
import type { Layer } from './layers.js';
import type { Registry } from './registry.js';

export type ProblemCode =
  /** Bytes that a header or a length promises are not there. */
  | 'truncated'
  /** A length that cannot be. */
  | 'bad-length'
  | 'bad-checksum'
  /** A field holds a value its protocol forbids. */
  | 'bad-value'
  /** A malformed option; later ones of the same header were not read. */
  | 'bad-option'
  /** More layers than the limit; the rest was left as payload. */
  | 'depth-limit'
  | 'unknown-link-type';

/** Something wrong with a packet: `offset` is where, in bytes from the start of the frame. */
export interface Problem {
  readonly code: ProblemCode;
  readonly protocol: string;
  readonly message: string;
  readonly offset: number;
}

export interface LayerBase {
  /** First byte of the header. */
  readonly offset: number;
  /** Bytes of header, options included, as far as they were captured. */
  readonly headerLength: number;
  /** What is wrong with this layer; mostly empty. */
  readonly problems: readonly Problem[];
}

/** A header that was cut off before it was complete. `fields` holds the fields that could be read. */
export interface PartialLayer extends LayerBase {
  readonly type: 'partial';
  readonly protocol: string;
  readonly fields: Readonly<Record<string, number | string>>;
}

export const NO_PROBLEMS: readonly Problem[] = Object.freeze([]);

/** The number spaces in which a layer names its successor. */
export const NONE = 0;
export const ETHERTYPE = 1;
export const IP_PROTOCOL = 2;
export const UDP_PORT = 3;
export const TCP_PORT = 4;
export const ETHERNET_FRAME = 5;
export type NextSpace = typeof NONE | typeof ETHERTYPE | typeof IP_PROTOCOL | typeof UDP_PORT | typeof TCP_PORT | typeof ETHERNET_FRAME;

/** Reads one header at `c.offset`, pushes its layer and sets what follows with `c.follow`. Never throws. */
export type Decoder = (c: Context) => void;

export interface Settings {
  readonly registry: Registry;
  readonly vxlanPorts: readonly number[];
  readonly maxLayers: number;
  readonly verifyChecksums: boolean;
}

/** An outer checksum that does not agree with the bytes, but may once the inner one is completed. */
export interface UnsettledChecksum {
  /** Unfolded sum over pseudo-header and bytes. */
  readonly total: number;
  /** Called once, with the answer. */
  readonly settle: (state: 'offloaded' | 'bad') => void;
}

/** Quotes inside quotes beyond this are left as bytes and reported: no sender makes them (RFC 1122 3.2.2). */
const MAX_QUOTE_DEPTH = 2;

export class Context {
  readonly layers: Layer[] = [];
  problems: Problem[] | undefined;
  space: NextSpace = NONE;
  value = 0;
  /** Source port, where `space` is a port space and `value` the destination port. */
  otherPort = 0;
  /** Of the IP layer above: the unfolded sum of its addresses, its version, and whether all payload bytes belong to this packet. */
  pseudoSum = 0;
  ipVersion = 0;
  isFragment = false;
  private unsettled: UnsettledChecksum[] | undefined;
  /** No layer may read beyond this: the captured bytes, narrowed by every length on the way in. A length can lie, this cannot. */
  private limit: number;

  constructor(
    readonly bytes: Uint8Array,
    public offset: number,
    public end: number,
    readonly settings: Settings,
    /** Runs the decode loop; given so that ICMP can decode the packet it quotes. */
    private readonly run: (c: Context) => void,
    /** 0 for the frame itself, 1 within an ICMP error's quote. */
    readonly quoteDepth: number,
  ) {
    this.limit = Math.min(bytes.length, end);
  }

  /** End of what can be read of this layer. */
  get readable(): number {
    return this.end < this.limit ? this.end : this.limit;
  }

  /** True if all bytes up to `end` were captured and belong to this layer. */
  captured(end: number): boolean {
    return end <= this.limit;
  }

  /** Names what follows: a number in a number space, at `offset`, ending at `end`. */
  follow(space: NextSpace, value: number, offset: number, end: number): void {
    this.space = space;
    this.value = value;
    this.offset = offset;
    this.end = end;
    if (end < this.limit) this.limit = end;
  }

  /** The rest, from `offset` to `end`, is payload. */
  stop(offset: number, end: number): void {
    this.follow(NONE, 0, offset, end);
  }

  /** Adds a problem to the packet and gives the layer's own list with it at the end. */
  report(list: readonly Problem[], code: ProblemCode, protocol: string, message: string, offset = this.offset): readonly Problem[] {
    const problem: Problem = { code, protocol, message, offset };
    (this.problems ??= []).push(problem);
    return list.length === 0 ? [problem] : [...list, problem];
  }

  /** Puts off the judgement of an outer checksum until the inner layers are known. */
  defer(checksum: UnsettledChecksum): void {
    (this.unsettled ??= []).push(checksum);
  }

  /**
   * An inner transport segment was found with its checksum left to the device. Linux makes the outer checksum right for the packet as it will
   * be then ("local checksum offload", Documentation/networking/checksum-offloads.rst): the completed segment sums to the complement of
   * its pseudo-header, whatever it holds. `region` is the unfolded sum of the segment as it is, `pseudo` that of its pseudo-header.
   */
  innerOffloaded(region: number, pseudo: number): void {
    const change = (~fold(region) & 0xffff) + (~fold(pseudo) & 0xffff);
    this.unsettled = this.unsettled?.filter((checksum) => {
      if (fold(checksum.total + change) !== 0xffff) return true;
      checksum.settle('offloaded');
      return false;
    });
  }

  /** At the end of a stack: outer checksums that nothing explains are bad. */
  finish(): void {
    this.unsettled?.forEach((checksum) => checksum.settle('bad'));
    this.unsettled = undefined;
  }

  /** Pushes a header that is cut off before it is complete, with the fields that could be read, and ends the stack. */
  partial(protocol: string, needed: number, fields: Record<string, number | string> = {}): void {
    const { offset, end } = this;
    const there = Math.max(0, this.readable - offset);
    const problems = this.report(NO_PROBLEMS, 'truncated', protocol, `header needs ${needed} bytes, ${there} are there`);
    this.layers.push({ type: 'partial', protocol, offset, headerLength: there, fields, problems });
    this.stop(offset + there, Math.max(end, offset + there));
  }

  /** Decodes the packet that an ICMP error quotes. Its problems stay with its own layers: a quote is expected to be cut short. */
  quote(etherType: number, offset: number, end: number): { layers: readonly Layer[]; problem?: string } {
    if (this.quoteDepth >= MAX_QUOTE_DEPTH) return { layers: [], problem: 'a quote within a quote within a quote' };
    const inner = new Context(this.bytes, offset, end, this.settings, this.run, this.quoteDepth + 1);
    inner.follow(ETHERTYPE, etherType, offset, end);
    this.run(inner);
    inner.finish();
    return { layers: inner.layers };
  }
}
