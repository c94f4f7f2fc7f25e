/**
 * CNI specification versions that Podway speaks, and which verb came with which.
 * Source: CNI SPEC.md, "Released versions". Keep in step with SUPPORTED in native/podway-cni.c.
 */
import { CniError } from './errors.js';

export const CNI_VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof CNI_VERSIONS)[number];
/** The version our internal result has, and the one an error carries when the request's is unknown. */
export const LATEST_CNI_VERSION: CniVersion = '1.1.0';

export const CNI_COMMANDS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type CniCommand = (typeof CNI_COMMANDS)[number];

/** The first version that has the verb; none named: all have it. */
const SINCE: Partial<Record<CniCommand, CniVersion>> = { CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' };

export const isCniVersion = (v: string): v is CniVersion => (CNI_VERSIONS as readonly string[]).includes(v);

/** Negative, 0 or positive, as for sort. Both must be of the form N.N.N. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [a.split('.').map(Number), b.split('.').map(Number)];
  for (let i = 0; i < 3; i++) {
    const d = (x[i] ?? 0) - (y[i] ?? 0);
    if (d !== 0) return d;
  }
  return 0;
}

export const versionAtLeast = (v: string, least: CniVersion): boolean => compareVersions(v, least) >= 0;
export const versionHasCommand = (v: string, command: CniCommand): boolean => versionAtLeast(v, SINCE[command] ?? '0.3.0');

/** @throws CniError 1, with both sides' versions in the details (as libcni words them) */
export function requireVersion(version: string, command: CniCommand): CniVersion {
  if (!isCniVersion(version)) {
    throw new CniError('INCOMPATIBLE_VERSION', 'incompatible CNI versions', {
      details: `config is "${version}", plugin supports ${JSON.stringify(CNI_VERSIONS)}`,
      hint: 'Set cniVersion in the network configuration to one of these.',
    });
  }
  if (!versionHasCommand(version, command)) {
    throw new CniError('INCOMPATIBLE_VERSION', `config version does not allow ${command}`, {
      details: `config is "${version}", ${command} came with ${SINCE[command]}`,
    });
  }
  return version;
}
