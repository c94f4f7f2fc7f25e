/**
 * Agent and shim killed with -9 at every system call of ADD and of DEL in turn; then what a runtime does
 * next: GC, DEL, or the same ADD again. Nothing may be leaked, nothing given twice.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { RtNetlink } from '@podway/kernel';
import { AgentProcess } from './agent-process.js';
import { callsIn, cannotTrace, changes, killAtCall, logCalls, spawnTraced, type KillPoint } from './crash.js';
import { addressIn, conf, env, needsRoot, shim, until, withNetwork, type TestNode, type TestPod } from './network.js';

const skip = needsRoot || cannotTrace();
/** More calls than any ADD or DEL makes: the end of a test that would not end. */
const LIMIT = 400;

/** What the pod that is tried asks for: everything that an ADD can make. */
const ASKED = conf('1.1.0', { runtimeConfig: {
  portMappings: [{ hostPort: 8080, containerPort: 80 }, { hostPort: 5353, containerPort: 53, protocol: 'udp' }],
  bandwidth: { ingressRate: 10_000_000, egressRate: 10_000_000 },
} });
/** Host ports that stand in the node's table, shapers and IFB devices on the node. */
function extras(node: TestNode): string[] {
  const s = node.state();
  const elements = s.nft.flatMap((o) => (Array.isArray(o['map']?.['elem']) ? (o['map']['elem'] as unknown[]).map((e) => JSON.stringify(e)) : []));
  return [...elements, ...s.links.filter((l) => l.kind === 'ifb').map((l) => l.name), ...s.qdiscs.filter((q) => q.tbf || q.redirect).map((q) => `${q.dev} ${q.kind}`)];
}
const valid = (...pods: TestPod[]): string => conf('1.1.0', { 'cni.dev/valid-attachments': pods.map((p) => ({ containerID: p.name, ifname: 'eth0' })) });
const linksIn = (pod: TestPod): string[] => RtNetlink.with(pod.ns, (nl) => nl.links().map((l) => l.name).sort());

/** Nothing is there but the pod that has been there all along, and that is whole. */
async function assertOnly(node: TestNode, keep: TestPod, gone: readonly TestPod[], host: string, when: string): Promise<void> {
  assert.deepEqual(extras(node), [], when);
  // A living agent writes the pointer of its round behind its answers.
  await until(`${when}: the pointer to be written`, async () => !(await node.leavings()).files.includes('attachments/.tmp-last-given'));
  assert.deepEqual(await node.leavings(), { links: [host], files: [`attachments/${keep.name}@eth0.json`] }, when);
  for (const pod of gone) assert.deepEqual(linksIn(pod), ['lo'], when);
  assert.equal((await node.cni('CHECK', keep.vars)).code, 0, when);
}

/** What may come after a failed or lost call, in turn. */
const FOLLOW_UPS = ['GC', 'DEL', 'ADD again'] as const;

async function followUp(how: (typeof FOLLOW_UPS)[number], node: TestNode, keep: TestPod, x: TestPod, y: TestPod, when: string): Promise<void> {
  if (how === 'ADD again') {
    const [again, other] = [await node.cni('ADD', x.vars, ASKED), await node.cni('ADD', y.vars)];
    assert.deepEqual([again.code, other.code], [0, 0], `${when}: ${JSON.stringify([again.out, other.out])}`);
    const given = ['10.244.0.2', addressIn(again.out), addressIn(other.out)];
    assert.equal(new Set(given).size, 3, `${when}: given twice: ${given.join(', ')}`);
    for (const p of [x, y]) assert.equal((await node.cni('CHECK', p.vars)).code, 0, when);
    assert.equal(extras(node).length, 2 * 2 + 1 + 3, `${when}: two mappings in two maps, an IFB device, three qdiscs`);
    for (const p of [x, y]) assert.equal((await node.cni('DEL', p.vars)).code, 0, when);
  } else if (how === 'DEL') assert.equal((await node.cni('DEL', x.vars)).code, 0, when);
  else assert.equal((await node.cni('GC', {}, valid(keep))).code, 0, when);
}

/**
 * Tries every point: of each call that the log has, the first, the second … until one is survived.
 * @param tryAt does it and says whether the process died.
 * @returns how many points there were.
 */
async function everyPoint(calls: readonly string[], tryAt: (point: KillPoint, index: number) => Promise<boolean>): Promise<number> {
  let points = 0;
  for (const call of calls) {
    for (let n = 1; await tryAt({ call, n }, points); n++) {
      points++;
      assert.ok(n < LIMIT, `${call} is made at most ${LIMIT} times`);
    }
  }
  return points;
}

