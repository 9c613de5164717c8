/** What may stand under `cors:` of a listener. */
import { z } from 'zod';
import { METHODS } from './methods.js';
import { ORIGIN_FORM, parseOrigin } from './origin.js';
import { refused } from './parsed.js';
import { duration, fieldName, flag, list, map, scalar } from './schema-scalars.js';

const ORIGINS_FORM = 'any, or a list of origins such as [https://app.lan]';
const origin = scalar(ORIGIN_FORM, 'wrong_value', (text) =>
  text === '*' ? refused('"*" is no origin', 'write origins: any') : parseOrigin(text),
).meta({ pattern: '^https?://[^/]+$', examples: ['https://app.lan'] });

export const cors = map('a map such as { origins: [https://app.lan] }', {
  origins: z.union([z.literal('any', { error: ORIGINS_FORM }), list(origin, 'origins')], { error: ORIGINS_FORM }),
  methods: list(
    z.enum(METHODS, { error: 'a method such as GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS' }),
    'methods',
  ).optional(),
  headers: list(fieldName, 'header field names').optional(),
  expose: list(fieldName, 'header field names').optional(),
  credentials: flag.optional().meta({ description: 'Pages there may use what browsers show by themselves' }),
  max_age: duration.optional().meta({ description: 'How long browsers remember what they may ask' }),
}).meta({ id: 'cors', description: 'Pages of other origins that may ask and read the answers' });

export type CorsEntry = z.output<typeof cors>;
