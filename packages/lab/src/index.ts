export * from './cluster/index.js';
export {
  execInContainer, execInNamespaces, execInNode, readRecords, type CommandLine, type NamespaceLetter, type PodRecord,
} from './runtime/index.js';