describe('killed with -9 at every step', { concurrency: 2 }, () => {
  for (const [verb, wiring] of [['ADD', 'bridge'], ['DEL', 'bridge'], ['ADD', 'ptp'], ['DEL', 'ptp']] as const) {
    const network = JSON.stringify({ Network: '10.244.0.0/16', Wiring: wiring, ...(wiring === 'ptp' ? { Gateway: 'link-local' } : {}), Backend: { Type: 'vxlan' } });
    test(`the agent killed at every system call of ${verb}, wiring ${wiring}`, { skip, timeout: 240_000 }, (t) =>
      withNetwork(async (net) => {
        const node = net.addNode(0);
        const [keep, x, y] = [net.pod('keep'), net.pod('x'), net.pod('y')];
        let next = AgentProcess.of(node, { network });
        const start = async (): Promise<AgentProcess> => {
          const now = await next;
          next = AgentProcess.of(node, { network }); // loads its code while this one is tried
          return now.begin();
        };
        let agent = await start();
        try {
          await net.added(node, keep);
          const [host = ''] = (await node.leavings()).links;
          const told = (): boolean => agent.seen('cni').some((e) => e.command === verb && e.containerId === 'x');
          /** One call of the verb, up to the last thing the agent does for it: the line in its log. */
          const call = async (): Promise<Awaited<ReturnType<typeof node.cni>>> => {
            agent.events.length = 0;
            const answer = await node.cni(verb, x.vars, ASKED);
            await until('the agent is done or dead', () => told() || agent.dead);
            return answer;
          };
          const addX = async (): Promise<void> => assert.equal((await node.cni('ADD', x.vars, ASKED)).code, 0);
          if (verb === 'DEL') await addX();
          const log = join(net.dir, 'calls');
          const logger = await logCalls(agent.pid, log);
          assert.equal((await call()).code, 0);
          await logger.detach();
          await node.cni('DEL', x.vars);
          const points = await everyPoint(callsIn(log).filter(changes), async (point, index) => {
            const how = FOLLOW_UPS[index % FOLLOW_UPS.length]!;
            const when = `${verb}, killed at ${point.call} ${point.n}, then ${how}`;
            if (verb === 'DEL') await addX();
            const tracer = await killAtCall(agent.pid, point);
            const answer = await call();
            await tracer.detach();
            if (answer.code === 1) assert.equal((answer.out as { code: number }).code, 11, `${when}: ${JSON.stringify(answer.out)}`);
            // The call can be one behind the last that shows: who still answers was not killed.
            const died = (await node.cni('STATUS')).code !== 0;
            if (died) {
              await agent.exited;
              agent = await start();
            }
            if (!died) assert.equal(answer.code, 0, when);
            // A DEL that did not succeed is made again; GC has to do for an ADD whose runtime has died as well.
            await followUp(how, node, keep, x, y, when);
            await assertOnly(node, keep, [x, y], host, when);
            return died;
          });
          t.diagnostic(`${points} kill points of the agent in ${verb}, wiring ${wiring}`);
          assert.ok(points >= 10, `only ${points} points: the injection does not work`);
        } finally {
          await agent.kill();
          await (await next).kill();
        }
      }));

    // The shim knows nothing of wirings.
    if (wiring === 'bridge') test(`the shim killed at every system call of ${verb}`, { skip, timeout: 120_000 }, (t) =>
      withNetwork(async (net) => {
        const node = net.addNode(0);
        await node.start();
        await node.ready();
        const program = await shim();
        const [keep, x, y] = [net.pod('keep'), net.pod('x'), net.pod('y')];
        await net.added(node, keep);
        const [host = ''] = (await node.leavings()).links;
        const run = async (how: KillPoint | { log: string }): Promise<number | null> => {
          const child = spawnTraced(program, { PODWAY_AGENT_SOCKET: node.socket, ...env(verb, x.vars) }, how);
          child.stdin!.on('error', () => undefined);
          child.stdin!.end(conf());
          child.stdout!.resume();
          const [code] = (await once(child, 'close')) as [number | null];
          return code;
        };
        if (verb === 'DEL') await net.added(node, x);
        const log = join(net.dir, 'calls');
        assert.equal(await run({ log }), 0);
        await node.cni('DEL', x.vars);
        let tried = 0;
        for (const how of ['GC', 'DEL'] as const) {
          tried += await everyPoint(callsIn(log).filter((c) => c !== 'execve'), async (point) => {
            const when = `${verb}, shim killed at ${point.call} ${point.n}, then ${how}`;
            if (verb === 'DEL') await net.added(node, x);
            const code = await run(point);
            await followUp(how, node, keep, x, y, when);
            await assertOnly(node, keep, [x, y], host, when);
            return code !== 0;
          });
        }
        t.diagnostic(`${tried} kills of the shim in ${verb}: each point once followed by GC and once by DEL`);
        assert.ok(tried >= 30, `only ${tried} kills: the injection does not work`);
      }));
  }
});
