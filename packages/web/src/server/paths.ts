/** Questions about paths: predicted from state alone, or observed with probes; the last of these are kept, packets and all. */
import { randomBytes } from 'node:crypto';
import { PodwayError } from '@podway/errors';
import { buildReport, flowFor, observeFlow, pcapngBytes, simulateRoundTrip, type Flow, type World } from '@podway/trace';
import { z } from 'zod';
import type { PathAnswer, PathQuestion } from '../model/types.js';
import type { UiSource } from './live.js';

const name = z.string().min(1).max(300).regex(/^[A-Za-z0-9._:/-]+$/, 'letters, digits and . _ : / - only');

export const Question = z.strictObject({
  from: name, to: name, proto: z.enum(['icmp', 'tcp', 'udp']),
  port: z.number().int().min(1).max(65535).optional(), size: z.number().int().min(28).max(65535).optional(),
});

/** @throws BAD_QUESTION with all that is wrong */
export function parseQuestion(value: unknown): PathQuestion {
  const parsed = Question.safeParse(value);
  if (parsed.success) {
    const { port, size, ...rest } = parsed.data;
    return { ...rest, ...(port === undefined ? {} : { port }), ...(size === undefined ? {} : { size }) };
  }
  throw new PodwayError('BAD_QUESTION', 'the question cannot be read', { said: parsed.error.issues.map((i) => `${i.path.join('.') || 'body'}: ${i.message}`).join('; ') });
}

function flowOf(world: World, q: PathQuestion): Flow {
  const flow = flowFor(world, { from: q.from, to: q.to, proto: q.proto, ...(q.proto === 'icmp' || q.port === undefined ? {} : { port: q.port }) });
  return q.size === undefined ? flow : { ...flow, length: q.size, dontFragment: true };
}

export async function predict(source: UiSource, question: PathQuestion): Promise<PathAnswer> {
  const { world, live } = await source.read();
  live.close();
  return { question, report: buildReport(world, simulateRoundTrip(world, flowOf(world, question))), packets: 0 };
}

interface Kept {
  readonly answer: PathAnswer;
  readonly pcapng: Buffer;
}

const KEPT = 50;
const WAITING = 4;

export class Paths {
  private readonly kept = new Map<string, Kept>();
  private waiting = 0;
  private last: Promise<unknown> = Promise.resolve();

  constructor(private readonly source: UiSource, private readonly signal: AbortSignal) {}

  /** Sends probes. One after the other, so that they do not see each other. @throws BUSY */
  async observe(question: PathQuestion): Promise<PathAnswer> {
    if (this.waiting >= WAITING) throw new PodwayError('BUSY', 'several traces are waiting already', { hint: 'Try again in a moment.' });
    this.waiting++;
    const mine = this.last.then(() => this.trace(question)).finally(() => this.waiting--);
    this.last = mine.catch(() => undefined);
    return mine;
  }

  get(id: string): Kept | undefined {
    return this.kept.get(id);
  }

  /** Settles when nothing is being sent. */
  async idle(): Promise<void> {
    await this.last;
  }

  private async trace(question: PathQuestion): Promise<PathAnswer> {
    this.signal.throwIfAborted();
    const { world, live } = await this.source.read();
    try {
      const observed = await observeFlow(world, live, flowOf(world, question), { signal: this.signal });
      const answer: PathAnswer = {
        id: randomBytes(9).toString('base64url'), question, report: buildReport(world, observed.prediction, observed.observation), packets: observed.packets.length,
      };
      this.kept.set(answer.id!, { answer, pcapng: pcapngBytes(observed) });
      for (const id of [...this.kept.keys()].slice(0, -KEPT)) this.kept.delete(id);
      return answer;
    } finally {
      live.close();
    }
  }
}
