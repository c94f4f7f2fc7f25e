import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CniError, decodeCniRequest, decodeRequest, encodeRequest, formatCniArgs, parseCniArgs, parsePluginConf, requestLength, requirePod } from '@podway/cni';

const env = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_NETNS: '/var/run/netns/x', CNI_IFNAME: 'eth0', CNI_PATH: '/opt/cni/bin:/usr/lib/cni', CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1' };
const conf = { cniVersion: '1.1.0', name: 'podway', type: 'podway-cni' };
const json = (o: object): string => JSON.stringify(o);

interface Case {
  readonly what: string;
  readonly env?: Record<string, string>;
  readonly stdin?: string;
  readonly code: number;
  readonly says: RegExp;
}

const without = (k: keyof typeof env): Record<string, string> => Object.fromEntries(Object.entries(env).filter(([n]) => n !== k));

const cases: Case[] = [
  { what: 'no command', env: without('CNI_COMMAND'), code: 4, says: /\[CNI_COMMAND\] missing/ },
  { what: 'unknown command', env: { ...env, CNI_COMMAND: 'PING' }, code: 4, says: /unknown CNI_COMMAND: PING/ },
  { what: 'no container id', env: without('CNI_CONTAINERID'), code: 4, says: /\[CNI_CONTAINERID\] missing/ },
  { what: 'no netns, no ifname', env: { ...env, CNI_NETNS: '', CNI_IFNAME: '' }, code: 4, says: /\[CNI_NETNS,CNI_IFNAME\] missing/ },
  { what: 'container id with a slash', env: { ...env, CNI_CONTAINERID: '../x' }, code: 4, says: /CNI_CONTAINERID.*"\.\.\/x"/ },
  { what: 'container id that starts with a dot', env: { ...env, CNI_CONTAINERID: '.x' }, code: 4, says: /CNI_CONTAINERID/ },
  { what: 'ifname of 16 bytes', env: { ...env, CNI_IFNAME: 'abcdefghijklmnop' }, code: 4, says: /CNI_IFNAME.*longer than 15/ },
  { what: 'ifname of 16 bytes in 8 characters', env: { ...env, CNI_IFNAME: 'éééééééé' }, code: 4, says: /longer than 15/ },
  { what: 'ifname with a slash', env: { ...env, CNI_IFNAME: 'a/b' }, code: 4, says: /CNI_IFNAME.*\/ or :/ },
  { what: 'ifname with a colon', env: { ...env, CNI_IFNAME: 'eth0:1' }, code: 4, says: /CNI_IFNAME/ },
  { what: 'ifname with a blank', env: { ...env, CNI_IFNAME: 'eth 0' }, code: 4, says: /white space/ },
  { what: 'ifname ..', env: { ...env, CNI_IFNAME: '..' }, code: 4, says: /no name/ },
  { what: 'args without =', env: { ...env, CNI_ARGS: 'FOO' }, code: 4, says: /"FOO" is not of the form/ },
  { what: 'unknown args', env: { ...env, CNI_ARGS: 'FOO=1;BAR=2' }, code: 4, says: /unknown keys FOO, BAR/ },
  { what: 'IgnoreUnknown=maybe', env: { ...env, CNI_ARGS: 'IgnoreUnknown=maybe' }, code: 4, says: /IgnoreUnknown=maybe/ },
  { what: 'empty stdin', stdin: '', code: 6, says: /not JSON.*it is empty/ },
  { what: 'no JSON', stdin: '{"name":', code: 6, says: /not JSON/ },
  { what: 'a list', stdin: '[]', code: 6, says: /it is a list/ },
  { what: 'no name', stdin: json({ cniVersion: '1.0.0', type: 'x' }), code: 7, says: /missing network name/ },
  { what: 'a bad name', stdin: json({ ...conf, name: 'a/b' }), code: 7, says: /name: must start with/ },
  { what: 'no type', stdin: json({ cniVersion: '1.0.0', name: 'n' }), code: 7, says: /type: / },
  { what: 'a type with a path', stdin: json({ ...conf, type: '../x' }), code: 7, says: /type: must be a file name/ },
  { what: 'a port out of range', stdin: json({ ...conf, runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 70000 }] } }), code: 7, says: /runtimeConfig\.portMappings\[0\]\.containerPort/ },
  { what: 'a bad mac', stdin: json({ ...conf, runtimeConfig: { mac: 'zz' } }), code: 7, says: /runtimeConfig\.mac: not a MAC/ },
  { what: 'a bad prevResult', stdin: json({ ...conf, prevResult: { ips: [{ address: 'x' }] } }), code: 6, says: /prevResult.*ips\[0\]\.address/ },
  { what: 'no version', stdin: json({ name: 'n', type: 't' }), code: 1, says: /config is "0\.1\.0", plugin supports/ },
  { what: 'a version of the future', stdin: json({ ...conf, cniVersion: '2.0.0' }), code: 1, says: /config is "2\.0\.0"/ },
  { what: 'CHECK at 0.3.1', env: { ...env, CNI_COMMAND: 'CHECK' }, stdin: json({ ...conf, cniVersion: '0.3.1' }), code: 1, says: /does not allow CHECK/ },
  { what: 'GC at 1.0.0', env: { CNI_COMMAND: 'GC' }, stdin: json({ ...conf, cniVersion: '1.0.0' }), code: 1, says: /does not allow GC/ },
  { what: 'STATUS at 1.0.0', env: { CNI_COMMAND: 'STATUS' }, stdin: json({ ...conf, cniVersion: '1.0.0' }), code: 1, says: /does not allow STATUS/ },
  { what: 'GC without a list', env: { CNI_COMMAND: 'GC' }, code: 7, says: /cni\.dev\/valid-attachments: missing/ },
];

