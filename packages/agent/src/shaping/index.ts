export { ifbName, shapingOf, shapingState } from './bandwidth.js';
export { shape, unshape } from './shape.js';
