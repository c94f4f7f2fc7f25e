/** Language and colours: the browser's wish at first, then what was chosen here. */
import { useEffect, useState } from 'react';
import type { Language } from './words.js';

export type Colours = 'auto' | 'light' | 'dark';

function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function keep(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // The choice holds until the page is closed.
  }
}

export function useSettings(): { language: Language; setLanguage(l: Language): void; colours: Colours; setColours(c: Colours): void } {
  const [language, setLanguage] = useState<Language>(() => {
    const before = kept('podway.language');
    return before === 'en' || before === 'zh' ? before : navigator.language.startsWith('zh') ? 'zh' : 'en';
  });
  const [colours, setColours] = useState<Colours>(() => {
    const before = kept('podway.colours');
    return before === 'light' || before === 'dark' ? before : 'auto';
  });
  useEffect(() => {
    keep('podway.language', language);
    document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  }, [language]);
  useEffect(() => {
    keep('podway.colours', colours);
    document.documentElement.dataset['colours'] = colours;
  }, [colours]);
  return { language, setLanguage, colours, setColours };
}
