import { listMembers } from './fields.js';

/** What an answer says to browsers about which other pages may read it. The upstream's own words about it go. */
export interface Sharing {
  /** Names and values in turn; Access-Control-*. */
  readonly fields: readonly string[];
  /** Whether another Origin would have had another answer. */
  readonly varies: boolean;
}

/** The upstream said who may read it, and is not to be believed. */
export const UNSHARED: Sharing = Object.freeze({ fields: Object.freeze([]), varies: false });

/** @param fields of an answer: lower-case names and values in turn. */
export function share(fields: readonly string[], sharing: Sharing): string[] {
  const kept: string[] = [];
  let vary = -1;
  let told = !sharing.varies;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const value = fields[i + 1] ?? '';
    if (name.startsWith('access-control-')) continue;
    if (name === 'vary') {
      vary = kept.length + 1;
      told ||= listMembers(value.toLowerCase()).some((member) => member === 'origin' || member === '*');
    }
    kept.push(name, value);
  }
  if (!told && vary === -1) kept.push('vary', 'Origin');
  else if (!told) kept[vary] = [...listMembers(kept[vary] ?? ''), 'Origin'].join(', ');
  kept.push(...sharing.fields);
  return kept;
}
