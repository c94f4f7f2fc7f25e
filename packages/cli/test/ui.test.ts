/** The page in Debian's Chromium, on a real lab: each view held against the kernel and against `podway trace`. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import type { Page } from 'playwright-core';
import { readCapture } from '@podway/packet';
import { LabLayout } from '@podway/lab/client';
import type { Report } from '@podway/trace';
import { unexplained, type NamespaceView, type Topology } from '@podway/web';
import { good, kill, needsRoot, podway, start, taken, until } from './lab-support.js';
import { accessible, Chromium, fits, noBrowser, PICTURES, startUi, type RunningUi } from './ui-support.js';

const skip = needsRoot || noBrowser;
// A name for people: it stands in the pictures.
const lab = taken(`page-${randomBytes(2).toString('hex')}`);
const at = ['--lab', lab];
let ui: RunningUi;
let browser: Chromium;

before(async () => {
  if (skip) return;
  await good('up', ...at, '-q');
  ui = await startUi(...at);
  browser = await Chromium.open(ui.url);
});
after(async () => {
  if (skip) return;
  await browser?.close();
  if (ui) kill(ui.child.pid!, 'SIGTERM');
  await ui?.done;
  await good('down', ...at, '-q');
});

const node = (name: string, ...command: string[]): string => execFileSync('ip', ['netns', 'exec', new LabLayout(lab).netns(name), ...command], { encoding: 'utf8' });
const lines = (text: string): string[] => text.split('\n').map((l) => l.trim().replace(/\s+/g, ' ')).filter(Boolean);
const indexOf = (text: string, dev: string): number => Number(new RegExp(`^(\\d+): ${dev.replaceAll('.', '\\.')}[@:]`, 'm').exec(text)?.[1]);
const ask = <T>(page: Page, path: string): Promise<T> => page.evaluate(async (p) => (await fetch(p)).json() as unknown, path) as Promise<T>;

/** A device's objects in the open panel, as text. */
const shown = (page: Page, kind: string): Promise<string[]> => page.locator(`.details .object[data-kind="${kind}"] pre`).allInnerTexts();

