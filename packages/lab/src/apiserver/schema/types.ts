/** The shape of a kind's fields, as far as decoding, patching, OpenAPI and explain need it. */

export type Scalar = 'string' | 'integer' | 'number' | 'boolean' | 'any' | 'quantity' | 'intOrString' | 'time' | 'microTime';

export type TypeRef =
  | { readonly is: 'scalar'; readonly scalar: Scalar }
  | { readonly is: 'ref'; readonly name: string }
  | { readonly is: 'array'; readonly of: TypeRef }
  | { readonly is: 'map'; readonly of: TypeRef };

export interface Field {
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
  readonly type: TypeRef;
}

export interface TypeSchema {
  /** `core/v1.PodSpec`. */
  readonly name: string;
  readonly description: string;
  readonly fields: ReadonlyMap<string, Field>;
  /** Objects whose fields are not described: anything goes (RawExtension, FieldsV1). */
  readonly open: boolean;
}

export interface Schemas {
  /** Undefined when the type is not known. */
  type(name: string): TypeSchema | undefined;
}
