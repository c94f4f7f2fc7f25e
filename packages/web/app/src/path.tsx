/** The way of a packet: the question, the drawing, the player, the packet at each hop, and the table of all capture points. */
import { useEffect, useMemo, useState, type FormEvent } from 'react';
import { wayOf, type Way } from '../../src/model/way.js';
import type { PathAnswer, PathQuestion, Topology } from '../../src/model/types.js';
import { fetchTrace, predictPath, Refused, sendProbes, type CounterStore } from './api.js';
import { Exports } from './path-exports.js';
import { Player } from './path-player.js';
import { PointsTable } from './path-points.js';
import { shortPod } from './parts.js';
import { hrefOf, replaceHash, type PathParameters, type Route } from './route.js';
import { useWords } from './words.js';

interface Props {
  readonly topology: Topology;
  readonly counters: CounterStore;
  readonly route: Route;
}

const PROTOCOLS = ['icmp', 'tcp', 'udp'] as const;

/** The two pods that are furthest apart: what one looks at first. */
function usual(t: Topology): PathParameters {
  const pods = [...t.pods].filter((p) => p.netns === p.id).sort((a, b) => a.id.localeCompare(b.id));
  const [first] = pods;
  const last = [...pods].reverse().find((p) => p.node !== first?.node) ?? pods.at(-1);
  return { ...(first ? { from: shortPod(first.id) } : {}), ...(last && last !== first ? { to: shortPod(last.id) } : {}), proto: 'icmp' };
}

function questionOf(p: PathParameters): PathQuestion | undefined {
  if (!p.from || !p.to) return undefined;
  const proto = PROTOCOLS.find((x) => x === p.proto) ?? 'icmp';
  return { from: p.from, to: p.to, proto, ...(p.port && proto !== 'icmp' ? { port: Number(p.port) } : {}), ...(p.size ? { size: Number(p.size) } : {}) };
}

const parametersOf = (a: PathAnswer): PathParameters => {
  const { from, to, proto, port, size } = a.question;
  return { from, to, proto, ...(port === undefined ? {} : { port: String(port) }), ...(size === undefined ? {} : { size: String(size) }), ...(a.id === undefined ? {} : { trace: a.id }) };
};

const keyOf = (p: PathParameters): string => JSON.stringify([p.from, p.to, p.proto, p.port, p.size, p.trace]);

export function PathView({ topology, counters, route }: Props) {
  const { t } = useWords();
  const [answer, setAnswer] = useState<PathAnswer>();
  const [error, setError] = useState<Error>();
  const [note, setNote] = useState<string>();
  const [busy, setBusy] = useState(false);
  const asked = keyOf(route.path);

  const show = (a: PathAnswer): void => {
    setAnswer(a);
    replaceHash(hrefOf({ view: 'path', path: parametersOf(a), selected: route.selected }));
  };
  const run = (request: () => Promise<PathAnswer>): void => {
    setBusy(true);
    setError(undefined);
    setNote(undefined);
    request().then(show, (e: unknown) => setError(e instanceof Error ? e : new Error(String(e)))).finally(() => setBusy(false));
  };

  // An address that names another path than the one shown (a link, the way back) is followed.
  useEffect(() => {
    if (answer && keyOf(parametersOf(answer)) === asked) return;
    const question = questionOf(route.path);
    if (!question) {
      if (!route.path.from && !route.path.to) replaceHash(hrefOf({ view: 'path', path: usual(topology), selected: route.selected }));
      return;
    }
    const { trace } = route.path;
    run(() => (trace === undefined ? predictPath(question)
      : fetchTrace(trace).catch((e: unknown) => {
          if (!(e instanceof Refused && e.code === 'NOT_FOUND')) throw e;
          return predictPath(question).then((a) => (setNote(t('notKept')), a));
        })));
  }, [asked]);

  const way = useMemo(() => (answer ? wayOf(answer.report, topology) : undefined), [answer, topology.devices.length]);
  return (
    <section aria-labelledby="path-title" className="path">
      <h1 id="path-title">{t('pathTitle')}</h1>
      <p className="lead">{t('pathLead')}</p>
      <Form key={asked} topology={topology} path={route.path} busy={busy} onPredict={(q) => run(() => predictPath(q))} onObserve={(q) => run(() => sendProbes(q))} />
      {!topology.mayTrace && <p className="note">{t('readOnly')}</p>}
      {note && <p className="note">{note}</p>}
      {error && <p className="bad" role="alert">{error.message}{error instanceof Refused && error.hint ? ` ${error.hint}` : ''}</p>}
      {answer && way ? <Answer answer={answer} way={way} counters={counters} route={route} /> : !error && <p className="empty">{questionOf(route.path) ? t('loading') : t('choosePath')}</p>}
    </section>
  );
}

