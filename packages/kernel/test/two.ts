/** Two fresh namespaces for a test that waits for processes. */
import { Netns } from '../src/index.js';

export async function inTwo(work: (a: Netns, b: Netns) => Promise<void>): Promise<void> {
  const [a, b] = [Netns.createNameless('a'), Netns.createNameless('b')];
  try {
    await work(a, b);
  } finally {
    a.close();
    b.close();
  }
}
