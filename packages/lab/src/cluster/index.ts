export * from './config.js';
export { down, remnants, type Removed } from './down.js';
export * from './events.js';
export { Lab, LAB_VERSION, thisProgram, type LabOptions } from './lab.js';
export { binary, DEFAULT_LAB, LABS_DIR, LabLayout, checkLabName } from './layout.js';
export { configFile, launch, type Launched, type LaunchOptions } from './launch.js';
export * from './map.js';
export { isRunning, labNames, mustRun, nameFlag, readState, startOf, type LabState, type NodeState } from './state.js';
export { INTERNET_ADDRESS, OUTSIDE_ADDRESS } from './underlay.js';
