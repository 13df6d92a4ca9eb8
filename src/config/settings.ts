import { OWN_SETTINGS } from './own-settings.ts';
import type { Setting, SettingName, SettingTable } from './setting.ts';
import { SHARED_SETTINGS } from './shared-settings.ts';

/**
 * Flags, `config check`, the documentation and what the schema reads are made from this table alone, so that
 * they cannot drift apart.
 */
const TABLE: SettingTable<SettingName> = { ...OWN_SETTINGS, ...SHARED_SETTINGS };

/** Every setting there is, in the order of the documentation. */
export const SETTINGS: readonly Setting[] = Object.entries(TABLE).flatMap(([name, description]) =>
  isSettingName(name) ? [{ name, ...description }] : [],
);

function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(TABLE, name);
}

/** The table as Markdown, for the README. */
export function settingsTable(): string {
  const rows = SETTINGS.map((setting) => {
    const usual = setting.defaultText ?? (setting.default === null ? '' : `\`${setting.default}\``);
    const flag = setting.flag === null ? '' : `\`${setting.flag}\``;
    return [`\`${setting.name}\``, flag, usual, setting.description];
  });
  return [['Variable', 'Flag', 'Default', 'Meaning'], ['---', '---', '---', '---'], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`)
    .join('');
}
