/** kubectl itself, run against the API server. Skipped where kubectl is not installed. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startControllers, type Controller } from '../src/controllers/index.js';
import { running, type Running } from './apiserver-fixture.js';

const missing = spawnSync('kubectl', ['version', '--client'], { stdio: 'ignore' }).error === undefined ? false : 'kubectl is not installed (Debian: kubernetes-client)';

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

describe('kubectl', { skip: missing }, () => {
  let r: Running;
  let controllers: Controller[];

  const start = (args: readonly string[], input = '') => {
    const child = spawn('kubectl', args, { env: { PATH: process.env['PATH'], HOME: r.dir, KUBECONFIG: r.kubeconfig, KUBE_EDITOR: 'sed -i s/tier:.*/tier:\\ edited/' } });
    child.stdin.end(input);
    return child;
  };
  const run = (args: readonly string[], input = ''): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const child = start(args, input);
      let out = '';
      let err = '';
      child.stdout.on('data', (d: Buffer) => (out += d.toString()));
      child.stderr.on('data', (d: Buffer) => (err += d.toString()));
      child.on('error', reject);
      child.on('close', (code) => {
        resolve({ code, out, err });
      });
    });
  const k = (line: string, input?: string): Promise<Ran> => run(line.split(' '), input);
  const ok = async (line: string, input?: string): Promise<string> => {
    const { code, out, err } = await k(line, input);
    assert.equal(code, 0, `kubectl ${line}: ${err}`);
    return out;
  };
  const fails = async (line: string, message: RegExp, input?: string): Promise<void> => {
    const { code, err } = await k(line, input);
    assert.equal(code, 1, `kubectl ${line} succeeded`);
    assert.match(err, message);
  };
  /** Lines of a table, cells by two blanks, ages abstracted. */
  const table = (out: string): string[][] => out.trimEnd().split('\n').map((l) => l.trimEnd().split(/\s{2,}/).map((c) => (/^\d+[smh]$/.test(c) ? 'AGE' : c)));

  const node = (name: string, labels = ''): string => `apiVersion: v1\nkind: Node\nmetadata: {name: ${name}, labels: {kubernetes.io/hostname: ${name}${labels}}}\n---\n`;
  const web = (image: string): string => `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  containers:
  - {name: c, image: "${image}", ports: [{containerPort: 80}], env: [{name: A, value: "1"}]}
`;

  before(async () => {
    r = await running();
    controllers = startControllers(r.api, { clusterRanges: [{ cidr: '10.244.0.0/16' }] });
  });
  after(async () => {
    for (const c of controllers) c.stop();
    await r.close();
  });

  it('finds the cluster by its context', async () => {
    assert.equal(await ok('config current-context'), 'podway-test\n');
    assert.match(await ok('cluster-info --context podway-test'), new RegExp(`Kubernetes control plane is running at .*${r.url}`));
    assert.match(await ok('version'), /Server Version: v1\.32/);
    const kinds = table(await ok('api-resources --sort-by=name'));
    assert.deepEqual(kinds.map((c) => c[0]).slice(1), ['configmaps', 'endpoints', 'endpointslices', 'events', 'ipblocks', 'ippools', 'namespaces', 'network-attachment-definitions', 'nodes', 'pods', 'services']);
    assert.deepEqual(kinds.find((c) => c[0] === 'pods'), ['pods', 'po', 'v1', 'true', 'Pod']);
  });

  it('shows nodes as any cluster does', async () => {
    await ok('create -f -', node('m1', ', node-role.kubernetes.io/control-plane: ""') + node('m2'));
    const status = {
      status: {
        conditions: [{ type: 'Ready', status: 'True' }],
        addresses: [{ type: 'InternalIP', address: '172.18.0.2' }],
        nodeInfo: { kubeletVersion: 'v1.32.0', osImage: 'Debian GNU/Linux 13 (trixie)', kernelVersion: '6.12.0', containerRuntimeVersion: 'podway://0.1.0' },
      },
    };
    const patched = await run(['patch', 'node', 'm1', '--subresource=status', '--type=merge', '-p', JSON.stringify(status)]);
    assert.equal(patched.code, 0, patched.err);
    assert.deepEqual(table(await ok('get nodes -o wide')), [
      ['NAME', 'STATUS', 'ROLES', 'AGE', 'VERSION', 'INTERNAL-IP', 'EXTERNAL-IP', 'OS-IMAGE', 'KERNEL-VERSION', 'CONTAINER-RUNTIME'],
      ['m1', 'Ready', 'control-plane', 'AGE', 'v1.32.0', '172.18.0.2', '<none>', 'Debian GNU/Linux 13 (trixie)', '6.12.0', 'podway://0.1.0'],
      ['m2', 'Unknown', '<none>', 'AGE', '<none>', '<none>', '<unknown>', '<unknown>', '<unknown>'],
    ]);
    assert.equal(await ok('get nodes -o jsonpath={.items[*].spec.podCIDR}'), '10.244.0.0/24 10.244.1.0/24');
    assert.match(await ok('describe node m1'), /PodCIDRs: +10\.244\.0\.0\/24/);
  });

  it('applies, changes, and finds nothing to change', async () => {
    assert.equal(await ok('apply -f -', web('nginx:1.25')), 'pod/web created\n');
    assert.equal(await ok('apply -f -', web('nginx:1.25')), 'pod/web unchanged\n');
    assert.equal((await k('diff -f -', web('nginx:1.26'))).code, 1);
    assert.equal(await ok('apply -f -', web('nginx:1.26')), 'pod/web configured\n');
    assert.equal((await k('diff -f -', web('nginx:1.26'))).code, 0);
    assert.equal(await ok('get pod web -o jsonpath={.spec.containers[0].image}'), 'nginx:1.26');
    await fails('apply -f -', /spec: Forbidden: pod updates may not change fields other than/, web('nginx:1.26').replace('name: A', 'name: B'));
  });

  it('applies on the server, with conflicts', async () => {
    assert.equal(await ok('set image pod/web c=nginx:9'), 'pod/web image updated\n');
    await fails('apply --server-side -f -', /Apply failed with 1 conflict: conflict with "kubectl-set" using v1: \.spec\.containers\[name="c"\]\.image/, web('nginx:1.27'));
    assert.equal(await ok('apply --server-side --force-conflicts -f -', web('nginx:1.27')), 'pod/web serverside-applied\n');
    assert.match(await ok('get pod web -o yaml --show-managed-fields'), /manager: kubectl\n\s+operation: Apply/);
    assert.equal(await ok('apply --server-side --dry-run=server -f -', web('nginx:1.27')), 'pod/web serverside-applied (server dry run)\n');
  });

  it('shows pods, wide, by label, by field, as JSON and YAML', async () => {
    assert.equal(await ok('wait --for=condition=PodScheduled pod/web --timeout=10s'), 'pod/web condition met\n');
    assert.deepEqual(table(await ok('get pods -o wide')), [
      ['NAME', 'READY', 'STATUS', 'RESTARTS', 'AGE', 'IP', 'NODE', 'NOMINATED NODE', 'READINESS GATES'],
      ['web', '0/1', 'Pending', '0', 'AGE', '<none>', 'm1', '<none>', '<none>'],
    ]);
    assert.deepEqual(table(await ok('get po -A -l app=web,tier!=back --field-selector spec.nodeName=m1 --show-labels'))[1], ['default', 'web', '0/1', 'Pending', '0', 'AGE', 'app=web,tier=front']);
    assert.equal((await k('get pods -l app=none')).err, 'No resources found in default namespace.\n');
    assert.equal((JSON.parse(await ok('get pod web -o json')) as { kind: string }).kind, 'Pod');
    assert.equal(await ok('get pods -o name'), 'pod/web\n');
    await fails('get pod nobody', /^Error from server \(NotFound\): pods "nobody" not found\n$/);
    const described = await ok('describe pod web');
    assert.match(described, /Node: +m1\//);
    assert.match(described, /Normal +Scheduled +\S+ +default-scheduler +Successfully assigned default\/web to m1/);
    assert.deepEqual(table(await ok('get events'))[1], ['AGE', 'Normal', 'Scheduled', 'pod/web', 'Successfully assigned default/web to m1'].map((c) => c));
  });

  it('labels, annotates, edits, patches', async () => {
    assert.equal(await ok('label pod web x=y'), 'pod/web labeled\n');
    assert.equal(await ok('label pod web x-'), 'pod/web unlabeled\n');
    await fails('label pod web tier=other', /already has a value/);
    assert.equal(await ok('annotate pod web note=hello'), 'pod/web annotated\n');
    assert.equal(await ok('edit pod web'), 'pod/web edited\n');
    assert.equal(await ok('get pod web -o jsonpath={.metadata.labels.tier}/{.metadata.annotations.note}'), 'edited/hello');
    assert.equal(await ok('patch pod web --type=json -p [{"op":"remove","path":"/metadata/annotations/note"}]'), 'pod/web patched\n');
    assert.equal(await ok('patch pod web -p {"metadata":{"labels":{"s":"1"}}}'), 'pod/web patched\n');
    assert.equal(await ok('cordon m2'), 'node/m2 cordoned\n');
    assert.equal(await ok('taint node m2 a=b:NoSchedule'), 'node/m2 tainted\n');
    assert.equal(table(await ok('get nodes'))[2]?.[1], 'Unknown,SchedulingDisabled');
  });

  it('refuses as kube-apiserver does', async () => {
    await fails('create -f -', /strict decoding error: unknown field "spec\.containers\[0\]\.imag"/, web('x').replace('image:', 'imag:'));
    await fails('create --validate=false -f -', /The Pod "Web" is invalid: metadata\.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of/, web('x').replace('name: web', 'name: Web'));
    await fails('create -f -', /Error from server \(AlreadyExists\): error when creating "STDIN": pods "web" already exists/, web('x'));
    await fails('-n nowhere run x --image=x', /namespaces "nowhere" not found/);
    await fails('logs web', /no node runtime is attached/);
    await fails('delete ns default', /namespaces "default" is forbidden: this namespace may not be deleted/);
  });

  it('explains', async () => {
    const text = await ok('explain pod.spec.containers');
    assert.match(text, /^KIND: +Pod\nVERSION: +v1\n\nFIELD: containers <\[\]Container>/);
    assert.match(text, / {2}name\t<string> -required-/);
    await fails('explain pod.spec.nonsense', /field "nonsense" does not exist/);
  });

  it('watches', async () => {
    const child = start(['get', 'pods', '-w', '--output-watch-events']);
    let out = '';
    const seen = (what: RegExp): Promise<void> =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => { reject(new Error(`not seen: ${String(what)} in ${out}`)); }, 10_000);
        const look = (): void => {
          if (!what.test(out)) return;
          clearTimeout(timer);
          child.stdout.off('data', look);
          resolve();
        };
        child.stdout.on('data', look);
        look();
      });
    child.stdout.on('data', (d: Buffer) => (out += d.toString()));
    await seen(/ADDED +web/);
    await ok('run second --image=nginx --restart=Never --labels=run=second --command -- sleep 100');
    await seen(/ADDED +second/);
    await seen(/MODIFIED +second/);
    await ok('delete pod second --grace-period=0 --force');
    await seen(/DELETED +second/);
    child.kill();
  });

  it('makes a namespace and empties it', async () => {
    assert.equal(await ok('create namespace team'), 'namespace/team created\n');
    await ok('-n team run a --image=nginx');
    await ok('wait -n team --for=condition=PodScheduled pod/a --timeout=10s');
    const deleting = k('delete namespace team --timeout=20s');
    // The pod has a node and so its grace; what the kubelet would do is done here.
    await ok('wait -n team --for=jsonpath={.metadata.deletionGracePeriodSeconds}=30 pod/a --timeout=10s');
    assert.deepEqual(table(await ok('get ns team'))[1], ['team', 'Terminating', 'AGE']);
    await fails('-n team run b --image=nginx', /unable to create new content in namespace team because it is being terminated/);
    await ok('-n team delete pod a --grace-period=0 --force');
    assert.deepEqual(await deleting, { code: 0, out: 'namespace "team" deleted\n', err: '' });
  });

  it('deletes by label, from a file, all', async () => {
    const file = path.join(r.dir, 'web.yaml');
    await writeFile(file, web('nginx'));
    assert.equal(await ok(`delete -f ${file} --grace-period=0 --force`), 'pod "web" force deleted\n');
    await ok('run l1 --image=i --labels=group=l');
    await ok('run l2 --image=i --labels=group=l');
    assert.equal(await ok('delete pods -l group=l --now --wait=false'), 'pod "l1" deleted\npod "l2" deleted\n');
    assert.match(await ok('delete node m2'), /node "m2" deleted/);
  });

  it('exposes, creates, lists, describes and deletes Services', async () => {
    await ok('apply -f -', 'apiVersion: v1\nkind: Pod\nmetadata: {name: shown, labels: {app: shown}}\nspec: {containers: [{name: c, image: nginx, ports: [{containerPort: 8080}]}]}\n');
    assert.equal(await ok('expose pod shown --port=80 --target-port=8080'), 'service/shown exposed\n');
    assert.equal(await ok('create service clusterip plain --tcp=5678:8080'), 'service/plain created\n');
    assert.equal(await ok('create service nodeport reached --tcp=80 --node-port=30123'), 'service/reached created\n');
    assert.equal(await ok('create service externalname away --external-name=example.com'), 'service/away created\n');
    const rows = table(await ok('get svc -o wide --sort-by=.metadata.name')).map((r) => r.map((c) => (/^10\.\d+\.\d+\.\d+$/.test(c) ? 'IP' : c)));
    assert.deepEqual(rows, [
      ['NAME', 'TYPE', 'CLUSTER-IP', 'EXTERNAL-IP', 'PORT(S)', 'AGE', 'SELECTOR'],
      ['away', 'ExternalName', '<none>', 'example.com', '<none>', 'AGE', 'app=away'],
      ['plain', 'ClusterIP', 'IP', '<none>', '5678/TCP', 'AGE', 'app=plain'],
      ['reached', 'NodePort', 'IP', '<none>', '80:30123/TCP', 'AGE', 'app=reached'],
      ['shown', 'ClusterIP', 'IP', '<none>', '80/TCP', 'AGE', 'app=shown'],
    ]);
    assert.match(await ok('get svc plain -o jsonpath={.spec.clusterIP}'), /^10\.\d+\.\d+\.\d+$/);
    assert.match(await ok('describe svc shown'), /Selector: +app=shown[\s\S]*TargetPort: +8080\/TCP/);
    assert.match(await ok('get endpointslices'), /^NAME +ADDRESSTYPE +PORTS +ENDPOINTS +AGE\n/);
    await fails('create service nodeport twice --tcp=80 --node-port=30123', /provided port is already allocated/);
    assert.match(await ok('delete svc shown plain reached away'), /service "shown" deleted/);
  });
});