// They only look: several at a time.
describe('map, devices, anatomy', { concurrency: 2 }, () => {
  it('the map: all nodes, pods and devices; traffic on the cables; less than 500 KB to load', { skip }, async () => {
    const page = await browser.page('#/map');
    await page.waitForSelector('.map .node-slot');
    const t = await ask<Topology>(page, '/api/topology');
    assert.deepEqual(await page.locator('.card.node h2 a').allInnerTexts(), ['m1', 'm2', 'm3']);
    assert.deepEqual((await page.locator('.pod-chip b').allInnerTexts()).sort(), t.pods.map((p) => p.name).sort());
    const drawn = new Set(await page.locator('[data-device]').evaluateAll((all) => all.map((e) => e.getAttribute('data-device'))));
    for (const d of t.devices.filter((x) => ['uplink', 'vtep', 'bridge'].includes(x.role))) assert.ok(drawn.has(d.id), d.id);
    assert.ok(drawn.has('underlay br0') && drawn.has('outside eth0'));
    const bytes = await page.evaluate(() => {
      const { performance: p } = globalThis as unknown as { performance: { getEntriesByType(t: string): { encodedBodySize: number }[] } };
      return [...p.getEntriesByType('resource'), ...p.getEntriesByType('navigation')].reduce((n, e) => n + e.encodedBodySize, 0);
    });
    assert.ok(bytes > 20_000 && bytes < 500_000, `${bytes} bytes`);

    const ping = start(['exec', 'web-a', ...at, '--', 'ping', '-i', '0.1', '-w', '20', '10.244.2.2']);
    for (const device of ['m1 flannel.1', 'm1 eth0', 'm3 eth0', 'm3 cni0']) await page.waitForSelector(`[data-device="${device}"] .rate.busy`);
    await page.waitForSelector('.node-slot .cable.slow, .node-slot .cable.quick');
    ping.child.kill('SIGTERM');
    await ping.done;
    await page.context().close();
  });

  it('a device: as ip and bridge print it, every field explained, and the ways back from it', { skip }, async () => {
    const page = await browser.page('#/map');
    await page.click('[data-device="m1 flannel.1"]');
    await page.waitForSelector('.details .object[data-kind="fdb"]');
    assert.deepEqual(await shown(page, 'fdb'), lines(node('m1', 'bridge', 'fdb', 'show', 'dev', 'flannel.1')).map((l) => l.replace(/^(\S+) /, '$1 dev flannel.1 ')));
    const routes = await shown(page, 'route');
    for (const r of lines(node('m1', 'ip', 'route', 'show', 'dev', 'flannel.1'))) assert.ok(routes.includes(r.replace(/^(\S+ via \S+)/, '$1 dev flannel.1')), r);
    const details = page.locator('.details .object[data-kind="link"] details').first();
    await details.locator('summary').click();
    assert.match(await details.innerText(), /vxlan id 1\s+A VTEP: it wraps frames into UDP/);
    // FDB entry → the node behind it; its uplink → the port; the port → back to the node.
    await page.locator('.object[data-kind="fdb"]', { hasText: '172.18.0.4' }).locator('.refs a', { hasText: 'behind node m3 eth0' }).click();
    await page.waitForSelector('#details-title:has-text("m3")');
    await page.click('.facts a:has-text("port3")');
    await page.waitForSelector('#details-title:has-text("underlay")');
    await page.click('.facts a:has-text("in m3")');
    await page.waitForSelector('#details-title:has-text("m3")');

    // Every line of every namespace of the lab, as the server gives it.
    const t = await ask<Topology>(page, '/api/topology');
    for (const n of t.namespaces) {
      const view = await ask<NamespaceView>(page, `/api/${n.role === 'pod' || n.role === 'node' ? n.role : 'underlay'}/${n.id}`);
      for (const o of view.sections.flatMap((s) => s.objects)) assert.deepEqual(unexplained(o.kind, o.text), [], o.text);
    }
    await page.context().close();
  });

  it('anatomy: pause holds the namespaces, containers join; pod eth0 and node eth0 are two devices and each names the other’s ifindex', { skip }, async () => {
    const page = await browser.page('#/map');
    await page.click('.card.node h2 a:has-text("m1")');
    await page.waitForSelector('.anatomy');
    for (const pod of ['default/web-a', 'default/web-b']) {
      const box = page.locator(`.netns.pod[data-netns="${pod}"]`);
      assert.deepEqual((await box.locator('[data-device]').evaluateAll((all) => all.map((e) => e.getAttribute('data-device')))).sort(), [`${pod} eth0`, `${pod} lo`]);
      assert.match(await box.locator('.process.pause').innerText(), /^pause\s+pid \d+\s+holds net, ipc and uts/);
      const namespaces = async (which: string): Promise<string[]> => {
        await box.locator(`.process.${which} summary`).click();
        return box.locator(`.process.${which} details span span`).allInnerTexts();
      };
      const [pause, container] = [await namespaces('pause'), await namespaces('container')];
      assert.deepEqual(container.slice(0, 3), pause.slice(0, 3));
      assert.notDeepEqual(container.slice(3), pause.slice(3));
    }
    const devices = await page.locator('.machine [data-device^="m1 "]').evaluateAll((all) => all.map((e) => e.getAttribute('data-device')!));
    assert.deepEqual(devices.filter((d) => !d.includes('veth')).sort(), ['m1 cni0', 'm1 eth0', 'm1 flannel.1', 'm1 lo']);
    assert.equal(devices.filter((d) => d.includes('veth')).length, 2);

    await page.locator('.machine').screenshot({ path: join(PICTURES, 'anatomy.png') });
    const inNode = node('m1', 'ip', 'link');
    const inPod = await good('exec', '--tools', 'web-a', ...at, '--', 'ip', 'link');
    const [, veth = ''] = new RegExp(`^\\d+: (veth\\w+)@if${indexOf(inPod, 'eth0')}:.*master cni0`, 'm').exec(lines(inNode).filter((l) => l.includes(`@if`)).find((l) => l.startsWith(`${/eth0@if(\d+)/.exec(inPod)![1]}:`)) ?? '') ?? [];
    assert.ok(veth);
    const says = async (device: string): Promise<string> => {
      await page.click(`.machine [data-device="${device}"]`);
      await page.waitForSelector(`#details-title:has-text("${device.split(' ')[1]} · ${device.split(' ')[0]}")`);
      return page.locator('[data-says]').innerText();
    };
    const [podIndex, vethIndex, nodeIndex] = [indexOf(inPod, 'eth0'), indexOf(inNode, veth), indexOf(inNode, 'eth0')];
    assert.equal(await says('default/web-a eth0'), `eth0 of this pod has ifindex ${podIndex}. It is one end of a veth pair: the other end is ${veth}, ifindex ${vethIndex}, in node m1. It is not the eth0 of the node, which has ifindex ${nodeIndex}.`);
    const ofNode = await says('m1 eth0');
    assert.ok(ofNode.includes(`eth0 of node m1 has ifindex ${nodeIndex}`) && ofNode.includes(`eth0 #${podIndex} of default/web-a leads to ${veth} #${vethIndex}`), ofNode);
    assert.match(await says(`m1 ${veth}`), new RegExp(`The other end is eth0, ifindex ${podIndex}, in default/web-a\\.`));

    const cables = async (n: number): Promise<[string | null, string | null]> => {
      await page.locator('.why-bridge input').fill(String(n));
      return [await page.getAttribute('[data-cables]', 'data-cables'), await page.getAttribute('[data-ports]', 'data-ports')];
    };
    assert.deepEqual([await cables(3), await cables(10)], [['3', '3'], ['45', '10']]);
    await page.context().close();
  });

  it('play goes through all hops by itself', { skip }, async () => {
    const page = await browser.page('#/path?from=web-a&to=web-b&proto=tcp&port=80', { reducedMotion: 'no-preference' });
    await page.click('.controls .primary:has-text("Play")');
    await page.waitForSelector('[data-position="reply 5"]', { timeout: 30_000 });
    await page.waitForSelector('.controls .primary:has-text("Play")');
    await page.context().close();
  });
});

