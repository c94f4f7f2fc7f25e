import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { isPodwayError } from '@podway/errors';
import { CNI_VERSIONS, FRAME_LIMIT, buildShim, decodeRequest, encodeAnswer, requestLength } from '@podway/cni';
import { fakeAgent, runShim, scratch, shim } from './shim-helpers.js';

const conf = '{"prevResult":{"cniVersion":"1.0.0"},"name":"podway","cniVersion":"0.4.0","type":"podway-cni"}';
let dir = '';
let remove: () => Promise<void>;
let server: Server | undefined;
const sockets = new Set<Socket>();

before(async () => {
  ({ dir, remove } = await scratch());
  await shim();
});
after(() => remove());
afterEach(() => {
  for (const s of sockets) s.destroy();
  sockets.clear();
  server?.close();
  server = undefined;
});

const socketPath = (): string => join(dir, 'agent.sock');
const env = (more: Record<string, string> = {}): Record<string, string> => ({ CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', PODWAY_AGENT_SOCKET: socketPath(), ...more });
const agent = async (on: (s: Socket) => void): Promise<void> => {
  server = await fakeAgent(socketPath(), (s) => {
    sockets.add(s);
    on(s);
  });
};

/** The error document, whole: nothing else may be on stdout. */
function errorOf(run: { code: number | null; stdout: string; stderr: string }): { cniVersion: string; code: number; msg: string; details: string } {
  assert.equal(run.code, 1);
  assert.equal(run.stderr, '');
  return JSON.parse(run.stdout) as ReturnType<typeof errorOf>;
}

test('hands over the CNI environment and stdin, prints the answer, takes over the exit code', async () => {
  for (const exitCode of [0, 1] as const) {
    let got: ReturnType<typeof decodeRequest> | undefined;
    await agent((s) => {
      let buf = Buffer.alloc(0);
      s.on('data', (d: Buffer) => {
        buf = Buffer.concat([buf, d]);
        if (requestLength(buf) !== buf.length) return;
        got = decodeRequest(buf);
        s.end(encodeAnswer({ exitCode, stdout: Buffer.from('{"x":"é"}') }));
      });
    });
    const big = `${conf}${' '.repeat(700_000)}`;
    const run = await runShim(env({ CNI_ARGS: 'A=1;B=ü', HOME: '/root' }), big);
    assert.deepEqual([run.code, run.stdout, run.stderr], [exitCode, '{"x":"é"}', '']);
    assert.deepEqual({ ...got?.env }, { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_ARGS: 'A=1;B=ü' });
    assert.equal(got?.stdin.toString(), big);
    await new Promise((r) => server?.close(r));
  }
});

test('an empty answer is success without output', async () => {
  await agent((s) => s.once('data', () => s.end(encodeAnswer({ exitCode: 0, stdout: Buffer.alloc(0) }))));
  const run = await runShim(env({ CNI_COMMAND: 'DEL' }), conf);
  assert.deepEqual([run.code, run.stdout], [0, '']);
});

for (const command of ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS']) {
  test(`no agent: ${command} answers error 11 at once, in the version of the request`, async () => {
    const error = errorOf(await runShim(env({ CNI_COMMAND: command, PODWAY_AGENT_SOCKET: join(dir, 'none "x\\é.sock') }), conf));
    assert.equal(error.code, 11);
    assert.equal(error.cniVersion, '0.4.0');
    assert.match(error.details, /none "x\\.*\.sock: No such file or directory/);
  });
}

test('a dead agent left its socket: error 11', async () => {
  const { spawnSync } = await import('node:child_process');
  const stale = join(dir, 'stale.sock');
  spawnSync(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`]);
  const error = errorOf(await runShim(env({ PODWAY_AGENT_SOCKET: stale }), conf));
  assert.deepEqual([error.code, /Connection refused/.test(error.details)], [11, true]);
});

test('an agent that never answers: error 11 after the time allowed', async () => {
  await agent((s) => s.resume());
  const run = await runShim(env({ PODWAY_CNI_TIMEOUT_MS: '150' }), conf);
  const error = errorOf(run);
  assert.equal(error.code, 11);
  assert.match(error.details, /timed out waiting for the agent's answer/);
  assert.ok(run.ms >= 150 && run.ms < 5000, `${run.ms} ms`);
});

test('an agent that does not read: error 11 after the time allowed', async () => {
  await agent((s) => s.pause());
  const error = errorOf(await runShim(env({ PODWAY_CNI_TIMEOUT_MS: '150' }), `${conf}${' '.repeat(1_000_000)}`));
  assert.equal(error.code, 11);
});

test('an agent that dies at any point of its answer: error 11, never half a document', async () => {
  const answer = encodeAnswer({ exitCode: 0, stdout: Buffer.from('{"cniVersion":"0.4.0","ips":[]}') });
  for (const n of [0, 1, 4, 11, 12, 13, answer.length - 1]) {
    await agent((s) => s.once('data', () => s.end(answer.subarray(0, n))));
    const error = errorOf(await runShim(env(), conf));
    assert.equal(error.code, 11, `after ${n} bytes`);
    assert.match(error.details, /went away before its answer was complete/);
    await new Promise((r) => server?.close(r));
  }
});

test('something else listens there: error 5', async () => {
  for (const garbage of ['HTTP/1.1 400 Bad Request\r\n\r\n', 'PCN1\0\0\0\x07\0\0\0\0', 'PCN1\0\0\0\0\xff\xff\xff\xff']) {
    await agent((s) => s.once('data', () => s.end(Buffer.from(garbage, 'latin1'))));
    const error = errorOf(await runShim(env(), conf));
    assert.deepEqual([error.code, /does not speak the Podway CNI protocol/.test(error.details)], [5, true], garbage);
    await new Promise((r) => server?.close(r));
  }
});

test('an agent that refuses before it has read all is still heard', async () => {
  await agent((s) => s.end(encodeAnswer({ exitCode: 1, stdout: Buffer.from('{"code":50}') })));
  const run = await runShim(env(), conf);
  assert.deepEqual([run.code, run.stdout], [1, '{"code":50}']);
});

test('VERSION is answered without an agent', async () => {
  const none = { CNI_COMMAND: 'VERSION', PODWAY_AGENT_SOCKET: join(dir, 'none.sock') };
  const ask = async (stdin: string): Promise<unknown> => {
    const run = await runShim(none, stdin);
    assert.equal(run.code, 0);
    return JSON.parse(run.stdout);
  };
  assert.deepEqual(await ask('{"cniVersion":"1.0.0"}'), { cniVersion: '1.0.0', supportedVersions: CNI_VERSIONS });
  assert.deepEqual(await ask(''), { cniVersion: '1.1.0', supportedVersions: CNI_VERSIONS });
  assert.deepEqual(await ask('{"cniVersion":"1.0\\"}'), { cniVersion: '1.1.0', supportedVersions: CNI_VERSIONS });
  assert.deepEqual(await ask('{"a":["cniVersion",{"cniVersion":"9.9.9"}],"cniVersion"\n:\t"0.3.1"}'), { cniVersion: '0.3.1', supportedVersions: CNI_VERSIONS });
});

test('the edges: no command, too long a path, too large a configuration, stdin that never ends', async () => {
  assert.deepEqual([errorOf(await runShim({}, '')).code, errorOf(await runShim(env({ PODWAY_AGENT_SOCKET: `/${'x'.repeat(150)}` }), conf)).code], [4, 4]);
  const large = errorOf(await runShim(env(), Buffer.alloc(FRAME_LIMIT + 1, ' ')));
  assert.deepEqual([large.code, large.details], [7, `the configuration on stdin is larger than ${FRAME_LIMIT} bytes`]);
  const open = errorOf(await runShim(env({ PODWAY_CNI_TIMEOUT_MS: '100' }), undefined));
  assert.deepEqual([open.code, /reading the configuration from stdin/.test(open.details)], [11, true]);
});

test('a compiler that is not there is named, with the packages to install', async () => {
  await assert.rejects(buildShim(dir, 'no-such-cc'), (e) => isPodwayError(e, 'SHIM_BUILD') && /no C compiler named no-such-cc/.test(e.message) && /gcc libc6-dev/.test(e.hint ?? ''));
  await writeFile(join(dir, 'file'), '');
  await assert.rejects(buildShim(join(dir, 'file')));
});