for (const c of cases) {
  test(`refused: ${c.what}`, () => {
    assert.throws(
      () => decodeCniRequest(c.env ?? env, c.stdin ?? json(conf)),
      (e) => e instanceof CniError && e.cniCode === c.code && c.says.test(`${e.msg}: ${e.details ?? ''}`),
    );
  });
}

test('capability arguments in the case of containerd’s structures, which have no JSON names', () => {
  const sent = {
    cniVersion: '1.0.0', name: 'n', type: 't',
    runtimeConfig: { portMappings: [{ HostPort: 8080, ContainerPort: 80, Protocol: 'TCP', HostIP: '' }], bandwidth: { IngressRate: 1000, IngressBurst: 5 }, dns: { Servers: ['1.1.1.1'], Searches: null } },
  };
  const { runtimeConfig } = parsePluginConf(JSON.stringify(sent));
  assert.deepEqual(runtimeConfig.portMappings, [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '' }]);
  assert.deepEqual([runtimeConfig.bandwidth, runtimeConfig.dns], [{ ingressRate: 1000, ingressBurst: 5 }, { servers: ['1.1.1.1'], searches: null }]);
  const both = { ...sent, runtimeConfig: { bandwidth: { IngressRate: 1, ingressRate: 2, other: 3 } } };
  assert.deepEqual(parsePluginConf(JSON.stringify(both)).runtimeConfig.bandwidth, { ingressRate: 2, other: 3 }, 'the exact key goes before');
  assert.throws(() => parsePluginConf(JSON.stringify({ ...sent, runtimeConfig: { portMappings: [{ HostPort: 'x', ContainerPort: 80 }] } })), /portMappings\[0\]\.hostPort/);
});

test('an ADD as a runtime makes it', () => {
  const req = decodeCniRequest(env, json({ ...conf, cniVersion: '0.4.0', extra: { a: 1 }, runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'TCP' }] }, prevResult: { cniVersion: '0.4.0', ips: [{ version: '4', address: '10.0.0.2/24' }] } }));
  assert.ok(req.command === 'ADD');
  assert.deepEqual([req.containerId, req.ifname, req.netns, req.version, req.path], ['c1', 'eth0', '/var/run/netns/x', '0.4.0', ['/opt/cni/bin', '/usr/lib/cni']]);
  assert.deepEqual(requirePod(req.args), { namespace: 'default', name: 'web-a', uid: 'u1' });
  assert.equal(req.config.runtimeConfig.portMappings?.[0]?.protocol, 'tcp');
  assert.deepEqual(req.config.prevResult, { ips: [{ address: '10.0.0.2/24' }] });
  assert.deepEqual(req.config.raw['extra'], { a: 1 });
});