/** Rows of the table: number, device, prediction, observation, verdict. */
const table = (page: Page): Promise<string[][]> => page.locator('tr[data-row]').evaluateAll((all) => all.map((r) => [
  r.getAttribute('data-row')!, ...[...(r as unknown as { cells: Iterable<{ innerText: string }> }).cells].slice(1, 5).map((c) => c.innerText), (r as unknown as { cells: { innerText: string }[] }).cells[7]!.innerText,
]));

function expected(r: Report): string[][] {
  const of = (p: { ttl: number; ipLength: number; frameLength: number } | undefined): string => (p ? `${p.ttl}, ${p.ipLength}, ${p.frameLength}` : '–');
  const layer = { pod: 'Pod network', underlay: 'Physical network' } as Readonly<Record<string, string>>;
  return [r.request, ...(r.reply ? [r.reply] : [])].flatMap((leg) => leg.rows.map((row, i) => [
    `${leg.direction} ${i + 1}`, `${row.point.label} #${row.point.index}`, layer[row.point.role] ?? 'Node network', of(row.predicted), of(row.observed), row.state === 'seen' ? 'seen as predicted' : row.state,
  ]));
}

async function observe(page: Page): Promise<void> {
  const answered = page.waitForResponse((r) => r.url().endsWith('/api/trace'));
  await page.click('button[type="submit"]');
  assert.equal((await answered).status(), 200);
  await page.waitForSelector('.headline:has-text("observed")');
}

