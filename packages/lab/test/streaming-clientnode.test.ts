/** @kubernetes/client-node's own Exec, Attach, PortForward and Cp: WebSocket channels, v5 and v4. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import https from 'node:https';
import { PassThrough, Readable, Writable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import * as k8s from '@kubernetes/client-node';
import { WebSocket } from 'ws';
import { needsRoot, until } from './runtime-support.js';
import { cluster, type Cluster } from './streaming-support.js';

const forever = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'];

class Heard extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

describe('@kubernetes/client-node streams', { skip: needsRoot }, () => {
  let c: Cluster;
  before(async () => {
    c = await cluster();
    await c.pod('web', { command: forever });
  });
  after(async () => {
    await c.close();
    assert.deepEqual(c.node.warnings, []);
  });

  const exec = async (command: string[], stdin: Readable | null = null, tty = false): Promise<{ out: string; err: string; status: k8s.V1Status }> => {
    const [out, err] = [new Heard(), new Heard()];
    const status = await new Promise<k8s.V1Status>((resolve, reject) => {
      new k8s.Exec(c.config).exec('default', 'web', 'c', command, out, err, stdin, tty, resolve).catch(reject);
    });
    return { out: out.text, err: err.text, status };
  };

  test('exec: outputs, exit status, stdin with its end (v5)', async () => {
    const failed = await exec(['sh', '-c', 'echo out; echo err >&2; exit 7']);
    assert.deepEqual([failed.out, failed.err, failed.status.reason, failed.status.details?.causes?.[0]?.message], ['out\n', 'err\n', 'NonZeroExitCode', '7']);
    const counted = await exec(['wc', '-c'], Readable.from([Buffer.alloc(200_000), Buffer.alloc(100_000)]));
    assert.deepEqual([counted.out, counted.status.status], ['300000\n', 'Success']);
    assert.equal((await exec(['sh', '-c', 'test -t 1 && tty'], null, true)).out, '/dev/pts/0\r\n');
  });

  test('attach: the main process of a container', async () => {
    await c.pod('reader', { stdin: true, stdinOnce: true, command: ['sh', '-c', 'while read l; do echo "got $l"; done; echo done; exec sleep 1000'] });
    const [out, err, input] = [new Heard(), new Heard(), new PassThrough()];
    const ws = await new k8s.Attach(c.config).attach('default', 'reader', 'c', out, err, input, false);
    input.write('one\n');
    await until('the answer', () => out.text.includes('got one'));
    input.end();
    await until('the end of stdin', () => out.text.includes('done'));
    ws.close();
  });

  test('port-forward: bytes, and a port where nobody listens', async () => {
    const server = c.listen('web', 7001, (s) => s.pipe(s));
    const [out, err, input] = [new Heard(), new Heard(), new PassThrough()];
    const ws = (await new k8s.PortForward(c.config).portForward('default', 'web', [7001], out, err, input)) as WebSocket;
    input.write('hello there');
    await until('the echo', () => out.text === 'hello there');
    ws.close();
    server.close();
    const refused = new Heard();
    await new k8s.PortForward(c.config).portForward('default', 'web', [7002], new Heard(), refused, new PassThrough());
    await until('the refusal', () => /error forwarding port 7002 .*connection refused/.test(refused.text));
  });

  /** Which protocol a server answers with, or the HTTP status when it refuses. */
  const offer = (at: string, protocols: string[]): Promise<string | number> =>
    new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${c.r.api.token}`, connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13',
        'sec-websocket-key': 'MDEyMzQ1Njc4OWFiY2RlZg==', 'sec-websocket-protocol': protocols.join(', '),
      };
      const request = https.request(`${c.r.url}/api/v1/namespaces/default/pods/web/${at}`, { rejectUnauthorized: false, headers, agent: false });
      request.on('upgrade', (response, socket) => {
        resolve(response.headers['sec-websocket-protocol'] ?? '');
        socket.destroy();
      });
      request.on('response', (response) => {
        resolve(response.statusCode ?? 0);
        response.resume();
      });
      request.on('error', reject);
      request.end();
    });

  test('protocols: the first of the client\'s that is served; refusals before anything is switched', async () => {
    const command = 'exec?command=true&stdout=1';
    assert.equal(await offer(command, ['v5.channel.k8s.io', 'v4.channel.k8s.io']), 'v5.channel.k8s.io');
    assert.equal(await offer(command, ['v4.channel.k8s.io']), 'v4.channel.k8s.io');
    assert.equal(await offer(command, ['v1.nonsense']), 400);
    assert.equal(await offer('exec?stdout=1', ['v5.channel.k8s.io']), 400);
    assert.equal(await offer('exec?command=true', ['v5.channel.k8s.io']), 400);
    assert.equal(await offer('exec?command=true&stdout=1&container=zz', ['v5.channel.k8s.io']), 400);
    assert.equal(await offer('portforward?ports=99999', ['v4.channel.k8s.io']), 400);
    assert.equal(await offer('portforward', ['SPDY/3.1+portforward.k8s.io']), 'SPDY/3.1+portforward.k8s.io');
    assert.equal(await offer('log', ['v5.channel.k8s.io']), 400);
    assert.equal((await c.r.request('POST', '/api/v1/namespaces/default/pods/web/exec?command=true&stdout=1')).status, 400);
  });

  test('closing the socket ends the command (v4: the only way to end stdin)', async () => {
    const ws = new WebSocket(`${c.r.url.replace('https', 'wss')}/api/v1/namespaces/default/pods/web/exec?command=sleep&command=23456&stdin=1&stdout=1`, ['v4.channel.k8s.io'], { rejectUnauthorized: false, headers: { authorization: `Bearer ${c.r.api.token}` } });
    const asleep = (): boolean => c.processes('web').some((l) => l.includes('23456'));
    await Promise.all([once(ws, 'open'), until('the command', asleep)]);
    ws.close();
    await until('its end', () => !asleep());
  });
});
