/**
 * Holds the documentation against the house: coverage names tests that exist, every dependency has its
 * reason, every command in a transcript is one that `podway` knows, links lead somewhere, and the two
 * READMEs show the same. Reads files only.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { labFileKeys, readLabFile } from '@podway/lab';
import { catalogue } from '../src/catalogue.js';
import { optionName } from '../src/command.js';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const pages = [
  'README.md', 'README.zh-CN.md', 'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs')).filter((f) => f.endsWith('.md')).sort().map((f) => `docs/${f}`),
];

/** How many rows each of the five tutorials has. */
const ROWS = { S0: 49, S1: 32, S2: 82, S3: 69, S4: 35 } as const;
const STATES = ['done', 'partly', 'later'];
const FENCE = /^```[\s\S]*?^```/gm;

interface Row {
  readonly id: string;
  readonly what: string;
  readonly state: string;
  readonly shown: string;
}

const coverage: readonly Row[] = read('docs/coverage.md').split('\n').filter((l) => /^\| S\d-/.test(l)).map((line) => {
  const [id = '', what = '', state = '', shown = ''] = line.split(/(?<!\\)\|/).slice(1).map((c) => c.trim());
  return { id, what, state, shown };
});

test('coverage: every row of the inventory once, in order, with a state and what shows it', () => {
  const ids = Object.entries(ROWS).flatMap(([seed, n]) => Array.from({ length: n }, (_, i) => `${seed}-${String(i + 1).padStart(2, '0')}`));
  assert.deepEqual(coverage.map((r) => r.id), ids);
  for (const r of coverage) {
    assert.ok(r.what.length > 3, `${r.id} does not say what it is`);
    assert.ok(STATES.includes(r.state), `${r.id}: "${r.state}" is none of ${STATES.join(', ')}`);
    assert.ok(r.shown.length > 3, `${r.id} does not say what shows it, or what is missing`);
    if (r.state === 'done') assert.match(r.shown, /`/, `${r.id} is done but names neither test nor command`);
  }
});

test('coverage: each test that is named is there', () => {
  let named = 0;
  for (const r of coverage) {
    for (const [, file, title] of r.shown.matchAll(/`([^`]+\.test\.ts)` “([^”]+)”/g)) {
      named++;
      assert.ok(existsSync(join(root, 'packages', file!)), `${r.id}: there is no packages/${file}`);
      assert.ok(read(join('packages', file!)).includes(title!), `${r.id}: packages/${file} has no test “${title}”`);
    }
  }
  assert.ok(named > 20, `only ${named} tests are named`);
});

test('coverage: the counts at its head are those of its rows', () => {
  const count = (state: string) => coverage.filter((r) => r.state === state).length;
  const head = `${count('done')} done, ${count('partly')} partly, ${count('later')} later`;
  assert.ok(read('docs/coverage.md').includes(head), `the head must say: ${head}`);
});

test('every dependency has the reason why it was chosen', () => {
  const text = read('docs/dependencies.md');
  const manifests = ['package.json', ...readdirSync(join(root, 'packages')).map((p) => `packages/${p}/package.json`)];
  const names = manifests.filter((p) => existsSync(join(root, p))).flatMap((p) => {
    const manifest = JSON.parse(read(p)) as Partial<Record<string, unknown>>;
    return ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies'].flatMap((k) => Object.keys(manifest[k] ?? {}));
  }).filter((n) => !n.startsWith('@podway/'));
  const packages = read('scripts/packages.txt').split('\n').filter((l) => l.trim() && !l.startsWith('#')).map((l) => l.trim().split(/\s+/)[2] ?? '');
  assert.ok(names.length > 10 && packages.length > 5);
  assert.deepEqual([...new Set([...names, ...packages])].filter((n) => !text.includes(`| \`${n}\` |`)), []);
});

/** Words of a command line; quotes hold words together. */
const wordsOf = (line: string): string[] => [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map((m) => m[1] ?? m[2] ?? m[3] ?? '');

/** Command lines of `podway` in a page: in code blocks behind `$ ` or at the beginning, and between back-ticks. */
function commandLines(text: string): string[] {
  const blocks = [...text.matchAll(/^```[a-z]*\n([\s\S]*?)^```/gm)].flatMap((m) => (m[1] ?? '').split('\n'));
  const prose = [...text.replace(FENCE, '').matchAll(/`([^`\n]*)`/g)].map((m) => m[1] ?? '');
  return [...blocks, ...prose].flatMap((l) => /^(?:[$#] )?(?:sudo )?(?:\.\/)?(podway (?!:).*)$/.exec(l)?.[1] ?? []).map((l) => l.replace(/\s+# .*$/, ''));
}

test('every podway command that a page shows is known, with its options', () => {
  let seen = 0;
  for (const page of pages) {
    for (const line of commandLines(read(page))) {
      const words = wordsOf(line).slice(1);
      const first = words[0] ?? '';
      // The launcher's own, placeholders, and options of the whole.
      if (['test', 'bench', 'help', 'COMMAND'].includes(first) || first.startsWith('-')) continue;
      const command = catalogue.commands.filter((c) => words.slice(0, c.name.split(' ').length).join(' ') === c.name).sort((a, b) => b.name.length - a.name.length)[0];
      if (!command) {
        assert.ok(words.length === 1 && catalogue.commands.some((c) => c.name.startsWith(`${first} `)), `${page}: \`${line}\` is no command`);
        continue;
      }
      seen++;
      const end = words.findIndex((w) => ['--', '|', '>', '&'].includes(w));
      const known = ['--output', '--quiet', '--help', ...Object.keys(command.options).map(optionName)];
      for (const word of end < 0 ? words : words.slice(0, end)) {
        if (word.startsWith('--')) assert.ok(known.includes(word.split('=')[0] ?? ''), `${page}: \`${line}\`: ${command.name} has no option ${word}`);
      }
    }
  }
  assert.ok(seen > 30, `only ${seen} commands were looked at`);
});

