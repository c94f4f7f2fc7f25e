/** A reporter of node:test that writes each finished test as one line of JSON: what scripts/test.mjs counts. */
export default async function* lines(source) {
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // A suite is no test; and a file that node runs as a whole shows up as a test of its own name.
    if (data.details?.type === 'suite') {
      if (type === 'test:pass' || data.details.error?.failureType === 'subtestsFailed') continue;
    }
    const error = data.details?.error;
    const cause = error?.cause ?? error;
    yield `${JSON.stringify({
      name: data.name,
      ok: type === 'test:pass' || data.todo !== undefined,
      nesting: data.nesting,
      ms: data.details?.duration_ms,
      ...(data.skip === undefined ? {} : { skip: data.skip === true ? '' : data.skip }),
      ...(error ? { failure: error.failureType, error: cause instanceof Error ? (cause.stack ?? cause.message) : String(cause) } : {}),
    })}\n`;
  }
}
