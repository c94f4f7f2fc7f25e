import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  dns1123LabelErrors,
  formatFieldSelector,
  formatLabelSelector,
  labelSelectorRequirements,
  matchesFields,
  matchesLabels,
  nameErrors,
  parseFieldSelector,
  parseLabelSelector,
  portNameErrors,
  qualifiedNameErrors,
  type LabelRequirement,
} from '../src/index.js';

/** Objects as literals make them. */
const PLAIN = { noNullPrototype: true };
const key = fc.constantFrom('app', 'tier', 'example.com/role', 'a.b_c-d', 'in', 'notin');
const value = fc.constantFrom('', 'a', 'web', 'v1.2', 'x_y-z');
const requirement: fc.Arbitrary<LabelRequirement> = fc.oneof(
  fc.record({ key, operator: fc.constantFrom('in' as const, 'notin' as const), values: fc.uniqueArray(value, { minLength: 1, maxLength: 4 }) }, PLAIN),
  fc.record({ key, operator: fc.constantFrom('exists' as const, 'absent' as const), values: fc.constant<string[]>([]) }, PLAIN),
  fc.record({ key, operator: fc.constantFrom('gt' as const, 'lt' as const), values: fc.integer({ min: -99, max: 99 }).map((n) => [String(n)]) }, PLAIN),
);
const labels = fc.dictionary(key, fc.oneof(value, fc.integer({ min: -99, max: 99 }).map(String)));

describe('label selectors', () => {
  const cases: [selector: string, labels: Record<string, string>, matches: boolean][] = [
    ['', {}, true],
    ['a=b', { a: 'b' }, true],
    ['a==b', { a: 'c' }, false],
    ['a=b', {}, false],
    ['a!=b', {}, true],
    ['a!=b', { a: 'b' }, false],
    ['a', { a: '' }, true],
    ['!a', { a: '' }, false],
    [' ! a ', {}, true],
    ['a in (x, y)', { a: 'y' }, true],
    ['a in (x,)', { a: '' }, true],
    ['a notin (x,y)', { a: 'z' }, true],
    ['a notin (x,y)', {}, true],
    ['a in (x),b!=c,!d', { a: 'x', b: 'd' }, true],
    ['a>1', { a: '2' }, true],
    ['a>1', { a: 'two' }, false],
    ['a<10,a>5', { a: '7' }, true],
    ['a=', { a: '' }, true],
    ['example.com/role=web', { 'example.com/role': 'web' }, true],
  ];
  for (const [selector, of, expected] of cases) {
    it(`${JSON.stringify(selector)} ${expected ? 'selects' : 'leaves'} ${JSON.stringify(of)}`, () => {
      assert.equal(matchesLabels(parseLabelSelector(selector), of), expected);
    });
  }

  for (const bad of ['a in b', 'a in (b', 'a=b,', ',a', '=', 'a b', 'a=b=c', 'a=!', '-a', 'a/b/c', 'a>x', 'a in (b c)', 'a=-']) {
    it(`refuses ${JSON.stringify(bad)}`, () => {
      assert.throws(() => parseLabelSelector(bad), { code: 'KUBE_SELECTOR' });
    });
  }

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(fc.array(requirement, { maxLength: 5 }), (list) => {
        assert.deepEqual(parseLabelSelector(formatLabelSelector(list)), list);
      }),
    );
  });

  it('a requirement and its opposite split all objects in two', () => {
    const opposite = { in: 'notin', notin: 'in', exists: 'absent', absent: 'exists' } as const;
    fc.assert(
      fc.property(requirement, labels, (r, of) => {
        fc.pre(r.operator !== 'gt' && r.operator !== 'lt');
        const other = opposite[r.operator as keyof typeof opposite];
        assert.notEqual(matchesLabels([r], of), matchesLabels([{ ...r, operator: other }], of));
      }),
    );
  });

  it('never throws anything but its own error', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseLabelSelector(text);
        } catch (e) {
          assert.equal((e as { code?: string }).code, 'KUBE_SELECTOR');
        }
      }),
    );
  });

  it('takes the object form', () => {
    const r = labelSelectorRequirements({ matchLabels: { app: 'web' }, matchExpressions: [{ key: 'tier', operator: 'NotIn', values: ['db'] }, { key: 'old', operator: 'DoesNotExist' }] });
    assert.equal(formatLabelSelector(r), 'app=web,tier!=db,!old');
    assert.equal(matchesLabels(r, { app: 'web' }), true);
    assert.deepEqual(labelSelectorRequirements({}), []);
    assert.throws(() => labelSelectorRequirements({ matchExpressions: [{ key: 'a', operator: 'In' }] }), /must be specified when `operator` is 'In' or 'NotIn'/);
    assert.throws(() => labelSelectorRequirements({ matchExpressions: [{ key: 'a', operator: 'Is', values: ['b'] }] }), /"Is" is not a valid label selector operator/);
  });
});

describe('field selectors', () => {
  it('matches, with absent as the empty text', () => {
    const fields = { 'spec.nodeName': 'm1', 'status.phase': 'Running' };
    assert.equal(matchesFields(parseFieldSelector('spec.nodeName=m1,status.phase!=Failed'), fields), true);
    assert.equal(matchesFields(parseFieldSelector('spec.nodeName==m2'), fields), false);
    assert.equal(matchesFields(parseFieldSelector('spec.nodeName='), {}), true);
    assert.throws(() => parseFieldSelector('spec.nodeName'), { code: 'KUBE_SELECTOR' });
    assert.throws(() => parseFieldSelector('a=b\\x'), { code: 'KUBE_SELECTOR' });
  });

  it('reads back what it writes, whatever the value', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ field: fc.constantFrom('metadata.name', 'spec.nodeName'), equal: fc.boolean(), value: fc.string() }, PLAIN)), (list) => {
        assert.deepEqual(parseFieldSelector(formatFieldSelector(list)), list);
      }),
    );
  });
});

describe('names', () => {
  it('follows RFC 1123 with Kubernetes’ words', () => {
    assert.deepEqual(dns1123LabelErrors('web-1'), []);
    assert.match(dns1123LabelErrors('Web')[0] ?? '', /^a lowercase RFC 1123 label must consist of/);
    assert.deepEqual(dns1123LabelErrors('a'.repeat(64)), ['must be no more than 63 characters']);
    assert.deepEqual(nameErrors('subdomain', 'a.b-c.d'), []);
    for (const bad of ['', '.a', 'a.', 'a..b', '-a', 'a_b']) assert.notDeepEqual(nameErrors('subdomain', bad), [], bad);
    assert.deepEqual(nameErrors('path', 'system:node'), []);
    assert.deepEqual(nameErrors('path', '..'), ["may not be '..'"]);
  });

  it('knows qualified names and port names', () => {
    for (const good of ['a', 'A_b.c', 'example.com/x']) assert.deepEqual(qualifiedNameErrors(good), [], good);
    for (const bad of ['', '/x', 'a/', 'a/b/c', '-a', 'EX.com/x']) assert.notDeepEqual(qualifiedNameErrors(bad), [], bad);
    assert.deepEqual(portNameErrors('http'), []);
    for (const bad of ['80', 'a--b', '-a', 'abcdefghijklmnop', 'A']) assert.notDeepEqual(portNameErrors(bad), [], bad);
  });
});
