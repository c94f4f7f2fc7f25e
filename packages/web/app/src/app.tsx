/** The frame of the page: which view, in which language and colours, and whether what it shows is live. */
import { useMemo } from 'react';
import { useLive, type LiveState } from './api.js';
import { Details } from './details.js';
import { MapView } from './map.js';
import { NodeView } from './node.js';
import { PathView } from './path.js';
import { hrefOf, parseRoute, replaceHash, useHash, type Route } from './route.js';
import { useSettings, type Colours } from './settings.js';
import { Translation, translator, useWords, type Language } from './words.js';

export function App() {
  const settings = useSettings();
  const hash = useHash();
  const route = useMemo(() => parseRoute(hash), [hash]);
  const live = useLive();
  const words = useMemo(() => ({ t: translator(settings.language), language: settings.language }), [settings.language]);
  const { t } = words;
  return (
    <Translation value={words}>
      <a className="skip" href="#main" onClick={(e) => (e.preventDefault(), document.getElementById('main')?.focus())}>{t('skip')}</a>
      <header className="top">
        <a className="brand" href="#/map" aria-label="Podway"><img src="/icon.svg" alt="" width="22" height="22" /><span>Podway</span></a>
        <nav aria-label={t('views')}>
          <Tab route={route} view="map" /><Tab route={route} view="node" /><Tab route={route} view="path" />
        </nav>
        <span className="grow" />
        <Status live={live} />
        <Choose label={t('language')} value={settings.language} options={[['en', 'English'], ['zh', '中文']]} onChange={(v) => settings.setLanguage(v as Language)} />
        <Choose label={t('theme')} value={settings.colours} options={[['auto', t('themeAuto')], ['light', t('themeLight')], ['dark', t('themeDark')]]} onChange={(v) => settings.setColours(v as Colours)} />
      </header>
      <main id="main" tabIndex={-1} className={route.selected ? 'with-details' : ''}>
        {live.topology ? <View route={route} live={live} /> : <p className="empty" role="status">{live.message ?? t('loading')}</p>}
      </main>
    </Translation>
  );
}

function View({ route, live }: { route: Route; live: LiveState }) {
  const topology = live.topology!;
  // The keyboard goes on where it was: at what had been chosen.
  const close = (): void => {
    document.querySelector<HTMLElement>('.view [aria-current="true"]')?.focus();
    replaceHash(hrefOf({ view: route.view, node: route.node, path: route.path }));
  };
  return (
    <>
      <div className="view">
        {route.view === 'map' && <MapView topology={topology} counters={live.counters} route={route} />}
        {route.view === 'node' && <NodeView topology={topology} counters={live.counters} route={route} />}
        {route.view === 'path' && <PathView topology={topology} counters={live.counters} route={route} />}
        {topology.unread.map((u) => <UnreadLine key={u} text={u} />)}
      </div>
      {route.selected && <Details topology={topology} counters={live.counters} route={route} selected={route.selected} onClose={close} />}
    </>
  );
}

function UnreadLine({ text }: { text: string }) {
  const { t } = useWords();
  return <p className="note bad">{t('notRead', text)}</p>;
}

function Tab({ route, view }: { route: Route; view: Route['view'] }) {
  const { t } = useWords();
  return <a href={hrefOf({ view, node: view === 'node' ? route.node : undefined })} aria-current={route.view === view ? 'page' : undefined}>{t(view)}</a>;
}

function Status({ live }: { live: LiveState }) {
  const { t } = useWords();
  const text = live.state === 'live' ? t('live') : live.state === 'trouble' ? (live.message ?? '') : t(live.state);
  return (
    <span className={`status ${live.state}`} role="status">
      <span className="dot" aria-hidden="true" /><span className="status-text">{live.topology && live.state === 'live' && <span className="lab-name">{t('lab', live.topology.source.name)} · </span>}{text}</span>
    </span>
  );
}

function Choose({ label, value, options, onChange }: { label: string; value: string; options: readonly (readonly [string, string])[]; onChange: (value: string) => void }) {
  return (
    <select className="quiet" aria-label={label} value={value} onChange={(e) => onChange(e.target.value)}>
      {options.map(([v, text]) => <option key={v} value={v}>{text}</option>)}
    </select>
  );
}
