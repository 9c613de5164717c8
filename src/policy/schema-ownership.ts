/** What may stand under `owns:` and `owner:` of a route. */
import { z } from 'zod';
import { parsed, refused } from './parsed.js';
import { count, duration, map, names, scalar } from './schema-scalars.js';

const PARAMETER_FORM = 'the name of a parameter of the path, such as job_id';
const parameter = scalar(PARAMETER_FORM, 'wrong_value', (text) =>
  /^[a-z][a-z0-9_]{0,63}$/.test(text) ? parsed(text) : refused(`allowed is ${PARAMETER_FORM}`),
);

const FROM_FORM = 'response. and a member, such as response.job_id, or a JSON pointer, such as response./job/id';
/** RFC 6901; the steps, decoded. */
const from = scalar(FROM_FORM, 'wrong_value', (text) => {
  const simple = /^response\.([A-Za-z0-9_-]{1,128})$/.exec(text)?.[1];
  if (simple !== undefined) return parsed([simple]);
  const pointer = /^response\.((?:\/(?:[^/~\p{Cc}]|~[01]){1,128}){1,8})$/u.exec(text)?.[1];
  if (pointer === undefined) return refused(`allowed is ${FROM_FORM}`);
  const steps = pointer.slice(1).split('/');
  return parsed(steps.map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~')));
});

export const owns = map('a map such as { from: response.job_id }', {
  from,
  for: duration.optional().meta({ description: 'How long it is remembered' }),
  most: count(1, 100_000).optional().meta({ description: 'How many are remembered for this upstream' }),
}).meta({ description: 'The JSON answer names a thing that is then of who asked' });

const OWNER_FORM = 'the name of a parameter, or a map such as { parameter: job_id, unless: [PERMISSION] }';
export const owner = z
  .union([parameter, map(OWNER_FORM, { parameter, unless: names.optional() })], { error: OWNER_FORM })
  .meta({ description: 'Only who made the thing that this parameter names' });