test('every drop reason that the simulation knows is explained', () => {
  const folder = 'packages/trace/src/simulate';
  const code = readdirSync(join(root, folder)).map((f) => read(join(folder, f))).join('\n');
  const known = new Set([...code.matchAll(/'([A-Z]+(?:_[A-Z]+)+|OTHERHOST)'/g)].map((m) => m[1] ?? '').filter((w) => !/^E[A-Z]+$/.test(w)));
  const text = read('docs/outcomes.md');
  assert.ok(known.size > 10);
  assert.deepEqual([...known].filter((w) => !text.includes(`\`${w}\``)), []);
});

test('the lab file reference names every key of the schema, and no other', () => {
  // A taint is Kubernetes' own.
  const inSchema = labFileKeys().filter((k) => !k.startsWith('nodes.taints.'));
  const inPage = [...read('docs/lab.md').matchAll(/^\| `([a-zA-Z0-9.[\]]+)` \|/gm)].map((m) => (m[1] ?? '').replace(/\[\]/g, ''));
  assert.ok(inSchema.length > 50);
  assert.deepEqual([...inPage].sort(), [...inSchema].sort());
});

test('lab files in pages and examples can be used', () => {
  const blocks = pages.flatMap((page) => [...read(page).matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map((m) => m[1] ?? '')).filter((b) => b.includes('kind: Lab'));
  const files = readdirSync(join(root, 'examples')).map((f) => read(`examples/${f}`));
  assert.ok(blocks.length > 0 && files.length > 0);
  for (const text of [...blocks, ...files]) assert.ok(readLabFile(text, 'a page').config.nodes.length > 0);
});

test('links between pages lead somewhere', () => {
  for (const page of pages) {
    for (const [, target = ''] of read(page).replace(FENCE, '').matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?:|mailto:)/.test(target)) continue;
      const [path = '', anchor] = target.split('#');
      const file = path ? join(dirname(page), path) : page;
      assert.ok(existsSync(join(root, file)), `${page}: ${target} leads nowhere`);
      if (anchor === undefined) continue;
      const headings = [...read(file).matchAll(/^#+ (.*)$/gm)].map((m) => (m[1] ?? '').toLowerCase().replace(/[^\p{L}\p{N}_ -]/gu, '').replace(/ /g, '-'));
      assert.ok(headings.includes(anchor), `${page}: ${target}: no such heading`);
    }
  }
});

test('the README is the same in both languages: sections, transcripts, links', () => {
  const shape = (text: string) => ({
    sections: [...text.replace(FENCE, '').matchAll(/^(#+) /gm)].map((m) => m[1]),
    blocks: [...text.matchAll(FENCE)].map((m) => m[0]),
    links: [...text.matchAll(/\]\(([^)\s]+)\)/g)].map((m) => m[1] ?? '').filter((l) => !l.startsWith('README')).sort(),
  });
  assert.deepEqual(shape(read('README.zh-CN.md')), shape(read('README.md')));
});
