import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPodwayError, messageOf, PodwayError } from '../src/index.js';

test('the message holds what was done and the kernel\'s words', () => {
  const e = new PodwayError('NETLINK_REFUSED', 'cannot add route', { said: 'Nexthop has invalid gateway', errno: 'ENETUNREACH', object: 'netns m1', hint: 'Bring it up.' });
  assert.equal(e.message, 'cannot add route: Nexthop has invalid gateway (ENETUNREACH)');
  assert.equal(new PodwayError('X', 'doing', { errno: 'EPERM' }).message, 'doing: EPERM');
  assert.equal(new PodwayError('X', 'doing', { said: 'no' }).message, 'doing: no');
  assert.equal(new PodwayError('X', 'doing').message, 'doing');
});

test('JSON has the parts, and only those there are', () => {
  assert.deepEqual(JSON.parse(JSON.stringify(new PodwayError('X', 'doing'))), { code: 'X', message: 'doing' });
  assert.deepEqual(new PodwayError('X', 'doing', { object: 'o', errno: 'EPERM', hint: 'h', cause: 1 }).toJSON(), { code: 'X', message: 'doing: EPERM', object: 'o', errno: 'EPERM', hint: 'h' });
});

test('cause, stack and kind are kept', () => {
  const cause = new Error('below');
  const e = new PodwayError('X', 'doing', { cause });
  assert.equal(e.cause, cause);
  assert.ok(e instanceof Error && (e.stack ?? '').includes('errors.test'));
  assert.ok(isPodwayError(e) && isPodwayError(e, 'X') && !isPodwayError(e, 'Y') && !isPodwayError(cause) && !isPodwayError(undefined));
});

test('the message of anything', () => {
  assert.equal(messageOf(new PodwayError('X', 'doing')), 'doing');
  assert.equal(messageOf('text'), 'text');
  assert.equal(messageOf(undefined), 'undefined');
});
