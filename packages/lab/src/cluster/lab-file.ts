/** A file that says what a lab is made of: Podway's own lab file, or kind's cluster configuration. Pure. */
import { labOf, type LabConfig } from './config.js';
import { reindent } from './kind-indent.js';
import { isKindFile, kindLab } from './kind-file.js';
import { checkLabName } from './layout.js';
import { YamlText } from './yaml-text.js';

export interface LabRead {
  readonly config: LabConfig;
  /** What was read and means nothing here, or something else. One line each. */
  readonly notes: readonly string[];
  readonly form: 'lab' | 'kind';
}

/**
 * @param name the lab's name, whatever the file says
 * @throws LAB_FILE_INVALID listing every mistake with line and column; LAB_BAD_NAME
 */
export function readLabFile(text: string, file: string, name?: string): LabRead {
  const put = reindent(text);
  const yaml = new YamlText(put ?? text, file);
  if (isKindFile(yaml.value)) {
    const { config, notes } = kindLab(yaml, name);
    return { config, form: 'kind', notes: put === undefined || put === text ? notes : [`${file} has lost its indentation: read by what kind's keys belong to`, ...notes] };
  }
  const config = labOf(yaml);
  return { config: name === undefined ? config : { ...config, name: checkLabName(name) }, notes: [], form: 'lab' };
}
