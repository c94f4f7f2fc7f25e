import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { clone, isObject, same, type ApiObject, type JsonObject } from '../src/apiserver/object.js';
import { applied, tracked } from '../src/apiserver/patch/apply.js';
import { fromFieldsV1, toFieldsV1 } from '../src/apiserver/patch/fieldset.js';
import { jsonPatch, mergePatch } from '../src/apiserver/patch/patches.js';
import { strategicMerge } from '../src/apiserver/patch/strategic.js';
import { DeclaredSchemas } from '../src/apiserver/schema/declarations.js';

const schemas = new DeclaredSchemas();
const POD = 'core/v1.Pod';

const json: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  value: fc.oneof({ maxDepth: 3 }, fc.constantFrom('x', 'y', 1, true), fc.array(fc.integer(), { maxLength: 2 }), tie('object')),
  object: fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value'), { noNullPrototype: true }),
})).object;

/** The merge patch that makes `b` of `a`. */
function mergeDiff(a: JsonObject, b: JsonObject): JsonObject {
  const out: JsonObject = {};
  for (const k of Object.keys(a)) if (!(k in b)) out[k] = null;
  for (const [k, v] of Object.entries(b)) {
    const old = a[k];
    if (isObject(v) && isObject(old)) out[k] = mergeDiff(old, v);
    else if (!same(old, v)) out[k] = v;
  }
  return out;
}

describe('JSON merge patch', () => {
  // RFC 7386, appendix A.
  const cases: [unknown, unknown, unknown][] = [
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [['a', 'b'], ['c', 'd'], ['c', 'd']],
    [{ a: 'b' }, ['c'], ['c']],
    [{ a: 'foo' }, null, null],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of cases) {
    it(`${JSON.stringify(target)} + ${JSON.stringify(patch)}`, () => {
      assert.deepEqual(mergePatch(target, patch), result);
    });
  }

  it('makes any object of any other, and leaves its input alone', () => {
    fc.assert(
      fc.property(json, json, (a, b) => {
        const before = clone(a);
        assert.deepEqual(mergePatch(a, mergeDiff(a as JsonObject, b as JsonObject)), b);
        assert.deepEqual(a, before);
      }),
    );
  });

  it('cannot reach the prototype', () => {
    const out = mergePatch({}, JSON.parse('{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}'));
    assert.deepEqual(out, {});
    assert.equal(({} as { polluted?: number }).polluted, undefined);
  });
});

describe('JSON patch', () => {
  it('applies all six operations or none', () => {
    const target = { a: { b: [1, 2] }, c: 'x' };
    assert.deepEqual(
      jsonPatch(target, [
        { op: 'test', path: '/c', value: 'x' },
        { op: 'add', path: '/a/b/-', value: 3 },
        { op: 'replace', path: '/c', value: 'y' },
        { op: 'copy', from: '/c', path: '/d' },
        { op: 'move', from: '/d', path: '/e' },
        { op: 'remove', path: '/a/b/0' },
      ]),
      { a: { b: [2, 3] }, c: 'y', e: 'y' },
    );
    assert.throws(() => jsonPatch(target, [{ op: 'remove', path: '/c' }, { op: 'test', path: '/a', value: 1 }]), { code: 422 });
    assert.deepEqual(target, { a: { b: [1, 2] }, c: 'x' });
    assert.throws(() => jsonPatch(target, [{ op: 'replace', path: '/nobody', value: 1 }]), { code: 422 });
    assert.throws(() => jsonPatch(target, { op: 'x' }), { code: 400 });
  });
});

