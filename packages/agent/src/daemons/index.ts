export * from './spec.js';
export { DAEMON_MARK, Supervisor, type SupervisorOptions } from './supervisor.js';
