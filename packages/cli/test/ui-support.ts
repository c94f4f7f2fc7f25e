/** What the tests of the page share: `podway ui` as a process, Debian's Chromium, and a page that notes what goes wrong in it. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core';
import { ROOT, start, until, type Started } from './lab-support.js';

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/lib/chromium/chromium'].find((p) => existsSync(p));
export const noBrowser = CHROMIUM === undefined ? 'there is no chromium' : false;

/** Pictures that the tests make, to be looked at. */
export const PICTURES = join(ROOT, 'build/screenshots');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export interface RunningUi extends Started {
  readonly url: string;
  readonly base: string;
}

export async function startUi(...words: string[]): Promise<RunningUi> {
  const ui = start(['ui', ...words]);
  const url = await until('the address of the page', () => /http:\/\/\S+/.exec(ui.said())?.[0]);
  return { ...ui, url, base: new URL(url).origin };
}

export class Chromium {
  private readonly profile = mkdtempSync(join(tmpdir(), 'podway-chromium-'));
  private readonly trouble: string[] = [];

  private constructor(readonly context: BrowserContext, private readonly browser: Browser, private readonly base: string) {}

  /** Opens the printed address once: from then on the browser has the cookie. */
  static async open(url: string): Promise<Chromium> {
    mkdirSync(PICTURES, { recursive: true });
    const browser = await chromium.launch({
      executablePath: CHROMIUM!,
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--force-color-profile=srgb'],
    });
    const context = await browser.newContext();
    const c = new Chromium(context, browser, new URL(url).origin);
    const page = c.watch(await context.newPage());
    await page.goto(url);
    await page.waitForSelector('.map');
    await page.close();
    return c;
  }

  /** A page of its own settings that has the cookie. Motion is off: pictures and waits do not depend on it. */
  async page(hash: string, options: BrowserContextOptions = {}): Promise<Page> {
    const { cookies } = await this.context.storageState();
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce', acceptDownloads: true, ...options, storageState: { cookies, origins: [] } });
    const page = this.watch(await context.newPage());
    await page.goto(`${this.base}/${hash}`);
    return page;
  }

  private watch(page: Page): Page {
    page.on('console', (m) => ['error', 'warning'].includes(m.type()) && this.trouble.push(`${m.type()}: ${m.text()}`));
    page.on('pageerror', (e) => this.trouble.push(`exception: ${e.message}`));
    page.on('request', (r) => new URL(r.url()).origin !== this.base && !/^(data|blob):/.test(r.url()) && this.trouble.push(`request to ${r.url()}`));
    page.on('response', (r) => r.status() >= 400 && this.trouble.push(`${r.status()} ${r.url()}`));
    return page;
  }

  /** What pages said since the last time: errors of the console, exceptions, requests to others. */
  troubles(): string[] {
    return this.trouble.splice(0);
  }

  async close(): Promise<void> {
    await this.browser.close();
    rmSync(this.profile, { recursive: true, force: true });
  }
}

/** @throws when axe has serious or critical findings, with the elements */
export async function accessible(page: Page, { what, only }: { readonly what: string; readonly only?: readonly string[] }): Promise<void> {
  await page.evaluate(AXE);
  const found = await page.evaluate(async (rules) => {
    type Result = { violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] };
    const { axe } = globalThis as unknown as { axe: { run(options: object): Promise<Result> } };
    const { violations } = await axe.run({ resultTypes: ['violations'], ...(rules ? { runOnly: rules } : {}) });
    return violations.filter((v) => v.impact === 'serious' || v.impact === 'critical').map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.html} ${n.failureSummary}`).join(' | ')}`);
  }, only && [...only]);
  assert.deepEqual(found, [], what);
}

/** Nothing sticks out at the side, and no text of the drawing lies on another or leaves its box. */
export async function fits(page: Page, what: string): Promise<void> {
  const wrong = await page.evaluate(() => {
    const doc = (globalThis as unknown as { document: { documentElement: { scrollWidth: number }; querySelectorAll(s: string): Iterable<{ textContent: string | null; getBoundingClientRect(): { left: number; right: number; top: number; bottom: number } }> }; innerWidth: number });
    const out: string[] = [];
    if (doc.document.documentElement.scrollWidth > doc.innerWidth) out.push(`${doc.document.documentElement.scrollWidth} wide in ${doc.innerWidth}`);
    const texts = [...doc.document.querySelectorAll('svg.scene text')].map((t) => ({ text: t.textContent ?? '', r: t.getBoundingClientRect() }));
    texts.forEach((a, i) => texts.slice(i + 1).forEach((b) => {
      const over = Math.min(a.r.right, b.r.right) - Math.max(a.r.left, b.r.left);
      const deep = Math.min(a.r.bottom, b.r.bottom) - Math.max(a.r.top, b.r.top);
      if (over > 1 && deep > 4) out.push(`“${a.text}” lies on “${b.text}”`);
    }));
    return out;
  });
  assert.deepEqual(wrong, [], what);
}
