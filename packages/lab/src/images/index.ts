export * from './catalog.js';
export { ImageStore, type ImageStoreOptions, type PreparedImage, type RootBind } from './store.js';