describe('strategic merge patch', () => {
  const base = {
    metadata: { name: 'p', labels: { a: '1' }, finalizers: ['x/one', 'x/two'] },
    spec: {
      containers: [
        { name: 'a', image: 'a:1', env: [{ name: 'X', value: '1' }, { name: 'Y', value: '2' }], ports: [{ containerPort: 80, protocol: 'TCP' }] },
        { name: 'b', image: 'b:1', args: ['1', '2'] },
      ],
      tolerations: [{ key: 'k', operator: 'Exists' }],
      volumes: [{ name: 'v', emptyDir: {} }],
    },
    status: { conditions: [{ type: 'Ready', status: 'False' }, { type: 'Other', status: 'True' }] },
  };
  const patch = (p: JsonObject): typeof base => strategicMerge(schemas, POD, base, p) as typeof base;

  it('merges containers by name, env by name, ports by number, conditions by type', () => {
    const out = patch({
      spec: { containers: [{ name: 'a', env: [{ name: 'Y', value: '3' }, { name: 'Z', value: '4' }], ports: [{ containerPort: 81 }] }, { name: 'c', image: 'c' }] },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
    assert.deepEqual(out.spec.containers.map((c) => c.name), ['a', 'b', 'c']);
    assert.deepEqual(out.spec.containers[0]?.env, [{ name: 'X', value: '1' }, { name: 'Y', value: '3' }, { name: 'Z', value: '4' }]);
    assert.deepEqual(out.spec.containers[0]?.ports, [{ containerPort: 80, protocol: 'TCP' }, { containerPort: 81 }]);
    assert.equal(out.spec.containers[0]?.image, 'a:1');
    assert.deepEqual(out.status.conditions, [{ type: 'Ready', status: 'True' }, { type: 'Other', status: 'True' }]);
  });

  it('replaces lists without a key, and adds to sets', () => {
    const out = patch({ spec: { tolerations: [{ key: 'n' }], containers: [{ name: 'b', args: ['3'] }] }, metadata: { finalizers: ['x/two', 'x/three'] } });
    assert.deepEqual(out.spec.tolerations, [{ key: 'n' }]);
    assert.deepEqual(out.spec.containers[1]?.args, ['3']);
    assert.deepEqual(out.metadata.finalizers, ['x/one', 'x/two', 'x/three']);
  });

  it('understands its directives', () => {
    assert.deepEqual(patch({ spec: { containers: [{ name: 'a', $patch: 'delete' }] } }).spec.containers.map((c) => c.name), ['b']);
    assert.deepEqual(patch({ spec: { containers: [{ $patch: 'replace' }, { name: 'z', image: 'z' }] } }).spec.containers, [{ name: 'z', image: 'z' }]);
    assert.deepEqual(patch({ metadata: { labels: { $patch: 'replace', b: '2' } } }).metadata.labels, { b: '2' });
    assert.deepEqual(patch({ metadata: { labels: { a: null } } }).metadata.labels, {});
    assert.deepEqual(patch({ metadata: { '$deleteFromPrimitiveList/finalizers': ['x/one'] } }).metadata.finalizers, ['x/two']);
    const ordered = patch({ spec: { '$setElementOrder/containers': [{ name: 'b' }, { name: 'a' }] } });
    assert.deepEqual(ordered.spec.containers.map((c) => c.name), ['b', 'a']);
    const volume = patch({ spec: { volumes: [{ name: 'v', $retainKeys: ['name', 'hostPath'], hostPath: { path: '/x' } }] } });
    assert.deepEqual(volume.spec.volumes, [{ name: 'v', hostPath: { path: '/x' } }]);
  });

  it('refuses what makes no sense', () => {
    assert.throws(() => patch({ spec: { containers: [{ image: 'x' }] } }), /does not contain declared merge key: name/);
    assert.throws(() => patch({ spec: { $patch: 'explode' } }), /Unknown patch type/);
    assert.throws(() => patch({ spec: { containers: [{ name: 'a' }], '$setElementOrder/containers': [{ name: 'b' }] } }), /doesn't match \$setElementOrder/);
  });

  const env = fc.uniqueArray(fc.record({ name: fc.constantFrom('A', 'B', 'C', 'D'), value: fc.constantFrom('1', '2') }, { noNullPrototype: true }), { selector: (e) => e.name });
  const containers = fc.uniqueArray(fc.record({ name: fc.constantFrom('a', 'b', 'c'), image: fc.constantFrom('x', 'y'), env }, { noNullPrototype: true }), { selector: (c) => c.name, minLength: 1 });

  it('twice is once, and every element of the patch is in the result', () => {
    fc.assert(
      fc.property(containers, containers, (live, wanted) => {
        const p = { spec: { containers: wanted } };
        const once = strategicMerge(schemas, POD, { spec: { containers: live } }, p);
        assert.deepEqual(strategicMerge(schemas, POD, once, p), once);
        const result = (once['spec'] as { containers: typeof live }).containers;
        assert.equal(new Set(result.map((c) => c.name)).size, result.length, 'no name twice');
        for (const w of wanted) {
          const found = result.find((c) => c.name === w.name);
          assert.equal(found?.image, w.image);
          for (const e of w.env) assert.ok(found?.env.some((f) => same(f, e)));
        }
        for (const l of live) if (!wanted.some((w) => w.name === l.name)) assert.ok(result.some((c) => same(c, l)));
      }),
    );
  });
});

describe('server-side apply', () => {
  const time = '2026-01-01T00:00:00Z';
  const writer = (manager: string) => ({ manager, time });
  const live: ApiObject = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers: [{ name: 'a', image: 'a:1', imagePullPolicy: 'Always' }] } };
  const config = (spec: JsonObject, metadata: JsonObject = {}): ApiObject => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p', ...metadata }, spec });

  it('records owned fields as Kubernetes writes them', () => {
    const out = applied(schemas, POD, undefined, config({ containers: [{ name: 'a', image: 'x', ports: [{ containerPort: 80 }] }] }, { labels: { l: '1' }, finalizers: ['x/y'] }), writer('me'), false);
    assert.deepEqual(out.metadata.managedFields, [
      {
        manager: 'me',
        operation: 'Apply',
        apiVersion: 'v1',
        time,
        fieldsType: 'FieldsV1',
        fieldsV1: {
          'f:metadata': { 'f:finalizers': { 'v:"x/y"': {} }, 'f:labels': { 'f:l': {} } },
          'f:spec': { 'f:containers': { 'k:{"name":"a"}': { '.': {}, 'f:name': {}, 'f:image': {}, 'f:ports': { 'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} } } } } },
        },
      },
    ]);
    const fields = out.metadata.managedFields?.[0]?.fieldsV1;
    assert.deepEqual(toFieldsV1(fromFieldsV1(fields)), fields);
  });

  it('refuses to take another’s field unless forced, and names it', () => {
    const first = applied(schemas, POD, live, config({ containers: [{ name: 'a', image: 'a:2' }] }), writer('one'), false);
    assert.throws(
      () => applied(schemas, POD, first, config({ containers: [{ name: 'a', image: 'a:3' }] }), writer('two'), false),
      (e: Error) => e.message === 'Apply failed with 1 conflict: conflict with "one" using v1: .spec.containers[name="a"].image',
    );
    const forced = applied(schemas, POD, first, config({ containers: [{ name: 'a', image: 'a:3' }] }), writer('two'), true);
    assert.equal((forced.spec?.['containers'] as { image: string }[])[0]?.image, 'a:3');
    const byOne = forced.metadata.managedFields?.find((m) => m.manager === 'one');
    assert.ok(!JSON.stringify(byOne).includes('f:image'));
    // The same value is no conflict: both own it.
    const shared = applied(schemas, POD, first, config({ containers: [{ name: 'a', image: 'a:2' }] }), writer('two'), false);
    assert.equal(shared.metadata.managedFields?.length, 2);
  });

  it('removes what its manager stops sending, and only that', () => {
    const one = applied(schemas, POD, live, config({ containers: [{ name: 'a', image: 'a:1' }, { name: 'b', image: 'b' }] }, { labels: { mine: '1', shared: '1' } }), writer('one'), false);
    const two = applied(schemas, POD, one, config({ containers: [{ name: 'a', image: 'a:1' }] }, { labels: { shared: '1', other: '1' } }), writer('two'), false);
    const left = applied(schemas, POD, two, config({ containers: [{ name: 'a', image: 'a:1' }] }), writer('one'), false);
    assert.deepEqual(left.metadata.labels, { shared: '1', other: '1' });
    assert.deepEqual((left.spec?.['containers'] as { name: string }[]).map((c) => c.name), ['a']);
    assert.equal((left.spec?.['containers'] as { imagePullPolicy?: string }[])[0]?.imagePullPolicy, 'Always');
  });

  it('an update by another takes the fields it changes', () => {
    const one = applied(schemas, POD, live, config({ containers: [{ name: 'a', image: 'a:1' }] }), writer('one'), false);
    const changed = clone(one);
    (changed.spec?.['containers'] as { image: string }[]).forEach((c) => (c.image = 'a:9'));
    const fields = tracked(schemas, POD, one, changed, writer('kubectl-edit'));
    assert.deepEqual(fields?.map((f) => [f.manager, f.operation, JSON.stringify(f.fieldsV1).includes('f:image')]), [['one', 'Apply', false], ['kubectl-edit', 'Update', true]]);
  });

  const labels = fc.dictionary(fc.constantFrom('a', 'b', 'c'), fc.constantFrom('1', '2'), { noNullPrototype: true });
  it('applying again changes nothing; an empty config leaves what others own', () => {
    fc.assert(
      fc.property(labels, labels, labels, (before, mine, theirs) => {
        const start = { ...clone(live), metadata: { name: 'p', labels: before } };
        const one = applied(schemas, POD, start, config({}, { labels: mine }), writer('one'), true);
        assert.deepEqual(applied(schemas, POD, one, config({}, { labels: mine }), writer('one'), false), one);
        for (const [k, v] of Object.entries(mine)) assert.equal(one.metadata.labels?.[k], v);
        const two = applied(schemas, POD, one, config({}, { labels: theirs }), writer('two'), true);
        const end = applied(schemas, POD, two, config({}), writer('one'), false);
        for (const [k, v] of Object.entries(theirs)) assert.equal(end.metadata.labels?.[k], v);
        for (const k of Object.keys(mine)) if (!(k in theirs)) assert.equal(end.metadata.labels?.[k], undefined);
      }),
    );
  });
});