test('DEL gets through whatever is wrong besides its key', () => {
  const req = decodeCniRequest(
    { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0', CNI_ARGS: 'odd;FOO=1;IgnoreUnknown=what' },
    json({ ...conf, prevResult: { ips: [{ address: 'x' }] }, runtimeConfig: { mac: 'zz' } }),
  );
  assert.ok(req.command === 'DEL');
  assert.equal(req.netns, undefined);
  assert.equal(req.config.prevResult, undefined);
});

test('GC has the list under both names', () => {
  for (const key of ['cni.dev/valid-attachments', 'cni.dev/attachments']) {
    const req = decodeCniRequest({ CNI_COMMAND: 'GC' }, json({ ...conf, [key]: [{ containerID: 'c1', ifname: 'eth0' }] }));
    assert.deepEqual(req.command === 'GC' && req.validAttachments, [{ containerId: 'c1', ifname: 'eth0' }]);
  }
});

test('VERSION needs no configuration', () => {
  assert.deepEqual(decodeCniRequest({ CNI_COMMAND: 'VERSION' }, ''), { command: 'VERSION', version: '1.1.0' });
  assert.deepEqual(decodeCniRequest({ CNI_COMMAND: 'VERSION' }, '{"cniVersion":"0.4.0"}'), { command: 'VERSION', version: '0.4.0' });
});

test('the pod is asked for by name of what is missing', () => {
  assert.throws(() => requirePod(parseCniArgs('IgnoreUnknown=1;K8S_POD_NAME=x')), /missing K8S_POD_NAMESPACE$/);
  assert.throws(() => requirePod(parseCniArgs('')), /missing K8S_POD_NAMESPACE, K8S_POD_NAME/);
});

test('CNI_ARGS come back as they went', () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/);
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(word, fc.stringMatching(/^[A-Za-z0-9=/._-]{0,12}$/)), { selector: ([k]) => k }), (pairs) => {
      const known = ['IgnoreUnknown', 'IP', 'MAC', 'K8S_POD_NAME', 'K8S_POD_NAMESPACE', 'K8S_POD_UID', 'K8S_POD_INFRA_CONTAINER_ID'];
      fc.pre(pairs.every(([k]) => !known.includes(k) && k !== '__proto__'));
      assert.deepEqual(Object.entries(parseCniArgs(`IgnoreUnknown=1;${formatCniArgs(pairs)}`).unknown).sort(), [...pairs].sort());
    }),
  );
  assert.throws(() => formatCniArgs([['A', 'x;B=1']]), /cannot carry/);
});

test('the frame: round trip, in pieces, and hostile heads', () => {
  const text = fc.string({ unit: 'grapheme' }).map((s) => s.replaceAll('\0', ''));
  fc.assert(
    fc.property(fc.dictionary(fc.stringMatching(/^CNI_[A-Z]{1,8}$/), text), fc.uint8Array({ maxLength: 300 }), (e, bytes) => {
      const buf = encodeRequest({ env: e, stdin: Buffer.from(bytes) });
      assert.equal(requestLength(buf), buf.length);
      const back = decodeRequest(Buffer.concat([buf, Buffer.from('more')]));
      assert.deepEqual({ ...back.env }, { ...e });
      assert.deepEqual(Buffer.from(back.stdin), Buffer.from(bytes));
    }),
  );
  assert.equal(requestLength(Buffer.from('PCN1\0\0')), undefined);
  for (const bad of ['GET / HTTP/1.1', 'x', 'PCN1\xff\xff\xff\xff\xff\xff\xff\xff']) assert.throws(() => requestLength(Buffer.from(bad, 'latin1')), (e) => e instanceof CniError && e.cniCode === 6);
});

test('whatever comes is either a request or a CNI error, never anything else', () => {
  const word = fc.oneof(fc.constantFrom('', 'ADD', 'DEL', 'GC', 'STATUS', 'CHECK', 'VERSION', 'c1', 'eth0', 'A=1;IgnoreUnknown=1', '__proto__=1'), fc.string());
  const envArb = fc.record({ CNI_COMMAND: fc.constantFrom('ADD', 'DEL', 'GC', 'STATUS', 'CHECK', 'VERSION'), CNI_CONTAINERID: word, CNI_NETNS: word, CNI_IFNAME: word, CNI_ARGS: word, CNI_PATH: word }, { requiredKeys: ['CNI_COMMAND'] });
  const part = fc.jsonValue();
  const stdinArb = fc.oneof(
    fc.string(),
    fc.json(),
    fc.record({ cniVersion: fc.oneof(fc.constantFrom('0.3.1', '1.1.0'), part), name: fc.oneof(fc.constant('n'), part), type: fc.oneof(fc.constant('t'), part), prevResult: part, runtimeConfig: part, ipam: part, dns: part, args: part, 'cni.dev/valid-attachments': part }, { requiredKeys: [] }).map((o) => JSON.stringify(o)),
  );
  fc.assert(
    fc.property(envArb, stdinArb, (e, stdin) => {
      try {
        decodeCniRequest(e as Record<string, string>, stdin);
      } catch (error) {
        assert.ok(error instanceof CniError && [1, 4, 6, 7].includes(error.cniCode), String(error));
      }
    }),
    { numRuns: 3000 },
  );
});