test('a path: predicted, observed, stepped through on four layers; the table is that of podway trace -o json', { skip }, async () => {
  const page = await browser.page('#/path?from=web-a&to=web-d&proto=icmp');
  await page.waitForSelector('.headline:has-text("predicted only")');
  assert.deepEqual(await page.locator('svg.scene .band-name').allTextContents(), ['Application', 'Pod network', 'Node network', 'Physical network']);
  await observe(page);
  const report = JSON.parse(await good('trace', 'web-a', 'web-d', ...at, '-o', 'json')) as Report;
  assert.deepEqual(await table(page), expected(report));

  // Step by step: every hop, its TTL and what it changed, there and back.
  const dots: number[] = [];
  for (const leg of [report.request, report.reply!]) {
    for (const [i, row] of leg.rows.entries()) {
      assert.equal(await page.getAttribute('[data-position]', 'data-position'), `${leg.direction} ${i + 1}`);
      assert.equal(await page.locator('.hop.current').getAttribute('data-hop'), String(i + 1));
      assert.match(await page.locator('[data-header="ip"] dl').innerText(), new RegExp(`TTL\\s+(\\d+ → )?${row.predicted!.ttl}\\b`));
      const before = leg.rows[i - 1]?.predicted;
      const changes = (await page.locator('.changes li').allInnerTexts()).join('; ');
      assert.equal(changes.includes('TTL'), before !== undefined && before.ttl !== row.predicted!.ttl, changes);
      assert.equal(changes.includes('VXLAN'), before !== undefined && !before.outer !== !row.predicted!.outer, changes);
      if (leg.direction === 'request') dots.push(Number(/translate\([\d.]+ ([\d.]+)\)/.exec((await page.getAttribute('.packet-dot', 'transform')) ?? '')?.[1]));
      if (leg.direction === 'request' || row !== leg.rows.at(-1)) await page.click('button[aria-label="Next hop"]');
    }
  }
  // The packet crosses all layers: it goes down to the physical one and up again.
  const lowest = Math.max(...dots);
  assert.ok(dots.indexOf(lowest) > 3 && dots.at(-1)! < lowest - 100 && dots[0]! < lowest - 100, dots.join(' '));

  // Counters at each hop are the kernel's.
  await page.click('.legs button:has-text("There")');
  const counted = async (): Promise<number> => Number(/"tx":\{.*?"packets":(\d+)/s.exec(node('m1', 'ip', '-j', '-s', 'link', 'show', 'flannel.1').replace(/\s/g, ''))?.[1]);
  await until('the counter of the VTEP', async () => (await page.locator('[data-hop="4"] .counters').textContent())?.endsWith(`out ${(await counted()).toLocaleString('en-US')}`));
  await page.context().close();
});

test('what can be taken away: pcapng, SVG, ASCII, and a link that opens the same trace again', { skip }, async () => {
  const page = await browser.page('#/path?from=web-a&to=web-d&proto=udp&port=5353&size=600');
  await page.waitForSelector('.scene');
  await observe(page);
  const save = async (button: string): Promise<Buffer> => {
    const [download] = await Promise.all([page.waitForEvent('download'), page.click(`.exports :text("${button}")`)]);
    return readFileSync(await download.path());
  };
  const capture = readCapture(await save('Download pcapng'));
  assert.ok([...capture].length >= 3 * 13 && capture.interfaces.some((i) => i.name === 'm1/flannel.1'));
  const svg = (await save('Picture (SVG)')).toString();
  assert.match(svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg"/);
  const text = (await save('Text (ASCII)')).toString();
  const report = (await table(page)).filter(([n]) => n!.startsWith('request'));
  for (const [n, device] of report) {
    const [, number] = n!.split(' ');
    const [, dev = '', index = ''] = /\/(\S+) #(\d+)$/.exec(device!) ?? [];
    assert.match(text, new RegExp(`Step ${number}: ${dev.replaceAll('.', '\\.')} #${index} `));
    assert.ok(svg.includes(`>${number}</text>`));
  }
  assert.match(text, /counters: \d+ received, \d+ sent/);
  assert.match(svg, />in [\d,]+ · out [\d,]+</);

  const again = await browser.page(page.url().slice(page.url().indexOf('#')));
  await again.waitForSelector('.headline:has-text("observed")');
  assert.deepEqual(await table(again), await table(page));
  const ids = (p: Page): Promise<string[]> => p.locator('tr[data-row] td:nth-child(7)').allInnerTexts();
  assert.deepEqual(await ids(again), await ids(page));
  await again.context().close();
  await page.context().close();
});

test('a packet that dies is seen to die, with the reason: as predicted, and against the prediction', { skip }, async () => {
  const page = await browser.page('#/path?from=web-a&to=10.244.2.77&proto=icmp');
  await page.waitForSelector('svg.scene .death');
  assert.equal(await page.locator('svg.scene .death-label').textContent(), 'NEIGH_FAILED');
  await page.locator('.controls input').fill('99');
  assert.match(await page.locator('.dies').innerText(), /The packet ends here: dropped \(NEIGH_FAILED\)\. neighbour 10\.244\.2\.77/);
  await observe(page);
  await page.waitForSelector('svg.scene .death');
  await page.locator('.controls input').fill('99');
  await fits(page, 'a dropped packet');
  await page.evaluate(() => (globalThis as unknown as { scrollTo(x: number, y: number): void }).scrollTo(0, 0));
  await page.screenshot({ path: join(PICTURES, 'path-dropped.png') });

  // Against the prediction: a queue that nothing fits into, of which the model of the kernel knows nothing.
  const [veth = ''] = /veth\w+/.exec(node('m3', 'ip', '-o', 'link', 'show', 'master', 'cni0')) ?? [];
  node('m3', 'tc', 'qdisc', 'add', 'dev', veth, 'root', 'tbf', 'rate', '1kbit', 'burst', '10', 'limit', '10');
  try {
    await page.goto(`${ui.base}/#/path?from=web-a&to=web-d&proto=icmp`);
    await page.waitForSelector('.headline:has-text("predicted only")');
    await observe(page);
    await page.waitForSelector('svg.scene .death.lost');
    await page.locator('.controls input').fill('99');
    assert.equal(await page.getAttribute('[data-position]', 'data-position'), 'request 11');
    assert.match(await page.locator('.dies').innerText(), new RegExp(`lost\\. last seen at m3/cni0, expected next at m3/${veth}`));
    assert.deepEqual(await page.locator('rect.stop.missed').count(), 2);
    await fits(page, 'a lost packet');
    await page.evaluate(() => (globalThis as unknown as { scrollTo(x: number, y: number): void }).scrollTo(0, 0));
    await page.screenshot({ path: join(PICTURES, 'path-lost.png') });
  } finally {
    node('m3', 'tc', 'qdisc', 'del', 'dev', veth, 'root');
  }

  await page.context().close();
});

test('the keyboard alone: to the path, through the hops, into a device and back', { skip }, async () => {
  const page = await browser.page('#/map');
  await page.waitForSelector('.map');
  const focused = (): Promise<string> => page.evaluate(() => (globalThis as unknown as { document: { activeElement: { textContent: string | null; getAttribute(n: string): string | null } | null } }).document.activeElement?.getAttribute('aria-label')
    ?? (globalThis as unknown as { document: { activeElement: { textContent: string | null } | null } }).document.activeElement?.textContent ?? '');
  const tabTo = async (what: string): Promise<void> => {
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press('Tab');
      if ((await focused()).startsWith(what)) return;
    }
    assert.fail(`Tab does not lead to ${what}; it is at ${await focused()}`);
  };
  await tabTo('To the content');
  await tabTo('Path');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.scene');
  await tabTo('Next hop');
  await page.keyboard.press('Enter');
  await page.waitForSelector('[data-position="request 2"]');
  await page.keyboard.press('ArrowRight');
  await page.waitForSelector('[data-position="request 3"]');
  await tabTo('Hop');
  await page.keyboard.press('End');
  await page.waitForSelector('[data-position="reply 13"]');
  await tabTo('State of eth0 #2');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.details .object');
  assert.match(await focused(), /^eth0/);
  await page.keyboard.press('Escape');
  await page.waitForSelector('.details', { state: 'detached' });
  await page.context().close();
});

const LOOKS = {
  light: {}, dark: { colorScheme: 'dark' }, chinese: { locale: 'zh-CN' }, phone: { viewport: { width: 375, height: 812 }, isMobile: true, hasTouch: true },
} as const;
const VIEWS = { map: '#/map', device: '#/map?netns=m1&dev=flannel.1', node: '#/node/m1?netns=default%2Fweb-a&dev=eth0', path: '#/path?from=web-a&to=web-d&proto=icmp' } as const;
/** The map stands in the view of a device, too. */
const SEEN = { light: ['map', 'node', 'path'], dark: ['device', 'node', 'path'], chinese: ['device', 'node', 'path'], phone: ['map', 'node', 'path'] } as const;

describe('looks', { concurrency: 2 }, () => {
  for (const look of ['light', 'dark', 'chinese', 'phone'] as const) {
    it(`looks: ${look}: nothing overlaps or sticks out, no serious finding of axe`, { skip }, async () => {
      const page = await browser.page('#/map', LOOKS[look]);
      for (const view of SEEN[look]) {
        await page.goto(`${ui.base}/${VIEWS[view]}`);
        await page.waitForSelector(view === 'path' ? '.scene .counters' : view === 'map' ? '.map .pod-chip' : `.details .object[data-kind="${view === 'device' ? 'fdb' : 'address'}"]`);
        if (view === 'path') {
          await page.waitForSelector('.headline');
          await page.click('button[type="submit"]');
          await page.waitForSelector('.exports a');
          await page.locator('.controls input').fill('5');
          await page.waitForSelector('[data-header="tunnel"]');
        }
        if (view === 'device') await page.locator('.object summary').first().click();
        await page.evaluate(() => (globalThis as unknown as { scrollTo(x: number, y: number): void }).scrollTo(0, 0));
        await page.screenshot({ path: join(PICTURES, `${view}-${look}.png`), fullPage: look === 'phone' || view === 'map' });
        await fits(page, `${view} ${look}`);
        // What axe looks at does not differ by language, and by colours only in contrast.
        if (look !== 'chinese') await accessible(page, { what: `${view} ${look}`, ...(look === 'dark' ? { only: ['color-contrast'] } : {}) });
      }
      await page.context().close();
    });
  }
});

test('a pod that goes leaves the page; nothing went wrong in any page, no request went elsewhere; Ctrl-C ends it', { skip }, async () => {
  const page = await browser.page('#/node/m1');
  await page.waitForSelector('[data-netns="default/web-b"]');
  await good('delete', 'pod', 'web-b', ...at);
  await page.waitForSelector('[data-netns="default/web-b"]', { state: 'detached' });
  await page.context().close();
  assert.deepEqual(browser.troubles(), []);

  kill(ui.child.pid!, 'SIGINT');
  const { code, stderr } = await ui.done;
  assert.equal(code, 130, stderr);
  await assert.rejects(fetch(ui.base));
  const none = await podway('ui', '--lab', 'no-such-lab');
  assert.equal(none.code, 2);
  assert.match(none.stderr, /lab no-such-lab is not running/);
});
