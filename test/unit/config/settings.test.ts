import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../src/config/load.ts';
import { SETTINGS, settingsTable } from '../../../src/config/settings.ts';

const README = new URL('../../../README.md', import.meta.url);

describe('the table of settings', () => {
  it('names each flag as its variable', () => {
    const flags = SETTINGS.filter((setting) => setting.flag !== null);
    expect(flags.map((setting) => setting.flag)).toEqual(
      flags.map(
        ({ name }) =>
          `--${name
            .replace(/^SNOWCAP_/, '')
            .toLowerCase()
            .replaceAll('_', '-')}`,
      ),
    );
  });

  it('has defaults that are accepted when they are written out', async () => {
    const environment = Object.fromEntries(
      SETTINGS.map(({ name, default: usual }) => [name, usual ?? undefined]),
    );
    const loaded = await loadConfig({ environment, hostname: 'box', terminal: false });
    const usual = await loadConfig({ environment: {}, hostname: 'box', terminal: false });
    expect(loaded.ok && loaded.config).toEqual(usual.ok && usual.config);
    expect(loaded.ok).toBe(true);
  });

  it('is in Markdown one row per setting, with as many cells as the head has', () => {
    const rows = settingsTable().trimEnd().split('\n');
    expect(rows).toHaveLength(SETTINGS.length + 2);
    for (const row of rows) expect(row.match(/(?<!\\)\|/g)).toHaveLength(5);
  });

  it('is in the README as it is here', ({ skip }) => {
    skip(!existsSync(README), 'there is no README.md yet');
    // The formatter aligns the columns, so only the words are compared.
    const words = (text: string): string => text.replace(/-{3,}/g, '---').replace(/[ \t]+/g, ' ');
    expect(words(readFileSync(README, 'utf8'))).toContain(words(settingsTable()));
  });
});
