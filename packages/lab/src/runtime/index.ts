export * from './types.js';
export { systemClock, kubeTime, type Clock } from './clock.js';
export {
  startHold, startPause, startContainer, runInit, unmountInNode, holdArgs,
  type HoldOptions, type PauseOptions, type RunOptions, type Mount, type Resident, type RunningContainer, type ExitStatus,
} from './init.js';
export {
  readRecords, writeRecord, removeRecord, recordPath, sandboxAlive, namespaceInode,
  execInContainer, execInNamespaces, execInNode,
  type PodRecord, type ContainerRecord, type CommandLine, type NamespaceLetter,
} from './record.js';
export { readLog, parseLogLine, type LogOptions, type LogEntry } from './cri-log.js';
export { decideRestart, goDuration, type Backoff } from './backoff.js';
export { defaultCapabilities } from './security.js';
export { networkNotReady, RUNTIME_VERSION } from './node-status.js';
export { NodeRuntime, type PodLogOptions } from './node-runtime.js';
export { CniNetwork, addressesOf, type CniNetworkOptions } from './cni-network.js';
export { attachTo, connectInPod, execCommand, runningContainer } from './remote-command.js';
