/**
 * Which tests are the lane's: `*.lane.test.ts`. Such a file names the kernel modules it needs in a line
 * `// needs kernel modules: ipip, wireguard`; where this machine's kernel has them all, the test runs here
 * like any other, and else in the lane.
 */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { moduleName } from './initramfs.mjs';

/** @param {string} title path of the source */
export const isLaneTest = (title) => /\.lane\.test\.ts$/.test(title);

/**
 * @param {string} source text of the test file
 * @returns {string[] | undefined} undefined when the file does not say
 */
export function neededModules(source) {
  const line = /^\/\/ needs kernel modules: *(.+)$/m.exec(source)?.[1];
  return line?.split(/[\s,]+/).filter(Boolean).map(moduleName);
}

/**
 * A function that says whether the running kernel has a module: loaded, built in, or there to be loaded.
 * @param {string} modulesFolder /lib/modules/RELEASE
 * @param {string} loadedFolder /sys/module
 * @returns {(name: string) => boolean}
 */
export function modulesOfThisKernel(modulesFolder = `/lib/modules/${release()}`, loadedFolder = '/sys/module') {
  const listed = new Set();
  for (const file of ['modules.builtin', 'modules.dep']) {
    const path = `${modulesFolder}/${file}`;
    if (existsSync(path)) for (const line of readFileSync(path, 'utf8').split('\n')) if (line) listed.add(moduleName(line.replace(/:.*/, '')));
  }
  return (name) => listed.has(moduleName(name)) || existsSync(`${loadedFolder}/${moduleName(name)}`);
}
