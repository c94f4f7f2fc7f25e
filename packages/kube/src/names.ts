/**
 * Kubernetes' rules for names, labels and annotations, with Kubernetes' own words.
 *
 * Every check returns the list of what is wrong (empty: all is well), so that callers can put
 * them behind a field path. Pure. Source: k8s.io/apimachinery/pkg/util/validation (the rules),
 * RFC 1123 section 2.1 (the shapes).
 */

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;

const LABEL_MESSAGE =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_MESSAGE =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_MESSAGE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_MESSAGE =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_MESSAGE =
  "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const tooLong = (max: number): string => `must be no more than ${String(max)} characters`;

export type NameRule = 'label' | 'label1035' | 'subdomain' | 'path';

/** Names of namespaces and containers: at most 63 characters, no dots. */
export function dns1123LabelErrors(value: string): string[] {
  return [...(value.length > 63 ? [tooLong(63)] : []), ...(LABEL.test(value) ? [] : [LABEL_MESSAGE])];
}

/** Names of Services: at most 63 characters, no dots, a letter first. */
export function dns1035LabelErrors(value: string): string[] {
  return [...(value.length > 63 ? [tooLong(63)] : []), ...(LABEL_1035.test(value) ? [] : [LABEL_1035_MESSAGE])];
}

/** Names of most objects: at most 253 characters, dots allowed. */
export function dns1123SubdomainErrors(value: string): string[] {
  return [...(value.length > 253 ? [tooLong(253)] : []), ...(SUBDOMAIN.test(value) ? [] : [SUBDOMAIN_MESSAGE])];
}

/** What a name may not be when it becomes one segment of a URL (RBAC objects and the like). */
export function pathSegmentErrors(value: string): string[] {
  if (value === '.' || value === '..') return [`may not be '${value}'`];
  return ['/', '%'].filter((c) => value.includes(c)).map((c) => `may not contain '${c}'`);
}

export function nameErrors(rule: NameRule, value: string): string[] {
  switch (rule) {
    case 'label':
      return dns1123LabelErrors(value);
    case 'label1035':
      return dns1035LabelErrors(value);
    case 'subdomain':
      return dns1123SubdomainErrors(value);
    case 'path':
      return pathSegmentErrors(value);
  }
}

/** Label and annotation keys, finalizers: `[prefix/]name`. */
export function qualifiedNameErrors(value: string): string[] {
  const parts = value.split('/');
  if (parts.length > 2) {
    return [
      `a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  const name = parts.at(-1) ?? '';
  const errors: string[] = [];
  if (parts.length === 2) {
    const prefix = parts[0] ?? '';
    if (prefix === '') errors.push('prefix part must be non-empty');
    else errors.push(...dns1123SubdomainErrors(prefix).map((e) => `prefix part ${e}`));
  }
  if (name === '') errors.push('name part must be non-empty');
  else if (name.length > 63) errors.push(`name part ${tooLong(63)}`);
  if (!QUALIFIED.test(name)) errors.push(QUALIFIED_MESSAGE);
  return errors;
}

export function labelValueErrors(value: string): string[] {
  const errors = value.length > 63 ? [tooLong(63)] : [];
  if (value !== '' && !QUALIFIED.test(value)) errors.push(LABEL_VALUE_MESSAGE);
  return errors;
}

/** Port names (`http`): RFC 6335 service names. */
export function portNameErrors(value: string): string[] {
  const errors: string[] = [];
  if (value.length > 15) errors.push('must be no more than 15 characters');
  if (!/^[-a-z0-9]+$/.test(value)) errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(value)) errors.push('must contain at least one letter (a-z)');
  if (value.includes('--')) errors.push('must not contain consecutive hyphens');
  if (/^-|-$/.test(value)) errors.push('must not begin or end with a hyphen');
  return errors;
}
