/**
 * What a command needs to reach a lab that runs, without what it takes to be one: this entry loads in
 * a tenth of the time of the package's main one.
 */
export { binary, checkLabName, DEFAULT_LAB, LABS_DIR, LabLayout } from './cluster/layout.js';
export { isRunning, labNames, mustRun, nameFlag, readState, type LabState, type NodeState } from './cluster/state.js';
export { belongings, labMark, type Belongings } from './cluster/belongings.js';
export { down, type Removed } from './cluster/down.js';
export {
  execInContainer, execInNamespaces, execInNode, exposedName, readRecords, type CommandLine, type NamespaceLetter, type PodRecord,
} from './runtime/record.js';
export { worldSource, wireguardDirOf } from './cluster/world.js';
export { askLab, type ControlRequest, type InstallResult, type MembershipResult, type Step } from './cluster/control.js';
export { routerName, segmentOf, speakingRouters, underlayParts, type LabRack, type LabTunnel } from './cluster/racks.js';
export type { Relay } from './cluster/port-relay.js';
