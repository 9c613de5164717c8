/** What may stand under `check`, `check_query`, `check_headers` and `body` of a route. */
import { z } from 'zod';
import { readHost } from '../check/url.js';
import { parseCidr } from '../net/cidr.js';
import type { CidrRange } from '../net/cidr.js';
import { parsed, refused } from './parsed.js';
import { count, flag, list, map, scalar } from './schema-scalars.js';

const CHECK_FORM = 'caller, or a map such as { type: identifier }';
const required = flag.optional().meta({ description: 'The value must be there' });
const length = count(1, 16_777_216);
const choice = z.enum(['allow', 'refuse'], { error: 'allow or refuse' }).optional();

const NUMBER_FORM = 'a number';
const bound = z
  .number({ error: NUMBER_FORM })
  .refine((value) => Math.abs(value) < 2 ** 53, { error: 'a number between -2^53 and 2^53' });

const ROOT_FORM = 'an absolute path such as /srv/models';
const root = scalar(ROOT_FORM, 'wrong_value', (value) => {
  if (!value.startsWith('/')) return refused(`allowed is ${ROOT_FORM}`);
  if (value.split('/').some((part) => part === '.' || part === '..') || /[\\\p{Cc}]/u.test(value)) {
    return refused('a root has no "." or ".." in it, no backslash and no control character');
  }
  return parsed(value === '/' ? value : value.replace(/\/+$/, ''));
});

const SCHEME_FORM = 'a scheme such as http or https';
const scheme = scalar(SCHEME_FORM, 'wrong_value', (value) =>
  /^[a-z][a-z0-9+.-]{0,31}$/.test(value)
    ? parsed(value)
    : refused('a scheme is written in lower case, without ":"', hintOf(value.toLowerCase().replace(/:.*$/, ''))),
);

function hintOf(value: string): string | undefined {
  return /^[a-z][a-z0-9+.-]{0,31}$/.test(value) ? `write ${value}` : undefined;
}

/** One entry of a list of hosts. */
export type HostEntry =
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'suffix'; readonly suffix: string }
  | { readonly kind: 'range'; readonly range: CidrRange };

const HOST_ENTRY_FORM = 'a name such as queen.lan, *.lan for all names below one, or an address or range';
const hostEntry = scalar(HOST_ENTRY_FORM, 'bad_host', (value) => {
  const lower = value.toLowerCase();
  if (lower.startsWith('*.')) {
    const suffix = readHost(lower.slice(2));
    return typeof suffix === 'string' ? parsed<HostEntry>({ kind: 'suffix', suffix: `.${suffix}` }) : unreadable();
  }
  // What looks like an address is told what is wrong with it as one.
  if (/^[0-9a-f.]*:|^[0-9./]+$/.test(lower)) {
    const read = parseCidr(value);
    return read.ok ? parsed<HostEntry>({ kind: 'range', range: read.range }) : refused(read.problem, read.hint);
  }
  const host = readHost(lower);
  return typeof host === 'string' ? parsed<HostEntry>({ kind: 'name', name: host }) : unreadable();
});

function unreadable() {
  return refused(`allowed is ${HOST_ENTRY_FORM}; without scheme, port and path`);
}

/** Each `type`, and the keys besides `type` and `required` that it has. */
const CHECKS = [
  map(CHECK_FORM, { type: z.literal('caller'), required }),
  map(CHECK_FORM, { type: z.literal('identifier'), required, max: length.optional() }),
  map(CHECK_FORM, { type: z.literal('model_ref'), required, max: length.optional() }),
  map(CHECK_FORM, { type: z.literal('hex'), required, length: count(1, 1_048_576) }),
  map(CHECK_FORM, { type: z.literal('path'), required, root: root.optional() }),
  map(CHECK_FORM, { type: z.literal('prompt'), required, max: length.optional(), bidi: choice }),
  map(CHECK_FORM, { type: z.literal('text'), required, max: length.optional(), lines: choice, bidi: choice }),
  map(CHECK_FORM, {
    type: z.literal('range'),
    required,
    min: bound.meta({ description: 'The least that is allowed' }),
    max: bound.meta({ description: 'What the value must be less than' }),
    integer: flag.optional(),
  }),
  map(CHECK_FORM, {
    type: z.literal('enum'),
    required,
    values: list(
      z.union([z.string({ error: 'a text or a whole number' }), z.int({ error: 'a text or a whole number' })], {
        error: 'a text or a whole number',
      }),
      'texts and whole numbers',
    ),
  }),
  map(CHECK_FORM, {
    type: z.literal('url'),
    required,
    schemes: list(scheme, 'schemes').optional(),
    hosts: list(hostEntry, 'names, addresses and ranges').optional(),
    ports: list(count(1, 65_535), 'ports').optional(),
    private: choice,
    loopback: choice,
    max: length.optional(),
  }),
] as const;

export const check = z
  .union([z.literal('caller', { error: CHECK_FORM }), z.discriminatedUnion('type', CHECKS, { error: CHECK_FORM })], {
    error: CHECK_FORM,
  })
  .meta({ id: 'check', description: 'What a value may be' });

const PARAMETER_FORM = 'the name of a {parameter} of the path';
export const checkPath = z
  .record(z.string().regex(/^[a-z][a-z0-9_]{0,127}$/, { error: PARAMETER_FORM }), check, {
    error: 'a map of parameter to check',
  })
  .meta({ minProperties: 1, description: 'Parameters of the path' });

const QUERY_FORM = 'the decoded name of a query parameter, of 1 to 128 printable ASCII characters';
export const checkQuery = z
  .record(z.string().regex(/^(?!__proto__$)[\x21-\x7e]{1,128}$/, { error: QUERY_FORM }), check, {
    error: 'a map of query parameter to check',
  })
  .meta({ minProperties: 1, description: 'Parameters of the query, each once at most' });

export const checkHeaders = z
  .record(
    z.string().regex(/^(?!__proto__$)[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/, { error: 'a header field name' }),
    check,
    {
      error: 'a map of header field to check',
    },
  )
  .meta({ minProperties: 1, description: 'Header fields, each once at most' });

export type CheckEntry = z.output<typeof check>;
