/** Every verb, in the order of `podway --help`. One file each; none imports anything heavy. */
import type { CommandModule } from '../command.js';
import { command as complete } from './complete.js';
import { command as completion } from './completion.js';
import { command as help } from './help.js';
import { command as inspectNetns } from './inspect-netns.js';
import { command as agent } from './agent.js';
import { command as deleteCommand } from './delete.js';
import { command as down } from './down.js';
import { command as exec } from './exec.js';
import { command as get } from './get.js';
import { command as lessonList } from './lesson-list.js';
import { command as lessonRun } from './lesson-run.js';
import { command as labFile } from './lab-file.js';
import { command as labProcess } from './lab-process.js';
import { command as logs } from './logs.js';
import { command as nodeAdd } from './node-add.js';
import { command as nodeExec } from './node-exec.js';
import { command as nodeRemove } from './node-remove.js';
import { command as run } from './run.js';
import { command as service } from './service.js';
import { command as status } from './status.js';
import { command as networkCheck } from './network-check.js';
import { command as networkGet } from './network-get.js';
import { command as networkInstall } from './network-install.js';
import { command as networkSet } from './network-set.js';
import { command as networkRotateKeys } from './network-rotate-keys.js';
import { command as bgpRoutes } from './bgp-routes.js';
import { command as bgpStatus } from './bgp-status.js';
import { command as ipamCheck } from './ipam-check.js';
import { command as ipamShow } from './ipam-show.js';
import { command as trace } from './trace.js';
import { command as ui } from './ui.js';
import { command as up } from './up.js';
import { command as netnsList } from './netns-list.js';
import { command as inspectNode } from './inspect-node.js';
import { command as inspectPod } from './inspect-pod.js';
import { command as nsenter } from './nsenter.js';
import { command as netnsExpose } from './netns-expose.js';
import { command as capture } from './capture.js';
import { command as version } from './version.js';

export const commands: readonly CommandModule[] = [
  up, down, labFile, status, get, service, run, deleteCommand, exec, logs, nodeExec, nodeAdd, nodeRemove,
  trace, ui, networkGet, networkSet, networkRotateKeys, networkInstall, networkCheck, ipamShow, ipamCheck, bgpStatus, bgpRoutes,
  capture, nsenter, inspectNode, inspectPod, inspectNetns, netnsList, netnsExpose, lessonList, lessonRun, version, completion, help, agent, complete, labProcess,
];

/** What verbs of several words have in common. */
export const groups: Readonly<Record<string, string>> = {
  node: 'Nodes of a lab',
  network: 'How pods of different nodes reach each other',
  ipam: 'Addresses of pods',
  bgp: 'BGP sessions and routes of nodes',
  netns: 'Network namespaces of this machine',
  lesson: 'Learn the parts of a pod network by making them',
  inspect: 'Look at one thing in full',
};
