/** The wirings there are, by type. */
import type { NetworkConfig, WiringType } from '../config.js';
import { bridge } from './bridge.js';
import { ptp } from './ptp.js';
import type { Wiring } from './wiring.js';

export { LINK_LOCAL_GATEWAY } from './ptp.js';
export { hostIfname, removeRules, unwire } from './veth.js';
export type { HostState, Wiring, WiringContext } from './wiring.js';

const ALL: { readonly [T in WiringType]: Wiring } = { bridge, ptp };

export const wiringOf = (config: NetworkConfig): Wiring => ALL[config.wiring];
