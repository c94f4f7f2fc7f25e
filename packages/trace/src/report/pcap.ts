/** All hops of a trace in one pcapng file, one interface per capture point. Equivalent: tcpdump at every hop, then mergecap. */
import { createPcapngFile } from '@podway/packet';
import type { Observed } from '../observe/index.js';

/** Writes the file (0600) and returns how many packets it holds. Throws the file system's error. */
export function savePcapng(path: string, observed: Observed): number {
  const { observation, packets } = observed;
  const { flow } = observation;
  const file = createPcapngFile(path, { comment: `podway trace ${flow.from} → ${flow.dst} ${flow.proto}` });
  try {
    const ids = new Map(observation.points.map((p) => [
      p.label, file.writer.addInterface({ name: p.label, description: p.text, linkType: packets.find((x) => x.point === p.label)?.linkType ?? 1 }),
    ]));
    for (const p of packets) {
      const interfaceId = ids.get(p.point);
      if (interfaceId !== undefined) file.writer.packet({ interfaceId, timeNs: p.tsNs, bytes: p.bytes, originalLength: p.length });
    }
  } finally {
    file.close();
  }
  return packets.length;
}
