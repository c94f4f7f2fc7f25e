/** Lessons on a running lab: their commands are podway's own verbs. */
import { PodwayError } from '@podway/errors';
import { Nodes, type Node, type ObjectClient } from '@podway/kube';
import type { Place } from './lesson.js';
import { runProgram } from './sandbox.js';

const CONTROL_PLANE = 'node-role.kubernetes.io/control-plane';

/** Nodes that pods may run on, as the tutorials choose them: not of the control plane, ready, not cordoned. Pure. */
export function workers(nodes: readonly Node[]): string[] {
  return nodes
    .filter((n) => n.metadata?.labels?.[CONTROL_PLANE] === undefined && n.spec?.unschedulable !== true)
    .filter((n) => n.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'))
    .map((n) => n.metadata?.name ?? '')
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
}

/**
 * @param program how this very program is started: Node.js and its main module
 * @throws LESSON_WORKERS when the lab has too few
 */
export async function openLabPlace(o: { readonly lab: string; readonly client: ObjectClient; readonly workers: number; readonly program: readonly string[] }): Promise<Place> {
  const found = workers(await o.client.list(Nodes));
  if (found.length < o.workers) {
    throw new PodwayError('LESSON_WORKERS', `need ${o.workers} workers, have ${found.length}`, {
      object: `lab ${o.lab}`, hint: `${found.length ? `Workers that are ready: ${found.join(', ')}. ` : ''}Add one: podway node add NAME${o.lab === 'default' ? '' : ` --lab ${o.lab}`}`,
    });
  }
  const [file, ...before] = o.program;
  const env = { ...process.env, NO_COLOR: '1' };
  return {
    seen: Object.fromEntries(found.slice(0, o.workers).map((name, i) => [`node${i + 1}`, name])),
    run(argv, signal) {
      const [name, ...words] = argv;
      if (name !== 'podway' || file === undefined) throw new PodwayError('LESSON_COMMAND', `a lesson on a lab runs podway's own verbs, not ${name ?? 'nothing'}`);
      const behind = words.indexOf('--');
      const at = behind < 0 ? words.length : behind;
      return runProgram({ file, args: [...before, ...words.slice(0, at), '--lab', o.lab, ...words.slice(at)], env }, signal);
    },
    close: () => Promise.resolve(),
  };
}
