/** What may stand under `timeout:` and `deadlines:`. */
import { z } from 'zod';
import { durationOrNone, map } from './schema-scalars.js';

export const timeout = durationOrNone.meta({
  description: 'How long a whole exchange may take, its bodies and streams included',
});

const DEADLINES_FORM = 'off, or a map such as { answer: rbee }';
export const deadlines = z
  .union(
    [
      z.literal('off', { error: DEADLINES_FORM }),
      map(DEADLINES_FORM, { answer: z.enum(['problem', 'rbee'], { error: 'problem or rbee' }) }),
    ],
    { error: DEADLINES_FORM },
  )
  .meta({ description: 'Whether X-Deadline is honoured, and the form of the 504' });
