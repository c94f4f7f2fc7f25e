/** IPPools and the IPBlocks that nodes hold of them (podway.io/v1alpha1). */
import { formatCidr, tryParseIpCidr } from '@podway/cni';
import { messageOf } from '@podway/errors';
import { IPBlocks, IPPools, parseLabelSelector, type IPBlock, type IPPool } from '@podway/kube';
import { since } from '../duration.js';
import { invalid, type FieldError } from '../errors.js';
import { AGE_COLUMN, NAME_COLUMN, column, type KindSpec } from './spec.js';

/** Podway's own addresses on a block (network, gateway, broadcast) leave nothing of a smaller one. */
const SMALLEST = { 4: 30, 6: 126 } as const;
const DEFAULT_BLOCK = { 4: 26, 6: 122 } as const;

function rangeErrors(cidr: string | undefined): FieldError[] {
  const read = tryParseIpCidr(cidr ?? '');
  if (!read) return [invalid('spec.cidr', cidr ?? '', 'must be a range in CIDR notation, such as 10.244.0.0/16')];
  return formatCidr(read.cidr) === cidr ? [] : [invalid('spec.cidr', cidr ?? '', `has host bits set; the range is ${formatCidr(read.cidr)}`)];
}

export const ipPoolKind: KindSpec = {
  kind: IPPools,
  schema: 'podway.io/v1alpha1.IPPool',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: true,
  columns: [NAME_COLUMN, column('Cidr'), column('Block'), column('Selector'), column('Disabled'), AGE_COLUMN],
  cells(object, now) {
    const { cidr, blockSize, nodeSelector, disabled } = (object as IPPool).spec ?? {};
    return [object.metadata.name, cidr ?? '', `/${String(blockSize ?? '')}`, nodeSelector ?? 'all()', String(disabled ?? false), since(object.metadata.creationTimestamp, now)];
  },
  defaults(object) {
    const { cidr, blockSize } = (object as IPPool).spec ?? {};
    const family = tryParseIpCidr(cidr ?? '')?.cidr.family;
    if (family !== undefined && blockSize === undefined) object.spec = { ...object.spec, blockSize: DEFAULT_BLOCK[family] };
  },
  validate(object) {
    const { cidr, blockSize, nodeSelector } = (object as IPPool).spec ?? {};
    const errors = rangeErrors(cidr);
    const range = tryParseIpCidr(cidr ?? '')?.cidr;
    if (range && blockSize !== undefined && (blockSize < range.prefix || blockSize > SMALLEST[range.family])) {
      errors.push(invalid('spec.blockSize', blockSize, `must be from ${range.prefix} (the whole pool) to ${SMALLEST[range.family]}`));
    }
    if (nodeSelector !== undefined && nodeSelector !== 'all()') {
      try {
        parseLabelSelector(nodeSelector);
      } catch (e) {
        errors.push(invalid('spec.nodeSelector', nodeSelector, messageOf(e)));
      }
    }
    return errors;
  },
  validateUpdate(object, before) {
    const [now, was] = [(object as IPPool).spec, (before as IPPool).spec];
    return [
      ...(now?.cidr === was?.cidr ? [] : [invalid('spec.cidr', now?.cidr ?? '', 'field is immutable: make another pool and disable this one')]),
      ...(now?.blockSize === was?.blockSize ? [] : [invalid('spec.blockSize', now?.blockSize ?? '', 'field is immutable: blocks of two sizes would overlap')]),
    ];
  },
};

export const ipBlockKind: KindSpec = {
  kind: IPBlocks,
  schema: 'podway.io/v1alpha1.IPBlock',
  categories: [],
  nameRule: 'subdomain',
  subresources: ['status'],
  generation: false,
  columns: [NAME_COLUMN, column('Cidr'), column('Node'), column('Pool'), column('Used', 0, 'integer'), column('Free', 0, 'integer'), AGE_COLUMN],
  cells(object, now) {
    const { spec, status } = object as IPBlock;
    return [object.metadata.name, spec?.cidr ?? '', spec?.node ?? '', spec?.pool ?? '', status?.used ?? 0, status?.free ?? 0, since(object.metadata.creationTimestamp, now)];
  },
  validate: (object) => [
    ...rangeErrors((object as IPBlock).spec?.cidr),
    ...((object as IPBlock).spec?.node ? [] : [invalid('spec.node', '', 'must name the node that holds it')]),
  ],
  validateUpdate(object, before) {
    const [now, was] = [(object as IPBlock).spec, (before as IPBlock).spec];
    return now?.cidr === was?.cidr && now?.node === was?.node ? [] : [invalid('spec', `${now?.cidr ?? ''} ${now?.node ?? ''}`, 'field is immutable: a block changes hands by being deleted and claimed')];
  },
};
