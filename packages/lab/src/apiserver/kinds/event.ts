/** Events (core/v1). */
import { Events, type Event } from '@podway/kube';
import { humanDuration, since } from '../duration.js';
import { invalid } from '../errors.js';
import { NAME_COLUMN, column, type KindSpec } from './spec.js';

function lastSeen(e: Event, now: number): string {
  const at = e.series?.lastObservedTime ?? e.lastTimestamp ?? e.eventTime ?? e.firstTimestamp;
  return since(at, now);
}

const firstSeen = (e: Event, now: number): string => {
  const at = e.firstTimestamp ?? e.eventTime ?? undefined;
  return at === undefined ? '<unknown>' : humanDuration(now - Date.parse(at));
};

export const eventKind: KindSpec = {
  kind: Events,
  schema: 'core/v1.Event',
  categories: [],
  nameRule: 'subdomain',
  subresources: [],
  generation: false,
  columns: [
    column('Last Seen', 0, 'string', 'The time at which the most recent occurrence of this event was recorded.'),
    column('Type', 0, 'string', 'Type of this event (Normal, Warning), new types could be added in the future'),
    column('Reason', 0, 'string', "This should be a short, machine understandable string that gives the reason for the transition into the object's current status."),
    column('Object', 0, 'string', 'The object that this event is about.'),
    column('Subobject', 1, 'string', 'The path to the field that the event is about.'),
    column('Source', 1, 'string', 'The component reporting this event.'),
    column('Message', 0, 'string', 'A human-readable description of the status of this operation.'),
    column('First Seen', 1, 'string', 'The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)'),
    column('Count', 1, 'string', 'The number of times this event has occurred.'),
    { ...NAME_COLUMN, priority: 1 },
  ],
  cells(object, now) {
    const e = object as unknown as Event;
    const about = e.involvedObject;
    const source = [e.source?.component ?? e.reportingComponent ?? '', e.source?.host ?? ''].filter((s) => s !== '').join(', ');
    return [
      lastSeen(e, now),
      e.type ?? '',
      e.reason ?? '',
      about.name === undefined || about.name === '' ? (about.kind ?? '').toLowerCase() : `${(about.kind ?? '').toLowerCase()}/${about.name}`,
      about.fieldPath ?? '',
      source,
      (e.message ?? '').trim(),
      firstSeen(e, now),
      String(e.series?.count ?? e.count ?? 1),
      object.metadata.name,
    ];
  },
  validate(object) {
    const about = (object as unknown as Event).involvedObject;
    const namespace = about?.namespace ?? '';
    // Events about cluster-wide objects live in "default".
    const wanted = namespace === '' ? 'default' : namespace;
    return wanted === object.metadata.namespace || (namespace === '' && object.metadata.namespace === 'kube-system')
      ? []
      : [invalid('involvedObject.namespace', namespace, 'does not match event.namespace')];
  },
  fields(object) {
    const e = object as unknown as Event;
    const about = e.involvedObject;
    return {
      'involvedObject.kind': about.kind ?? '',
      'involvedObject.namespace': about.namespace ?? '',
      'involvedObject.name': about.name ?? '',
      'involvedObject.uid': about.uid ?? '',
      'involvedObject.apiVersion': about.apiVersion ?? '',
      'involvedObject.resourceVersion': about.resourceVersion ?? '',
      'involvedObject.fieldPath': about.fieldPath ?? '',
      reason: e.reason ?? '',
      reportingComponent: e.reportingComponent ?? '',
      source: e.source?.component ?? e.reportingComponent ?? '',
      type: e.type ?? '',
    };
  },
};
