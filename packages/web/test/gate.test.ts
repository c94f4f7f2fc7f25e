/** Who is let in, as a table. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gate, type Knock } from '../src/server/gate.js';

const LOCAL = { address: '127.0.0.1', port: 8080 };

function knock(k: { method?: string; path?: string; token?: string; headers?: Knock['headers']; local?: Knock['local'] }): Knock {
  return {
    method: k.method ?? 'GET', path: k.path ?? '/api/topology', query: new URLSearchParams(k.token === undefined ? {} : { token: k.token }),
    headers: { host: '127.0.0.1:8080', ...k.headers }, local: k.local ?? LOCAL,
  };
}

/** Opens the gate and returns the cookie as a browser sends it. */
function enter(gate: Gate): string {
  const v = gate.judge(knock({ path: '/', token: gate.currentToken }));
  assert.equal(v.kind, 'welcome');
  return v.kind === 'welcome' ? v.cookie.split(';')[0]! : '';
}

const refusal = (gate: Gate, k: Knock): string => {
  const v = gate.judge(k);
  return v.kind === 'refuse' ? `${v.status} ${v.code}` : v.kind;
};

test('a token opens once; the next one is told; the cookie is strict and out of reach of scripts', () => {
  const told: string[] = [];
  const gate = new Gate((t) => told.push(t));
  const first = gate.currentToken;
  const v = gate.judge(knock({ path: '/', token: first }));
  assert.ok(v.kind === 'welcome');
  assert.match(v.cookie, /^podway_ui_8080=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
  assert.equal(refusal(gate, knock({ path: '/', token: first })), '401 NO_TOKEN');
  assert.deepEqual(told, [gate.currentToken]);
  assert.notEqual(told[0], first);
  assert.equal(gate.judge(knock({ path: '/', token: told[0]! })).kind, 'welcome');
});

test('what is refused, and with which words', () => {
  const gate = new Gate();
  const cookie = enter(gate);
  const cases: [string, Knock, string][] = [
    ['the cookie', knock({ headers: { cookie } }), 'enter'],
    ['the cookie among others', knock({ headers: { cookie: `a=b; ${cookie}; c=d` } }), 'enter'],
    ['localhost', knock({ headers: { cookie, host: 'localhost:8080' } }), 'enter'],
    ['IPv6 loopback', knock({ headers: { cookie, host: '[::1]:8080' }, local: { address: '::1', port: 8080 } }), 'enter'],
    ['IPv4 on a dual-stack socket', knock({ headers: { cookie }, local: { address: '::ffff:127.0.0.1', port: 8080 } }), 'enter'],
    ['its own origin', knock({ method: 'POST', headers: { cookie, origin: 'http://127.0.0.1:8080' } }), 'enter'],
    ['no cookie', knock({}), '401 NO_TOKEN'],
    ['a wrong cookie', knock({ headers: { cookie: `${cookie.slice(0, -2)}xx` } }), '401 NO_TOKEN'],
    ['an empty cookie', knock({ headers: { cookie: 'podway_ui_8080=' } }), '401 NO_TOKEN'],
    ['the cookie of another port', knock({ headers: { cookie: cookie.replace('8080', '8081') } }), '401 NO_TOKEN'],
    ['a wrong token', knock({ path: '/', token: 'x' }), '401 NO_TOKEN'],
    ['an empty token', knock({ path: '/', token: '' }), '401 NO_TOKEN'],
    ['a token elsewhere than at the door', knock({ path: '/api/topology', token: gate.currentToken }), '401 NO_TOKEN'],
    ['a name that was pointed here', knock({ headers: { cookie, host: 'evil.example:8080' } }), '403 WRONG_HOST'],
    ['a name that was pointed here, at the door', knock({ path: '/', token: gate.currentToken, headers: { host: 'evil.example:8080' } }), '403 WRONG_HOST'],
    ['another address', knock({ headers: { cookie, host: '10.0.0.1:8080' } }), '403 WRONG_HOST'],
    ['another port', knock({ headers: { cookie, host: '127.0.0.1:80' } }), '403 WRONG_HOST'],
    ['no port', knock({ headers: { cookie, host: '127.0.0.1' } }), '403 WRONG_HOST'],
    ['no host', knock({ headers: { cookie, host: undefined } }), '403 WRONG_HOST'],
    ['localhost from beyond', knock({ headers: { cookie, host: 'localhost:8080' }, local: { address: '192.0.2.1', port: 8080 } }), '403 WRONG_HOST'],
    ['a foreign origin', knock({ headers: { cookie, origin: 'http://evil.example' } }), '403 FOREIGN_ORIGIN'],
    ['a null origin', knock({ method: 'POST', headers: { cookie, origin: 'null' } }), '403 FOREIGN_ORIGIN'],
    ['the same host by https', knock({ method: 'POST', headers: { cookie, origin: 'https://127.0.0.1:8080' } }), '403 FOREIGN_ORIGIN'],
    ['an act without origin', knock({ method: 'POST', headers: { cookie } }), '403 FOREIGN_ORIGIN'],
    ['an act of another method without origin', knock({ method: 'DELETE', headers: { cookie } }), '403 FOREIGN_ORIGIN'],
    ['another site, as the browser says', knock({ headers: { cookie, 'sec-fetch-site': 'cross-site' } }), '403 FOREIGN_ORIGIN'],
    ['another port of the same site', knock({ headers: { cookie, 'sec-fetch-site': 'same-site' } }), '403 FOREIGN_ORIGIN'],
  ];
  for (const [what, k, expected] of cases) assert.equal(refusal(gate, k), expected, what);
});
