/**
 * Versions of the system's libraries that this package calls, found without starting a program.
 * libpcap tells its release; libnftables has no call for it, so the file the name leads to is given.
 */
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import type koffiType from 'koffi';

export interface LibraryVersions {
  /** `1.10.3`; absent: not installed. */
  readonly libpcap?: string;
  /** `libnftables.so.1.1.0`; absent: not installed. */
  readonly libnftables?: string;
}

const koffi = createRequire(import.meta.url)('koffi') as typeof koffiType;

function load(...names: readonly string[]): ReturnType<typeof koffi.load> | undefined {
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch {
      // Not under this name.
    }
  }
  return undefined;
}

export function libraryVersions(): LibraryVersions {
  const pcap = load('libpcap.so.0.8', 'libpcap.so.1');
  const said = pcap && (pcap.func('const char *pcap_lib_version()') as unknown as () => string)();
  const libpcap = said === undefined ? undefined : (/\d+(\.\d+)+/.exec(said)?.[0] ?? said);
  // The linker maps the real file: its name carries the library's version.
  const nft = load('libnftables.so.1');
  const libnftables = nft && /\/(libnftables\.so[^\s/]*)$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[1];
  return { ...(libpcap === undefined ? {} : { libpcap }), ...(libnftables ? { libnftables } : {}) };
}
