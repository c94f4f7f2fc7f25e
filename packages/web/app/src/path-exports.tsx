/** What can be taken away: the packets, the picture, the text, and a link that opens this path again. */
import { useState } from 'react';
import { asciiOf } from '../../src/model/ascii.js';
import { drawLeg } from '../../src/model/drawing.js';
import { sceneOf } from '../../src/model/scene.js';
import { svgText } from '../../src/model/svg.js';
import type { PathAnswer } from '../../src/model/types.js';
import type { Way } from '../../src/model/way.js';
import type { CounterStore } from './api.js';
import { pairsOf, sceneWords } from './path-player.js';
import { useWords } from './words.js';

const WIDTH = 1100;

function save(name: string, type: string, content: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const a = document.createElement('a');
  a.href = url;
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export function Exports({ answer, way, counters }: { answer: PathAnswer; way: Way; counters: CounterStore }) {
  const { t } = useWords();
  const [copied, setCopied] = useState(false);
  const name = `podway-${answer.question.from}-${answer.question.to}`.replace(/[^A-Za-z0-9.-]+/g, '_');
  const total = (id: string) => counters.total(id);
  const picture = (): string => svgText(way.legs.map((leg) => {
    const drawing = drawLeg(leg, WIDTH, pairsOf(leg));
    return { title: `${leg.direction === 'request' ? t('there') : t('back')}: ${way.report.tuple}`, drawing, scene: sceneOf({ leg, drawing, counters: total, words: sceneWords(t) }) };
  }), way.report.headline);
  const copy = (): void => {
    // Only where the browser calls the address safe: https, and this machine itself.
    void (navigator.clipboard as Clipboard | undefined)?.writeText(location.href).then(() => setCopied(true), () => setCopied(false));
  };
  return (
    <div className="exports">
      {answer.id !== undefined && <a className="button" href={`/api/trace/${answer.id}/pcapng`} download>{t('download')} <span className="dim small">{t('packetsSaved', answer.packets)}</span></a>}
      <button type="button" onClick={() => save(`${name}.svg`, 'image/svg+xml', picture())}>{t('exportSvg')}</button>
      <button type="button" onClick={() => save(`${name}.txt`, 'text/plain', asciiOf(way, total))}>{t('exportText')}</button>
      <button type="button" onClick={copy} title={t('linkIs')}>{copied ? t('copied') : t('copyLink')}</button>
    </div>
  );
}
