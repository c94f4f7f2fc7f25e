import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { kubeError, runWatch, type KubeObject, type WatchClock, type WireEvent } from '../src/index.js';

const object = (name: string, resourceVersion: string, uid = name): KubeObject => ({ metadata: { name, resourceVersion, uid } });
type Event = WireEvent<KubeObject>;
const event = (type: Event['type'], name: string, version: string, uid = name): Event => ({ type, object: object(name, version, uid) });
const goneEvent = { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } } as unknown as Event;

interface Step {
  readonly list?: KubeObject[];
  readonly at?: string;
  readonly fail?: Error;
  readonly watch?: Event[];
  readonly from?: string;
  readonly then?: Error;
}

/** Plays a script of answers; ends the watch after the last. Time is simulated. */
async function play(steps: Step[]): Promise<{ told: string[]; delays: number[]; lost: unknown[] }> {
  const told: string[] = [];
  const delays: number[] = [];
  const lost: unknown[] = [];
  let now = 0;
  const clock: WatchClock = {
    delay: (ms) => {
      delays.push(ms);
      now += ms;
      return Promise.resolve();
    },
    now: () => now,
    random: () => 0,
  };
  let finished: () => void = () => undefined;
  const end = new Promise<void>((resolve) => {
    finished = resolve;
  });
  const next = (): Step => {
    const step = steps.shift();
    if (step === undefined) {
      stop();
      finished();
      return { fail: new Error('the script has ended') };
    }
    return step;
  };
  const stop = runWatch<KubeObject>(
    {
      async list() {
        await Promise.resolve();
        const step = next();
        if (step.fail !== undefined) throw step.fail;
        assert.ok(step.list !== undefined, `a list was not expected, but ${JSON.stringify(step)}`);
        return { items: step.list, resourceVersion: step.at ?? '' };
      },
      async *watch(from) {
        await Promise.resolve();
        const step = next();
        if (step.fail !== undefined) throw step.fail;
        assert.ok(step.watch !== undefined, `a watch was not expected, but ${JSON.stringify(step)}`);
        if (step.from !== undefined) assert.equal(from, step.from);
        yield* step.watch;
        now += 5_000;
        if (step.then !== undefined) throw step.then;
      },
    },
    {
      event: (type, o) => told.push(`${type} ${o.metadata?.name ?? ''}@${o.metadata?.resourceVersion ?? ''}`),
      synced: () => told.push('synced'),
      lost: (e) => lost.push(e),
    },
    clock,
  );
  await end;
  return { told, delays, lost };
}

describe('the watch loop', () => {
  it('lists, then follows from the list’s version', async () => {
    const { told } = await play([{ list: [object('a', '1')], at: '5' }, { from: '5', watch: [event('MODIFIED', 'a', '6'), event('ADDED', 'b', '7'), event('DELETED', 'a', '8')] }]);
    assert.deepEqual(told, ['ADDED a@1', 'synced', 'MODIFIED a@6', 'ADDED b@7', 'DELETED a@8']);
  });

  it('goes on at the last version after an end, without delay or relist; bookmarks count', async () => {
    const { told, delays, lost } = await play([
      { list: [], at: '1' },
      { from: '1', watch: [event('ADDED', 'a', '2'), event('BOOKMARK', '', '9')] },
      { from: '9', watch: [event('MODIFIED', 'a', '10')] },
    ]);
    assert.deepEqual(told, ['synced', 'ADDED a@2', 'MODIFIED a@10']);
    assert.deepEqual([delays, lost], [[], []]);
  });

  it('turns a relist after 410 into differences', async () => {
    const { told, lost } = await play([
      { list: [object('gone', '1'), object('same', '2'), object('changed', '3'), object('again', '4', 'uid-1')], at: '5' },
      { watch: [goneEvent] },
      { list: [object('same', '2'), object('changed', '7'), object('again', '8', 'uid-2'), object('new', '9')], at: '10' },
      { from: '10', watch: [] },
    ]);
    assert.deepEqual(told.slice(5), ['DELETED gone@1', 'MODIFIED changed@7', 'DELETED again@4', 'ADDED again@8', 'ADDED new@9', 'synced']);
    assert.deepEqual(lost, []);
  });

  it('takes a 410 as the answer, too', async () => {
    const { told } = await play([{ list: [], at: '1' }, { fail: kubeError({ code: 410 }, 'x', 'y') }, { list: [object('a', '2')], at: '3' }, { watch: [] }]);
    assert.deepEqual(told, ['synced', 'ADDED a@2', 'synced']);
  });

  it('backs off exponentially, with a limit, and says what was lost', async () => {
    const failures = Array.from({ length: 9 }, (_, i) => ({ fail: new Error(`down ${String(i)}`) }));
    const { delays, lost, told } = await play([...failures, { list: [], at: '1' }, { watch: [event('ADDED', 'a', '2')], then: new Error('reset') }, { watch: [] }]);
    assert.deepEqual(delays, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 50]);
    assert.equal(lost.length, 10);
    assert.deepEqual(told, ['synced', 'ADDED a@2']);
  });

  it('tells nothing twice after a reconnect', async () => {
    const { told } = await play([
      { list: [object('a', '1')], at: '1' },
      { watch: [event('MODIFIED', 'a', '2')], then: new Error('reset') },
      { watch: [event('MODIFIED', 'a', '2'), event('DELETED', 'b', '3'), event('ADDED', 'a', '4')] },
    ]);
    assert.deepEqual(told, ['ADDED a@1', 'synced', 'MODIFIED a@2', 'MODIFIED a@4']);
  });

  it('survives handlers that throw everywhere', async () => {
    let calls = 0;
    await new Promise<void>((resolve) => {
      const stop = runWatch<KubeObject>(
        {
          list: () => Promise.resolve({ items: [object('a', '1'), object('b', '2')], resourceVersion: '2' }),
          async *watch() {
            await Promise.resolve();
            stop();
            resolve();
            yield event('ADDED', 'late', '9');
          },
        },
        {
          event() {
            calls++;
            throw new Error('event');
          },
          synced() {
            throw new Error('synced');
          },
          lost() {
            throw new Error('lost');
          },
        },
      );
    });
    assert.equal(calls, 2);
  });
});