function Answer({ answer, way, counters, route }: { answer: PathAnswer; way: Way; counters: CounterStore; route: Route }) {
  const { t } = useWords();
  const { report } = answer;
  const good = report.verdict === 'delivered' && report.request.asPredicted !== false && report.reply?.asPredicted !== false;
  return (
    <>
      <p className={`headline ${good ? 'good' : 'bad'}`} role="status">
        <span className="tag">{report.observed ? t('observed') : t('predictedOnly')}</span> <b className="mono">{report.tuple}</b> {report.headline}
      </p>
      <Player key={`${answer.id ?? ''}${report.tuple}`} way={way} counters={counters} route={route} />
      <Exports answer={answer} way={way} counters={counters} />
      <PointsTable way={way} counters={counters} route={route} />
      {(report.summary.length > 0 || report.notes.length > 0) && (
        <section className="card">
          <h2>{t('summary')}</h2>
          <ul>{[...report.summary, ...(report.budget ? [report.budget] : []), ...report.asymmetry].map((s) => <li key={s}>{s}</li>)}</ul>
          {report.notes.map((n) => <p className="small dim" key={n}>{n}</p>)}
        </section>
      )}
      <details className="card">
        <summary>{t('steps')}</summary>
        {[report.request, ...(report.reply ? [report.reply] : [])].map((leg) => (
          <section key={leg.direction}>
            <h3>{leg.direction === 'request' ? t('there') : t('back')}</h3>
            <ol className="steps">{leg.steps.map((s, i) => <li key={i}><span className="mono small">{s.netns}{s.dev ? `/${s.dev}` : ''}</span> <b>{s.kind}</b> {s.why}</li>)}</ol>
          </section>
        ))}
      </details>
    </>
  );
}

interface FormProps {
  readonly topology: Topology;
  readonly path: PathParameters;
  readonly busy: boolean;
  readonly onPredict: (q: PathQuestion) => void;
  readonly onObserve: (q: PathQuestion) => void;
}

function Form({ topology, path, busy, onPredict, onObserve }: FormProps) {
  const { t } = useWords();
  const [p, setP] = useState<PathParameters>(path);
  const set = (k: keyof PathParameters) => (e: { target: { value: string } }): void => setP((old) => ({ ...old, [k]: e.target.value.trim() }));
  const question = questionOf(p);
  const places = [...topology.pods.map((x) => shortPod(x.id)), ...topology.namespaces.filter((n) => n.role !== 'pod').map((n) => n.id)];
  const submit = (e: FormEvent): void => {
    e.preventDefault();
    if (question) (topology.mayTrace ? onObserve : onPredict)(question);
  };
  return (
    <form className="question card" onSubmit={submit}>
      <label>{t('from')}<input name="from" list="places" required value={p.from ?? ''} onChange={set('from')} autoComplete="off" spellCheck={false} /></label>
      <label>{t('to')}<input name="to" list="places" required value={p.to ?? ''} onChange={set('to')} autoComplete="off" spellCheck={false} title={t('toHint')} /></label>
      <datalist id="places">{places.map((x) => <option key={x} value={x} />)}</datalist>
      <label>{t('protocol')}<select name="proto" value={p.proto ?? 'icmp'} onChange={set('proto')}>{PROTOCOLS.map((x) => <option key={x} value={x}>{x}</option>)}</select></label>
      <label>{t('port')}<input name="port" type="number" min="1" max="65535" value={p.port ?? ''} placeholder={(p.proto ?? 'icmp') === 'icmp' ? '–' : '80'} disabled={(p.proto ?? 'icmp') === 'icmp'} onChange={set('port')} /></label>
      <label>{t('size')}<input name="size" type="number" min="28" max="65535" value={p.size ?? ''} placeholder="–" onChange={set('size')} title={t('sizeHint')} /></label>
      <span className="buttons">
        <button type="button" disabled={busy || !question} onClick={() => question && onPredict(question)}>{t('predict')}</button>
        {topology.mayTrace && <button type="submit" className="primary" disabled={busy || !question}>{busy ? t('observing') : t('observe')}</button>}
      </span>
    </form>
  );
}
