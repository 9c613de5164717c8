/** What `toYaml` can print. Keys whose value is undefined are left out. */
export type Plain = string | number | boolean | readonly Plain[] | { readonly [key: string]: Plain | undefined };

/**
 * Block-style YAML that reads back as the same value: maps and lists of maps on lines of their own, lists of scalars
 * on one. Texts that YAML might read as something else are quoted as JSON quotes them.
 */
export function toYaml(value: Readonly<Record<string, Plain | undefined>>): string {
  return linesOfMap(value, '').join('\n');
}

function linesOfMap(map: Readonly<Record<string, Plain | undefined>>, indent: string): string[] {
  return Object.entries(map).flatMap(([key, value]) => (value === undefined ? [] : linesOfEntry(key, value, indent)));
}

function linesOfEntry(key: string, value: Plain, indent: string): string[] {
  const name = `${indent}${scalar(key)}:`;
  if (isScalar(value)) return [`${name} ${scalar(value)}`];
  if (isList(value)) {
    if (value.every(isScalar)) return [`${name} [${value.map(scalar).join(', ')}]`];
    return [name, ...value.flatMap((item) => linesOfItem(item, `${indent}  `))];
  }
  return Object.keys(value).length === 0 ? [`${name} {}`] : [name, ...linesOfMap(value, `${indent}  `)];
}

function linesOfItem(item: Plain, indent: string): string[] {
  if (isScalar(item)) return [`${indent}- ${scalar(item)}`];
  if (isList(item)) return [`${indent}- ${JSON.stringify(item)}`];
  const [first, ...others] = linesOfMap(item, `${indent}  `);
  return first === undefined ? [`${indent}- {}`] : [`${indent}- ${first.trimStart()}`, ...others];
}

function isScalar(value: Plain): value is string | number | boolean {
  return typeof value !== 'object';
}

function isList(value: Plain): value is readonly Plain[] {
  return Array.isArray(value);
}

/** Words, paths, durations, sizes, addresses: nothing in them has a meaning in YAML. */
const PLAIN = [
  /^[A-Za-z/][A-Za-z0-9_./*-]*$/,
  /^\d+(?:ms|s|m|h|d|B|KiB|MiB|GiB)$/,
  /^\d+\.\d+\.\d+\.\d+(?:[:/]\d+)?$/,
  /^(?:https?|unix):[A-Za-z0-9_./:-]*[A-Za-z0-9_/-]$/,
];
const SPECIAL = /^(?:true|false|yes|no|on|off|y|n|null|nan|inf)$/i;

function scalar(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  return PLAIN.some((look) => look.test(value)) && !SPECIAL.test(value) ? value : JSON.stringify(value);
}
