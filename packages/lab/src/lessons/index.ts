import type { Lesson } from './lesson.js';
import { acrossNodes } from './across-nodes.js';
import { oneCable } from './one-cable.js';
import { virtualSwitch } from './virtual-switch.js';
import { wholeNode } from './whole-node.js';

export * from './lesson.js';
export { openLabPlace, workers } from './in-lab.js';
export { openSandbox } from './sandbox.js';
export { runLesson, type LessonListener, type LessonResult, type StepResult } from './run.js';

/** In the order in which they are best taken. */
export const LESSONS: readonly Lesson[] = [oneCable, virtualSwitch, wholeNode, acrossNodes];
